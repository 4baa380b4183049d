//! Writers that go on whatever happens to the cluster, and remember what they were told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::api::SqlResponse;
use client::{Answer, Client, Error};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::chaos::history::{History, Told};
use crate::check::{Fate, Op};
use crate::{Times, User, wait};

/// Deadline of one write: long enough for an election, short enough for a test.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// How long a load may take to get on, elections and restarts included.
const PROGRESS_MAX: Duration = Duration::from_secs(90);
/// How many of the failed requests a load that does not get on tells about.
const FAILURES_SHOWN: usize = 10;
/// Pause of a writer that reached no node.
const PAUSE: Duration = Duration::from_millis(20);
/// After how many writes, on average, a writer goes to another node. Writers that moved only when
/// a node fails would all end up on one, and a cluster whose writers all hang on one node that is
/// cut off looks as if it were down.
const MOVES_EVERY: u32 = 50;

/// A table whose every row goes to a topic of one partition and to one of several.
#[derive(Clone, Debug)]
pub struct Table {
    /// Namespace of the table and the topics.
    pub namespace: String,
}

/// Partitions of the second topic.
pub const SPREAD_PARTITIONS: u32 = 4;

impl Table {
    /// Makes table, topics and routes.
    pub async fn create(root: &User, namespace: &str) -> Table {
        for sql in [
            format!("CREATE NAMESPACE {namespace}"),
            format!(
                "CREATE TABLE {namespace}.events \
                 (id TEXT PRIMARY KEY, writer INT NOT NULL, seq BIGINT NOT NULL, note TEXT)"
            ),
            format!("CREATE TOPIC {namespace}.single PARTITIONS 1"),
            format!("CREATE TOPIC {namespace}.spread PARTITIONS {SPREAD_PARTITIONS}"),
            format!("ALTER TOPIC {namespace}.single ADD SOURCE {namespace}.events ON INSERT"),
            format!("ALTER TOPIC {namespace}.spread ADD SOURCE {namespace}.events ON INSERT"),
        ] {
            root.ok(&sql).await;
        }
        Table {
            namespace: namespace.to_owned(),
        }
    }

    /// The topics and their partition counts.
    pub fn topics(&self) -> [(String, u32); 2] {
        let namespace = &self.namespace;
        [
            (format!("{namespace}.single"), 1),
            (format!("{namespace}.spread"), SPREAD_PARTITIONS),
        ]
    }
}

/// What the clients of a load have met.
#[derive(Debug, Default)]
struct Notes {
    /// What the writers were told of their writes.
    ops: Vec<Op>,
    /// Requests that ended in an error they should not have ended in.
    failures: Vec<String>,
    /// The longest that a request took, its retries included.
    longest: Duration,
    /// Of writes that were answered with success: when, and after how long.
    times: Vec<(Instant, Duration)>,
}

/// Running writers.
#[derive(Debug)]
pub struct Load {
    notes: Arc<Mutex<Notes>>,
    stop: watch::Sender<bool>,
    acked: watch::Receiver<u64>,
    writers: JoinSet<()>,
}

impl Load {
    /// Starts `count` writers, each with one node that it leaves when that fails it, and now and
    /// then: they see what becomes of requests when a node dies.
    pub fn start(client: &Client, table: &Table, count: u32) -> Load {
        let writers = (0..count).map(|writer| (client.pinned_to(writer as usize), true));
        Load::run(writers.collect(), Some(client), table, Duration::ZERO, None)
    }

    /// The same; what the writers are told is in the history. One for each node stays with it:
    /// those that move would in time all wait at a node that does not answer, and nobody would see
    /// that the others do.
    pub fn start_in(history: &History, client: &Client, table: &Table, count: u32) -> Load {
        let nodes = client.urls().len();
        let writers = (0..count as usize).map(|writer| (client.pinned_to(writer), writer >= nodes));
        let (notes, every) = (Some(history), Duration::ZERO);
        Load::run(writers.collect(), Some(client), table, every, notes)
    }

