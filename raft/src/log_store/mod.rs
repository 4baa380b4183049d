//! The replicated log on this node's disk, and the vote, which is part of it.
//!
//! Files: [`writer`] is the one thread that writes; [`memory`] is what is known without the engine,
//! the log's youngest entries among it; [`recovery`] opens a log and says what is wrong with it;
//! [`marker`] notices a log that lost its end, and [`under_way`] a disk that stands still;
//! [`records`] has the bytes of the small values.
//!
//! Rules, from openraft's contract for log storage:
//! - A vote is on the disk when `save_vote` returns, a truncation and a purge when theirs do.
//! - Entries can be read when `append` returns; its callback comes when they are on the disk.
//! - All of these reach the disk in the order of the calls.
//! - The log has no holes. A read that finds one, or a checksum that is wrong, is an error.
//! - The committed position rides along with a later write: it needs no fsync of its own. On the
//!   disk it is never ahead of the log.
//! - After a failed write nothing succeeds any more. The process has to end.

mod marker;
mod memory;
mod records;
mod recovery;
mod under_way;
mod writer;

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, TryStreamExt};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use storage::keys::log as keys;
use storage::{Direction, Engine, Read};
use tokio::sync::{mpsc, oneshot, watch};
use types::histogram::{COUNTS, DURATIONS_NS, Distribution, Histogram};
use types::ids::LogIndex;
use types::limits::{APPLY_RUN_MAX_BYTES, LOG_WRITER_QUEUE_MAX, REPLICATION_READ_MAX_BYTES};
use types::planted::{self, CrashPoint};

use self::marker::MarkerKeeper;
use self::memory::LogMemory;
use self::under_way::UnderWay;
use self::writer::{Write, Writer};
use crate::type_config::{LogEntry, LogId, TypeConfig, Vote};

/// The log, for consensus alone: there is one owner, and its calls come one after the other.
pub struct LogStore {
    handle: LogHandle,
    /// None only while this is dropped.
    queue: Option<mpsc::Sender<Write>>,
    writer: Option<JoinHandle<()>>,
}

/// Reads the log; as many as are needed.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

/// What others may know of the log.
#[derive(Clone)]
pub struct LogHandle {
    shared: Arc<Shared>,
    durable_end: watch::Receiver<LogIndex>,
}

struct Shared {
    engine: Arc<dyn Engine>,
    memory: Mutex<LogMemory>,
    counters: Counters,
    under_way: UnderWay,
    failed: OnceLock<String>,
}

/// What the log has written since the process started.
#[derive(Debug)]
struct Counters {
    bytes: AtomicU64,
    write_times: Histogram,
    write_entries: Histogram,
}

/// What the log has written since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Entries appended.
    pub entries: u64,
    /// Writes of the engine, each with one fsync.
    pub writes: u64,
    /// Bytes of the entries.
    pub bytes: u64,
    /// How long those writes took, fsync included, in ns.
    pub write_times: Distribution,
    /// How many entries each of them held.
    pub write_entries: Distribution,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            bytes: AtomicU64::new(0),
            write_times: Histogram::new(DURATIONS_NS),
            write_entries: Histogram::new(COUNTS),
        }
    }
}

impl Counters {
    fn add_write(&self, entries: u64, bytes: u64, took: Duration) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.write_entries.observe(entries);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.write_times.observe(nanos);
    }
}

