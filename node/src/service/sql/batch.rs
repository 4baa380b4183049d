//! The statements of one request, in order.

use std::time::Instant;

use sql::{Param, Statement};
use types::ids::LogIndex;
use types::limits::RESULT_MAX_BYTES;
use types::{Error, ErrorCode, Result};

use super::write::Unit;
use super::{Fragment, SqlService, invalid, render};
use crate::http::OnUndelivered;
use crate::service::call::{Call, Caller, Failure, Reply};
use crate::service::consensus::{View, no_leader};
use crate::service::topics::Held;

/// A request under way.
pub struct Batch<'a> {
    pub(super) service: &'a SqlService,
    pub(super) call: &'a Call,
    pub(super) statements: &'a [Statement],
    pub(super) params: &'a [Param],
    /// Where names without a namespace are looked up; USE changes it for what follows.
    pub(super) namespace: Option<String>,
    /// Everything answered before the request came is at or below it; taken when first needed.
    fresh_from: Option<LogIndex>,
    results: Vec<Fragment>,
    /// Leases that CONSUME was granted: given back unless the answer with them goes out.
    pub(super) held: Vec<Held>,
    began: Instant,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        service: &'a SqlService,
        call: &'a Call,
        statements: &'a [Statement],
        params: &'a [Param],
        namespace: Option<String>,
    ) -> Batch<'a> {
        Batch {
            service,
            call,
            statements,
            params,
            namespace,
            fresh_from: None,
            results: Vec::with_capacity(statements.len()),
            held: Vec::new(),
            began: Instant::now(),
        }
    }

    pub(super) fn caller(&self) -> Result<&'a Caller> {
        self.call.caller()
    }

    /// Runs all statements; the first error ends the batch.
    pub(super) async fn run(mut self) -> Result<Reply, Failure> {
        let mut next = 0;
        while next < self.statements.len() {
            next = match self.step(next).await {
                Ok(after) => self.counted(next, after),
                Err((at, failure)) => return Err(self.failed(at, failure)),
            };
        }
        let took_ms = self.began.elapsed().as_secs_f64() * 1_000.0;
        let results = self
            .results
            .iter()
            .map(|f| (f.json.as_str(), f.receipt.as_deref()));
        let body = render::response(results, took_ms);
        let reply = Reply::ok(body, self.index());
        let (leases, watches): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held)
            .into_iter()
            .map(|held| (held.lease, held.undelivered))
            .unzip();
        Ok(Reply {
            leases,
            undelivered: OnUndelivered::all(watches),
            ..reply
        })
    }

    /// Counts the statements from `first` to before `after`, which have run; returns `after`.
    fn counted(&self, first: usize, after: usize) -> usize {
        for statement in &self.statements[first..after] {
            self.service.metrics.statement_done(statement.kind());
        }
        after
    }

    /// Runs the statement at `at`, or the transaction that begins there; returns what comes next.
    async fn step(&mut self, at: usize) -> Result<usize, (usize, Failure)> {
        let statement = &self.statements[at];
        match statement {
            Statement::Begin => {
                let block = self.block(at).map_err(|error| (at, error.into()))?;
                let fragments = self.transaction(&block).await?;
                self.results.extend(fragments);
                return Ok(block.end + 1);
            }
            Statement::Commit | Statement::Rollback => {
                let error = invalid("there is no transaction to end: BEGIN comes first");
                return Err((at, error.into()));
            }
            _ => {}
        }
        let fragment = match statement {
            Statement::Use(namespace) => {
                let fragment = self.read(at).await;
                self.namespace = Some(namespace.clone());
                fragment
            }
            Statement::Consume(consume) => self.consume(consume).await,
            _ if statement.is_read() => self.read(at).await,
            _ => self.write(at).await,
        };
        self.results
            .push(fragment.map_err(|failure| (at, failure))?);
        Ok(at + 1)
    }

    async fn read(&mut self, at: usize) -> Result<Fragment, Failure> {
        let view = self.view().await?;
        let caller = self.caller()?;
        let user = self.service.account(&view, caller)?;
        let session = self
            .service
            .session(&user, caller, self.namespace.as_deref());
        let statement = &self.statements[at];
        let answer = self
            .service
            .read(&view, statement, &session, self.params, self.call)
            .await?;
        let json = render::result(&answer, &user.name, self.room())?;
        Ok(Fragment {
            json,
            receipt: None,
            index: view.index,
        })
    }

    async fn write(&mut self, at: usize) -> Result<Fragment, Failure> {
        let unit = Unit {
            first: at,
            statements: &self.statements[at..=at],
            transaction: false,
        };
        let mut fragments = self.commit(&unit).await.map_err(|(_, failure)| failure)?;
        fragments.pop().ok_or_else(|| {
            Failure::new(
                ErrorCode::InternalError,
                "a statement was committed without a result",
            )
        })
    }

    /// A view as fresh as the request asks for, and no older than what this batch committed.
    pub(super) async fn view(&mut self) -> Result<View> {
        let consensus = &self.service.consensus;
        let wanted = match self.call.consistency {
            api::headers::Consistency::Local => 0,
            api::headers::Consistency::Linearizable => self.fresh_from().await?,
        };
        let wanted = wanted.max(self.call.min_index).max(self.index());
        consensus.view_at(wanted, self.call.deadline).await
    }

    /// The read index of this request, taken once.
    pub(super) async fn fresh_from(&mut self) -> Result<LogIndex> {
        match self.fresh_from {
            Some(index) => Ok(index),
            None => {
                let index = self
                    .service
                    .consensus
                    .read_index(self.call.deadline)
                    .await?;
                self.fresh_from = Some(index);
                Ok(index)
            }
        }
    }

    /// How many bytes the results still to come may have.
    pub(super) fn room(&self) -> usize {
        let used: usize = self
            .results
            .iter()
            .map(|fragment| fragment.json.len())
            .sum();
        RESULT_MAX_BYTES.saturating_sub(used)
    }

    /// The log index that the results so far reflect.
    fn index(&self) -> LogIndex {
        self.results
            .iter()
            .map(|fragment| fragment.index)
            .max()
            .unwrap_or(0)
    }

    /// What the request fails with. What was committed before stays, so the request as a whole may
    /// be sent again only with an idempotency key.
    fn failed(&self, at: usize, failure: Failure) -> Failure {
        let committed = self
            .results
            .iter()
            .any(|fragment| fragment.receipt.is_some());
        let repeatable = self.call.idempotency_key.is_some();
        let statement = u32::try_from(at).unwrap_or(u32::MAX);
        let mut error: Error = match failure {
            Failure::NotLeader if !committed || repeatable => return Failure::NotLeader,
            Failure::Lost(error) if !committed || repeatable => return Failure::Lost(error),
            Failure::NotLeader => no_leader(),
            Failure::Lost(error) | Failure::Error(error) => error,
        };
        let kind = self.statements.get(at).map(Statement::kind);
        self.service.metrics.statement_failed(kind, error.code);
        error.maybe_applied |= committed && !repeatable && error.retryable();
        Failure::Error(error.at_statement(statement))
    }
}