    /// Starts a writer and a reader for each client, which send requests again as the client does
    /// and never otherwise: none may fail while a node is stopped as it should be.
    pub fn through(clients: Vec<Client>, table: &Table) -> Load {
        let mut load = Load::run(staying(&clients), None, table, Duration::ZERO, None);
        for client in clients {
            let events = format!("{}.events", table.namespace);
            let reader = read(
                client,
                events,
                load.stop.subscribe(),
                Arc::clone(&load.notes),
            );
            load.writers.spawn(reader);
        }
        load
    }

    /// Starts a writer for each client that is to make one write every so often. One that is late
    /// hurries, and its writes count from when they were due. None goes to another node.
    pub fn steady(clients: Vec<Client>, table: &Table, every: Duration) -> Load {
        Load::run(staying(&clients), None, table, every, None)
    }

    /// Starts a writer for each client that goes to another node now and then, or does not.
    fn run(
        clients: Vec<(Client, bool)>,
        others: Option<&Client>,
        table: &Table,
        every: Duration,
        history: Option<&History>,
    ) -> Load {
        let notes = Arc::new(Mutex::new(Notes::default()));
        let (stop, stopped) = watch::channel(false);
        let (acks, acked) = watch::channel(0);
        let acks = Arc::new(acks);
        let mut writers = JoinSet::new();
        for (writer, (client, moves)) in (0..).zip(clients) {
            let writer = Writer {
                client,
                moves,
                others: others.cloned(),
                history: history.cloned(),
                events: format!("{}.events", table.namespace),
                writer,
                every,
                seq: 0,
                last_id: None,
                random: StdRng::seed_from_u64(u64::from(writer)),
                notes: Arc::clone(&notes),
                acks: Arc::clone(&acks),
            };
            writers.spawn(writer.run(stopped.clone()));
        }
        Load {
            notes,
            stop,
            acked,
            writers,
        }
    }

    /// Writes that were answered with success so far.
    pub fn acked(&self) -> u64 {
        *self.acked.borrow()
    }

    /// [`Load::acked`], whenever it changes.
    pub fn acks(&self) -> watch::Receiver<u64> {
        self.acked.clone()
    }

    /// Waits until `more` further writes have been answered with success.
    pub async fn progress(&mut self, more: u64) {
        let goal = self.acked() + more;
        let reached = self.acked.wait_for(|acked| *acked >= goal);
        let reached = tokio::time::timeout(PROGRESS_MAX, reached).await;
        if reached.is_ok_and(|reached| reached.is_ok()) {
            return;
        }
        let acked = self.acked();
        let failures = self.failures();
        let last = &failures[failures.len().saturating_sub(FAILURES_SHOWN)..];
        panic!(
            "{acked} of {goal} writes were answered within {PROGRESS_MAX:?}; what failed last:\n{}",
            last.join("\n")
        );
    }

    /// Ends the writers after their current write, and returns what they were told.
    pub async fn finish(mut self) -> Vec<Op> {
        // Without writers left there is nobody to tell.
        let _ = self.stop.send(true);
        while let Some(writer) = self.writers.join_next().await {
            writer.expect("a writer does not panic");
        }
        std::mem::take(&mut lock(&self.notes).ops)
    }

    /// Requests so far that ended in an error, other than those that were made to.
    pub fn failures(&self) -> Vec<String> {
        lock(&self.notes).failures.clone()
    }

    /// Forgets how long requests took so far: the first ones connect and log in.
    pub fn forget_longest(&self) {
        lock(&self.notes).longest = Duration::ZERO;
    }

    /// How long the writes took that were answered with success after `since`.
    pub fn times_since(&self, since: Instant) -> Times {
        let notes = lock(&self.notes);
        let times = notes.times.iter().filter(|(at, _)| *at >= since);
        times.map(|(_, took)| *took).collect()
    }

    /// The longest that a request took so far, its retries included.
    pub fn longest(&self) -> Duration {
        lock(&self.notes).longest
    }
}

/// Clients that go to no other node.
fn staying(clients: &[Client]) -> Vec<(Client, bool)> {
    let clients = clients.iter().cloned();
    clients.map(|client| (client, false)).collect()
}

