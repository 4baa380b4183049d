//! Snapshots taken on request, and what becomes of one that is damaged.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, stream};
use openraft::network::{NetSnapshot, RPCOption, RaftNetworkFactory};

use super::harness::{Node, PATIENCE, member, patient};
use crate::Fatal;
use crate::network::Network;
use crate::network::peers::Lane;
use crate::rpc::messages::{
    SnapshotChunk, SnapshotHead, SnapshotPart, SnapshotRequest, SnapshotResponse, VoteRecord,
};
use crate::rpc::path;
use crate::snapshot::SnapshotDir;
use crate::type_config::{Snapshot, Vote};

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

/// The head and the files of a snapshot up to `cut`, of which there is one byte, and then nothing
/// for ever.
fn beginning(
    snapshot: &SnapshotDir,
    cut: usize,
    vote: Vote,
) -> impl futures::Stream<Item = SnapshotRequest> + Send + 'static {
    let head = SnapshotPart::Head(SnapshotHead {
        vote: Some(VoteRecord::from(&vote)),
        manifest: snapshot.manifest().encode().into(),
        files_there: 0,
    });
    let chunk = |file: usize| {
        SnapshotPart::Chunk(SnapshotChunk {
            file: u32::try_from(file).unwrap(),
            offset: 0,
            bytes: snapshot
                .read_chunk(file, 0, if file < cut { 1 << 20 } else { 1 })
                .unwrap(),
        })
    };
    let parts: Vec<_> = [head].into_iter().chain((0..=cut).map(chunk)).collect();
    let parts = parts
        .into_iter()
        .map(|part| SnapshotRequest { part: Some(part) });
    stream::iter(parts).chain(stream::pending())
}

/// Waits until `met` holds.
async fn until(what: &str, met: impl Fn() -> bool) {
    let looking = async {
        while !met() {
            tokio::task::yield_now().await;
        }
    };
    let looked = tokio::time::timeout(PATIENCE, looking).await;
    looked.expect(what);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_goes_on_where_the_last_one_broke_off() {
    let first = Node::first().await;
    for i in 0..30 {
        first.set(&format!("key {i}"), "value").await.unwrap();
    }
    let second = Node::joined(&first).await;
    patient(first.raft.take_snapshot()).await.unwrap();
    let snapshot = first.raft.store().snapshots().current().unwrap();
    let vote = crate::metrics::look(first.raft.core(), |metrics| metrics.vote);
    let files = &snapshot.manifest().files;
    let cut = files.iter().rposition(|file| file.size > 1).unwrap();
    assert!(cut > 0);

    // It breaks off when the file `cut` has begun, so that those before it are whole.
    let peers = first.raft.peers().clone();
    let address = second.address.to_string();
    let peer = peers.peer(2, &address, Lane::Snapshot).unwrap();
    let begun = || {
        let dirs = fs::read_dir(second.dir.path().join("snapshots")).unwrap();
        let mut dirs = dirs.map(|dir| dir.unwrap().path());
        dirs.any(|dir| dir.join(&files[cut].name).exists())
    };
    let (wanted, unwanted) = tokio::sync::oneshot::channel::<()>();
    let parts = beginning(&snapshot, cut, vote).take_until(unwanted);
    let call = peer.client_streaming::<_, SnapshotResponse>(path::SNAPSHOT, parts);
    tokio::select! {
        answer = call => panic!("{answer:?}"),
        () = until("a file is begun", begun) => drop(wanted),
    }
    let store = second.raft.store();
    let there = || store.snapshots().files_there(snapshot.manifest());
    until("files are there", || there() > 0).await;
    assert_eq!(there(), cut);

    // The next attempt sends the rest.
    let meta = snapshot.meta().unwrap();
    let mut client = Network::new(1, peers, Arc::default())
        .new_snapshot_client(2, &member(second.address))
        .await;
    let never = std::future::pending();
    let option = RPCOption::new(PATIENCE);
    let sent = client.full_snapshot(
        vote,
        Snapshot {
            meta,
            snapshot: snapshot.clone(),
        },
        never,
        option,
    );
    patient(sent).await.unwrap();
    assert_eq!(there(), 0, "taken up");
}
