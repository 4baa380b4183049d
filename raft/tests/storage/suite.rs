//! openraft's own conformance suite for log store and state machine, on both engines.

use crate::support::Disk;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use raft::log_store::LogStore;
use raft::state_machine::StateMachine;
use raft::type_config::TypeConfig;
use tempfile::TempDir;

struct Builder {
    rocks: bool,
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
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
        Ok((dir, log, state))
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
