//! Statements: a request's batch, in order, each committing by itself or within BEGIN … COMMIT.
//!
//! Reads run on this node on a state as fresh as the request asks for. A batch with anything else
//! runs at the leader: each write is planned on the leader's state and proposed (`write.rs`).

mod batch;
mod consume;
mod contention;
mod params;
mod render;
mod transaction;
mod write;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use sql::{Catalog, Param, Planner, Session, Statement, StatementCache};
use tokio::sync::Semaphore;
use types::ids::LogIndex;
use types::schema::User;
use types::{Error, ErrorCode, Result, limits};

use self::batch::Batch;
use self::contention::Contention;
pub use self::write::key_reused;
use super::access::Access;
use super::call::{Call, Caller, Failure, Reply};
use super::consensus::{Consensus, View, too_late};
use super::dispatch::Hop;
use super::topics::TopicService;
use crate::metrics::Metrics;

/// Serves `POST /v1/api/sql`.
pub struct SqlService {
    consensus: Consensus,
    access: Access,
    catalog: Catalog,
    planner: Arc<Planner>,
    statements: StatementCache,
    topics: TopicService,
    contention: Contention,
    /// Queries that run at once.
    queries: Semaphore,
    metrics: Arc<Metrics>,
}

impl SqlService {
    /// With names from `catalog` and CONSUME served by `topics`.
    pub fn new(
        consensus: Consensus,
        access: Access,
        catalog: Catalog,
        planner: Arc<Planner>,
        topics: TopicService,
        metrics: Arc<Metrics>,
    ) -> SqlService {
        SqlService {
            consensus,
            access,
            catalog,
            planner,
            statements: StatementCache::new(),
            topics,
            contention: Contention::default(),
            queries: Semaphore::new(limits::QUERIES_RUNNING_MAX),
            metrics,
        }
    }

    /// Runs a request's statements. [`Failure::NotLeader`] if they must run at the leader, and none
    /// has been committed yet.
    pub async fn execute(&self, call: &Call, hop: Hop) -> Result<Reply, Failure> {
        let request: api::SqlRequest = call.json()?;
        let statements = self
            .statements
            .parse(&request.sql)
            .inspect_err(|error| self.metrics.statement_failed(None, error.code))?;
        let params = params::read(request.params.as_deref().unwrap_or_default())?;
        if !params.is_empty() && statements.len() > 1 {
            return Err(Failure::new(
                ErrorCode::ParamsWithBatch,
                "parameters go with a single statement",
            ));
        }
        let reads = statements.iter().all(Statement::is_read);
        // A read that was passed on is a consume's or a batch's: it must see what the leader has.
        if (!reads || hop == Hop::Second) && !self.consensus.raft().leadership().is_leader {
            return Err(Failure::NotLeader);
        }
        Batch::new(self, call, &statements, &params, request.namespace_id)
            .run()
            .await
    }

    /// Answers a statement that only reads.
    async fn read(
        &self,
        view: &View,
        statement: &Statement,
        session: &Session<'_>,
        params: &[Param],
        call: &Call,
    ) -> Result<sql::Answer> {
        let run = async {
            // The semaphore is never closed.
            let _running = self.queries.acquire().await;
            self.planner
                .read(Arc::clone(&view.state), statement, session, params)
                .await
        };
        match tokio::time::timeout_at(call.deadline.into(), unpanicked(run)).await {
            Ok(answer) => self.checked(answer),
            Err(_) => Err(too_late("the query did not finish in time")),
        }
    }

    /// Turns a failure of the storage into the end of the process.
    fn checked<T>(&self, result: sql::Result<T>) -> Result<T> {
        match result {
            Ok(value) => Ok(value),
            Err(sql::Failure::Refused(error)) => Err(error),
            Err(sql::Failure::Storage(error)) => self.consensus.stored(Err(error)),
        }
    }

    /// The caller's account in this view.
    fn account(&self, view: &View, caller: &Caller) -> Result<Arc<User>> {
        self.access.account(&*view.state, caller)?
    }

    /// The session of a statement, as of this moment.
    fn session<'a>(
        &self,
        user: &'a User,
        caller: &'a Caller,
        namespace: Option<&'a str>,
    ) -> Session<'a> {
        Session {
            user: &user.name,
            role: user.role,
            effective_user: &user.name,
            namespace,
            now: self.consensus.raft().now().wall_time,
            ip: caller.ip.as_deref(),
        }
    }
}

/// A panic while a statement is evaluated is that statement's INTERNAL_ERROR, and nobody else's.
async fn unpanicked<T>(run: impl Future<Output = sql::Result<T>>) -> sql::Result<T> {
    // What outlives it are caches, which are whole after every step.
    let outcome = AssertUnwindSafe(run).catch_unwind().await;
    outcome.unwrap_or_else(|_| {
        let message = "the statement met a defect of the server; it changed nothing";
        Err(Error::new(ErrorCode::InternalError, message).into())
    })
}

/// The result of one statement, as JSON without its closing brace and receipt.
struct Fragment {
    json: String,
    /// Set where the statement committed something, alone or with its transaction.
    receipt: Option<String>,
    /// What the result reflects.
    index: LogIndex,
}

/// INVALID_SQL.
fn invalid(message: &str) -> Error {
    Error::new(ErrorCode::InvalidSql, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_one_statement() {
        let panics = async { panic!("a defect") };
        match unpanicked::<()>(panics).await {
            Err(sql::Failure::Refused(error)) => assert_eq!(error.code, ErrorCode::InternalError),
            other => panic!("{other:?}"),
        }
        assert!(unpanicked(async { Ok(1) }).await.is_ok());
    }
}
