//! openraft's own conformance suite for log store and state machine, on both engines.

use std::io;

use crate::support::{Disk, blank, transfer};
use futures::{Stream, TryStreamExt};
use openraft::StorageError;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use raft::log_store::LogStore;
use raft::snapshot::SnapshotDir;
use raft::state_machine::{SnapshotBuilder, StateMachine};
use raft::type_config::{LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use tempfile::TempDir;

struct Builder {
    rocks: bool,
}

impl StoreBuilder<TypeConfig, LogStore, GapsFilled, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, GapsFilled), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let disk = if self.rocks {
            Disk::Rocks
        } else {
            Disk::memory()
        };
        let log = LogStore::open(disk.open_log(dir.path()), &dir.path().join("marker"))
            .expect("the log opens");
        // The suite applies entries that it never appended.
        let state = crate::support::state_machine(&disk, dir.path());
        Ok((dir, log, GapsFilled(state)))
    }
}

/// The state machine, with what stands between two nodes, or an entry and the next, in earnest: the
/// suite leaves entries out, where blank ones are put, and hands snapshots over without sending
/// them.
struct GapsFilled(StateMachine);

impl RaftStateMachine<TypeConfig> for GapsFilled {
    type SnapshotData = SnapshotDir;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        self.0.applied_state().await
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut last = self.0.applied_state().await?.0.map(|id| id.index);
        let mut filled = Vec::new();
        for item in entries.try_collect::<Vec<_>>().await? {
            let LogId { leader_id, index } = item.0.log_id;
            let gap = last.map_or(index, |last| last + 1)..index;
            filled.extend(gap.map(|missing| Ok((blank(leader_id.term, missing), None))));
            filled.push(Ok(item));
            last = Some(index);
        }
        self.0.apply(futures::stream::iter(filled)).await
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        self.0.try_create_snapshot_builder(force).await
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.0.get_snapshot_builder().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotDir,
    ) -> io::Result<()> {
        // The suite gives one node's snapshot to another as it is.
        let handle = self.0.handle();
        let own = handle.store().snapshots();
        let received = transfer(&snapshot, own, 1 << 20).finish();
        self.0
            .install_snapshot(meta, received.map_err(io::Error::other)?)
            .await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.0.get_current_snapshot().await
    }
}

#[tokio::test]
async fn conforms_on_rocksdb() {
    Suite::test_all(Builder { rocks: true })
        .await
        .expect("the suite passes");
}

#[tokio::test]
async fn conforms_in_memory() {
    Suite::test_all(Builder { rocks: false })
        .await
        .expect("the suite passes");
}
