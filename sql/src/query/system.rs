//! The server's own tables, made when a query names them: out of the snapshot's catalog, and of
//! what only the node knows.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::{MemTable, TableProvider};
use storage::Read;
use types::ids::{LogIndex, NodeId, Offset, PartitionId, Term, WallTimeUs};
use types::schema::{AccessLevel, DefaultExpr, Role, TableKind};
use types::value::{DataType, Value};

use super::context::{Source, may_read};
use super::{cast, convert};
use crate::catalog::{self, Catalog};
use crate::session::Session;

/// What only the node knows and the system tables show.
pub trait SystemFacts: Send + Sync {
    /// The members of the cluster, as this node sees them.
    fn cluster(&self) -> Vec<ClusterRow>;

    /// The positions of all consumer groups.
    fn topic_offsets(&self, read: &dyn Read) -> storage::Result<Vec<TopicOffsetRow>>;
}

/// A row of `system.cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRow {
    /// Its number.
    pub node_id: NodeId,
    /// leader, follower, learner, candidate or unreachable.
    pub role: String,
    /// active, or what is wrong.
    pub status: String,
    /// Where other nodes reach it.
    pub rpc_addr: String,
    /// Where clients reach it.
    pub api_addr: String,
    /// Is it the node that answers?
    pub is_self: bool,
    /// Is it the leader?
    pub is_leader: bool,
    /// Its term, when known.
    pub current_term: Option<Term>,
    /// What it has applied, when known.
    pub last_applied_log: Option<LogIndex>,
    /// Up to where its snapshot goes, when known.
    pub snapshot_index: Option<LogIndex>,
    /// Entries it is behind the leader, when known.
    pub replication_lag: Option<u64>,
    /// The name of its machine, when known.
    pub hostname: Option<String>,
    /// Its version, when known.
    pub version: Option<String>,
}

/// A row of `system.topic_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicOffsetRow {
    /// `namespace.name` of the topic.
    pub topic_id: String,
    /// The group.
    pub group_id: String,
    /// The partition.
    pub partition_id: PartitionId,
    /// The last offset of which it and all before are done; none: nothing is.
    pub last_acked_offset: Option<Offset>,
    /// When that changed, when known.
    pub updated_at: Option<WallTimeUs>,
}

/// Columns of a system table.
type Columns = &'static [(&'static str, DataType)];

const NAMESPACES: Columns = &[
    ("namespace_id", DataType::Text),
    ("name", DataType::Text),
    ("created_at", DataType::Timestamp),
];
const TABLES: Columns = &[
    ("table_id", DataType::Text),
    ("namespace_id", DataType::Text),
    ("table_name", DataType::Text),
    ("table_type", DataType::Text),
    ("access_level", DataType::Text),
    ("schema_version", DataType::BigInt),
    ("created_at", DataType::Timestamp),
];
const COLUMNS: Columns = &[
    ("namespace_id", DataType::Text),
    ("table_name", DataType::Text),
    ("column_name", DataType::Text),
    ("ordinal_position", DataType::Int),
    ("data_type", DataType::Text),
    ("is_nullable", DataType::Boolean),
    ("is_primary_key", DataType::Boolean),
    ("column_default", DataType::Text),
];
const USERS: Columns = &[
    ("user_id", DataType::Text),
    ("role", DataType::Text),
    ("email", DataType::Text),
    ("created_at", DataType::Timestamp),
    ("updated_at", DataType::Timestamp),
];
const TOPICS: Columns = &[
    ("topic_id", DataType::Text),
    ("namespace_id", DataType::Text),
    ("name", DataType::Text),
    ("partitions", DataType::Int),
    ("retention_seconds", DataType::BigInt),
    ("retention_max_bytes", DataType::BigInt),
    ("routes", DataType::Text),
    ("created_at", DataType::Timestamp),
    ("updated_at", DataType::Timestamp),
];
const TOPIC_OFFSETS: Columns = &[
    ("topic_id", DataType::Text),
    ("group_id", DataType::Text),
    ("partition_id", DataType::Int),
    ("last_acked_offset", DataType::BigInt),
    ("updated_at", DataType::Timestamp),
];
const CLUSTER: Columns = &[
    ("node_id", DataType::BigInt),
    ("role", DataType::Text),
    ("status", DataType::Text),
    ("rpc_addr", DataType::Text),
    ("api_addr", DataType::Text),
    ("is_self", DataType::Boolean),
    ("is_leader", DataType::Boolean),
    ("current_term", DataType::BigInt),
    ("last_applied_log", DataType::BigInt),
    ("snapshot_index", DataType::BigInt),
    ("replication_lag", DataType::BigInt),
    ("hostname", DataType::Text),
    ("version", DataType::Text),
];
const AUDIT_LOG: Columns = &[
    ("audit_id", DataType::Text),
    ("timestamp", DataType::Timestamp),
    ("actor_user_id", DataType::Text),
    ("action", DataType::Text),
    ("target", DataType::Text),
    ("details", DataType::Text),
    ("ip_address", DataType::Text),
    ("subject_user_id", DataType::Text),
];

