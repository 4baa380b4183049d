//! SQL: any text is parsed; what is a statement that writes is planned on a small database, and
//! what was planned is applied.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sql::query::{ClusterRow, SystemFacts, TopicOffsetRow};
use sql::{
    Entropy, Failure, Inject, PasswordHasher, Plan, Planner, QueryEngine, Session, Statement,
};
use storage::memory::MemoryEngine;
use storage::{Batch, Engine, Read, Snapshot};
use types::ErrorCode;
use types::command::{Entry, Envelope};
use types::ids::WallTimeUs;
use types::outcome::{Outcome, Rejection};
use types::schema::Role;
use types::value::Value;

const NOW: WallTimeUs = 1_776_513_600_000_000;

const SCHEMA: &[&str] = &[
    "CREATE NAMESPACE demo",
    "CREATE SHARED TABLE demo.t (id TEXT PRIMARY KEY, n INT DEFAULT 1, s TEXT)",
    "CREATE USER TABLE demo.u (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), at TIMESTAMP \
     DEFAULT NOW(), d DECIMAL(10, 2), b BYTES, j JSON)",
    "CREATE TOPIC demo.e PARTITIONS 2",
    "ALTER TOPIC demo.e ADD SOURCE demo.t ON INSERT WITH (payload = 'full')",
    "ALTER TOPIC demo.e ADD SOURCE demo.t ON UPDATE WHERE n > 1 WITH (payload = 'diff')",
    "CREATE INDEX t_n ON demo.t (n)",
    "CREATE USER 'ann' WITH PASSWORD 'a long password' ROLE 'user'",
    "INSERT INTO demo.t VALUES ('a', 1, 'x'), ('b', 2, NULL)",
];

/// More than the schema, for changes to begin with.
const STATEMENTS: &[&str] = &[
    "SELECT id, COUNT(*) FROM demo.t WHERE n BETWEEN 1 AND 2 GROUP BY id ORDER BY 2 DESC LIMIT 3",
    "INSERT INTO demo.u (id, d, b, j) VALUES (1, 1.25, X'00ff', '{\"a\": [1]}') RETURNING *",
    "INSERT INTO demo.t (id, n) VALUES ('a', 5) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n",
    "UPDATE demo.t SET n = n + 1, s = CASE WHEN n > 1 THEN s || 'y' ELSE NULL END WHERE id = 'a'",
    "DELETE FROM demo.t WHERE s LIKE 'x%' OR CAST(n AS TEXT) IN ('1', '2') RETURNING id",
    "BEGIN; UPDATE demo.t SET n = -2147483648 WHERE n / 2 = 1; COMMIT",
    "ALTER TABLE demo.t ADD COLUMN extra DOUBLE DEFAULT 1e300; ALTER TABLE demo.t DROP COLUMN s",
    "ALTER TABLE demo.t RENAME COLUMN n TO m; DROP INDEX demo.t_n; CREATE INDEX k ON demo.t (s)",
    "ALTER TOPIC demo.e SET RETENTION (max_age = '1h'); CLEAR TOPIC demo.e; DROP TOPIC demo.e",
    "CONSUME FROM demo.e GROUP 'g' FROM EARLIEST LIMIT 5; ACK demo.e GROUP 'g' UPTO OFFSET 3",
    "RESET CONSUMER GROUP 'g' ON demo.e TO EARLIEST; EXECUTE AS USER 'ann' (DELETE FROM demo.u)",
    "CREATE STREAM TABLE demo.s (id TEXT PRIMARY KEY) WITH (TTL_SECONDS = 10); DROP TABLE demo.u",
    "ALTER USER 'ann' SET PASSWORD 'another password'; DROP USER 'ann'; DROP NAMESPACE demo",
    "WITH r AS (SELECT 1 AS one) SELECT * FROM r, demo.t AS t WHERE r.one = t.n -- comment",
    "SHOW TABLES IN demo; DESCRIBE demo.t; EXPLAIN SELECT NOW(), $1; USE demo; /* c */ VALUES (1)",
];

/// What a plan is made on.
pub struct Database {
    planner: Planner,
    pub state: Arc<dyn Snapshot>,
}

struct Counting(AtomicU64);

