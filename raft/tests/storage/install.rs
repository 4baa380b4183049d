//! A state made of a snapshot: where its making may end, how it is told from one that lost its log,
//! transfers that break off.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Disk, Node, apply, dump_of, flip_byte, names_in, rows, store, transfer};
use openraft::storage::{RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine, StorageHelper};
use raft::snapshot::{SnapshotError, SnapshotReceiver};
use raft::state_machine::{OpenEngine, StateMachine, StateStore};
use raft::type_config::{Snapshot, TypeConfig, Vote};

/// Opens states until the second time, which fails, as if the process ended there.
fn failing_second(disk: &Disk) -> OpenEngine {
    let (open, calls) = (disk.open_state(), AtomicUsize::new(0));
    Arc::new(move |dir| {
        if calls.fetch_add(1, Ordering::Relaxed) == 1 {
            let message = "the process ends here".to_owned();
            return Err(storage::Error::Io {
                operation: "open",
                message,
            });
        }
        open(dir)
    })
}

/// Where an installation ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum EndsAt {
    /// The new state is on the disk, and nobody has looked at it.
    OpeningTheState,
    /// The received snapshot is not the current one yet.
    AdoptingTheSnapshot,
    /// The received snapshot is the current one, and the state is the old one.
    WritingThePointer,
    /// After all, but before the log is purged.
    TheEnd,
}

#[tokio::test]
async fn an_installation_that_ends_in_the_middle_leaves_the_old_state_or_the_new_one() {
    for disk in Disk::both() {
        let here = tempfile::tempdir().unwrap();
        let mut state = crate::support::state_machine(&disk, here.path());
        apply(&mut state, rows(0..50)).await.unwrap();
        let snapshot = build(&mut state).await;
        let new = dump_of(&state);

        for ends_at in [
            EndsAt::OpeningTheState,
            EndsAt::AdoptingTheSnapshot,
            EndsAt::WritingThePointer,
            EndsAt::TheEnd,
        ] {
            let there = tempfile::tempdir().unwrap();
            let old = {
                let mut node = Node::open(&disk, there.path());
                node.log
                    .save_vote(&Vote::new_committed(1, 1))
                    .await
                    .unwrap();
                node.append(rows(0..7)).await;
                node.apply(rows(0..5)).await;
                build(&mut node.state).await;
                dump_of(&node.state)
            };
            install_until(ends_at, &disk, there.path(), &snapshot).await;

            // It starts, on the old state or the new one.
            let Node { mut log, mut state } = Node::open(&disk, there.path());
            store(&state).check_reaches(&log.handle()).unwrap();
            let found = dump_of(&state);
            let expected = if ends_at == EndsAt::TheEnd {
                &new
            } else {
                &old
            };
            assert!(found == *expected, "{ends_at:?}");
            StorageHelper::<TypeConfig, _, _>::new(&mut log, &mut state)
                .with_id(1)
                .get_initial_state()
                .await
                .unwrap();
            // A snapshot that is ahead of the state is installed by the start; and never is the
            // current snapshot behind where the log begins.
            let adopted = matches!(ends_at, EndsAt::WritingThePointer | EndsAt::TheEnd);
            let expected = if adopted { &new } else { &old };
            assert!(dump_of(&state) == *expected, "{ends_at:?}");
            let current = state.get_current_snapshot().await.unwrap().unwrap();
            assert_eq!(current.meta.last_log_id, store(&state).applied().last);
            current.snapshot.verify_again().unwrap();
            assert!(log.handle().purged() <= current.meta.last_log_id);
            drop((log, state));

            // And once more, with nothing left to do.
            let node = Node::open(&disk, there.path());
            store(&node.state)
                .check_reaches(&node.log.handle())
                .unwrap();
            assert!(dump_of(&node.state) == *expected, "{ends_at:?}");
        }
    }
}

async fn build(state: &mut StateMachine) -> Snapshot {
    let mut builder = state.get_snapshot_builder().await;
    builder.build_snapshot().await.unwrap()
}

