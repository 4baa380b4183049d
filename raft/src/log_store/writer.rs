//! The one thread that writes the log.
//!
//! It takes all that waits in its queue, puts it into one write of the engine, in order, with one
//! fsync, and then tells everybody who waits for it. Votes, appends, truncations and purges all
//! come through here, so none can overtake another, on the disk neither.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use openraft::storage::IOFlushed;
use storage::keys::log as keys;
use storage::{Durability, Op};
use tokio::sync::{mpsc, oneshot, watch};
use types::ids::{LogIndex, Term};
use types::limits::LOG_WRITE_GROUP_MAX_BYTES;
use types::planted::{self, Bug, CrashPoint};

use super::Shared;
use super::marker::MarkerKeeper;
use super::records;
use crate::codec;
use crate::type_config::{LogEntry, LogId, TypeConfig, Vote};

/// Something to write.
pub(super) enum Write {
    /// Entries at the log's end.
    Append {
        entries: Vec<LogEntry>,
        flushed: IOFlushed<TypeConfig>,
    },
    /// The vote this node gives.
    Vote { vote: Vote, done: Done },
    /// Remove the entries after `last`, which are those from its index to before `end`.
    Truncate {
        last: Option<LogId>,
        end: LogIndex,
        done: Done,
    },
    /// Remove the entries from `first` up to and including `upto`.
    Purge {
        first: LogIndex,
        upto: LogId,
        done: Done,
    },
}

/// How long a write takes where [`Bug::CallbackBeforeSync`] does not wait for it.
const SLOW_DISK: std::time::Duration = std::time::Duration::from_millis(50);

/// Tells who waits for a write how it went.
pub(super) type Done = oneshot::Sender<io::Result<()>>;

/// Who is to be told once a group is on the disk.
enum Waiter {
    Flushed(IOFlushed<TypeConfig>),
    Done(Done),
}

impl Waiter {
    fn complete(self, result: io::Result<()>) {
        match self {
            Waiter::Flushed(flushed) => flushed.io_completed(result),
            // Who asked may have stopped waiting: consensus is shutting down.
            Waiter::Done(done) => drop(done.send(result)),
        }
    }
}

/// What one write of the engine holds.
#[derive(Default)]
struct Group {
    ops: Vec<Op>,
    waiters: Vec<Waiter>,
    entries: u64,
    bytes: usize,
    /// Where the log ends on the disk afterwards, and the entry there.
    durable_end: LogIndex,
    durable_last: Option<LogId>,
    /// The highest term of a vote on the disk afterwards; 0: there is none.
    vote_term: Term,
}

/// The thread's own state.
pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub queue: mpsc::Receiver<Write>,
    pub durable_end: watch::Sender<LogIndex>,
    pub marker: MarkerKeeper,
    /// The last entry on the disk.
    pub durable_last: Option<LogId>,
    /// The highest term of a vote on the disk; 0: there is none.
    pub vote_term: Term,
    /// The committed position on the disk.
    pub committed: Option<LogId>,
    /// The next one to be put there, once the entry it names is on the disk.
    pub committed_next: Option<LogId>,
}

impl Writer {
    /// Runs until the store is dropped and all that it asked for is written, or until a write
    /// fails. After that every write fails with the first one's error: what the disk holds is no
    /// longer known, and the process has to end.
    pub(super) fn run(mut self) {
        while let Some(write) = self.queue.blocking_recv() {
            let mut group = Group {
                durable_end: *self.durable_end.borrow(),
                durable_last: self.durable_last,
                vote_term: self.vote_term,
                ..Group::default()
            };
            let collected = self.collect(write, &mut group);
            if planted::has(Bug::CallbackBeforeSync) {
                // What is told here is gone after a loss of power.
                self.publish(&group);
                tell(&mut group);
                std::thread::sleep(SLOW_DISK);
            }
            if let Err(error) = collected.and_then(|()| self.write(&group)) {
                return self.fail(error, group.waiters);
            }
            planted::crash_at(CrashPoint::AfterSync);
            self.publish(&group);
            tell(&mut group);
        }
    }

    /// Puts `write` and what waits behind it into the group.
    fn collect(&mut self, write: Write, group: &mut Group) -> storage::Result<()> {
        let mut next = Some(write);
        while let Some(write) = next {
            self.add(write, group)?;
            if group.bytes >= LOG_WRITE_GROUP_MAX_BYTES {
                break;
            }
            next = self.queue.try_recv().ok();
        }
        self.add_committed(group);
        Ok(())
    }