impl LogStore {
    /// Opens the log in `engine`, whose marker is the file `marker`, and starts its writer.
    ///
    /// Reads the whole log once: what is damaged is found here rather than in the middle of an
    /// election.
    ///
    /// # Errors
    /// [`storage::Error::Corrupt`] for a damaged entry, a hole, or a log that ends, or whose vote
    /// is, before what its marker promises; [`storage::Error::Io`] where the engine or a thread
    /// fails.
    pub fn open(engine: Arc<dyn Engine>, marker: &Path) -> storage::Result<LogStore> {
        let (marker, promise) = marker::open(marker)?;
        let memory = recovery::recover(engine.snapshot().as_ref(), &promise)?;
        let (durable_last, committed) = (memory.last, memory.committed);
        let vote_term = memory.vote.map_or(0, |vote| vote.leader_id.term);
        let (durable_end, durable_end_seen) = watch::channel(memory.durable_end());
        let shared = Arc::new(Shared {
            engine,
            memory: Mutex::new(memory),
            counters: Counters::default(),
            under_way: UnderWay::default(),
            failed: OnceLock::new(),
        });
        let (queue, receiver) = mpsc::channel(LOG_WRITER_QUEUE_MAX);
        let writer = Writer {
            marker: MarkerKeeper::start(marker, Arc::clone(&shared)).map_err(no_thread)?,
            shared: Arc::clone(&shared),
            queue: receiver,
            durable_end,
            durable_last,
            vote_term,
            committed,
            committed_next: None,
        };
        let writer = std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || writer.run())
            .map_err(no_thread)?;
        Ok(LogStore {
            handle: LogHandle {
                shared,
                durable_end: durable_end_seen,
            },
            queue: Some(queue),
            writer: Some(writer),
        })
    }

    /// What others may know of this log.
    pub fn handle(&self) -> LogHandle {
        self.handle.clone()
    }

    /// Reads the log; the reader may outlive the store.
    pub fn reader(&self) -> LogReader {
        LogReader {
            shared: Arc::clone(&self.handle.shared),
        }
    }

    /// A place in the writer's queue. Taken before memory is changed, so that memory and queue
    /// cannot part where a caller stops waiting.
    async fn place(&self) -> io::Result<mpsc::Permit<'_, Write>> {
        let shared = &self.handle.shared;
        if shared.failed.get().is_some() {
            return Err(shared.failure());
        }
        let queue = self.queue.as_ref().ok_or_else(|| shared.failure())?;
        queue.reserve().await.map_err(|_closed| shared.failure())
    }

    /// Waits for a write that was sent with the other end of `done`.
    async fn finished(&self, done: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
        done.await
            .unwrap_or_else(|_dropped| Err(self.handle.shared.failure()))
    }
}

impl Drop for LogStore {
    /// Waits until the writer has written what it was given, so that the engine can be opened
    /// again. That is one write, or as many as fit its queue.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the log's writer panicked");
        }
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let memory = self.handle.shared.memory();
        Ok(LogState {
            last_purged_log_id: memory.purged,
            last_log_id: memory.last,
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        self.place().await?.send(Write::Vote { vote: *vote, done });
        self.finished(finished).await?;
        self.handle.shared.memory().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.handle.shared.memory().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.handle.shared.memory().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<LogEntry> = entries.into_iter().collect();
        let place = self.place().await?;
        self.handle
            .shared
            .memory()
            .append(&entries)
            .map_err(io::Error::other)?;
        planted::crash_at(CrashPoint::BeforeAppend);
        place.send(Write::Append {
            entries,
            flushed: callback,
        });
        planted::crash_at(CrashPoint::AfterAppend);
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        let place = self.place().await?;
        let (last, end) = {
            let mut memory = self.handle.shared.memory();
            let end = memory.next();
            memory.truncate_after(last_log_id);
            (memory.last, end)
        };
        place.send(Write::Truncate { last, end, done });
        self.finished(finished).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        let place = self.place().await?;
        let first = {
            let mut memory = self.handle.shared.memory();
            let first = memory.first();
            memory.purge(log_id);
            first
        };
        place.send(Write::Purge {
            first,
            upto: log_id,
            done,
        });
        self.finished(finished).await
    }
}

impl LogReader {
    /// The entries from `start` to before `end` that the log holds. At most `max_bytes` of them,
    /// but at least one. `purged` says what to do where the first of them were purged.
    fn read(
        &self,
        start: LogIndex,
        end: LogIndex,
        max_bytes: usize,
        purged: Purged,
    ) -> io::Result<Vec<LogEntry>> {
        let (plan, snapshot) = {
            let memory = self.shared.memory();
            let plan = memory.plan(start, end, max_bytes);
            let snapshot = (!plan.stored.is_empty()).then(|| self.shared.engine.snapshot());
            (plan, snapshot)
        };
        if plan.begins_late {
            match purged {
                Purged::LeaveOut => {}
                Purged::Nothing => return Ok(Vec::new()),
                Purged::Fail => {
                    let what = format!("entries from {start} on were asked for after their purge");
                    return Err(io::Error::other(storage::Error::Corrupt { what }));
                }
            }
        }
        let Some(snapshot) = snapshot else {
            return Ok(plan.tail);
        };
        let (mut entries, complete) =
            read_stored(snapshot.as_ref(), plan.stored, max_bytes).map_err(io::Error::other)?;
        if complete {
            entries.extend(plan.tail);
        }
        Ok(entries)
    }
}

/// What a read gives whose first entries were purged.
#[derive(Clone, Copy)]
enum Purged {
    /// Those that are left.
    LeaveOut,
    /// None. Entries with a gap before them would be taken for the ones asked for.
    Nothing,
    /// An error.
    Fail,
}

