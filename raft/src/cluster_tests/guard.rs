//! Replicas that differ, disks without room, builds of another version.

use std::sync::atomic::Ordering;
use std::time::Duration;

use storage::keys::rows;
use types::command::{Change, CommandKind, CompareDigest, Envelope, Write};
use types::limits::DIGEST_MARK_ENTRIES;

use super::harness::{Node, is_applied, options, patient, three};
use crate::{Disk, Fatal, ProposeError, Proposed, Raft, StartError};

/// Between two questions to a node that offers no event for what is waited for.
const PAUSE: Duration = Duration::from_millis(20);

async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    patient(async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            // sleep: between two questions
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await
}

/// Writes until there is a new mark, one entry a write.
async fn pass_a_mark(leader: &Node) {
    let start = leader.raft.applied();
    let mark = start.next_multiple_of(DIGEST_MARK_ENTRIES).max(1);
    while leader.raft.applied() < mark {
        assert!(is_applied(&leader.set("key", "value").await.unwrap()));
    }
}

/// Makes a node differ from what it has applied from now on.
fn corrupt(node: &Node) {
    node.raft.store().corruption.store(1, Ordering::SeqCst);
}

/// Waits until the node has stopped by itself because it differs.
async fn diverged(node: &Node) {
    let fatal = patient(node.raft.fatal()).await;
    assert!(
        matches!(&fatal, Fatal::Storage(why) if why.contains("diverged")),
        "{fatal:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_differs_stops_and_stays_stopped() {
    let [first, second, third] = three().await;
    corrupt(&third);
    pass_a_mark(&first).await;
    diverged(&third).await;
    // The others agree, and go on.
    let index = first.set("key", "after").await.unwrap().index;
    patient(second.raft.wait_applied(index)).await.unwrap();
    assert_eq!(first.raft.digest_at(index), second.raft.digest_at(index));
    assert_eq!(first.raft.differing_members().0, 1);

    let (id, address, dir) = third.kill();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let again = Raft::start(options(id, address, dir.path(), &runtime)).await;
    let Err(StartError::Storage(storage::Error::Corrupt { what })) = again.map(|_| "started")
    else {
        panic!("a state that is known to be wrong was served again");
    };
    assert!(what.contains("diverged"), "{what}");
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_differs_tells_itself() {
    let [first, second, _third] = three().await;
    corrupt(&first);
    pass_a_mark(&first).await;
    diverged(&first).await;
    drop(first.kill());
    let leader = second.wait_leader(|leader| leader != 1).await;
    assert!([2, 3].contains(&leader));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_there_is_an_alarm_and_nobody_stops() {
    let first = Node::first().await;
    let second = Node::joined(&first).await;
    corrupt(&second);
    pass_a_mark(&first).await;
    until(async || (first.raft.differing_members().0 == 1).then_some(())).await;
    let index = first.set("key", "after").await.unwrap().index;
    patient(second.raft.wait_applied(index)).await.unwrap();
}

/// An Envelope that puts or deletes a row.
fn row(term: u64, value: Option<&'static str>) -> Envelope {
    let change = Change {
        key: rows::table_prefix(9).into(),
        after: value.map(Into::into),
        event: None,
    };
    let write = Write {
        changes: vec![change],
        ..Write::default()
    };
    Envelope {
        term,
        commands: vec![CommandKind::Write(write).into()],
        ..Envelope::default()
    }
}

async fn propose(node: &Node, value: Option<&'static str>) -> Result<Proposed, ProposeError> {
    let term = node.raft.leadership().term;
    patient(node.raft.propose(row(term, value))).await
}

fn disk(full: bool) -> Disk {
    Disk {
        free_bytes: Some(7),
        full,
        ..Disk::UNKNOWN
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn growth_is_refused_without_a_quorum_that_has_room() {
    let [first, second, third] = three().await;
    second.disk.send_replace(disk(true));
    let seen = async || {
        let status = first.raft.status().await;
        status
            .members
            .iter()
            .find(|member| member.node_id == 2)?
            .disk
            .full
            .then_some(())
    };
    until(seen).await;
    assert!(is_applied(
        &propose(&first, Some("one is full")).await.unwrap()
    ));

    third.disk.send_replace(disk(true));
    until(async || first.raft.growth_refused().then_some(())).await;
    let before = first.raft.applied();
    assert_eq!(
        propose(&first, Some("two are")).await,
        Err(ProposeError::DiskFull)
    );
    assert_eq!(first.raft.applied(), before, "nothing was appended");
    assert!(
        is_applied(&propose(&first, None).await.unwrap()),
        "a delete"
    );
    assert!(is_applied(&first.set("counter", "1").await.unwrap()));

    third.disk.send_replace(disk(false));
    until(async || (!first.raft.growth_refused()).then_some(())).await;
    assert!(is_applied(
        &propose(&first, Some("room again")).await.unwrap()
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_room_hands_the_leadership_to_a_node_that_has_some() {
    let [first, second, third] = three().await;
    first.disk.send_replace(disk(true));
    let leader = match second.wait_leader(|leader| leader != 1).await {
        2 => &second,
        _ => &third,
    };
    leader.wait_ready().await;
    let grown = propose(leader, Some("grows")).await.unwrap();
    assert!(is_applied(&grown));
    // The full one follows, and is no reason to refuse anything.
    patient(first.raft.wait_applied(grown.index)).await.unwrap();
    assert!(!first.raft.leadership().is_leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_command_waits_until_every_build_knows_it() {
    let first = Node::first().await;
    let second = Node::joined(&first).await;
    let compare = async || {
        let compare = CompareDigest::default();
        let envelope = Envelope {
            term: first.raft.leadership().term,
            commands: vec![CommandKind::CompareDigest(compare).into()],
            ..Envelope::default()
        };
        patient(first.raft.propose(envelope)).await
    };
    assert!(is_applied(&compare().await.unwrap()));

    // An older build comes: the membership says so before long.
    let second = Node::restarted_as(second.stop().await, 1).await;
    let refused = ProposeError::NotAllCanApply { needs: 2, have: 1 };
    until(async || (compare().await.as_ref() == Err(&refused)).then_some(())).await;
    let index = first.set("key", "as ever").await.unwrap().index;
    patient(second.raft.wait_applied(index)).await.unwrap();

    let _second = Node::restarted_as(second.stop().await, 2).await;
    let known = async || compare().await.ok();
    assert!(is_applied(&until(known).await));
}
