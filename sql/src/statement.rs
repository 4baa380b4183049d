//! Statements, parsed but not yet looked up: no name in them is known to exist.

mod tables;

use datafusion::sql::sqlparser::ast;
use types::command::Position;
use types::ids::{Offset, PartitionId};
use types::schema::{PayloadMode, Role, RowOp};

pub use self::tables::*;
use crate::names::QualifiedName;

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// SELECT, VALUES, WITH … SELECT.
    Select(Box<ast::Query>),
    /// EXPLAIN of a query.
    Explain(Box<ast::Query>),
    /// EXPLAIN of INSERT, UPDATE or DELETE.
    ExplainWrite(Box<Statement>),
    /// SHOW NAMESPACES.
    ShowNamespaces,
    /// SHOW TABLES, in the session's namespace or the one named.
    ShowTables {
        /// The namespace after IN or FROM.
        namespace: Option<String>,
    },
    /// DESCRIBE a table.
    Describe(QualifiedName),
    /// USE a namespace.
    Use(String),
    /// CREATE NAMESPACE.
    CreateNamespace(CreateNamespace),
    /// DROP NAMESPACE.
    DropNamespace(DropNamespace),
    /// CREATE TABLE.
    CreateTable(Box<CreateTable>),
    /// DROP TABLE.
    DropTable(DropObject),
    /// ALTER TABLE.
    AlterTable(Box<AlterTable>),
    /// CREATE INDEX.
    CreateIndex(CreateIndex),
    /// DROP INDEX.
    DropIndex(DropObject),
    /// INSERT.
    Insert(Box<Insert>),
    /// UPDATE.
    Update(Box<Update>),
    /// DELETE.
    Delete(Box<Delete>),
    /// CREATE USER.
    CreateUser(CreateUser),
    /// ALTER USER.
    AlterUser(AlterUser),
    /// DROP USER.
    DropUser(DropUser),
    /// EXECUTE AS USER.
    ExecuteAs(ExecuteAs),
    /// CREATE TOPIC.
    CreateTopic(CreateTopic),
    /// DROP TOPIC.
    DropTopic(DropObject),
    /// CLEAR TOPIC.
    ClearTopic(QualifiedName),
    /// ALTER TOPIC … ADD SOURCE.
    AddSource(Box<AddSource>),
    /// ALTER TOPIC … DROP SOURCE.
    DropSource(DropSource),
    /// ALTER TOPIC … SET RETENTION or CLEAR RETENTION.
    SetRetention(SetRetention),
    /// CONSUME.
    Consume(Consume),
    /// ACK.
    Ack(Ack),
    /// NACK.
    Nack(Nack),
    /// RESET CONSUMER GROUP.
    ResetGroup(ResetGroup),
    /// BEGIN.
    Begin,
    /// COMMIT.
    Commit,
    /// ROLLBACK.
    Rollback,
}

impl Statement {
    /// May it run on any node, on a snapshot, without proposing anything? A CONSUME with GROUP
    /// claims; EXECUTE AS USER is audited.
    pub fn is_read(&self) -> bool {
        match self {
            Statement::Select(_)
            | Statement::Explain(_)
            | Statement::ExplainWrite(_)
            | Statement::ShowNamespaces
            | Statement::ShowTables { .. }
            | Statement::Describe(_)
            | Statement::Use(_) => true,
            Statement::Consume(consume) => consume.group.is_none(),
            _ => false,
        }
    }

