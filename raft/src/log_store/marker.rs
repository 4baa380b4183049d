//! Keeps the log's marker a little behind the log.
//!
//! The marker is a file of its own with an fsync of its own, so it is written on a thread of its
//! own and not for every write of the log: it is a lower bound, and what it may lag is bounded by
//! [`LOG_MARKER_INTERVAL_MS`]. It is lowered before the log is shortened.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use storage::marker::Marker;
use types::ids::LogIndex;
use types::limits::LOG_MARKER_INTERVAL_MS;

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
    /// The last durable entry of the log.
    durable: Option<LogId>,
    stop: bool,
}

/// What a marker promises: the log's entry there, or one after it, was durable. Entry 0 is what a
/// log begins with; a marker on it promises nothing, so that it can say "no entries".
pub(super) struct Promise {
    pub index: LogIndex,
    pub term: u64,
}

/// Opens the marker's file; with what it promises of the log.
pub(super) fn open(path: &Path) -> storage::Result<(Marker, Option<Promise>)> {
    let (marker, held) = Marker::open(path)?;
    let promise = held.filter(|held| held.index > 0).map(|held| Promise {
        index: held.index,
        term: held.term,
    });
    Ok((marker, promise))
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

    /// The log is durable up to `last`.
    pub(super) fn reached(&self, last: Option<LogId>) {
        let mut target = self.keeper.target();
        let idle = target.durable == last;
        target.durable = last;
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
        if target.durable.map(|id| id.index) > last.map(|id| id.index) {
            target.durable = last;
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
        let mut recorded = None;
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
    fn record(&self) -> storage::Result<Option<LogId>> {
        let mut marker = lock(&self.marker);
        let durable = self.target().durable;
        if let Some(id) = durable.filter(|id| id.index > 0) {
            marker.record(id.index, id.leader_id.term)?;
        }
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
