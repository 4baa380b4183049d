//! The state machine: when it applies, what a crash leaves, snapshots from one node to another.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{
    Disk, Node, apply, blank, dump, entry, flip_byte, log_id, proposal, put, row_key, rows,
    transfer,
};
use openraft::storage::{
    RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine, StorageHelper,
};
use raft::snapshot::{SnapshotDir, SnapshotError, SnapshotReceiver};
use raft::state_machine::{OpenEngine, StateMachine, StateStore};
use raft::type_config::{
    LogEntry, Member, Membership, Payload, Snapshot, SnapshotMeta, StoredMembership, TypeConfig,
    Vote,
};
use storage::Read;
use tokio::sync::watch;
use types::limits::APPLY_RUN_MAX_ENTRIES;

fn membership(index: u64) -> LogEntry {
    let nodes = [1, 2].map(|id| {
        (
            id,
            Member {
                rpc: format!("node-{id}"),
                ..Member::default()
            },
        )
    });
    let membership =
        Membership::new(vec![[1, 2].into()], std::collections::BTreeMap::from(nodes)).unwrap();
    LogEntry {
        log_id: log_id(1, index),
        payload: Payload::Membership(membership),
    }
}

fn store(state: &StateMachine) -> Arc<StateStore> {
    Arc::clone(state.handle().store())
}

fn dump_of(state: &StateMachine) -> Vec<storage::Pair> {
    dump(store(state).snapshot().1.as_ref())
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn nothing_is_applied_before_the_log_is_durable_up_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (durable_end, seen) = watch::channel(2);
    let store = Arc::new(StateStore::open(dir.path(), Disk::memory().open_state()).unwrap());
    let mut state = StateMachine::start(Arc::clone(&store), seen).unwrap();

    apply(&mut state, rows(0..2)).await.unwrap();
    assert_eq!(store.snapshot().0, 1);
    {
        let mut applying = std::pin::pin!(apply(&mut state, rows(2..5)));
        for end in [2, 3, 4] {
            durable_end.send_replace(end);
            assert!(
                futures::poll!(applying.as_mut()).is_pending(),
                "durable up to {end} only"
            );
            assert_eq!(store.snapshot().0, 1);
        }
        durable_end.send_replace(5);
        applying.await.unwrap();
    }
    assert_eq!(store.snapshot().0, 4);
    drop(durable_end);
    apply(&mut state, rows(5..6)).await.unwrap_err();
}

#[tokio::test]
async fn long_backlogs_are_cut_into_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = crate::support::state_machine(&Disk::memory(), dir.path());
    let count = APPLY_RUN_MAX_ENTRIES as u64 * 2 + 1;
    apply(&mut state, rows(0..count)).await.unwrap();
    let large = |index| {
        proposal(
            1,
            index,
            entry(index, vec![put(&row_key(0), &[0; 3 << 20])]),
        )
    };
    apply(&mut state, (count..count + 2).map(large))
        .await
        .unwrap();
    let counters = state.handle().counters();
    assert_eq!((counters.entries, counters.runs), (count + 2, 5));
}

#[tokio::test]
async fn readers_see_a_state_that_belongs_to_its_index() {
    for disk in Disk::both() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = crate::support::state_machine(&disk, dir.path());
        let store = store(&state);
        let mut applied = store.applied_index();
        apply(&mut state, rows(0..3)).await.unwrap();
        let (index, old) = store.snapshot();
        apply(&mut state, rows(3..6)).await.unwrap();
        assert_eq!(*applied.borrow_and_update(), 5);
        assert_eq!(index, 2);
        assert!(old.get(&row_key(2)).unwrap().is_some() && old.get(&row_key(3)).unwrap().is_none());
        assert_eq!(store.snapshot().0, 5);
        assert!(store.snapshot().1.get(&row_key(5)).unwrap().is_some());
    }
}

#[tokio::test]
async fn the_applied_record_holds_the_clocks_and_the_membership() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::Rocks;
    {
        let mut state = crate::support::state_machine(&disk, dir.path());
        let row = |index, time| proposal(1, index, entry(time, vec![put(&row_key(index), b"x")]));
        apply(&mut state, vec![membership(0), row(1, 70), blank(2, 2)])
            .await
            .unwrap();
        store(&state).flush().unwrap();
    }
    let applied = crate::support::state_machine(&disk, dir.path())
        .handle()
        .store()
        .applied();
    assert_eq!((applied.lease_time, applied.wall_time), (70, 70_000));
    assert_eq!(applied.last, Some(log_id(2, 2)));
    assert_eq!(applied.membership.log_id(), &Some(log_id(1, 0)));
    assert_eq!(applied.members(), [1, 2].into());
}

