//! Plans: what a statement that writes hands to replication. One file a family.
//!
//! A plan is made on a snapshot. Everything that needs a clock, randomness or a schema is evaluated
//! here, once; what comes out are keys and bytes, and expectations about what was read to choose
//! them. If one of those no longer holds when the plan is applied, nothing of it happens and the
//! caller plans again.

mod alter;
mod context;
mod delete;
mod draft;
mod edits;
mod execute_as;
mod explain;
mod groups;
mod indexes;
mod insert;
mod namespaces;
mod prepared;
mod returning;
mod routes;
mod rows;
mod show;
mod tables;
mod topics;
mod transaction;
mod update;
mod upsert;
mod users;
mod whole;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use storage::{Read, Snapshot};
use types::command::{Command, Expectation};
use types::{Error, ErrorCode};

use self::context::Context;
use self::prepared::PreparedTables;
pub use self::transaction::{Transaction, overlay};
use crate::answer::Answer;
use crate::failure::Result;
use crate::query::{QueryEngine, has_subquery};
use crate::session::{Inject, Param, Session};
use crate::statement::{InsertSource, Statement};

/// What becomes of a statement: conditions on the state it was planned on, the commands, and the
/// answer if the commands are applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What the plan saw.
    pub expectations: Vec<Expectation>,
    /// What to apply.
    pub commands: Vec<Command>,
    /// What to answer once they are applied.
    pub answer: Answer,
    /// False: there is nothing to propose (no row matched, IF NOT EXISTS). The answer is true only
    /// after a read index.
    pub writes: bool,
}

impl Plan {
    /// Nothing is to be done.
    fn nothing(answer: Answer) -> Plan {
        Plan {
            expectations: Vec::new(),
            commands: Vec::new(),
            answer,
            writes: false,
        }
    }
}

/// Plans statements. One for a node; all methods take the snapshot to plan on.
pub struct Planner {
    engine: QueryEngine,
    inject: Inject,
    prepared: PreparedTables,
}

impl Planner {
    /// A planner.
    pub fn new(engine: QueryEngine, inject: Inject) -> Planner {
        Planner {
            engine,
            inject,
            prepared: PreparedTables::default(),
        }
    }

    /// The query engine it uses.
    pub fn engine(&self) -> &QueryEngine {
        &self.engine
    }

    /// Plans a statement that writes.
    ///
    /// `in_transaction`: between BEGIN and COMMIT, where ACK and NACK are strict.
    ///
    /// # Errors
    /// [`crate::Failure::Refused`] with the code of CONTRACT §2: the statement changes nothing.
    pub async fn plan(
        &self,
        read: Arc<dyn Snapshot>,
        statement: &Statement,
        session: &Session<'_>,
        params: &[Param],
        in_transaction: bool,
    ) -> Result<Plan> {
        let context = Context {
            planner: self,
            read,
            session: *session,
            params,
            in_transaction,
        };
        if !takes_params(statement) {
            crate::query::params::check_count(0, params)?;
        }
        match statement {
            Statement::Insert(insert) => insert::plan(&context, insert).await,
            Statement::Update(update) => update::plan(&context, update).await,
            Statement::Delete(delete) => delete::plan(&context, delete).await,
            Statement::ExecuteAs(execute) => execute_as::plan(&context, execute).await,
            Statement::CreateNamespace(create) => namespaces::create(&context, create),
            Statement::DropNamespace(drop) => namespaces::drop(&context, drop),
            Statement::CreateTable(create) => tables::create(&context, create),
            Statement::DropTable(drop) => tables::drop(&context, drop),
            Statement::AlterTable(alter) => alter::plan(&context, alter),
            Statement::CreateIndex(create) => indexes::create(&context, create),
            Statement::DropIndex(drop) => indexes::drop(&context, drop),
            Statement::CreateUser(create) => users::create(&context, create),
            Statement::AlterUser(alter) => users::alter(&context, alter),
            Statement::DropUser(drop) => users::drop(&context, drop),
            Statement::CreateTopic(create) => topics::create(&context, create),
            Statement::DropTopic(drop) => topics::drop(&context, drop),
            Statement::ClearTopic(name) => topics::clear(&context, name),
            Statement::SetRetention(set) => topics::set_retention(&context, set),
            Statement::AddSource(add) => routes::add(&context, add),
            Statement::DropSource(drop) => routes::drop(&context, drop),
            Statement::Ack(ack) => groups::ack(&context, ack),
            Statement::Nack(nack) => groups::nack(&context, nack),
            Statement::ResetGroup(reset) => groups::reset(&context, reset),
            Statement::Select(_)
            | Statement::Explain(_)
            | Statement::ExplainWrite(_)
            | Statement::ShowNamespaces
            | Statement::ShowTables { .. }
            | Statement::Describe(_)
            | Statement::Use(_)
            | Statement::Consume(_)
            | Statement::Begin
            | Statement::Commit
            | Statement::Rollback => Err(not_planned(statement).into()),
        }
    }

    /// The line of the audit log for a use of EXECUTE AS USER, which is kept also if the statement
    /// fails or is rolled back: its answer or error may have shown somebody's rows. None for other
    /// statements.
    ///
    /// # Errors
    /// [`crate::Failure::Refused`] if the caller may not act as that user.
    pub fn audit(
        &self,
        read: &dyn Read,
        statement: &Statement,
        session: &Session<'_>,
    ) -> Result<Option<Command>> {
        match statement {
            Statement::ExecuteAs(execute) => {
                execute_as::may_act_as(self, read, session, &execute.user)?;
                Ok(Some(execute_as::audit(session, execute)?))
            }
            _ => Ok(None),
        }
    }

    /// Answers a statement for which [`Statement::is_read`] holds, other than CONSUME.
    ///
    /// # Errors
    /// [`crate::Failure::Refused`] with the code of CONTRACT §2.
    pub async fn read(
        &self,
        read: Arc<dyn Snapshot>,
        statement: &Statement,
        session: &Session<'_>,
        params: &[Param],
    ) -> Result<Answer> {
        match statement {
            Statement::Select(query) => Ok(Answer::Rows(
                self.engine.select(read, query, session, params).await?,
            )),
            Statement::Explain(query) => Ok(Answer::Rows(
                self.engine.explain(read, query, session, params).await?,
            )),
            _ => {
                let context = Context {
                    planner: self,
                    read,
                    session: *session,
                    params,
                    in_transaction: false,
                };
                if let Statement::ExplainWrite(statement) = statement {
                    return explain::answer(&context, statement).await;
                }
                crate::query::params::check_count(0, params)?;
                show::answer(&context, statement)
            }
        }
    }
}

/// Does planning a write run a query, as SELECT does? Then it counts among those that run at once.
pub fn runs_query(statement: &Statement) -> bool {
    let has_subquery = |selection: &Option<_>| selection.as_ref().is_some_and(has_subquery);
    match statement {
        Statement::Insert(insert) => matches!(insert.source, InsertSource::Query(_)),
        Statement::Update(update) => has_subquery(&update.selection),
        Statement::Delete(delete) => has_subquery(&delete.selection),
        Statement::ExecuteAs(execute) => {
            matches!(*execute.statement, Statement::Select(_)) || runs_query(&execute.statement)
        }
        _ => false,
    }
}

fn takes_params(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::ExecuteAs(_)
    )
}

/// The caller handles these itself; one that comes here is a defect of the caller.
fn not_planned(statement: &Statement) -> Error {
    Error::new(
        ErrorCode::InternalError,
        format!("{} is not planned as a write", statement.kind()),
    )
}
