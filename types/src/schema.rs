//! What the catalog holds: namespaces, tables, topics, users.
//!
//! Catalog records are few, seldom written and cached where they are read, so they are stored as
//! JSON: an operator can read them, and a field can be added without a new format. Rows, messages
//! and the log, which are many, have binary forms of their own.

use serde::{Deserialize, Serialize};

use crate::ids::{ColumnId, IndexId, NamespaceId, TableId, TopicId, WallTimeUs};
use crate::value::DataType;

/// A namespace of tables and topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its number.
    pub id: NamespaceId,
    /// Its name, folded as SQL folds identifiers.
    pub name: String,
    /// When it was created.
    pub created_at: WallTimeUs,
}

/// Whose rows a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableKind {
    /// Every user has rows of their own under one name.
    User,
    /// One set of rows for all.
    Shared,
    /// Rows per user that only arrive and expire.
    Stream,
}

impl TableKind {
    /// Do rows belong to a user?
    pub fn has_owner(self) -> bool {
        match self {
            TableKind::User | TableKind::Stream => true,
            TableKind::Shared => false,
        }
    }

    /// As SQL and the system tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            TableKind::User => "USER",
            TableKind::Shared => "SHARED",
            TableKind::Stream => "STREAM",
        }
    }
}

/// Who may use a SHARED table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessLevel {
    /// Everybody reads; role service and above writes.
    Public,
    /// Role service and above.
    Private,
    /// Role service and above.
    Restricted,
    /// Role dba and above.
    Dba,
}

/// A value for a column that an INSERT leaves out. Evaluated by the planner, never in apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DefaultExpr {
    /// A literal, as SQL text.
    Literal(String),
    /// `NOW()` or `CURRENT_TIMESTAMP`.
    Now,
    /// `ULID()`.
    Ulid,
    /// `UUID_V7()`.
    UuidV7,
    /// `SNOWFLAKE_ID()`.
    SnowflakeId,
    /// `CURRENT_USER()`.
    CurrentUser,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Stable over renames, never used again in the table.
    pub id: ColumnId,
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// May it be null?
    pub nullable: bool,
    /// The value when an INSERT leaves it out; NULL without one.
    pub default: Option<DefaultExpr>,
    /// What rows older than the column read as: a field in the row encoding; NULL without one.
    pub missing: Option<Vec<u8>>,
}

/// A secondary index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its number within the table.
    pub id: IndexId,
    /// Its name within the namespace.
    pub name: String,
    /// The indexed columns, in order.
    pub columns: Vec<ColumnId>,
    /// May two rows of one owner share the (non-null) values?
    pub unique: bool,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, prost::Enumeration)]
#[repr(i32)]
pub enum RowOp {
    /// The row is new.
    Insert = 0,
    /// The row changed.
    Update = 1,
    /// The row is gone.
    Delete = 2,
}

impl RowOp {
    /// As HTTP spells it: `Insert`.
    pub fn as_str(self) -> &'static str {
        match self {
            RowOp::Insert => "Insert",
            RowOp::Update => "Update",
            RowOp::Delete => "Delete",
        }
    }

    /// As SQL `CONSUME` spells it: `insert`.
    pub fn as_lower_str(self) -> &'static str {
        match self {
            RowOp::Insert => "insert",
            RowOp::Update => "update",
            RowOp::Delete => "delete",
        }
    }
}

/// What a message's payload shows of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, prost::Enumeration)]
#[repr(i32)]
pub enum PayloadMode {
    /// The row after the change; for DELETE the row before it.
    Full = 0,
    /// The primary key's columns.
    Key = 1,
    /// The changed columns before and after.
    Diff = 2,
}

impl PayloadMode {
    /// As SQL spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            PayloadMode::Full => "full",
            PayloadMode::Key => "key",
            PayloadMode::Diff => "diff",
        }
    }
}

/// A route: changes of this table that become messages of a topic. Kept in the table's record, so
/// that the record's version pins the routes a plan saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where the messages go.
    pub topic_id: TopicId,
    /// The topic's partition count, fixed for its life.
    pub partitions: u32,
    /// Which changes.
    pub op: RowOp,
    /// SQL text of the WHERE expression; none: all rows.
    pub filter: Option<String>,
    /// What the messages show.
    pub payload: PayloadMode,
}