/// Installs a snapshot in `dir`, as a process does that ends at that point.
async fn install_until(ends_at: EndsAt, disk: &Disk, dir: &Path, snapshot: &Snapshot) {
    let open = match ends_at {
        EndsAt::OpeningTheState => failing_second(disk),
        _ => disk.open_state(),
    };
    let store = Arc::new(StateStore::open(dir, open).unwrap());
    let durable = crate::support::always_durable();
    let mut state = StateMachine::start(Arc::clone(&store), durable).unwrap();
    let received = transfer(&snapshot.snapshot, store.snapshots(), 1000)
        .finish()
        .unwrap();
    let obstacle = match ends_at {
        // A rename that fails, and a file that cannot be written.
        EndsAt::AdoptingTheSnapshot => {
            let number = |name: &str| name.trim_start_matches("new-").parse::<u64>().ok();
            let names = names_in(&dir.join("snapshots"));
            let next = names.iter().filter_map(|name| number(name)).max().unwrap() + 1;
            Some(dir.join(format!("snapshots/{next:020}/in-the-way")))
        }
        EndsAt::WritingThePointer => Some(dir.join("state/CURRENT.new/in-the-way")),
        EndsAt::OpeningTheState | EndsAt::TheEnd => None,
    };
    if let Some(obstacle) = &obstacle {
        fs::create_dir_all(obstacle).unwrap();
    }
    let result = state.install_snapshot(&snapshot.meta, received).await;
    assert_eq!(result.is_ok(), ends_at == EndsAt::TheEnd, "{ends_at:?}");
    if let Some(obstacle) = obstacle {
        fs::remove_dir_all(obstacle.parent().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn an_installation_shares_the_tables_with_the_snapshot_it_was_made_of() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut state = crate::support::state_machine(&Disk::Rocks, here.path());
    apply(&mut state, rows(0..50)).await.unwrap();
    let snapshot = build(&mut state).await;
    let mut other = crate::support::state_machine(&Disk::Rocks, there.path());
    let received = transfer(&snapshot.snapshot, store(&other).snapshots(), 1000)
        .finish()
        .unwrap();
    other
        .install_snapshot(&snapshot.meta, received)
        .await
        .unwrap();
    let current = other.get_current_snapshot().await.unwrap().unwrap();
    // The very files that came, not a snapshot of the state they made.
    assert_eq!(current.snapshot.manifest(), snapshot.snapshot.manifest());
    let inode = |dir: &Path, name: &str| fs::metadata(dir.join(name)).ok().map(|file| file.ino());
    let mut shared = Vec::new();
    for file in &current.snapshot.manifest().files {
        let (ours, states) = (current.snapshot.path(), there.path().join("state/2"));
        if inode(ours, &file.name) == inode(&states, &file.name) {
            shared.push(&file.name);
        }
    }
    // Not all: the engine may have compacted some already.
    assert!(!shared.is_empty());
    assert!(
        shared.iter().all(|name| name.ends_with(".sst")),
        "{shared:?}"
    );
    // What is written to the state later does not reach the snapshot.
    apply(&mut other, rows(50..60)).await.unwrap();
    store(&other).flush().unwrap();
    current.snapshot.verify_again().unwrap();
    build(&mut other).await.snapshot.verify_again().unwrap();
}

#[tokio::test]
async fn a_state_that_is_ahead_of_its_log_is_refused() {
    for disk in Disk::both() {
        let dir = tempfile::tempdir().unwrap();
        {
            let mut node = Node::open(&disk, dir.path());
            node.log
                .save_vote(&Vote::new_committed(1, 1))
                .await
                .unwrap();
            node.append(rows(0..30)).await;
            node.apply(rows(0..30)).await;
            // Also where a snapshot ends where the state does.
            build(&mut node.state).await;
        }
        // The log lost its end, and the marker went with it.
        let lost = tempfile::tempdir().unwrap();
        let mut node = Node::open(&disk, lost.path());
        node.log
            .save_vote(&Vote::new_committed(1, 1))
            .await
            .unwrap();
        node.append(rows(0..29)).await;
        let store = StateStore::open(dir.path(), disk.open_state()).unwrap();
        let error = store.check_reaches(&node.log.handle()).unwrap_err();
        assert!(error.to_string().contains("log lost its end"), "{error}");
        assert!(error.to_string().contains("ends at entry 28"), "{error}");
        node.append(rows(29..30)).await;
        store.check_reaches(&node.log.handle()).unwrap();
    }
}

#[tokio::test]
async fn a_log_that_is_gone_with_its_marker_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut node = Node::open(&Disk::Rocks, dir.path());
        node.log
            .save_vote(&Vote::new_committed(1, 1))
            .await
            .unwrap();
        node.append(rows(0..5)).await;
        node.apply(rows(0..5)).await;
        store(&node.state).flush().unwrap();
    }
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    fs::remove_file(dir.path().join("marker")).unwrap();
    let node = Node::open(&Disk::Rocks, dir.path());
    let error = store(&node.state)
        .check_reaches(&node.log.handle())
        .unwrap_err()
        .to_string();
    assert!(error.contains("the log is gone"), "{error}");
}

