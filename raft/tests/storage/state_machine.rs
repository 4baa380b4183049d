//! The state machine: when it applies, what a crash leaves, snapshots from one node to another.

use std::fs;
use std::sync::Arc;

use crate::support::{
    Disk, Node, apply, blank, dump, dump_of, entry, log_id, names_in, proposal, put, row_key, rows,
    store, transfer,
};
use openraft::storage::{
    RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine, StorageHelper,
};
use raft::snapshot::{SnapshotDir, SnapshotError, SnapshotReceiver};
use raft::state_machine::{StateMachine, StateStore};
use raft::type_config::{
    LogEntry, Member, Membership, Payload, SnapshotMeta, StoredMembership, TypeConfig, Vote,
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
async fn a_file_that_changes_after_it_came_is_noticed_and_all_is_sent_again() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut state = crate::support::state_machine(&Disk::Rocks, here.path());
    apply(&mut state, rows(0..50)).await.unwrap();
    let mut builder = state.get_snapshot_builder().await;
    let built = builder.build_snapshot().await.unwrap().snapshot;
    let other = crate::support::state_machine(&Disk::Rocks, there.path());
    let to = store(&other);
    let received = transfer(&built, to.snapshots(), 1 << 20);
    let dir = there.path().join("snapshots");
    let table = built
        .manifest()
        .files
        .iter()
        .find(|file| file.name.ends_with(".sst"));
    let table = dir.join(&names_in(&dir)[0]).join(&table.unwrap().name);
    crate::support::flip_byte(&table, 100);
    let error = received.finish().unwrap_err().to_string();
    assert!(error.contains(".sst"), "{error}");
    assert_eq!(to.snapshots().files_there(built.manifest()), 0);
    assert_eq!(names_in(&dir), [""; 0], "nothing stays behind");
    transfer(&built, to.snapshots(), 1 << 20).finish().unwrap();
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