    /// Adds the committed position, if the entry it names is on the disk with this group.
    ///
    /// Consensus knows entries to be committed that are still in the queue, and a position ahead of
    /// the log could not be recovered from. One that comes too early is kept until its entry is on
    /// the disk, rather than cut back to the log's end: the end of the moment need not be
    /// committed, and with a queue that is never empty each later position would come too early
    /// as well.
    fn add_committed(&mut self, group: &mut Group) {
        let end = group.durable_end;
        let durable = |id: &LogId| id.index < end;
        if self.committed_next.is_none_or(|next| durable(&next)) {
            let newest = self.shared.memory().committed;
            if let Some(id) = newest.filter(durable).or(self.committed_next)
                && self.committed != Some(id)
            {
                group
                    .ops
                    .push(put(keys::committed(), records::encode_position(&id)));
                self.committed = Some(id);
                planted::crash_at(CrashPoint::BeforeCommitted);
            }
            self.committed_next = newest.filter(|id| !durable(id));
        }
    }

    fn add(&mut self, write: Write, group: &mut Group) -> storage::Result<()> {
        match write {
            Write::Append { entries, flushed } => {
                for entry in &entries {
                    let record = codec::encode(entry);
                    group.bytes += record.len();
                    group.entries += 1;
                    group.ops.push(put(keys::entry(entry.log_id.index), record));
                }
                if let Some(last) = entries.last() {
                    group.durable_end = last.log_id.index + 1;
                    group.durable_last = Some(last.log_id);
                }
                group.waiters.push(Waiter::Flushed(flushed));
            }
            Write::Vote { vote, done } => {
                group
                    .ops
                    .push(put(keys::vote(), records::encode_vote(&vote)));
                group.vote_term = group.vote_term.max(vote.leader_id.term);
                group.waiters.push(Waiter::Done(done));
            }
            Write::Truncate { last, end, done } => {
                group.waiters.push(Waiter::Done(done));
                let start = last.map_or(0, |id| id.index + 1);
                if start < end {
                    // The marker never promises more than the log holds, not for a moment.
                    self.marker.lower(last)?;
                    planted::crash_at(CrashPoint::MidTruncate);
                    group.ops.push(Op::DeleteRange {
                        range: keys::entries(start, end),
                    });
                    group.durable_end = group.durable_end.min(start);
                    group.durable_last = last;
                }
            }
            Write::Purge { first, upto, done } => {
                planted::crash_at(CrashPoint::MidPurge);
                group.waiters.push(Waiter::Done(done));
                group
                    .ops
                    .push(put(keys::purged(), records::encode_position(&upto)));
                group.ops.push(Op::DeleteRange {
                    range: keys::entries(first, upto.index + 1),
                });
                if group.durable_end <= upto.index {
                    group.durable_end = upto.index + 1;
                    group.durable_last = Some(upto);
                }
            }
        }
        Ok(())
    }

    fn write(&self, group: &Group) -> storage::Result<()> {
        if group.ops.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        planted::crash_at(CrashPoint::BeforeSync);
        let engine = &self.shared.engine;
        let write = || engine.write(&group.ops, durability(group));
        self.shared.under_way.during(write)?;
        self.shared
            .counters
            .add_write(group.entries, group.bytes as u64, started.elapsed());
        Ok(())
    }

    fn publish(&mut self, group: &Group) {
        self.shared.memory().set_durable(group.durable_end);
        self.durable_last = group.durable_last;
        self.durable_end.send_replace(group.durable_end);
        self.vote_term = group.vote_term;
        self.marker.reached(group.durable_last, group.vote_term);
    }

    /// Refuses everything from here on. The queue stays open until the store is dropped, so that
    /// nobody waits for an answer that never comes.
    fn fail(self, error: storage::Error, waiters: Vec<Waiter>) {
        let Writer {
            shared,
            mut queue,
            durable_end,
            marker,
            ..
        } = self;
        tracing::error!(%error, "the log cannot be written; this node has to stop");
        shared.fail(error.to_string());
        // Apply waits for this channel: closing it ends that wait.
        drop(durable_end);
        drop(marker);
        for waiter in waiters {
            waiter.complete(Err(shared.failure()));
        }
        while let Some(write) = queue.blocking_recv() {
            let waiter = match write {
                Write::Append { flushed, .. } => Waiter::Flushed(flushed),
                Write::Vote { done, .. }
                | Write::Truncate { done, .. }
                | Write::Purge { done, .. } => Waiter::Done(done),
            };
            waiter.complete(Err(shared.failure()));
        }
    }
}

/// Tells everybody who waits that their writes are on the disk.
fn tell(group: &mut Group) {
    for waiter in group.waiters.drain(..) {
        waiter.complete(Ok(()));
    }
}

/// Everything in the log is synced before anybody is told of it.
fn durability(group: &Group) -> Durability {
    let only_votes = group.entries == 0;
    // Either forgets, with the power, what others were told.
    if planted::has(Bug::AckBeforeSync) || (only_votes && planted::has(Bug::VoteNotSynced)) {
        return Durability::Flushed;
    }
    Durability::Synced
}

fn put(key: Vec<u8>, value: Vec<u8>) -> Op {
    Op::Put { key, value }
}
