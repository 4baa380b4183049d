//! The state that committed entries make.
//!
//! Files: [`machine`] is the one thread that applies; [`store`] holds the state for readers;
//! [`applied`] is the record of where it stands; [`generation`] are its directories; [`digests`]
//! are what nodes compare.
//!
//! - Entries are applied in runs, cut at [`APPLY_RUN_MAX_ENTRIES`] and [`APPLY_RUN_MAX_BYTES`]; a
//!   run is one batch, with the applied record in it.
//! - No run is applied before this node's own log is durable up to its end: consensus may commit
//!   earlier, by other nodes, and a state ahead of its log could not be explained after a crash.
//! - The state has no log of its own. After a crash it is as of its last flush, and consensus
//!   applies again what follows, up to the committed position that the log remembers. The log is
//!   purged only below a snapshot, and a snapshot is made of a flushed state.

mod applied;
mod digests;
mod generation;
mod machine;
mod recent;
mod store;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::{mpsc, oneshot, watch};
use types::ids::LogIndex;
use types::limits::{APPLY_RUN_MAX_BYTES, APPLY_RUN_MAX_ENTRIES};

pub use self::applied::AppliedState;
pub use self::digests::{Digests, Mark};
pub use self::machine::ApplyCounters;
pub use self::recent::RequestId;
pub use self::store::{OpenEngine, StateStore};

use self::machine::{Counters, Item, Job, Machine};
use crate::apply::ApplyFailure;
use crate::codec;
use crate::snapshot::SnapshotError;
use crate::type_config::{
    LogId, Snapshot, SnapshotData, SnapshotMeta, StoredMembership, TypeConfig,
};

/// Why the state machine has stopped. The process has to end.
#[derive(Debug, thiserror::Error)]
pub enum StateMachineError {
    /// An entry cannot be applied by this node.
    #[error(transparent)]
    Apply(#[from] ApplyFailure),
    /// The state's engine failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// A snapshot could not be made or installed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The log has stopped, so that nothing becomes durable any more.
    #[error("the log has stopped before entry {0} was durable")]
    LogStopped(LogIndex),
    /// An earlier failure ended the thread that applies.
    #[error("the state machine has stopped")]
    Stopped,
}

/// The state machine, for consensus alone: its calls come one after the other.
pub struct StateMachine {
    store: Arc<StateStore>,
    counters: Arc<Counters>,
    durable_end: watch::Receiver<LogIndex>,
    /// None only while this is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What others may know of the state machine.
#[derive(Clone)]
pub struct StateHandle {
    store: Arc<StateStore>,
    counters: Arc<Counters>,
}

impl StateHandle {
    /// The state.
    pub fn store(&self) -> &Arc<StateStore> {
        &self.store
    }

    /// What was applied so far.
    pub fn counters(&self) -> ApplyCounters {
        self.counters.read()
    }
}

impl StateMachine {
    /// Starts the thread that applies to `store`. `durable_end` is the log's
    /// [`crate::log_store::LogHandle::durable_end`].
    pub fn start(
        store: Arc<StateStore>,
        durable_end: watch::Receiver<LogIndex>,
    ) -> io::Result<StateMachine> {
        let counters = Arc::new(Counters::default());
        let machine = Machine::new(Arc::clone(&store), Arc::clone(&counters));
        let (jobs, queue) = mpsc::channel(1);
        let thread = std::thread::Builder::new()
            .name("apply".into())
            .spawn(move || machine.run(queue))?;
        Ok(StateMachine {
            store,
            counters,
            durable_end,
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// What others may know of this state machine.
    pub fn handle(&self) -> StateHandle {
        StateHandle {
            store: Arc::clone(&self.store),
            counters: Arc::clone(&self.counters),
        }
    }

    /// Applies a run once the log is durable up to its end.
    async fn apply_run(&mut self, run: Vec<Item>) -> Result<(), StateMachineError> {
        let Some((last, _)) = run.last() else {
            return Ok(());
        };
        let last = last.log_id.index;
        self.durable_end
            .wait_for(|end| *end > last)
            .await
            .map_err(|_closed| StateMachineError::LogStopped(last))?;
        self.ask(|done| Job::Apply { run, done }).await
    }

    async fn ask(&self, job: impl FnOnce(machine::Done) -> Job) -> Result<(), StateMachineError> {
        let (done, finished) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(StateMachineError::Stopped)?;
        jobs.send(job(done))
            .await
            .map_err(|_closed| StateMachineError::Stopped)?;
        finished.await.unwrap_or(Err(StateMachineError::Stopped))
    }
}

impl Drop for StateMachine {
    /// Waits until the thread has finished its run, so that the engine can be opened again.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that applies panicked");
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.store.applied();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let (mut run, mut bytes) = (Vec::new(), 0);
        while let Some(item) = entries.next().await {
            let item = item?;
            let item_bytes = codec::encoded_len(&item.0);
            let full =
                run.len() >= APPLY_RUN_MAX_ENTRIES || bytes + item_bytes > APPLY_RUN_MAX_BYTES;
            if full {
                self.apply_run(std::mem::take(&mut run))
                    .await
                    .map_err(io::Error::other)?;
                bytes = 0;
            }
            bytes += item_bytes;
            run.push(item);
        }
        self.apply_run(run).await.map_err(io::Error::other)
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            store: Arc::clone(&self.store),
            counters: Arc::clone(&self.counters),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let meta = meta.clone();
        self.ask(|done| Job::Install {
            meta,
            snapshot,
            done,
        })
        .await
        .map_err(io::Error::other)
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let Some(snapshot) = self.store.snapshots().current() else {
            return Ok(None);
        };
        let meta = snapshot.meta().map_err(io::Error::other)?;
        Ok(Some(Snapshot { meta, snapshot }))
    }
}

/// Makes a snapshot, on a thread of its own, while entries go on being applied.
pub struct SnapshotBuilder {
    store: Arc<StateStore>,
    counters: Arc<Counters>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let store = Arc::clone(&self.store);
        let snapshot = tokio::task::spawn_blocking(move || store.build_snapshot())
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        self.counters.count_snapshot_built();
        Ok(snapshot)
    }
}