    /// Its kind in the spelling of metrics and the audit log.
    pub fn kind(&self) -> &'static str {
        match self {
            Statement::Select(_) => "SELECT",
            Statement::Explain(_) | Statement::ExplainWrite(_) => "EXPLAIN",
            Statement::ShowNamespaces => "SHOW NAMESPACES",
            Statement::ShowTables { .. } => "SHOW TABLES",
            Statement::Describe(_) => "DESCRIBE",
            Statement::Use(_) => "USE",
            Statement::CreateNamespace(_) => "CREATE NAMESPACE",
            Statement::DropNamespace(_) => "DROP NAMESPACE",
            Statement::CreateTable(_) => "CREATE TABLE",
            Statement::DropTable(_) => "DROP TABLE",
            Statement::AlterTable(_) => "ALTER TABLE",
            Statement::CreateIndex(_) => "CREATE INDEX",
            Statement::DropIndex(_) => "DROP INDEX",
            Statement::Insert(_) => "INSERT",
            Statement::Update(_) => "UPDATE",
            Statement::Delete(_) => "DELETE",
            Statement::CreateUser(_) => "CREATE USER",
            Statement::AlterUser(_) => "ALTER USER",
            Statement::DropUser(_) => "DROP USER",
            Statement::ExecuteAs(_) => "EXECUTE AS USER",
            Statement::CreateTopic(_) => "CREATE TOPIC",
            Statement::DropTopic(_) => "DROP TOPIC",
            Statement::ClearTopic(_) => "CLEAR TOPIC",
            Statement::AddSource(_) | Statement::DropSource(_) | Statement::SetRetention(_) => {
                "ALTER TOPIC"
            }
            Statement::Consume(_) => "CONSUME",
            Statement::Ack(_) => "ACK",
            Statement::Nack(_) => "NACK",
            Statement::ResetGroup(_) => "RESET CONSUMER GROUP",
            Statement::Begin => "BEGIN",
            Statement::Commit => "COMMIT",
            Statement::Rollback => "ROLLBACK",
        }
    }
}

/// INSERT.
#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    /// Into which table.
    pub table: QualifiedName,
    /// The columns named; none: all, in order.
    pub columns: Option<Vec<String>>,
    /// The rows.
    pub source: InsertSource,
    /// ON CONFLICT.
    pub on_conflict: Option<OnConflict>,
    /// RETURNING.
    pub returning: Option<Vec<ast::SelectItem>>,
}

/// Where an INSERT's rows come from.
#[derive(Clone, Debug, PartialEq)]
pub enum InsertSource {
    /// VALUES.
    Values(Vec<Vec<InsertValue>>),
    /// A query.
    Query(Box<ast::Query>),
    /// DEFAULT VALUES: one row.
    DefaultValues,
}

/// One value of an INSERT or of SET.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "most values are expressions: boxing each would cost more than it saves"
)]
pub enum InsertValue {
    /// An expression.
    Expr(ast::Expr),
    /// DEFAULT.
    Default,
}

/// ON CONFLICT.
#[derive(Clone, Debug, PartialEq)]
pub struct OnConflict {
    /// The columns in parentheses: those of the primary key or of a UNIQUE constraint. None: any.
    pub target: Option<Vec<String>>,
    /// What to do.
    pub action: ConflictAction,
}

/// What an INSERT does with a row that is there already.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one in a statement")]
pub enum ConflictAction {
    /// DO NOTHING.
    Nothing,
    /// DO UPDATE SET. Expressions may name `excluded.column`.
    Update {
        /// Column and its new value.
        assignments: Vec<Assignment>,
        /// WHERE.
        selection: Option<ast::Expr>,
    },
}

/// `column = value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The column.
    pub column: String,
    /// Its new value.
    pub value: InsertValue,
}

/// UPDATE.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Which table.
    pub table: QualifiedName,
    /// SET.
    pub assignments: Vec<Assignment>,
    /// WHERE.
    pub selection: Option<ast::Expr>,
    /// RETURNING.
    pub returning: Option<Vec<ast::SelectItem>>,
}

/// DELETE.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// From which table.
    pub table: QualifiedName,
    /// WHERE.
    pub selection: Option<ast::Expr>,
    /// RETURNING.
    pub returning: Option<Vec<ast::SelectItem>>,
}

/// CREATE USER. `Debug` leaves the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct CreateUser {
    /// The new name.
    pub name: String,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// In the clear; hashed by the planner.
    pub password: String,
    /// ROLE; `user` unless stated.
    pub role: Role,
    /// EMAIL.
    pub email: Option<String>,
}

impl std::fmt::Debug for CreateUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateUser")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("email", &self.email)
            .finish_non_exhaustive()
    }
}

