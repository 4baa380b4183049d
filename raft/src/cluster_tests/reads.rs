//! A read index is the leader's, and only a leader with a quorum gives one.

use std::sync::Arc;
use std::time::Duration;

use openraft::Instant as _;
use tokio::time::Instant;

use super::harness::{Node, PATIENCE, patient, put, three};
use crate::{ReadIndexError, Role};

/// Longer than it takes the leader to have tried many times in vain.
const AWAY: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_read_index_on_any_node_covers_what_was_answered_before() {
    let nodes = Arc::new(three().await);
    for i in 0..10 {
        let written = nodes[0].set("key", &i.to_string()).await.unwrap().index;
        let readers = (0..9).map(|reader| {
            let nodes = nodes.clone();
            tokio::spawn(async move {
                let node = &nodes[reader % 3];
                let index = node.raft.read_index(PATIENCE).await.unwrap();
                assert!(index >= written, "node {reader}: {index} < {written}");
                patient(node.raft.wait_applied(index)).await.unwrap();
                assert_eq!(node.read("key").unwrap().1, i.to_string().as_bytes());
            })
        });
        for reader in readers.collect::<Vec<_>>() {
            reader.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_quorum_gives_none() {
    let [first, second, third] = three().await;
    first.set("key", "1").await.unwrap();
    assert!(first.raft.read_index(PATIENCE).await.is_ok());
    assert!(first.raft.quorum_answers());
    let second = second.kill();
    third.kill();
    // Nobody can have told by now whether the leader still is one.
    let at_once = first.raft.read_index(Duration::ZERO).await;
    assert_eq!(at_once, Err(ReadIndexError::TimedOut));
    let alone = first.raft.read_index(Duration::from_secs(3)).await;
    assert_eq!(alone, Err(ReadIndexError::Unavailable));
    assert!(!first.raft.quorum_answers());

    // With one more there is a quorum again, and a waiting reader is served.
    let reader = {
        let raft = first.raft.clone();
        tokio::spawn(async move { raft.read_index(PATIENCE).await })
    };
    let _second = Node::restarted(second.0, second.1, second.2).await;
    assert!(reader.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_through_its_end_does_not_answer_from_the_past() {
    let [first, second, third] = three().await;
    first.set("key", "old").await.unwrap();
    let old_term = first.raft.leadership().term;
    let frozen = first.freeze();
    let leader = second.wait_leader(|leader| leader != 1).await;
    let leader = if leader == 2 { &second } else { &third };
    leader.wait_ready().await;
    let written = leader.set("key", "new").await.unwrap().index;

    // Asked while it sleeps, so these are the first things it looks at when it wakes up, believing
    // that it leads.
    assert!(first.raft.leadership().is_leader);
    let read = first.raft.read_index(PATIENCE);
    let write = first
        .raft
        .propose(put(old_term, "key", "too late", Vec::new()));
    let wake = async {
        drop(frozen);
    };
    let (index, refused, ()) = patient(async { tokio::join!(read, write, wake) }).await;
    let index = index.unwrap();
    assert!(index >= written, "{index} < {written}");
    patient(first.raft.wait_applied(index)).await.unwrap();
    assert_eq!(first.read("key").unwrap().1, b"new");
    // Refused, or appended where it can never be committed; never done.
    assert!(refused.is_err(), "{refused:?}");
    let last = leader.set("key", "newest").await.unwrap().index;
    patient(first.raft.wait_applied(last)).await.unwrap();
    assert_eq!(first.read("key").unwrap().1, b"newest");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_tells_how_all_are_doing() {
    let [first, second, third] = three().await;
    let index = first.set("key", "1").await.unwrap().index;
    for node in [&first, &second, &third] {
        patient(node.raft.wait_applied(index)).await.unwrap();
    }
    for node in [&first, &second, &third] {
        let status = node.raft.status().await;
        assert_eq!(status.leader, Some(1));
        assert!(status.committed >= index);
        let roles: Vec<_> = status.members.iter().map(|member| member.role).collect();
        assert_eq!(roles, [Role::Leader, Role::Follower, Role::Follower]);
        for member in &status.members {
            assert!(member.voter && member.applied >= index && member.version == "test");
        }
    }
    third.kill();
    let status = second.raft.status().await;
    assert_eq!(status.members[2].role, Role::Unreachable);
    let status = first.raft.status().await;
    assert_eq!(status.members[2].role, Role::Unreachable);
    // The leader still knows how far the dead one was.
    assert!(status.members[2].last_log_index >= index);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_is_heard_again_though_nothing_is_written() {
    let [first, _second, third] = three().await;
    first.wait_ready().await;
    let third = third.kill();
    // sleep: the node is away for as long as that.
    tokio::time::sleep(AWAY).await;
    let back = Instant::now();
    let _third = Node::restarted(third.0, third.1, third.2).await;
    // Not only once, as it connects, but from then on.
    let heard = crate::metrics::wait_for(first.raft.core(), |metrics| {
        let last = (*metrics.heartbeat.as_ref()?.get(&3)?)?;
        let after = back.elapsed().saturating_sub(last.elapsed());
        (after >= AWAY).then_some(())
    });
    patient(heard).await.unwrap();
}
