//! A write: planned on the leader's state, proposed, and planned again if the state had moved.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use raft::apply::idempotency;
use sha2::{Digest, Sha256};
use sql::{Answer, Session, Statement};
use storage::{Batch as Overlay, Snapshot};
use types::command::{Command, Envelope, Expectation, Idempotency};
use types::ids::{LogIndex, Term};
use types::limits::{ENVELOPE_MAX_BYTES, IDEMPOTENCY_ANSWER_MAX_BYTES, REPLAN_MAX};
use types::outcome::{AppendedRange, CommandResult, Outcome, Rejection, Replayed};
use types::{Error, ErrorCode, Result};

use super::batch::Batch;
use super::render::{self, ReceiptRange};
use super::{Fragment, SqlService, unpanicked};
use crate::service::call::Failure;
use crate::service::consensus::View;

/// Statements that commit together.
pub struct Unit<'a> {
    /// The first one's place in the request.
    pub first: usize,
    /// One, or those between BEGIN and COMMIT.
    pub statements: &'a [Statement],
    /// Between BEGIN and COMMIT?
    pub transaction: bool,
}

/// What a unit would do to the state it was planned on.
#[derive(Debug, Default)]
struct Planned {
    expectations: Vec<Expectation>,
    commands: Vec<Command>,
    /// How many of the commands each statement and those before it have together.
    commands_upto: Vec<usize>,
    /// The results, as JSON without closing brace and receipt.
    results: Vec<String>,
    /// The lines of `commands` that tell of EXECUTE AS USER: they stay if the rest is rolled back.
    audits: Vec<Command>,
}

/// Why a unit cannot be planned.
struct Unplanned {
    /// The statement's place in the request.
    at: usize,
    error: Error,
    /// The lines that tell of EXECUTE AS USER in it and before it.
    audits: Vec<Command>,
}

impl Planned {
    /// Which statement of the unit a command belongs to.
    fn statement_of(&self, command: usize) -> usize {
        self.commands_upto.partition_point(|upto| *upto <= command)
    }
}

/// Between the stored results of one unit: never part of JSON text.
const SEPARATOR: char = '\u{1e}';