fn lock(notes: &Mutex<Notes>) -> std::sync::MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Is it the node that could not do it? Also one that says so, as a leader that is cut off does: a
/// writer that stayed there would be told the same for as long as the fault lasts.
fn node_failed(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::Unknown(_) => true,
        Error::Refused(said) => said.retryable,
        Error::Configuration(_) => false,
    }
}

/// Reads what the first writer wrote first, again and again.
async fn read(
    client: Client,
    events: String,
    stopped: watch::Receiver<bool>,
    notes: Arc<Mutex<Notes>>,
) {
    while !*stopped.borrow() {
        let started = Instant::now();
        let sql = format!("SELECT seq FROM {events} WHERE id = 'w0-1'");
        let outcome = client.query(&sql).await;
        let mut notes = lock(&notes);
        notes.longest = notes.longest.max(started.elapsed());
        if let Err(error) = outcome {
            notes.failures.push(format!("a read: {error}"));
        }
    }
}

struct Writer {
    client: Client,
    /// Does it ever go to another node?
    moves: bool,
    /// Where to go when a node fails; none: the client knows the others itself.
    others: Option<Client>,
    history: Option<History>,
    events: String,
    writer: u32,
    /// From one write to the next; zero: as soon as the last one is answered.
    every: Duration,
    seq: u64,
    last_id: Option<String>,
    random: StdRng,
    notes: Arc<Mutex<Notes>>,
    acks: Arc<watch::Sender<u64>>,
}