#[tokio::test]
async fn a_state_made_of_a_snapshot_is_ahead_of_its_log_only_by_that() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = Disk::Rocks;
    let mut state = crate::support::state_machine(&disk, here.path());
    apply(&mut state, rows(0..50)).await.unwrap();
    let snapshot = build(&mut state).await;
    {
        let mut node = Node::open(&disk, there.path());
        node.log
            .save_vote(&Vote::new_committed(1, 1))
            .await
            .unwrap();
        node.append(rows(0..7)).await;
        node.apply(rows(0..5)).await;
    }
    install_until(EndsAt::TheEnd, &disk, there.path(), &snapshot).await;
    {
        let node = Node::open(&disk, there.path());
        store(&node.state)
            .check_reaches(&node.log.handle())
            .unwrap();
    }
    // Something was applied to it, which only a log can have brought.
    let mut state = crate::support::state_machine(&disk, there.path());
    apply(&mut state, rows(50..51)).await.unwrap();
    store(&state).flush().unwrap();
    drop(state);
    let node = Node::open(&disk, there.path());
    let error = store(&node.state)
        .check_reaches(&node.log.handle())
        .unwrap_err()
        .to_string();
    assert!(error.contains("log lost its end"), "{error}");
}

#[tokio::test]
async fn a_transfer_that_broke_off_goes_on_with_the_next_file() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut state = crate::support::state_machine(&Disk::Rocks, here.path());
    apply(&mut state, rows(0..50)).await.unwrap();
    let snapshot = build(&mut state).await.snapshot;
    let manifest = snapshot.manifest();
    // One with files before it and after it, and with something in it.
    let cut = (2..manifest.files.len() - 1).find(|file| manifest.files[*file].size > 1);
    let cut = cut.unwrap();
    let other = crate::support::state_machine(&Disk::Rocks, there.path());
    let other_store = store(&other);
    let snapshots = other_store.snapshots();
    let whole = |file| snapshot.read_chunk(file, 0, usize::MAX).unwrap();
    let resume = |files| SnapshotReceiver::resume(snapshots, manifest.clone(), files);

    let mut receiver = resume(0).unwrap();
    for file in 0..cut {
        receiver.write_chunk(file, 0, &whole(file)).unwrap();
    }
    let part = whole(cut);
    receiver
        .write_chunk(cut, 0, &part[..part.len() / 2])
        .unwrap();
    drop(receiver);
    assert_eq!(snapshots.files_there(manifest), cut);

    // One that comes with other bytes is not kept, those before it are.
    let mut receiver = resume(cut).unwrap();
    let mut changed = part.to_vec();
    changed[0] ^= 1;
    receiver.write_chunk(cut, 0, &changed).unwrap();
    receiver
        .write_chunk(cut + 1, 0, &whole(cut + 1))
        .unwrap_err();
    drop(receiver);
    assert_eq!(snapshots.files_there(manifest), cut);
    assert!(matches!(resume(cut + 1), Err(SnapshotError::BrokenOff)));

    let mut receiver = resume(cut).unwrap();
    assert_eq!(snapshots.files_there(manifest), 0, "somebody has it");
    for file in cut..manifest.files.len() {
        receiver.write_chunk(file, 0, &whole(file)).unwrap();
    }
    receiver.finish().unwrap().verify_again().unwrap();

    // What is left of one snapshot is none of another's.
    let mut receiver = resume(0).unwrap();
    receiver.write_chunk(0, 0, &whole(0)).unwrap();
    receiver.write_chunk(1, 0, &whole(1)).unwrap();
    drop(receiver);
    apply(&mut state, rows(50..60)).await.unwrap();
    let newer = build(&mut state).await.snapshot;
    assert_eq!(snapshots.files_there(newer.manifest()), 0);
    drop(transfer(&newer, snapshots, 1000).finish().unwrap());
    assert_eq!(snapshots.files_there(manifest), 0);
    assert_eq!(names_in(&there.path().join("snapshots")), [""; 0]);
}

#[tokio::test]
async fn a_snapshot_that_was_damaged_later_is_told_by_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = crate::support::state_machine(&Disk::Rocks, dir.path());
    apply(&mut state, rows(0..50)).await.unwrap();
    build(&mut state).await;
    let built = state
        .get_current_snapshot()
        .await
        .unwrap()
        .unwrap()
        .snapshot;
    built.verify_again().unwrap();
    let table = names_in(built.path())
        .into_iter()
        .find(|name| name.ends_with(".sst"))
        .unwrap();
    flip_byte(&built.path().join(&table), 100);
    built.verify().unwrap();
    let error = built.verify_again().unwrap_err().to_string();
    assert!(error.contains(&table), "{error}");
}