/// The system tables, by name.
const TABLES_OF_SYSTEM: [(&str, Columns); 8] = [
    ("audit_log", AUDIT_LOG),
    ("cluster", CLUSTER),
    ("columns", COLUMNS),
    ("namespaces", NAMESPACES),
    ("tables", TABLES),
    ("topic_offsets", TOPIC_OFFSETS),
    ("topics", TOPICS),
    ("users", USERS),
];

/// The names of the system tables.
pub fn table_names() -> impl Iterator<Item = &'static str> {
    TABLES_OF_SYSTEM.iter().map(|(name, _)| *name)
}

/// The columns of the system table of this name; none if there is none.
///
/// # Errors
/// `PERMISSION_DENIED` for what the session's role may not see.
pub fn table_columns(name: &str, session: &Session<'_>) -> types::Result<Option<Columns>> {
    if name == "audit_log" && session.role < Role::Dba {
        let message = "system.audit_log needs role dba";
        return Err(types::Error::new(
            types::ErrorCode::PermissionDenied,
            message,
        ));
    }
    let found = TABLES_OF_SYSTEM.iter().find(|(known, _)| *known == name);
    Ok(found.map(|(_, columns)| *columns))
}

/// The system table of this name; none if there is none.
///
/// # Errors
/// `PERMISSION_DENIED` for what the session's role may not see.
pub fn table(
    name: &str,
    source: &Source<'_>,
    session: &Session<'_>,
) -> Result<Option<Arc<dyn TableProvider>>> {
    table_columns(name, session).map_err(|error| DataFusionError::External(Box::new(error)))?;
    let read = source.read.as_ref();
    let builder = match name {
        "namespaces" => namespaces(read, source.catalog),
        "tables" => tables(read, source.catalog),
        "columns" => columns(read, source.catalog, session),
        "users" => users(read, source.catalog, session),
        "topics" => topics(read, source.catalog, session),
        "topic_offsets" => topic_offsets(read, source.facts),
        "cluster" => Ok(cluster(source.facts)),
        "audit_log" => audit_log(read),
        _ => return Ok(None),
    };
    let builder = builder.map_err(|error| DataFusionError::External(Box::new(error)))?;
    Ok(Some(Arc::new(builder.table()?)))
}

/// A table in the making: columns, and rows in their order.
struct Builder {
    columns: Columns,
    rows: Vec<Vec<Value>>,
}

impl Builder {
    fn new(columns: Columns) -> Builder {
        Builder {
            columns,
            rows: Vec::new(),
        }
    }

    fn table(self) -> Result<MemTable> {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|(name, of)| convert::field(name, *of, true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let arrays: Result<Vec<_>> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, (_, data_type))| {
                convert::to_array(*data_type, self.rows.iter().map(|row| &row[at]))
            })
            .collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays?)?;
        MemTable::try_new(schema, vec![vec![batch]])
    }
}

fn namespaces(read: &dyn Read, catalog: &Catalog) -> storage::Result<Builder> {
    let mut table = Builder::new(NAMESPACES);
    for namespace in catalog.all_namespaces(read)? {
        let namespace = namespace.record;
        table.rows.push(vec![
            text(&namespace.name),
            text(&namespace.name),
            Value::Timestamp(namespace.created_at),
        ]);
    }
    Ok(table)
}

fn tables(read: &dyn Read, catalog: &Catalog) -> storage::Result<Builder> {
    let mut rows = Builder::new(TABLES);
    for table in catalog.all_tables(read)? {
        let table = table.record;
        rows.rows.push(vec![
            Value::Text(table.qualified_name()),
            text(&table.namespace),
            text(&table.name),
            text(table.kind.as_str()),
            match table.kind {
                TableKind::Shared => text(access_level(table.access)),
                TableKind::User | TableKind::Stream => Value::Null,
            },
            number(table.schema_version),
            Value::Timestamp(table.created_at),
        ]);
    }
    Ok(rows)
}

/// Of the tables that DESCRIBE shows the session.
fn columns(read: &dyn Read, catalog: &Catalog, session: &Session<'_>) -> storage::Result<Builder> {
    let mut rows = Builder::new(COLUMNS);
    for table in catalog.all_tables(read)? {
        let table = table.record;
        if may_read(&table, session).is_err() {
            continue;
        }
        for (position, column) in (1..).zip(&table.columns) {
            let in_key = table.primary_key.contains(&column.id);
            rows.rows.push(vec![
                text(&table.namespace),
                text(&table.name),
                text(&column.name),
                Value::Int(position),
                Value::Text(cast::name(column.data_type)),
                Value::Boolean(column.nullable && !in_key),
                Value::Boolean(in_key),
                column
                    .default
                    .as_ref()
                    .map_or(Value::Null, |d| text(default_text(d))),
            ]);
        }
    }
    Ok(rows)
}

