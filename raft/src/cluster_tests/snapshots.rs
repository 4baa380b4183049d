//! Snapshots taken on request, and what becomes of one that is damaged.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::harness::{Node, patient};
use crate::Fatal;

/// Takes a snapshot and removes the log below it, so that who joins needs the snapshot.
async fn snapshot_and_purge(node: &Node) {
    let covered = patient(node.raft.take_snapshot()).await.unwrap();
    let core = node.raft.core();
    core.trigger().purge_log(covered).await.unwrap();
    let purged = crate::metrics::wait_for(core, |metrics| {
        metrics.purged.filter(|log_id| log_id.index >= covered)
    });
    patient(purged).await.unwrap();
}

/// A file of the only snapshot in `dir`.
fn snapshot_file(dir: &Path, prefix: &str) -> PathBuf {
    let only = |dir: &Path, prefix: &str| {
        let mut paths = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let found = paths.find(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(prefix)
        });
        found.unwrap()
    };
    only(&only(&dir.join("snapshots"), "0"), prefix)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_snapshot_is_damaged_ends_and_says_which_file() {
    let first = Node::first().await;
    for i in 0..30 {
        first.set(&format!("key {i}"), "value").await.unwrap();
    }
    snapshot_and_purge(&first).await;
    let damaged = snapshot_file(first.dir.path(), "MANIFEST");
    let file = fs::OpenOptions::new().write(true).open(&damaged).unwrap();
    file.write_all_at(&[0xff; 8], 3).unwrap();

    let joining = Node::joined(&first);
    let ended = patient(async {
        tokio::select! {
            fatal = first.raft.fatal() => fatal,
            _ = joining => panic!("it got a damaged snapshot"),
        }
    });
    let Fatal::Storage(why) = ended.await else {
        panic!("it is the storage that failed")
    };
    let name = damaged.file_name().unwrap().to_str().unwrap();
    assert!(why.contains(name), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_asked_for_while_one_is_made_is_made_too() {
    let first = Node::first().await;
    for i in 0..10 {
        let raft = first.raft.clone();
        let before = tokio::spawn(async move { raft.take_snapshot().await });
        let index = first.set("key", &i.to_string()).await.unwrap().index;
        assert!(patient(first.raft.take_snapshot()).await.unwrap() >= index);
        patient(before).await.unwrap().unwrap();
    }
}