impl Entropy for Counting {
    fn ulid(&self, _now: WallTimeUs) -> String {
        format!("01HS{:022}", self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn uuid_v7(&self, _now: WallTimeUs) -> [u8; 16] {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
    }

    fn snowflake_id(&self, _now: WallTimeUs) -> i64 {
        i64::try_from(self.0.fetch_add(1, Ordering::Relaxed)).unwrap()
    }
}

struct Plain;

impl PasswordHasher for Plain {
    fn hash(&self, password: &str) -> types::Result<String> {
        Ok(password.to_owned())
    }
}

impl SystemFacts for Plain {
    fn cluster(&self) -> Vec<ClusterRow> {
        Vec::new()
    }

    fn topic_offsets(&self, _read: &dyn Read) -> storage::Result<Vec<TopicOffsetRow>> {
        Ok(Vec::new())
    }
}

impl Database {
    fn new() -> Database {
        let entropy: Arc<dyn Entropy> = Arc::new(Counting(AtomicU64::new(1)));
        let engine = QueryEngine::new(Arc::new(Plain), Arc::clone(&entropy));
        let passwords = Arc::new(Plain);
        let planner = Planner::new(engine, Inject { entropy, passwords });
        let state = MemoryEngine::new().snapshot();
        let mut database = Database { planner, state };
        for (index, text) in (1..).zip(SCHEMA) {
            let statement = sql::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let state = Arc::clone(&database.state);
            let plan = database.plan(&state, &statement[0], false);
            let plan = plan.unwrap_or_else(|error| panic!("{text}: {error}"));
            let (_, state) = apply(&state, index, vec![plan]);
            database.state = state;
        }
        database
    }

    fn plan(
        &self,
        state: &Arc<dyn Snapshot>,
        statement: &Statement,
        in_transaction: bool,
    ) -> Result<Plan, types::Error> {
        let session = Session {
            user: "root",
            role: Role::System,
            effective_user: "root",
            namespace: Some("demo"),
            now: NOW,
            ip: None,
        };
        let state = Arc::clone(state);
        let params = [Value::BigInt(1), Value::Text("x".into())];
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let plan = async {
            let mut failed = None;
            // Most statements take none.
            for params in [&params[..0], &params[..1], &params] {
                let state = Arc::clone(&state);
                let planned = self
                    .planner
                    .plan(state, statement, &session, params, in_transaction);
                match planned.await {
                    Ok(plan) => return Ok(plan),
                    Err(Failure::Refused(error)) => failed = failed.or(Some(error)),
                    Err(Failure::Storage(error)) => panic!("the state is sound: {error}"),
                }
            }
            Err(failed.unwrap())
        };
        runtime.block_on(plan)
    }
}

/// Gives `look` a database with the schema.
pub fn with_database<T>(look: impl FnOnce(&Database) -> T) -> T {
    thread_local! {
        static DATABASE: Database = Database::new();
    }
    DATABASE.with(look)
}

/// Applies plans as one Envelope: its outcome, and the state after it.
fn apply(state: &Arc<dyn Snapshot>, index: u64, plans: Vec<Plan>) -> (Outcome, Arc<dyn Snapshot>) {
    let mut envelope = Envelope::default();
    for plan in plans {
        envelope.expectations.extend(plan.expectations);
        envelope.commands.extend(plan.commands);
    }
    let entry = Entry {
        apply_version: envelope.apply_version(),
        lease_time: index,
        wall_time: NOW,
        envelopes: vec![envelope],
    };
    let mut batch = Batch::new(Arc::clone(state));
    let members = Default::default();
    let mut outcomes = raft::apply::apply_entry(&mut batch, index, &entry, &members).unwrap();
    (outcomes.remove(0), Arc::new(batch))
}

/// What is parsed once is parsed again, and an expression's text is its own.
pub fn parse(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let parsed = sql::parse(&text);
    assert_eq!(sql::parse(&text), parsed);
    if let Ok(expression) = sql::parse::expression(&text)
        && let Ok(text) = sql::parse::expression_text(&expression)
    {
        let again = sql::parse::expression(&text).unwrap();
        assert_eq!(sql::parse::expression_text(&again).as_ref(), Ok(&text));
    }
}

/// A plan holds on the state it was made on, and a refusal is never one that means a defect.
pub fn plan(data: &[u8]) {
    let Ok(statements) = sql::parse(&String::from_utf8_lossy(data)) else {
        return;
    };
    with_database(|database| {
        let mut state = Arc::clone(&database.state);
        for (index, statement) in (100..).zip(&statements) {
            if !is_planned(statement) {
                continue;
            }
            match database.plan(&state, statement, false) {
                Ok(plan) => {
                    assert_eq!(plan.writes, !plan.commands.is_empty());
                    let (outcome, after) = apply(&state, index, vec![plan]);
                    let stale = matches!(outcome, Outcome::Rejected(Rejection::Stale { .. }));
                    assert!(!stale, "{statement:?}: {outcome:?}");
                    state = after;
                }
                Err(error) => assert_ne!(error.code, ErrorCode::InternalError, "{error}"),
            }
        }
    });
}

/// Queries are left out: how long they take is not the planner's to say.
fn is_planned(statement: &Statement) -> bool {
    let is_transaction = matches!(
        statement,
        Statement::Begin | Statement::Commit | Statement::Rollback | Statement::Use(_)
    );
    let is_consume = matches!(statement, Statement::Consume(_));
    !statement.is_read() && !is_transaction && !is_consume && !sql::runs_query(statement)
}

pub fn seeds() -> Vec<Vec<u8>> {
    let texts = SCHEMA.iter().chain(STATEMENTS);
    texts.map(|text| text.as_bytes().to_vec()).collect()
}