/// Reads the entries of `range`, which the engine holds; with whether that was all of them.
fn read_stored(
    read: &dyn Read,
    range: std::ops::Range<LogIndex>,
    max_bytes: usize,
) -> storage::Result<(Vec<LogEntry>, bool)> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    let mut expected = range.start;
    for pair in read.scan(&keys::entries(range.start, range.end), Direction::Forward) {
        let (key, record) = pair?;
        let record = Bytes::from(record);
        bytes += record.len();
        if bytes > max_bytes && !entries.is_empty() {
            return Ok((entries, false));
        }
        entries.push(recovery::checked_entry(&key, &record, expected)?);
        expected += 1;
    }
    if expected != range.end {
        let what = format!("the log ends at entry {expected} of the range {range:?}");
        return Err(storage::Error::Corrupt { what });
    }
    Ok((entries, true))
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<LogEntry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (start, end) = half_open(&range);
        // That is its contract; its callers look which entry is the first.
        self.read(start, end, usize::MAX, Purged::LeaveOut)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: LogIndex,
        end: LogIndex,
    ) -> io::Result<Vec<LogEntry>> {
        // Replication sends nothing then, and the core sees that the follower needs a snapshot. An
        // error would end this node for having been slow with another one.
        self.read(start, end, REPLICATION_READ_MAX_BYTES, Purged::Nothing)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<LogEntry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (reader, (start, end)) = (self.clone(), half_open(&range));
        stream::try_unfold(start, move |next| {
            // Apply must not go on behind a gap.
            let read = reader.read(next, end, APPLY_RUN_MAX_BYTES, Purged::Fail);
            async move {
                let entries = read?;
                let after = entries.last().map(|entry| entry.log_id.index + 1);
                Ok::<_, io::Error>(
                    after.map(|after| (stream::iter(entries.into_iter().map(Ok)), after)),
                )
            }
        })
        .try_flatten()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.memory().vote)
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl LogHandle {
    /// The entries after `index` that are in memory, committed or not.
    #[cfg(feature = "planted")]
    pub(crate) fn entries_after(&self, index: LogIndex) -> Vec<LogEntry> {
        let memory = self.shared.memory();
        memory.plan(index + 1, u64::MAX, usize::MAX).tail
    }

    /// The first index that is not durable on this node; everything before it is. The channel
    /// closes when the log's writer ends, which it does with the store or with a failed write.
    pub fn durable_end(&self) -> watch::Receiver<LogIndex> {
        self.durable_end.clone()
    }

    /// For how long the write that is under way takes; zero where there is none.
    pub(crate) fn write_takes(&self) -> Duration {
        self.shared.under_way.takes()
    }

    /// What was written so far.
    pub fn counters(&self) -> LogCounters {
        let counters = &self.shared.counters;
        let write_times = counters.write_times.read();
        let write_entries = counters.write_entries.read();
        LogCounters {
            entries: write_entries.sum,
            writes: write_times.count(),
            bytes: counters.bytes.load(Ordering::Relaxed),
            write_times,
            write_entries,
        }
    }

    /// What the engine says of itself.
    pub(crate) fn usage(&self) -> storage::Result<storage::Usage> {
        self.shared.engine.usage()
    }

    /// Bytes of the entries after `index`, or of all if there is no index; up to 64 KiB too many.
    pub fn bytes_after(&self, index: Option<LogIndex>) -> u64 {
        self.shared.memory().bytes_after(index)
    }

    /// The last entry after which there are at most `bytes` of entries, or up to 64 KiB fewer; none
    /// if all entries together are not more.
    pub fn last_before(&self, bytes: u64) -> Option<LogIndex> {
        self.shared.memory().last_before(bytes)
    }

    /// The last entry, durable or not; where there is none, the last one that was purged.
    pub fn last(&self) -> Option<LogId> {
        self.shared.memory().last
    }

    /// The last vote this node gave.
    pub fn vote(&self) -> Option<Vote> {
        self.shared.memory().vote
    }

    /// The last entry that was removed from the log's front.
    pub fn purged(&self) -> Option<LogId> {
        self.shared.memory().purged
    }

    /// Why the log cannot be written any more, if so.
    pub fn failure(&self) -> Option<&str> {
        self.shared.failed.get().map(String::as_str)
    }
}

impl Shared {
    /// A panic while this was held leaves it whole or ends the node's consensus anyway.
    fn memory(&self) -> MutexGuard<'_, LogMemory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store is broken from now on. The first reason stays.
    fn fail(&self, reason: String) {
        self.failed.get_or_init(|| reason);
    }

    fn failure(&self) -> io::Error {
        match self.failed.get() {
            Some(reason) => io::Error::other(format!("the log store has failed: {reason}")),
            None => io::Error::other("the log store is closed"),
        }
    }
}

fn no_thread(error: io::Error) -> storage::Error {
    storage::Error::Io {
        operation: "start of a log thread",
        message: error.to_string(),
    }
}