/// ALTER USER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterUser {
    /// Whom.
    pub name: String,
    /// What changes.
    pub change: UserChange,
}

/// What ALTER USER sets. `Debug` leaves the password out.
#[derive(Clone, PartialEq, Eq)]
pub enum UserChange {
    /// SET PASSWORD, in the clear.
    Password(String),
    /// SET ROLE.
    Role(Role),
    /// SET EMAIL.
    Email(Option<String>),
}

impl std::fmt::Debug for UserChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UserChange::Password(_) => f.write_str("Password(…)"),
            UserChange::Role(role) => f.debug_tuple("Role").field(role).finish(),
            UserChange::Email(email) => f.debug_tuple("Email").field(email).finish(),
        }
    }
}

/// DROP USER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropUser {
    /// Whom.
    pub name: String,
    /// IF EXISTS.
    pub if_exists: bool,
}

/// EXECUTE AS USER.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecuteAs {
    /// As whom; need not have an account.
    pub user: String,
    /// SELECT, INSERT, UPDATE or DELETE.
    pub statement: Box<Statement>,
}

/// CREATE TOPIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopic {
    /// The new name.
    pub name: QualifiedName,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// PARTITIONS.
    pub partitions: u32,
    /// WITH (retention_…).
    pub retention: Retention,
}

/// How long a topic keeps messages; what is none stays as it is, or is unlimited in a new topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// `retention_seconds = n`, or NULL: `Some(None)`.
    pub seconds: Option<Option<u64>>,
    /// `retention_max_bytes = n`, or NULL: `Some(None)`.
    pub max_bytes: Option<Option<u64>>,
}

/// ALTER TOPIC … ADD SOURCE.
#[derive(Clone, Debug, PartialEq)]
pub struct AddSource {
    /// The topic.
    pub topic: QualifiedName,
    /// The table; without a namespace, one in the topic's namespace.
    pub table: QualifiedName,
    /// Which changes.
    pub op: RowOp,
    /// WHERE.
    pub filter: Option<ast::Expr>,
    /// WITH (payload = …); full unless stated.
    pub payload: PayloadMode,
}

/// ALTER TOPIC … DROP SOURCE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropSource {
    /// The topic.
    pub topic: QualifiedName,
    /// The table; without a namespace, one in the topic's namespace.
    pub table: QualifiedName,
    /// Which changes.
    pub op: RowOp,
}

/// ALTER TOPIC … SET RETENTION; CLEAR RETENTION sets both to none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetRetention {
    /// The topic.
    pub topic: QualifiedName,
    /// What to set.
    pub retention: Retention,
}

/// CONSUME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consume {
    /// The topic.
    pub topic: QualifiedName,
    /// PARTITION. None: 0 without a group, with one any that has work.
    pub partition: Option<PartitionId>,
    /// GROUP.
    pub group: Option<String>,
    /// FROM; LATEST unless stated.
    pub from: Position,
    /// LIMIT.
    pub limit: u32,
}

/// ACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The topic.
    pub topic: QualifiedName,
    /// GROUP.
    pub group: String,
    /// PARTITION; 0 unless stated.
    pub partition: PartitionId,
    /// What is done.
    pub what: AckTarget,
}

/// What an ACK is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckTarget {
    /// UPTO OFFSET: this one and all before.
    Upto(Offset),
    /// LEASE.
    Lease {
        /// Its id.
        id: String,
        /// OFFSETS; empty: all the lease holds.
        offsets: Vec<Offset>,
    },
}

/// NACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// The topic.
    pub topic: QualifiedName,
    /// GROUP.
    pub group: String,
    /// PARTITION, which the lease implies; accepted and checked to exist.
    pub partition: Option<PartitionId>,
    /// LEASE.
    pub lease_id: String,
    /// OFFSETS; empty: all the lease holds.
    pub offsets: Vec<Offset>,
    /// DELAY, in ms.
    pub delay_ms: u64,
}

/// RESET CONSUMER GROUP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetGroup {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: QualifiedName,
    /// PARTITION; none: all.
    pub partition: Option<PartitionId>,
    /// TO.
    pub to: Position,
}