impl Batch<'_> {
    /// Commits a unit. The receipt is with its last result. An error names its statement.
    pub(super) async fn commit(
        &mut self,
        unit: &Unit<'_>,
    ) -> Result<Vec<Fragment>, (usize, Failure)> {
        let last = unit.first + unit.statements.len().max(1) - 1;
        let mut turn = None;
        let mut attempts = 0;
        loop {
            let at_end = |failure: Failure| (last, failure);
            let service = self.service;
            let (view, term) = service
                .consensus
                .planning_view_for(self.call)
                .await
                .map_err(at_end)?;
            let replay = self.replay(&view, last, unit.statements.len());
            let planned = match replay.map_err(|e| at_end(e.into()))? {
                Some(fragments) => return Ok(fragments),
                None => self.plan(&view, unit).await,
            };
            // A "no" and a "nothing to do" are said only of a state as fresh as the request.
            let proposes = planned.as_ref().is_ok_and(|p| !p.commands.is_empty());
            if !proposes && !self.is_fresh(&view).await.map_err(|e| at_end(e.into()))? {
                continue;
            }
            let planned = self.audited(planned, term).await?;
            if !proposes && !self.is_remembered(unit) {
                let fragment = |json| Fragment {
                    json,
                    receipt: None,
                    index: view.index,
                };
                return Ok(planned.results.into_iter().map(fragment).collect());
            }
            let envelope = self
                .envelope(&planned, term, last)
                .map_err(|error| at_end(error.into()))?;
            let (index, outcome) = service
                .consensus
                .propose(envelope, self.call.deadline)
                .await
                .map_err(at_end)?;
            match outcome {
                Outcome::Applied(applied) => {
                    let messages = appended(&applied.results);
                    return self
                        .fragments(planned.results, applied.index, &messages)
                        .map_err(|error| at_end(error.into()));
                }
                Outcome::Replayed(replayed) => {
                    return self
                        .replayed(&replayed, unit.statements.len())
                        .map_err(|error| at_end(error.into()));
                }
                Outcome::Rejected(Rejection::Refused { command, error }) => {
                    let at = unit.first + planned.statement_of(command);
                    return Err((at.min(last), error.into()));
                }
                Outcome::Rejected(Rejection::KeyReused) => return Err(at_end(key_reused().into())),
                Outcome::Rejected(Rejection::Stale { key }) => {
                    attempts += 1;
                    if attempts > REPLAN_MAX {
                        return Err(at_end(conflict().into()));
                    }
                    // The rejection is applied here already, so the next view shows why.
                    debug_assert!(service.consensus.raft().applied() >= index);
                    if turn.is_none() {
                        turn = Some(service.contention.turn(&key).await);
                    }
                }
            }
        }
    }

    /// Plans a unit that will be rolled back: its results, and its errors.
    pub(super) async fn rehearse(
        &mut self,
        unit: &Unit<'_>,
    ) -> Result<Vec<Fragment>, (usize, Failure)> {
        let at_first = |failure: Failure| (unit.first, failure);
        let view = self.view().await.map_err(|e| at_first(e.into()))?;
        let consensus = &self.service.consensus;
        let (_, term) = consensus
            .planning_view_for(self.call)
            .await
            .map_err(at_first)?;
        let planned = self.plan(&view, unit).await;
        let planned = self.audited(planned, term).await?;
        self.audit(planned.audits, term).await.map_err(at_first)?;
        let fragment = |json| Fragment {
            json,
            receipt: None,
            index: view.index,
        };
        Ok(planned.results.into_iter().map(fragment).collect())
    }

    /// The plan; or the error, once the lines are committed that tell whose rows were looked at on
    /// the way to it.
    async fn audited(
        &self,
        planned: Result<Planned, Unplanned>,
        term: Term,
    ) -> Result<Planned, (usize, Failure)> {
        match planned {
            Ok(planned) => Ok(planned),
            Err(Unplanned { at, error, audits }) => {
                self.audit(audits, term)
                    .await
                    .map_err(|failure| (at, failure))?;
                Err((at, error.into()))
            }
        }
    }

    /// Commits lines for the audit log by themselves.
    async fn audit(&self, audits: Vec<Command>, term: Term) -> Result<(), Failure> {
        if audits.is_empty() {
            return Ok(());
        }
        let envelope = Envelope {
            request_id: Bytes::copy_from_slice(&self.call.request),
            term,
            actor: self.caller()?.user.clone(),
            expectations: Vec::new(),
            commands: audits,
            idempotency: None,
        };
        let proposed = self.service.consensus.propose(envelope, self.call.deadline);
        match proposed.await? {
            (_, Outcome::Rejected(Rejection::Refused { error, .. })) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Does the view show everything that was answered before this request came?
    async fn is_fresh(&mut self, view: &View) -> Result<bool> {
        let from = self.fresh_from().await?;
        if view.index >= from {
            return Ok(true);
        }
        self.service
            .consensus
            .view_at(from, self.call.deadline)
            .await?;
        Ok(false)
    }

    /// Plans all statements of a unit, each on what those before it would leave. They share one
    /// time, and USE holds for those behind it.
    async fn plan(&self, view: &View, unit: &Unit<'_>) -> Result<Planned, Unplanned> {
        let mut planned = Planned::default();
        match self.plan_all(view, unit, &mut planned).await {
            Ok(()) => Ok(planned),
            Err((at, error)) => Err(Unplanned {
                at,
                error,
                audits: planned.audits,
            }),
        }
    }

    async fn plan_all(
        &self,
        view: &View,
        unit: &Unit<'_>,
        planned: &mut Planned,
    ) -> Result<(), (usize, Error)> {
        let at_first = |error| (unit.first, error);
        let caller = self.caller().map_err(at_first)?;
        let user = self.service.account(view, caller).map_err(at_first)?;
        let namespace = self.namespace.as_deref();
        let mut session = self.service.session(&user, caller, namespace);
        let mut room = self.room();
        let mut state = Arc::clone(&view.state);
        let mut ordinal = 0;
        let mut transaction = sql::Transaction::default();
        for (offset, statement) in unit.statements.iter().enumerate() {
            let at_this = |error| (unit.first + offset, error);
            let audit = self.service.planner.audit(&*state, statement, &session);
            let audit = self.service.checked(audit).map_err(at_this)?;
            planned.audits.extend(audit);
            let plan = self
                .plan_one(&state, statement, &session, unit.transaction)
                .await
                .map_err(at_this)?;
            let acting_as = match statement {
                Statement::ExecuteAs(execute) => &execute.user,
                _ => &user.name,
            };
            let result = render::result(&plan.answer, acting_as, room).map_err(at_this)?;
            room = room.saturating_sub(result.len());
            planned.results.push(result);
            if let Statement::Use(namespace) = statement {
                session.namespace = Some(namespace);
            }
            if unit.transaction && plan.writes && offset + 1 < unit.statements.len() {
                let mut overlay = Overlay::new(state);
                sql::overlay(&mut overlay, &plan, &mut ordinal);
                state = Arc::new(overlay);
            }
            let before = planned.commands_upto.last().copied().unwrap_or(0);
            planned.commands_upto.push(before + plan.commands.len());
            if plan.writes {
                transaction.push(plan);
            }
        }
        (planned.expectations, planned.commands) = transaction.into_parts();
        Ok(())
    }

    async fn plan_one(
        &self,
        state: &Arc<dyn Snapshot>,
        statement: &Statement,
        session: &Session<'_>,
        transaction: bool,
    ) -> Result<sql::Plan> {
        let service = self.service;
        if statement.is_read() {
            let view = View {
                index: 0,
                state: Arc::clone(state),
            };
            let answer = service
                .read(&view, statement, session, self.params, self.call)
                .await?;
            return Ok(sql::Plan {
                expectations: Vec::new(),
                commands: Vec::new(),
                answer,
                writes: false,
            });
        }
        let plan = async {
            let _running = match sql::runs_query(statement) {
                // The semaphore is never closed.
                true => Some(service.queries.acquire().await),
                false => None,
            };
            let state = Arc::clone(state);
            service
                .planner
                .plan(state, statement, session, self.params, transaction)
                .await
        };
        match tokio::time::timeout_at(self.call.deadline.into(), unpanicked(plan)).await {
            Ok(plan) => service.checked(plan),
            Err(_) => Err(Error::new(
                ErrorCode::DeadlineExceeded,
                "the statement could not be planned in time",
            )),
        }
    }

    /// The Envelope of a planned unit. VALUE_TOO_LARGE beyond the bound.
    fn envelope(&self, planned: &Planned, term: Term, last: usize) -> Result<Envelope> {
        let envelope = Envelope {
            request_id: Bytes::copy_from_slice(&self.call.request),
            term,
            actor: self.caller()?.user.clone(),
            expectations: planned.expectations.clone(),
            commands: planned.commands.clone(),
            idempotency: self.idempotency(&planned.results, last),
        };
        let bytes = envelope.encoded_len();
        if bytes > ENVELOPE_MAX_BYTES {
            return Err(Error::new(
                ErrorCode::ValueTooLarge,
                format!("a transaction has at most {ENVELOPE_MAX_BYTES} bytes, not {bytes}"),
            ));
        }
        Ok(envelope)
    }

    /// Is the answer to be kept even if there is nothing to do? Under a key it is: the same request
    /// would else do something once there is something to do. Reads are just read again.
    fn is_remembered(&self, unit: &Unit<'_>) -> bool {
        self.call.idempotency_key.is_some() && !unit.statements.iter().all(Statement::is_read)
    }

    fn idempotency(&self, results: &[String], last: usize) -> Option<Idempotency> {
        let key = self.call.idempotency_key.clone()?;
        let answer = results.join(&SEPARATOR.to_string());
        let fits = answer.len() <= IDEMPOTENCY_ANSWER_MAX_BYTES;
        Some(Idempotency {
            key,
            ordinal: u32::try_from(last).unwrap_or(u32::MAX),
            request_hash: self.request_hash(),
            answer: if fits { answer.into() } else { Bytes::new() },
        })
    }

    /// Tells one request from another under the same key.
    fn request_hash(&self) -> Bytes {
        Bytes::copy_from_slice(&Sha256::digest(&self.call.body))
    }

    /// The first answer, if this very request was committed before.
    fn replay(&self, view: &View, last: usize, statements: usize) -> Result<Option<Vec<Fragment>>> {
        let Some(key) = &self.call.idempotency_key else {
            return Ok(None);
        };
        let service = self.service;
        let ordinal = u32::try_from(last).unwrap_or(u32::MAX);
        let now = service.consensus.raft().now().wall_time;
        let actor = &self.caller()?.user;
        let found = idempotency::lookup(&*view.state, actor, key, ordinal, now);
        let Some(record) = service.consensus.stored(found)? else {
            return Ok(None);
        };
        match record.answer_to(&self.request_hash()) {
            Outcome::Replayed(replayed) => self.replayed(&replayed, statements).map(Some),
            _ => Err(key_reused()),
        }
    }

    /// The stored results; for an answer that was not kept one a statement that says so.
    fn replayed(&self, replayed: &Replayed, statements: usize) -> Result<Vec<Fragment>> {
        let stored = String::from_utf8(replayed.answer.to_vec()).unwrap_or_default();
        let results = if stored.is_empty() {
            let answer = Answer::done("Done before; the answer was too large to be kept");
            vec![render::result(&answer, &self.caller()?.user, self.room())?; statements]
        } else {
            stored.split(SEPARATOR).map(str::to_owned).collect()
        };
        self.fragments(results, replayed.index, &replayed.messages)
    }

    /// Results of a committed unit; the receipt goes with the last.
    fn fragments(
        &self,
        results: Vec<String>,
        index: LogIndex,
        messages: &[AppendedRange],
    ) -> Result<Vec<Fragment>> {
        let receipt = self.service.receipt(index, messages)?;
        let fragment = |json| Fragment {
            json,
            receipt: None,
            index,
        };
        let mut fragments: Vec<_> = results.into_iter().map(fragment).collect();
        if let Some(last) = fragments.last_mut() {
            last.receipt = Some(receipt);
        }
        Ok(fragments)
    }
}

impl SqlService {
    /// The receipt of an Envelope, with the topics' names. A topic dropped since has none left.
    fn receipt(&self, index: LogIndex, messages: &[AppendedRange]) -> Result<String> {
        if messages.is_empty() {
            return Ok(render::receipt(index, &[]));
        }
        let view = self.consensus.local_view();
        let mut ranges = Vec::with_capacity(messages.len());
        for range in messages {
            let topic = self.catalog.topic_by_id(&*view.state, range.topic_id);
            if let Some(topic) = self.consensus.stored(topic)? {
                ranges.push(ReceiptRange {
                    topic: topic.record.qualified_name(),
                    partition: range.partition,
                    first_offset: range.first_offset,
                    count: range.count,
                });
            }
        }
        Ok(render::receipt(index, &ranges))
    }
}

/// All messages of an Envelope; runs that continue each other become one.
fn appended(results: &[CommandResult]) -> Vec<AppendedRange> {
    let mut out: Vec<AppendedRange> = Vec::new();
    let written = results.iter().filter_map(|result| match result {
        CommandResult::Written(ranges) => Some(ranges),
        _ => None,
    });
    for range in written.flatten() {
        let before = out.iter_mut().find(|known| {
            (known.topic_id, known.partition) == (range.topic_id, range.partition)
                && known.first_offset + known.count == range.first_offset
        });
        match before {
            Some(known) => known.count += range.count,
            None => out.push(range.clone()),
        }
    }
    out
}

fn conflict() -> Error {
    Error::new(
        ErrorCode::WriteConflict,
        "other writes to the same rows kept this one from committing; nothing was changed",
    )
}

/// INVALID_INPUT for an idempotency key that stands for something else.
pub fn key_reused() -> Error {
    Error::new(
        ErrorCode::InvalidInput,
        "this Idempotency-Key was used for another request within the last 24 hours",
    )
}