#[tokio::test]
async fn after_a_crash_the_state_is_its_last_flush_and_the_log_brings_it_forward() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::memory();
    let before = {
        let mut node = Node::open(&disk, dir.path());
        node.append(rows(0..20)).await;
        node.apply(rows(0..8)).await;
        store(&node.state).flush().unwrap();
        node.apply(rows(8..15)).await;
        node.log.save_committed(Some(log_id(1, 14))).await.unwrap();
        node.append(rows(20..21)).await;
        dump_of(&node.state)
    };
    disk.crash();

    let Node { mut log, mut state } = Node::open(&disk, dir.path());
    assert_eq!(state.applied_state().await.unwrap().0, Some(log_id(1, 7)));
    let mut helper = StorageHelper::<TypeConfig, _, _>::new(&mut log, &mut state).with_id(1);
    helper.get_initial_state().await.unwrap();
    assert_eq!(state.applied_state().await.unwrap().0, Some(log_id(1, 14)));
    assert_eq!(dump_of(&state), before);
}

#[tokio::test]
async fn a_killed_node_on_rocksdb_comes_back_too() {
    let dir = tempfile::tempdir().unwrap();
    let before = {
        let mut node = Node::open(&Disk::Rocks, dir.path());
        node.append(rows(0..20)).await;
        node.apply(rows(0..15)).await;
        node.log.save_committed(Some(log_id(1, 14))).await.unwrap();
        node.append(rows(20..21)).await;
        dump_of(&node.state)
    };
    let Node { mut log, mut state } = Node::open(&Disk::Rocks, dir.path());
    let mut helper = StorageHelper::<TypeConfig, _, _>::new(&mut log, &mut state).with_id(1);
    helper.get_initial_state().await.unwrap();
    assert_eq!(dump_of(&state), before);
}

#[tokio::test]
async fn a_snapshot_makes_another_node_the_same() {
    for disk in Disk::both() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut state = crate::support::state_machine(&disk, here.path());
        apply(&mut state, [vec![membership(0)], rows(1..50)].concat())
            .await
            .unwrap();
        let snapshot = state
            .get_snapshot_builder()
            .await
            .build_snapshot()
            .await
            .unwrap();
        assert_eq!(snapshot.meta.last_log_id, Some(log_id(1, 49)));
        assert_eq!(snapshot.meta.last_membership.log_id(), &Some(log_id(1, 0)));
        let expected = dump_of(&state);
        apply(&mut state, rows(50..60)).await.unwrap();

        let mut other = crate::support::state_machine(&disk, there.path());
        apply(&mut other, rows(200..205)).await.unwrap();
        let other_store = store(&other);
        let (old_index, old) = other_store.snapshot();
        let received = transfer(&snapshot.snapshot, other_store.snapshots(), 1000)
            .finish()
            .unwrap();
        other
            .install_snapshot(&snapshot.meta, received)
            .await
            .unwrap();

        assert_eq!(dump_of(&other), expected);
        assert_eq!(other_store.snapshot().0, 49);
        assert_eq!(*other_store.applied_index().borrow(), 49);
        assert_eq!(old_index, 204);
        assert!(
            old.get(&row_key(204)).unwrap().is_some(),
            "who reads the old state goes on"
        );
        let current = other.get_current_snapshot().await.unwrap().unwrap();
        assert_eq!(current.meta, snapshot.meta);
        current.snapshot.verify().unwrap();

        drop(old);
        assert_eq!(names_in(&there.path().join("state")), ["2", "CURRENT"]);
        assert_eq!(names_in(&there.path().join("snapshots")).len(), 1);

        // And it goes on from there, also after a restart.
        apply(&mut other, rows(50..60)).await.unwrap();
        assert_eq!(dump_of(&other), dump_of(&state));
        drop((other, other_store, current));
        let other = crate::support::state_machine(&disk, there.path());
        assert!(other.handle().store().snapshot().0 >= 49);
    }
}

#[tokio::test]
async fn the_current_snapshot_survives_a_restart_and_the_old_one_goes() {
    for disk in Disk::both() {
        let dir = tempfile::tempdir().unwrap();
        let first = {
            let mut state = crate::support::state_machine(&disk, dir.path());
            apply(&mut state, rows(0..10)).await.unwrap();
            let first = state
                .get_snapshot_builder()
                .await
                .build_snapshot()
                .await
                .unwrap();
            apply(&mut state, rows(10..20)).await.unwrap();
            let second = state
                .get_snapshot_builder()
                .await
                .build_snapshot()
                .await
                .unwrap();
            assert!(first.snapshot.path().exists(), "it may still be streamed");
            let current = state.get_current_snapshot().await.unwrap().unwrap();
            assert_eq!(current.meta, second.meta);
            first.snapshot.path().to_owned()
        };
        assert!(!first.exists(), "nobody streams it any more");
        let mut state = crate::support::state_machine(&disk, dir.path());
        let current = state.get_current_snapshot().await.unwrap().unwrap();
        assert_eq!(current.meta.last_log_id, Some(log_id(1, 19)));
        current.snapshot.verify().unwrap();
        assert_eq!(
            state.applied_state().await.unwrap().0,
            Some(log_id(1, 19)),
            "it was flushed"
        );
    }
}