fn users(read: &dyn Read, catalog: &Catalog, session: &Session<'_>) -> storage::Result<Builder> {
    let mut table = Builder::new(USERS);
    let users = match session.role {
        Role::Dba | Role::System => catalog.all_users(read)?,
        // Others see themselves.
        Role::User | Role::Service => Vec::from_iter(catalog.user(read, session.user)?),
    };
    for user in users {
        let user = user.record;
        table.rows.push(vec![
            text(&user.name),
            text(user.role.as_str()),
            optional_text(user.email.as_deref()),
            Value::Timestamp(user.created_at),
            Value::Timestamp(user.updated_at),
        ]);
    }
    Ok(table)
}

/// With the routes from tables that DESCRIBE shows the session.
fn topics(read: &dyn Read, catalog: &Catalog, session: &Session<'_>) -> storage::Result<Builder> {
    let mut rows = Builder::new(TOPICS);
    let mut tables = catalog.all_tables(read)?;
    tables.retain(|table| may_read(&table.record, session).is_ok());
    for topic in catalog.all_topics(read)? {
        let topic = topic.record;
        let routes: Vec<serde_json::Value> = tables
            .iter()
            .flat_map(|table| table.record.routes.iter().map(|r| (&table.record, r)))
            .filter(|(_, route)| route.topic_id == topic.id)
            .map(|(table, route)| {
                serde_json::json!({
                    "table_id": table.qualified_name(),
                    "op": route.op.as_str(),
                    "payload_mode": route.payload.as_str(),
                    "filter_expr": route.filter,
                })
            })
            .collect();
        rows.rows.push(vec![
            Value::Text(topic.qualified_name()),
            text(&topic.namespace),
            text(&topic.name),
            Value::Int(i32::try_from(topic.partitions).unwrap_or(i32::MAX)),
            optional_number(topic.retention_seconds),
            optional_number(topic.retention_max_bytes),
            Value::Text(serde_json::Value::Array(routes).to_string()),
            Value::Timestamp(topic.created_at),
            Value::Timestamp(topic.updated_at),
        ]);
    }
    Ok(rows)
}

fn topic_offsets(read: &dyn Read, facts: &Arc<dyn SystemFacts>) -> storage::Result<Builder> {
    let mut table = Builder::new(TOPIC_OFFSETS);
    for row in facts.topic_offsets(read)? {
        table.rows.push(vec![
            Value::Text(row.topic_id),
            Value::Text(row.group_id),
            Value::Int(i32::try_from(row.partition_id).unwrap_or(i32::MAX)),
            optional_number(row.last_acked_offset),
            row.updated_at.map_or(Value::Null, Value::Timestamp),
        ]);
    }
    Ok(table)
}

fn cluster(facts: &Arc<dyn SystemFacts>) -> Builder {
    let mut table = Builder::new(CLUSTER);
    for row in facts.cluster() {
        table.rows.push(vec![
            optional_number(Some(row.node_id)),
            Value::Text(row.role),
            Value::Text(row.status),
            Value::Text(row.rpc_addr),
            Value::Text(row.api_addr),
            Value::Boolean(row.is_self),
            Value::Boolean(row.is_leader),
            optional_number(row.current_term),
            optional_number(row.last_applied_log),
            optional_number(row.snapshot_index),
            optional_number(row.replication_lag),
            optional_text(row.hostname.as_deref()),
            optional_text(row.version.as_deref()),
        ]);
    }
    table
}

fn audit_log(read: &dyn Read) -> storage::Result<Builder> {
    let mut table = Builder::new(AUDIT_LOG);
    for ((index, ordinal), line) in catalog::audit_log(read)? {
        table.rows.push(vec![
            Value::Text(format!("{index}-{ordinal}")),
            Value::Timestamp(line.timestamp),
            Value::Text(line.actor_user_id),
            Value::Text(line.action),
            Value::Text(line.target),
            Value::Text(line.details),
            optional_text(line.ip_address.as_deref()),
            optional_text(line.subject_user_id.as_deref()),
        ]);
    }
    Ok(table)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn optional_text(text: Option<&str>) -> Value {
    text.map_or(Value::Null, |text| Value::Text(text.to_owned()))
}

fn number(number: u32) -> Value {
    Value::BigInt(i64::from(number))
}

fn optional_number(number: Option<u64>) -> Value {
    number.map_or(Value::Null, |n| {
        Value::BigInt(i64::try_from(n).unwrap_or(i64::MAX))
    })
}

/// As SQL spells it.
fn access_level(access: AccessLevel) -> &'static str {
    match access {
        AccessLevel::Public => "PUBLIC",
        AccessLevel::Private => "PRIVATE",
        AccessLevel::Restricted => "RESTRICTED",
        AccessLevel::Dba => "DBA",
    }
}

/// A column's default as SQL spells it.
pub fn default_text(default: &DefaultExpr) -> &str {
    match default {
        DefaultExpr::Literal(sql) => sql,
        DefaultExpr::Now => "NOW()",
        DefaultExpr::Ulid => "ULID()",
        DefaultExpr::UuidV7 => "UUID_V7()",
        DefaultExpr::SnowflakeId => "SNOWFLAKE_ID()",
        DefaultExpr::CurrentUser => "CURRENT_USER()",
    }
}