impl Writer {
    async fn run(mut self, stopped: watch::Receiver<bool>) {
        let mut due = Instant::now();
        while !*stopped.borrow() {
            let started = self.turn(&mut due).await;
            let (sql, ids, if_acked) = self.next_write();
            let options = client::RequestOptions::default().timeout(WRITE_MAX);
            let request = client::api::SqlRequest::new(sql);
            let began = self.history.as_ref().map_or(0, History::now_ns);
            let outcome = self.client.execute(&request, &options).await;
            let took = started.elapsed();
            let outcome = self.in_history(began, &ids, outcome);
            let fate = match &outcome {
                Ok(_) => {
                    self.acks.send_modify(|acked| *acked += 1);
                    if if_acked == Fate::Present {
                        self.last_id = ids.last().cloned();
                    }
                    if_acked
                }
                Err(Error::Unknown(_)) if if_acked == Fate::Present => Fate::AllOrNothing,
                // What is rolled back is never there, whatever became of the answer.
                Err(_) => Fate::Absent,
            };
            self.note(took, &outcome, if_acked, Op { ids, fate });
            let failed = outcome.as_ref().is_err_and(node_failed);
            if let Some(others) = self.others.as_ref().filter(|_| self.moves)
                && (failed || self.random.random_ratio(1, MOVES_EVERY))
            {
                let nodes = others.urls().len();
                self.client = others.pinned_to(self.random.random_range(0..nodes));
            }
            if failed && self.others.is_some() {
                // sleep: a client's own pause, so that it does not spin while no node is up
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Waits until the next write is due; since when it is.
    async fn turn(&self, due: &mut Instant) -> Instant {
        if self.every.is_zero() {
            return Instant::now();
        }
        *due += self.every;
        // sleep: the pace of the load
        tokio::time::sleep_until((*due).into()).await;
        *due
    }

    /// Writes it to the history, if there is one.
    fn in_history(
        &self,
        invoke_ns: u64,
        ids: &[String],
        answer: Result<Answer<SqlResponse>, Error>,
    ) -> Result<Answer<SqlResponse>, Error> {
        let Some(history) = &self.history else {
            return answer;
        };
        let told = Told {
            invoke_ns,
            return_ns: history.now_ns(),
            answer,
        };
        let (client, index) = (format!("rows-{}", self.writer), told.receipt());
        history.note(&client, "insert", &ids.join(" "), &told, index);
        told.answer
    }

    fn note<T>(&self, took: Duration, outcome: &Result<T, Error>, if_acked: Fate, op: Op) {
        let mut notes = lock(&self.notes);
        notes.longest = notes.longest.max(took);
        if outcome.is_ok() {
            notes.times.push((Instant::now(), took));
        }
        if let Err(error) = outcome {
            let meant = if_acked == Fate::Absent && matches!(error, Error::Refused(_));
            let retryable = error.received().is_some_and(|said| said.retryable);
            if !meant || retryable {
                notes.failures.push(format!("{op:?}: {error}"));
            }
        }
        notes.ops.push(op);
    }

    /// The statement, the rows it writes, and what must be true of them once it is answered.
    fn next_write(&mut self) -> (String, Vec<String>, Fate) {
        let events = self.events.clone();
        let columns = "(id, writer, seq, note)";
        match self.random.random_range(0..10) {
            0..5 => {
                let (id, row) = self.next_row();
                (
                    format!("INSERT INTO {events} {columns} VALUES {row}"),
                    vec![id],
                    Fate::Present,
                )
            }
            5..7 => {
                let (ids, rows): (Vec<_>, Vec<_>) = (0..3).map(|_| self.next_row()).unzip();
                let rows = rows.join(", ");
                (
                    format!("INSERT INTO {events} {columns} VALUES {rows}"),
                    ids,
                    Fate::Present,
                )
            }
            7..9 => {
                let ((a, row_a), (b, row_b)) = (self.next_row(), self.next_row());
                let sql = format!(
                    "BEGIN; INSERT INTO {events} {columns} VALUES {row_a}; \
                     INSERT INTO {events} {columns} VALUES {row_b}; COMMIT"
                );
                (sql, vec![a, b], Fate::Present)
            }
            _ => self.write_that_leaves_nothing(&events, columns),
        }
    }

    /// A transaction that is rolled back, or one that breaks a constraint after its first row.
    fn write_that_leaves_nothing(
        &mut self,
        events: &str,
        columns: &str,
    ) -> (String, Vec<String>, Fate) {
        let (id, row) = self.next_row();
        let sql = match self.last_id.clone() {
            Some(taken) if self.random.random_bool(0.5) => format!(
                "BEGIN; INSERT INTO {events} {columns} VALUES {row}; \
                 INSERT INTO {events} {columns} VALUES ('{taken}', 0, 0, 'twice'); COMMIT"
            ),
            _ => format!("BEGIN; INSERT INTO {events} {columns} VALUES {row}; ROLLBACK"),
        };
        (sql, vec![id], Fate::Absent)
    }

    fn next_row(&mut self) -> (String, String) {
        self.seq += 1;
        let (writer, seq) = (self.writer, self.seq);
        let id = format!("w{writer}-{seq}");
        let row = format!("('{id}', {writer}, {seq}, 'note {seq}')");
        (id, row)
    }
}

/// Waits until some node takes a write, and returns its place in the log.
pub async fn first_write(client: &Client, table: &Table, id: &str, limit: Duration) -> u64 {
    let sql = format!(
        "INSERT INTO {}.events (id, writer, seq) VALUES ('{id}', -1, 0) ON CONFLICT DO NOTHING",
        table.namespace
    );
    let options = client::RequestOptions::idempotent(id).timeout(limit);
    let request = client::api::SqlRequest::new(sql);
    wait::until("a write succeeds", limit, async || {
        let answer = client.execute(&request, &options).await.ok()?;
        answer
            .results
            .first()?
            .receipt
            .as_ref()
            .map(|receipt| receipt.index)
    })
    .await
}

#[cfg(test)]
mod tests {
    use client::api::ReceivedError;
    use client::api::error::SqlErrorDetails;

    use super::*;

    /// Writers that stayed where they were told that there is no leader all came to wait at the one
    /// node that was cut off, and a healthy majority had nothing to do.
    #[test]
    fn a_writer_leaves_a_node_that_has_no_leader_but_not_for_a_row_that_is_there() {
        let refused = |status, code: &str, retryable| {
            Error::Refused(Box::new(ReceivedError {
                status,
                code: code.into(),
                message: String::new(),
                retryable,
                maybe_applied: false,
                details: SqlErrorDetails::default(),
            }))
        };
        let no_leader = refused(503, "CLUSTER_UNAVAILABLE", true);
        assert!(node_failed(&no_leader));
        assert!(!node_failed(&refused(400, "UNIQUE_VIOLATION", false)));
        assert!(node_failed(&Error::Unreachable { tried: Vec::new() }));
    }
}