#[tokio::test]
async fn what_arrives_incomplete_or_changed_is_refused() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut state = crate::support::state_machine(&Disk::memory(), here.path());
    apply(&mut state, rows(0..50)).await.unwrap();
    let snapshot = state
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .unwrap()
        .snapshot;
    let other = crate::support::state_machine(&Disk::memory(), there.path());
    let other_store = store(&other);
    let snapshots = other_store.snapshots();
    let new = || SnapshotReceiver::new(snapshots, snapshot.manifest().clone()).unwrap();
    let damaged = |result: Result<SnapshotDir, SnapshotError>| {
        assert!(
            matches!(result, Err(SnapshotError::Damaged(_))),
            "{result:?}"
        );
    };
    let all = snapshot.read_chunk(0, 0, usize::MAX).unwrap();

    damaged(new().finish());
    let mut cut = new();
    cut.write_chunk(0, 0, &all[..all.len() - 1]).unwrap();
    damaged(cut.finish());
    let mut flipped = all.to_vec();
    flipped[100] ^= 1;
    let mut changed = new();
    changed.write_chunk(0, 0, &flipped).unwrap();
    damaged(changed.finish());
    let mut gap = new();
    gap.write_chunk(0, 0, &all[..10]).unwrap();
    gap.write_chunk(0, 11, &all[11..]).unwrap_err();
    drop(gap);
    new()
        .write_chunk(0, 0, &[&all[..], &[0]].concat())
        .unwrap_err();
    new().write_chunk(7, 0, &all).unwrap_err();
    assert_eq!(
        names_in(&there.path().join("snapshots")),
        [""; 0],
        "nothing stays behind"
    );
}

#[tokio::test]
async fn a_damaged_snapshot_is_not_installed() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut state = crate::support::state_machine(&Disk::Rocks, here.path());
    apply(&mut state, rows(0..50)).await.unwrap();
    let snapshot = state
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .unwrap();
    let (meta, path) = (snapshot.meta.clone(), snapshot.snapshot.path().to_owned());
    let table = names_in(&path)
        .into_iter()
        .find(|name| name.ends_with(".sst"))
        .unwrap();
    let bytes = fs::read(path.join(&table)).unwrap();
    fs::remove_file(path.join(&table)).unwrap();
    fs::write(path.join(&table), &bytes[..bytes.len() / 2]).unwrap();

    let mut other = crate::support::state_machine(&Disk::Rocks, there.path());
    let opened = SnapshotDir::open(&path).unwrap();
    other.install_snapshot(&meta, opened).await.unwrap_err();
    drop(other);
    let mut other = crate::support::state_machine(&Disk::Rocks, there.path());
    assert_eq!(
        other.applied_state().await.unwrap(),
        (None, StoredMembership::default())
    );
}

#[tokio::test]
async fn a_snapshot_of_another_place_in_the_log_is_not_installed() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = Disk::memory();
    let mut state = crate::support::state_machine(&disk, here.path());
    apply(&mut state, rows(0..5)).await.unwrap();
    let snapshot = state
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .unwrap();
    let mut other = crate::support::state_machine(&disk, there.path());
    let wrong = SnapshotMeta {
        last_log_id: Some(log_id(1, 9)),
        ..snapshot.meta
    };
    other
        .install_snapshot(&wrong, snapshot.snapshot)
        .await
        .unwrap_err();
    let read: Arc<dyn storage::Snapshot> = store(&other).snapshot().1;
    assert_eq!(dump(read.as_ref() as &dyn Read), []);
}

#[tokio::test]
async fn what_a_crash_left_half_done_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::Rocks;
    {
        let mut state = crate::support::state_machine(&disk, dir.path());
        apply(&mut state, rows(0..5)).await.unwrap();
        state
            .get_snapshot_builder()
            .await
            .build_snapshot()
            .await
            .unwrap();
    }
    // A state that was being made of a snapshot, a snapshot being built, one that was replaced.
    for left in [
        "state/2",
        "snapshots/new-9",
        "snapshots/00000000000000000000",
    ] {
        fs::create_dir(dir.path().join(left)).unwrap();
        fs::write(dir.path().join(left).join("file"), b"half").unwrap();
    }
    let mut state = crate::support::state_machine(&disk, dir.path());
    assert_eq!(names_in(&dir.path().join("state")), ["1", "CURRENT"]);
    assert_eq!(names_in(&dir.path().join("snapshots")).len(), 1);
    assert!(state.get_current_snapshot().await.unwrap().is_some());
    assert_eq!(store(&state).snapshot().0, 4);
}

