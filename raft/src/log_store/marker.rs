//! Keeps the log's marker a little behind the log.
//!
//! The marker is a file of its own with an fsync of its own, so it is written on a thread of its
//! own and not for every write of the log: it is a lower bound, and what it may lag is bounded by
//! [`LOG_MARKER_INTERVAL_MS`]. It is lowered before the log is shortened.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use storage::marker::{Durable, Marker};
use types::ids::{LogIndex, Term};
use types::limits::LOG_MARKER_INTERVAL_MS;
use types::planted::{self, Bug};

use super::Shared;
use crate::type_config::LogId;

/// The marker's file and the thread that writes it. The thread ends, after a last write, when this
/// is dropped.
pub(super) struct MarkerKeeper {
    keeper: Arc<Keeper>,
    thread: Option<JoinHandle<()>>,
}

struct Keeper {
    /// Locked before `target` where both are.
    marker: Mutex<Marker>,
    target: Mutex<Target>,
    changed: Condvar,
}

#[derive(Default)]
struct Target {
    durable: End,
    stop: bool,
}

/// What of the log is durable.
#[derive(Clone, Copy, Default, PartialEq)]
struct End {
    /// The last entry.
    last: Option<LogId>,
    vote_term: Term,
}

/// Planted bugs that the marker would notice at the next start. They are for the checks to notice.
const MARKED: [Bug; 4] = [
    Bug::AckBeforeSync,
    Bug::CallbackBeforeSync,
    Bug::PointInTimeRecovery,
    Bug::VoteNotSynced,
];

/// What a marker promises: the log's entry there, or one after it, was durable, and so was the
/// vote. Entry 0 is what a log begins with; a marker on it promises no entry, so that it can say
/// "no entries".
pub(super) struct Promise {
    pub entry: Option<PromisedEntry>,
    pub vote_term: Term,
}

/// An entry that was durable.
pub(super) struct PromisedEntry {
    pub index: LogIndex,
    pub term: Term,
}

/// Opens the marker's file; with what it promises of the log.
pub(super) fn open(path: &Path) -> storage::Result<(Marker, Promise)> {
    let (marker, held) = Marker::open(path)?;
    let held = held.unwrap_or_default();
    let entry = (held.index > 0).then_some(PromisedEntry {
        index: held.index,
        term: held.term,
    });
    let vote_term = held.vote_term;
    Ok((marker, Promise { entry, vote_term }))
}

impl MarkerKeeper {
    /// Starts the thread.
    pub(super) fn start(marker: Marker, shared: Arc<Shared>) -> std::io::Result<MarkerKeeper> {
        let keeper = Arc::new(Keeper {
            marker: Mutex::new(marker),
            target: Mutex::default(),
            changed: Condvar::new(),
        });
        let thread = std::thread::Builder::new()
            .name("log-marker".into())
            .spawn({
                let keeper = Arc::clone(&keeper);
                move || keeper.run(&shared)
            })?;
        Ok(MarkerKeeper {
            keeper,
            thread: Some(thread),
        })
    }

    /// The log is durable up to `last`, and so is a vote of `vote_term`; 0: none was given.
    pub(super) fn reached(&self, last: Option<LogId>, vote_term: Term) {
        if MARKED.into_iter().any(planted::has) {
            return;
        }
        let mut target = self.keeper.target();
        let durable = End { last, vote_term };
        let idle = target.durable == durable;
        target.durable = durable;
        drop(target);
        if !idle {
            self.keeper.changed.notify_one();
        }
    }

    /// The log is about to end at `last`. When this returns, the marker promises no more. It may
    /// promise less: what is before `last` can be in the very write that shortens the log.
    pub(super) fn lower(&self, last: Option<LogId>) -> storage::Result<()> {
        let mut marker = lock(&self.keeper.marker);
        let mut target = self.keeper.target();
        if target.durable.last.map(|id| id.index) > last.map(|id| id.index) {
            target.durable.last = last;
        }
        drop(target);
        let (index, term) = last.map_or((0, 0), |id| (id.index, id.leader_id.term));
        marker.lower(index, term)
    }
}

impl Drop for MarkerKeeper {
    fn drop(&mut self) {
        self.keeper.target().stop = true;
        self.keeper.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the log's marker panicked");
        }
    }
}

impl Keeper {
    fn run(&self, shared: &Shared) {
        let mut recorded = End::default();
        loop {
            let target = self.target();
            let waiting = |target: &mut Target| !target.stop && target.durable == recorded;
            let target = self
                .changed
                .wait_while(target, waiting)
                .unwrap_or_else(PoisonError::into_inner);
            let stop = target.stop;
            drop(target);
            match self.record() {
                Ok(durable) => recorded = durable,
                Err(error) => {
                    tracing::error!(%error, "the log's marker cannot be written");
                    shared.fail(error.to_string());
                    return;
                }
            }
            if stop {
                return;
            }
            self.pause();
        }
    }

    /// Records the target as it is while the marker is locked: between reading and recording it no
    /// truncation can come.
    fn record(&self) -> storage::Result<End> {
        let mut marker = lock(&self.marker);
        let durable = self.target().durable;
        if durable == End::default() {
            return Ok(durable);
        }
        let (index, term) = durable
            .last
            .map_or((0, 0), |id| (id.index, id.leader_id.term));
        marker.record(Durable {
            index,
            term,
            vote_term: durable.vote_term,
        })?;
        Ok(durable)
    }

    /// Waits for the interval, or for the end.
    fn pause(&self) {
        let interval = Duration::from_millis(LOG_MARKER_INTERVAL_MS);
        let running = |target: &mut Target| !target.stop;
        drop(
            self.changed
                .wait_timeout_while(self.target(), interval, running)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn target(&self) -> MutexGuard<'_, Target> {
        lock(&self.target)
    }
}

/// A panic while one of these is held leaves it whole: each is written in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
