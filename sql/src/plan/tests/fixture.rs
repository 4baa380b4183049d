//! A database that plans statements and applies them as the state machine would: all expectations
//! first, then the commands in order, versions in front of values.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use storage::memory::MemoryEngine;
use storage::{Batch, Direction, Durability, Engine, KeyRange, Pair, Read, Snapshot};
use types::command::{Audit, Command, CommandKind, Expectation, ExpectationKind, RowEvent, Write};
use types::ids::{LogIndex, Version, WallTimeUs};
use types::schema::{AuditRecord, Role, RowOp};
use types::value::Value;
use types::{Error, ErrorCode};

use crate::answer::{Answer, Rows};
use crate::failure::Failure;
use crate::plan::{Plan, Planner, Transaction, overlay};
use crate::query::{ClusterRow, QueryEngine, SystemFacts, TopicOffsetRow};
use crate::session::{Entropy, Inject, Param, PasswordHasher, Session};
use crate::statement::Statement;

pub const NOW: WallTimeUs = 1_776_513_600_000_000;

struct Counting(AtomicU64);

impl Entropy for Counting {
    fn ulid(&self, _now: WallTimeUs) -> String {
        format!("01HS{:022}", self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn uuid_v7(&self, _now: WallTimeUs) -> [u8; 16] {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
    }

    fn snowflake_id(&self, _now: WallTimeUs) -> i64 {
        i64::try_from(self.0.fetch_add(1, Ordering::Relaxed)).expect("small")
    }
}

struct Reversed;

impl PasswordHasher for Reversed {
    fn hash(&self, password: &str) -> types::Result<String> {
        Ok(password.chars().rev().collect())
    }
}

struct NoFacts;

impl SystemFacts for NoFacts {
    fn cluster(&self) -> Vec<ClusterRow> {
        Vec::new()
    }

    fn topic_offsets(&self, _read: &dyn Read) -> storage::Result<Vec<TopicOffsetRow>> {
        Ok(Vec::new())
    }
}

/// A message as apply would be told to append it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub event: RowEvent,
    pub after: Option<Vec<u8>>,
}

pub struct Database {
    pub storage: MemoryEngine,
    pub planner: Planner,
    index: AtomicU64,
    told: Mutex<Vec<Told>>,
    audited: Mutex<Vec<AuditRecord>>,
    others: Mutex<Vec<CommandKind>>,
}

/// A transaction between BEGIN and COMMIT, and the state as it sees it.
struct Open {
    transaction: Transaction,
    state: Arc<dyn Snapshot>,
    next_ordinal: u32,
}

impl Open {
    fn new(state: Arc<dyn Snapshot>) -> Open {
        Open {
            transaction: Transaction::default(),
            state,
            next_ordinal: 0,
        }
    }

    fn push(&mut self, plan: Plan) {
        let mut batch = Batch::new(Arc::clone(&self.state));
        overlay(&mut batch, &plan, &mut self.next_ordinal);
        self.state = Arc::new(batch);
        self.transaction.push(plan);
    }
}

/// What apply says to an Envelope whose expectation missed: the key.
pub type Stale = Vec<u8>;

impl Database {
    pub fn new() -> Database {
        let entropy: Arc<dyn Entropy> = Arc::new(Counting(AtomicU64::new(0)));
        let engine = QueryEngine::new(Arc::new(NoFacts), Arc::clone(&entropy));
        let planner = Planner::new(
            engine,
            Inject {
                entropy,
                passwords: Arc::new(Reversed),
            },
        );
        Database {
            storage: MemoryEngine::new(),
            planner,
            index: AtomicU64::new(0),
            told: Mutex::default(),
            audited: Mutex::default(),
            others: Mutex::default(),
        }
    }

    /// With namespace, table, topic and routes of the seed flow.
    pub fn seeded() -> Database {
        let database = Database::new();
        for statement in super::seed_flow::SCHEMA {
            database.ok("root", statement);
        }
        database.told();
        database
    }

    /// Runs a request's text as `who`; the answer to its last statement.
    pub fn run(&self, who: &str, text: &str) -> Result<Answer, Error> {
        self.run_with(who, text, &[])
    }