#[tokio::test]
async fn a_state_that_is_gone_is_not_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::Rocks;
    drop(crate::support::state_machine(&disk, dir.path()));
    fs::remove_dir_all(dir.path().join("state/1")).unwrap();
    let error = StateStore::open(dir.path(), disk.open_state())
        .err()
        .unwrap();
    assert!(error.to_string().contains("is gone"), "{error}");
}

#[tokio::test]
async fn a_state_without_its_pointer_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::Rocks;
    {
        let mut state = crate::support::state_machine(&disk, dir.path());
        apply(&mut state, rows(0..5)).await.unwrap();
        store(&state).flush().unwrap();
    }
    fs::remove_file(dir.path().join("state/CURRENT")).unwrap();
    let error = StateStore::open(dir.path(), disk.open_state())
        .err()
        .unwrap();
    assert!(error.to_string().contains("no CURRENT"), "{error}");
    fs::write(dir.path().join("state/CURRENT"), "1\n").unwrap();
    let state = crate::support::state_machine(&disk, dir.path());
    assert_eq!(store(&state).snapshot().0, 4);
}

#[tokio::test]
async fn a_first_start_that_did_not_finish_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::Rocks;
    drop(crate::support::state_machine(&disk, dir.path()));
    fs::remove_file(dir.path().join("state/CURRENT")).unwrap();
    let mut state = crate::support::state_machine(&disk, dir.path());
    apply(&mut state, rows(0..5)).await.unwrap();
}

#[tokio::test]
async fn a_node_starts_again_from_a_purged_log_and_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::memory();
    {
        let mut node = Node::open(&disk, dir.path());
        node.append(rows(0..30)).await;
        node.apply(rows(0..30)).await;
        node.log.save_committed(Some(log_id(1, 29))).await.unwrap();
        node.state
            .get_snapshot_builder()
            .await
            .build_snapshot()
            .await
            .unwrap();
        node.log.purge(log_id(1, 24)).await.unwrap();
    }
    disk.crash();
    let Node { mut log, mut state } = Node::open(&disk, dir.path());
    let mut helper = StorageHelper::<TypeConfig, _, _>::new(&mut log, &mut state).with_id(1);
    helper.get_initial_state().await.unwrap();
    assert_eq!(store(&state).snapshot().0, 29);
    assert_eq!(
        log.reader().try_get_log_entries(0..).await.unwrap(),
        rows(25..30)
    );
}

#[tokio::test]
async fn a_state_that_ends_before_its_log_begins_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::memory();
    let mut node = Node::open(&disk, dir.path());
    node.log
        .save_vote(&Vote::new_committed(1, 1))
        .await
        .unwrap();
    node.append(rows(0..30)).await;
    node.apply(rows(0..20)).await;
    let (log, store) = (node.log.handle(), store(&node.state));
    store.check_reaches(&log).unwrap();
    node.log.purge(log_id(1, 19)).await.unwrap();
    store.check_reaches(&log).unwrap();
    node.log.purge(log_id(1, 20)).await.unwrap();
    let error = store.check_reaches(&log).unwrap_err();
    assert!(error.to_string().contains("ends at entry 19"), "{error}");
}

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
async fn an_entry_that_does_not_follow_the_last_one_ends_the_node() {
    for gap in [6, 5, 4, 0] {
        let dir = tempfile::tempdir().unwrap();
        let mut state = crate::support::state_machine(&Disk::memory(), dir.path());
        apply(&mut state, rows(0..5)).await.unwrap();
        let result = apply(&mut state, rows(gap..gap + 1)).await;
        assert_eq!(result.is_ok(), gap == 5, "entry {gap} after entry 4");
        let expected = if gap == 5 { 5 } else { 4 };
        assert_eq!(store(&state).snapshot().0, expected);
    }
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

#[tokio::test]
async fn nodes_that_applied_the_same_have_the_same_digest() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut one = crate::support::state_machine(&Disk::memory(), here.path());
    let mut other = crate::support::state_machine(&Disk::Rocks, there.path());
    apply(&mut one, rows(0..10)).await.unwrap();
    for index in 0..10 {
        apply(&mut other, rows(index..index + 1)).await.unwrap();
    }
    let digest = |state: &StateMachine| store(state).applied().digest;
    assert_eq!(digest(&one), digest(&other));
    let change = |value: &[u8]| proposal(1, 10, entry(10, vec![put(&row_key(1), value)]));
    apply(&mut one, [change(b"x")]).await.unwrap();
    apply(&mut other, [change(b"y")]).await.unwrap();
    assert_ne!(digest(&one), digest(&other));
}
