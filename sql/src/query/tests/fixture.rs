//! A small database, written as apply would write it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use storage::keys::{catalog as keys, rows};
use storage::memory::MemoryEngine;
use storage::{Durability, Engine, Op, Read, Snapshot};
use types::ids::{Version, WallTimeUs};
use types::row;
use types::schema::{
    AccessLevel, Column, DefaultExpr, Namespace, PayloadMode, Role, Route, RowOp, Table, TableKind,
    Topic, User,
};
use types::value::{DataType, Value};
use types::{Error, ErrorCode};

use crate::answer::Rows;
use crate::failure::Failure;
use crate::query::{ClusterRow, QueryEngine, SystemFacts, TopicOffsetRow};
use crate::session::{Entropy, Session};

pub const NOW: WallTimeUs = 1_776_513_600_000_000;

pub struct Counting(AtomicU64);

impl Entropy for Counting {
    fn ulid(&self, _now: WallTimeUs) -> String {
        format!("{:026}", self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn uuid_v7(&self, _now: WallTimeUs) -> [u8; 16] {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
    }

    fn snowflake_id(&self, _now: WallTimeUs) -> i64 {
        self.0
            .fetch_add(1, Ordering::Relaxed)
            .try_into()
            .expect("a few")
    }
}

pub struct Facts;

impl SystemFacts for Facts {
    fn cluster(&self) -> Vec<ClusterRow> {
        vec![ClusterRow {
            node_id: 1,
            role: "leader".to_owned(),
            status: "active".to_owned(),
            rpc_addr: "127.0.0.1:9188".to_owned(),
            api_addr: "http://127.0.0.1:8080".to_owned(),
            is_self: true,
            is_leader: true,
            current_term: Some(3),
            last_applied_log: Some(17),
            snapshot_index: None,
            replication_lag: Some(0),
            hostname: None,
            version: Some("0.1.0".to_owned()),
        }]
    }

    fn topic_offsets(&self, _read: &dyn Read) -> storage::Result<Vec<TopicOffsetRow>> {
        Ok(vec![TopicOffsetRow {
            topic_id: "demo.events".to_owned(),
            group_id: "g".to_owned(),
            partition_id: 0,
            last_acked_offset: Some(4),
            updated_at: None,
        }])
    }
}

/// A column that may be null.
pub fn column(id: u32, name: &str, data_type: DataType) -> Column {
    Column {
        id,
        name: name.to_owned(),
        data_type,
        nullable: true,
        default: None,
        missing: None,
    }
}

pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

pub struct Database {
    pub engine: QueryEngine,
    storage: MemoryEngine,
    written: AtomicU64,
}

impl Database {
    pub fn new() -> Database {
        let entropy = Arc::new(Counting(AtomicU64::new(0)));
        let database = Database {
            engine: QueryEngine::new(Arc::new(Facts), entropy),
            storage: MemoryEngine::new(),
            written: AtomicU64::new(0),
        };
        for (id, name) in [(1, "demo"), (2, "other")] {
            let namespace = Namespace {
                id,
                name: name.to_owned(),
                created_at: NOW,
            };
            let json = serde_json::to_vec(&namespace).expect("JSON");
            database.put(keys::namespace(name), json);
        }
        database
    }

    pub fn put(&self, key: Vec<u8>, value: Vec<u8>) {
        let index = self.written.fetch_add(1, Ordering::Relaxed) + 1;
        let mut stored = Version { index, ordinal: 0 }.to_bytes().to_vec();
        stored.extend(value);
        let ops = [Op::Put { key, value: stored }];
        self.storage
            .write(&ops, Durability::Flushed)
            .expect("memory");
    }

    /// A table of `demo` with its primary key first.
    pub fn table(&self, id: u32, name: &str, kind: TableKind, columns: Vec<Column>) -> Table {
        self.table_with_key(id, name, kind, columns, 1)
    }

    pub fn table_with_key(
        &self,
        id: u32,
        name: &str,
        kind: TableKind,
        columns: Vec<Column>,
        key_columns: usize,
    ) -> Table {
        let table = Table {
            id,
            namespace_id: 1,
            namespace: "demo".to_owned(),
            name: name.to_owned(),
            kind,
            access: AccessLevel::Public,
            ttl_seconds: None,
            schema_version: 1,
            next_column_id: 100,
            primary_key: columns
                .iter()
                .take(key_columns)
                .map(|column| column.id)
                .collect(),
            columns,
            indexes: Vec::new(),
            routes: Vec::new(),
            created_at: NOW,
        };
        self.define(&table);
        table
    }

    pub fn define(&self, table: &Table) {
        self.put(
            keys::table(table.id),
            serde_json::to_vec(table).expect("JSON"),
        );
        let name = keys::table_name(table.namespace_id, &table.name);
        self.put(name, table.id.to_be_bytes().to_vec());
    }

    pub fn insert(&self, table: &Table, owner: Option<&str>, values: &[Value]) {
        let key = table.primary_key.iter().map(|id| {
            let at = table
                .columns
                .iter()
                .position(|c| c.id == *id)
                .expect("a key column");
            &values[at]
        });
        let key = rows::row(table.id, owner, key);
        let mut fields: Vec<(u32, &Value)> = table
            .columns
            .iter()
            .map(|column| column.id)
            .zip(values)
            .collect();
        fields.sort_by_key(|(id, _)| *id);
        self.put(key, row::encode(table.schema_version, fields));
    }

    pub fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.storage.snapshot()
    }

    /// The answer to `sql` for alice, a user.
    pub fn select(&self, sql: &str, params: &[Value]) -> Result<Rows, Error> {
        self.select_as(&alice(), sql, params)
    }

    pub fn select_as(
        &self,
        session: &Session<'_>,
        sql: &str,
        params: &[Value],
    ) -> Result<Rows, Error> {
        let query = query(sql);
        run(self.engine.select(self.snapshot(), &query, session, params))
    }

    /// As [`Database::select`], never by the direct path.
    pub fn select_slowly(&self, sql: &str, params: &[Value]) -> Result<Rows, Error> {
        run(self
            .engine
            .query(self.snapshot(), &query(sql), &alice(), params))
    }

    /// The rows of an answer that must be one.
    pub fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        self.select(sql, &[])
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .rows
    }