/// A table. The record under its id is the current definition; one under (id, schema version)
/// stays for as long as a row or message was written under that version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its number.
    pub id: TableId,
    /// The namespace it is in.
    pub namespace_id: NamespaceId,
    /// The namespace's name.
    pub namespace: String,
    /// Its name within the namespace.
    pub name: String,
    /// Whose rows it holds.
    pub kind: TableKind,
    /// Who may use it; for SHARED tables.
    pub access: AccessLevel,
    /// Rows expire after this; for STREAM tables.
    pub ttl_seconds: Option<u64>,
    /// Counts changes of the columns and names.
    pub schema_version: u32,
    /// The columns, in the order `SELECT *` shows them.
    pub columns: Vec<Column>,
    /// The next column's id.
    pub next_column_id: ColumnId,
    /// The primary key's columns, in order.
    pub primary_key: Vec<ColumnId>,
    /// Secondary indexes.
    pub indexes: Vec<Index>,
    /// Where changes go.
    pub routes: Vec<Route>,
    /// When it was created.
    pub created_at: WallTimeUs,
}

impl Table {
    /// `namespace.name`, as payloads and messages to people show it.
    pub fn qualified_name(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    /// The column with this id.
    pub fn column(&self, id: ColumnId) -> Option<&Column> {
        self.columns.iter().find(|c| c.id == id)
    }

    /// The column with this name.
    pub fn column_named(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its number.
    pub id: TopicId,
    /// The namespace it is in.
    pub namespace_id: NamespaceId,
    /// The namespace's name.
    pub namespace: String,
    /// Its name within the namespace.
    pub name: String,
    /// How many partitions; fixed for its life.
    pub partitions: u32,
    /// Messages may go after this.
    pub retention_seconds: Option<u64>,
    /// The oldest messages may go beyond this size of a partition.
    pub retention_max_bytes: Option<u64>,
    /// Tables with a route to it. The routes themselves are in the tables' records.
    pub sources: Vec<TableId>,
    /// When it was created.
    pub created_at: WallTimeUs,
    /// When it last changed.
    pub updated_at: WallTimeUs,
}

impl Topic {
    /// `namespace.name`: what clients call `topic_id`.
    pub fn qualified_name(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }
}

/// What a user may do. Ordered: each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads and writes its own rows.
    User,
    /// A worker: consumes topics, acts as users.
    Service,
    /// Administers schema, topics, users and the cluster.
    Dba,
    /// Everything; the role of `root`.
    System,
}

impl Role {
    /// As SQL and tokens spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Service => "service",
            Role::Dba => "dba",
            Role::System => "system",
        }
    }

    /// The role behind a spelling in any case.
    pub fn parse(text: &str) -> Option<Role> {
        [Role::User, Role::Service, Role::Dba, Role::System]
            .into_iter()
            .find(|role| role.as_str().eq_ignore_ascii_case(text))
    }

    /// May somebody of this role act as somebody of the `target` role? Users act as themselves
    /// only, which is not a question of roles.
    pub fn may_act_as(self, target: Role) -> bool {
        match self {
            Role::System => true,
            Role::Dba => target <= Role::Dba,
            Role::Service => target <= Role::Service,
            Role::User => false,
        }
    }
}

/// An account. Its name is its id: the owner of its rows and the `user` of its messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name and id.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Where to write to it.
    pub email: Option<String>,
    /// argon2id in PHC string form.
    pub password_hash: String,
    /// Tokens issued before this (seconds since 1970) are void: set at a change of password.
    pub tokens_valid_from: i64,
    /// When it was created.
    pub created_at: WallTimeUs,
    /// When it last changed.
    pub updated_at: WallTimeUs,
}

/// What the first entry of a cluster's log lays down for its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// ULID; every RPC carries it.
    pub cluster_id: String,
    /// Key that signs tokens, 32 bytes.
    pub token_key: Vec<u8>,
    /// When the cluster was made.
    pub created_at: WallTimeUs,
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When, by the leader's clock.
    pub timestamp: WallTimeUs,
    /// Who asked.
    pub actor_user_id: String,
    /// What was done, e.g. `EXECUTE AS USER`, `CREATE USER`.
    pub action: String,
    /// To what.
    pub target: String,
    /// Anything more, never a password or a hash.
    pub details: String,
    /// From where the request came, when known.
    pub ip_address: Option<String>,
    /// As whom.
    pub subject_user_id: Option<String>,
}