    pub fn run_with(&self, who: &str, text: &str, params: &[Param]) -> Result<Answer, Error> {
        let mut open: Option<Open> = None;
        let mut answer = Answer::done("");
        for statement in crate::parse(text)? {
            match (&statement, open.take()) {
                (Statement::Begin, None) => open = Some(Open::new(self.storage.snapshot())),
                (Statement::Commit, Some(open)) => {
                    let (expectations, commands) = open.transaction.into_parts();
                    self.apply(&expectations, &commands)
                        .expect("nobody else writes");
                }
                (statement, Some(mut inner)) => {
                    let state = Arc::clone(&inner.state);
                    let plan = self.plan_on(state, who, statement, params, true)?;
                    answer = plan.answer.clone();
                    inner.push(plan);
                    open = Some(inner);
                }
                (statement, None) => {
                    let state = self.storage.snapshot();
                    let plan = self.plan_on(state, who, statement, params, false)?;
                    assert_eq!(plan.writes, !plan.commands.is_empty(), "{text}");
                    self.apply(&plan.expectations, &plan.commands)
                        .expect("nobody else writes");
                    answer = plan.answer;
                }
            }
        }
        assert!(open.is_none(), "left open: {text}");
        Ok(answer)
    }

    pub fn ok(&self, who: &str, text: &str) -> Answer {
        self.run(who, text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The message of an answer without rows.
    pub fn done(&self, who: &str, text: &str) -> String {
        match self.ok(who, text) {
            Answer::Done { message, .. } => message,
            Answer::Rows(rows) => panic!("{text}: {rows:?}"),
        }
    }

    pub fn refused(&self, who: &str, text: &str) -> Error {
        let before = self.everything();
        let error = self.run(who, text).expect_err(text);
        assert_eq!(
            self.everything(),
            before,
            "a refused statement changed something: {text}"
        );
        error
    }

    /// The rows of a SELECT or of RETURNING, as values.
    pub fn rows(&self, who: &str, text: &str) -> Vec<Vec<Value>> {
        match self.ok(who, text) {
            Answer::Rows(rows)
            | Answer::Done {
                returning: Some(rows),
                ..
            } => rows.rows,
            other @ Answer::Done { .. } => panic!("{text}: {other:?}"),
        }
    }

    /// As [`Database::rows`], each row as text.
    pub fn texts(&self, who: &str, text: &str) -> Vec<String> {
        let cells = |row: &Vec<Value>| row.iter().map(types::cell::to_text).collect::<Vec<_>>();
        self.rows(who, text)
            .iter()
            .map(|row| cells(row).join("|"))
            .collect()
    }

    /// Plans one statement on the current state.
    pub fn plan(&self, who: &str, text: &str) -> Result<Plan, Error> {
        let statement = crate::parse(text)?.remove(0);
        self.plan_on(self.storage.snapshot(), who, &statement, &[], false)
    }

    /// Would the statement be planned, or answered?
    pub fn plan_or_read(&self, who: &str, text: &str) -> Result<(), Error> {
        self.plan(who, text).map(|_| ())
    }

    fn plan_on(
        &self,
        read: Arc<dyn Snapshot>,
        who: &str,
        statement: &Statement,
        params: &[Param],
        in_transaction: bool,
    ) -> Result<Plan, Error> {
        let role = self.role(who);
        let session = Session {
            user: who,
            role,
            effective_user: who,
            namespace: Some("demo"),
            now: NOW,
            ip: Some("127.0.0.1"),
        };
        let planned = futures::executor::block_on(async {
            if statement.is_read() {
                let answer = self.planner.read(read, statement, &session, params).await?;
                return Ok(Plan::nothing(answer));
            }
            self.planner
                .plan(read, statement, &session, params, in_transaction)
                .await
        });
        planned.map_err(|failure| match failure {
            Failure::Refused(error) => error,
            Failure::Storage(error) => panic!("{error}"),
        })
    }

    fn role(&self, who: &str) -> Role {
        if who == "root" {
            return Role::System;
        }
        let catalog = self.planner.engine().catalog();
        let account = catalog
            .user(&*self.storage.snapshot(), who)
            .expect("memory");
        account.map_or(Role::User, |user| user.record.role)
    }

    /// Applies an Envelope, or says which expectation missed.
    pub fn apply(&self, expectations: &[Expectation], commands: &[Command]) -> Result<(), Stale> {
        let state = self.storage.snapshot();
        if let Some(missed) = expectations.iter().find(|e| !holds(&*state, e)) {
            return Err(missed.key.to_vec());
        }
        let index = self.index.fetch_add(1, Ordering::Relaxed) + 1;
        let mut batch = Batch::new(state);
        let mut ordinal = 0;
        for command in commands {
            match command.kind.as_ref().expect("a known command") {
                CommandKind::Write(write) => self.write(&mut batch, index, &mut ordinal, write),
                CommandKind::Audit(Audit { record }) => {
                    let record = serde_json::from_slice(record).expect("JSON");
                    self.audited.lock().expect("lock").push(record);
                }
                other => self.others.lock().expect("lock").push(other.clone()),
            }
        }
        self.storage
            .write(&batch.into_ops(), Durability::Flushed)
            .expect("memory");
        Ok(())
    }

    fn write(&self, batch: &mut Batch, index: LogIndex, ordinal: &mut u32, write: &Write) {
        for range in &write.delete_ranges {
            batch.delete_range(KeyRange::new(range.start.to_vec(), range.end.to_vec()));
        }
        for change in &write.changes {
            match &change.after {
                None => batch.delete(change.key.to_vec()),
                Some(after) => {
                    let version = Version {
                        index,
                        ordinal: *ordinal,
                    };
                    let value = [version.to_bytes().as_slice(), after].concat();
                    batch.put(change.key.to_vec(), value);
                }
            }
            *ordinal += 1;
            if let Some(event) = &change.event {
                let after = change.after.as_ref().map(|after| after.to_vec());
                let told = Told {
                    event: event.clone(),
                    after,
                };
                self.told.lock().expect("lock").push(told);
            }
        }
    }

    /// The events since the last call.
    pub fn told(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.lock().expect("lock"))
    }

    /// The events since the last call, as `op key`.
    pub fn told_keys(&self) -> Vec<String> {
        let shown = |told: Told| {
            let op = RowOp::try_from(told.event.op).expect("an op");
            format!("{} {}", op.as_lower_str(), told.event.message_key)
        };
        self.told().into_iter().map(shown).collect()
    }

    /// The audit lines since the last call.
    pub fn audited(&self) -> Vec<AuditRecord> {
        std::mem::take(&mut self.audited.lock().expect("lock"))
    }

    /// Commands that are neither writes nor audit lines, since the last call.
    pub fn others(&self) -> Vec<CommandKind> {
        std::mem::take(&mut self.others.lock().expect("lock"))
    }

    /// All keys and values under a prefix, without versions.
    pub fn under(&self, prefix: &[u8]) -> Vec<Pair> {
        let state = self.storage.snapshot();
        state
            .scan(&KeyRange::prefix(prefix), Direction::Forward)
            .map(|pair| {
                let (key, value) = pair.expect("memory");
                let (_, rest) = Version::split(&value).expect("a version");
                (key, rest.to_vec())
            })
            .collect()
    }

    pub fn everything(&self) -> Vec<Pair> {
        storage::keys::Kind::ALL
            .iter()
            .flat_map(|kind| self.under(&kind.prefix()))
            .collect()
    }
}

fn holds(state: &dyn Read, expectation: &Expectation) -> bool {
    let stored = state.get(&expectation.key).expect("memory");
    match ExpectationKind::try_from(expectation.kind).expect("a kind") {
        ExpectationKind::Version => stored.is_some_and(|stored| {
            let (version, _) = Version::split(&stored).expect("a version");
            version.index == expectation.version_index
                && version.ordinal == expectation.version_ordinal
        }),
        ExpectationKind::Absent => stored.is_none(),
        ExpectationKind::Exists => stored.is_some(),
        ExpectationKind::PrefixEmpty => state
            .scan(&KeyRange::prefix(&expectation.key), Direction::Forward)
            .next()
            .is_none(),
        ExpectationKind::PrefixUnchanged => {
            let versions: Vec<Version> = state
                .scan(&KeyRange::prefix(&expectation.key), Direction::Forward)
                .map(|pair| {
                    let (_, value) = pair.expect("memory");
                    Version::split(&value).expect("a version").0
                })
                .collect();
            versions.len() as u64 == expectation.count
                && versions
                    .iter()
                    .all(|v| v.index <= expectation.version_index)
        }
    }
}

/// Asserts that an error has this code and says this.
#[track_caller]
pub fn assert_error(error: &Error, code: ErrorCode, part: &str) {
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(part), "{error}");
}

/// The rows of an answer.
pub fn rows_of(answer: Answer) -> Rows {
    match answer {
        Answer::Rows(rows) => rows,
        Answer::Done { returning, .. } => returning.expect("RETURNING"),
    }
}

pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