    pub fn code(&self, sql: &str, params: &[Value]) -> ErrorCode {
        match self.select(sql, params) {
            Ok(rows) => panic!("{sql}: {rows:?}"),
            Err(error) => error.code,
        }
    }
}

pub fn run<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    match runtime.block_on(future) {
        Ok(value) => Ok(value),
        Err(Failure::Refused(error)) => Err(error),
        Err(Failure::Storage(error)) => panic!("{error}"),
    }
}

pub fn alice() -> Session<'static> {
    session("alice", Role::User)
}

pub fn session(user: &'static str, role: Role) -> Session<'static> {
    Session {
        user,
        role,
        effective_user: user,
        namespace: Some("demo"),
        now: NOW,
        ip: None,
    }
}

pub fn query(sql: &str) -> ast::Query {
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .try_with_sql(sql)
        .expect("tokens");
    *parser
        .parse_query()
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub fn expr(sql: &str) -> ast::Expr {
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .try_with_sql(sql)
        .expect("tokens");
    parser
        .parse_expr()
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Authors and their messages, and a table with every type.
pub fn chat() -> (Database, Table, Table) {
    let database = Database::new();
    let authors = database.table(
        1,
        "authors",
        TableKind::Shared,
        vec![
            column(1, "name", DataType::Text),
            column(2, "age", DataType::Int),
        ],
    );
    for (name, age) in [("ann", 30), ("bob", 40), ("cid", 50)] {
        database.insert(&authors, None, &[text(name), Value::Int(age)]);
    }
    let mut messages = database.table(
        2,
        "messages",
        TableKind::User,
        vec![
            column(1, "id", DataType::BigInt),
            column(2, "author", DataType::Text),
            column(3, "msg", DataType::Text),
        ],
    );
    messages.columns[1].nullable = false;
    database.define(&messages);
    for (id, author, msg) in [
        (1, "ann", Some("hi")),
        (2, "bob", Some("yo")),
        (3, "ann", None),
        (4, "dan", Some("?")),
    ] {
        let values = [
            Value::BigInt(id),
            text(author),
            msg.map_or(Value::Null, text),
        ];
        database.insert(&messages, Some("alice"), &values);
    }
    database.insert(
        &messages,
        Some("bert"),
        &[Value::BigInt(1), text("bob"), text("bert's")],
    );
    (database, authors, messages)
}

/// A user, a topic and a route.
pub fn with_catalog(database: &Database, table: &Table) {
    for (name, role) in [("alice", Role::User), ("root", Role::System)] {
        let user = User {
            name: name.to_owned(),
            role,
            email: None,
            password_hash: "$argon2id$secret".to_owned(),
            tokens_valid_from: 0,
            created_at: NOW,
            updated_at: NOW,
        };
        database.put(keys::user(name), serde_json::to_vec(&user).expect("JSON"));
    }
    let topic = Topic {
        id: 7,
        namespace_id: 1,
        namespace: "demo".to_owned(),
        name: "events".to_owned(),
        partitions: 1,
        retention_seconds: Some(60),
        retention_max_bytes: None,
        sources: vec![table.id],
        created_at: NOW,
        updated_at: NOW,
    };
    database.put(keys::topic(7), serde_json::to_vec(&topic).expect("JSON"));
    let mut routed = table.clone();
    routed.columns[0].default = Some(DefaultExpr::Ulid);
    routed.routes.push(Route {
        topic_id: 7,
        partitions: 1,
        op: RowOp::Insert,
        filter: Some("author = 'ann'".to_owned()),
        payload: PayloadMode::Full,
    });
    database.define(&routed);
}
