//! Nodes come, catch up, get a vote, and go.

use openraft::async_runtime::WatchReceiver;
use tokio::runtime::Handle;

use super::harness::{Node, PATIENCE, ask_to_join, member, patient, secret, three};
use crate::join::hello;
use crate::{Fatal, InitializeError, MembershipError};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_asks_again_gets_the_same_number() {
    let first = Node::first().await;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let address = "127.0.0.1:1".parse().unwrap();
    let one = ask_to_join(&first, address, [1; 16], &runtime)
        .await
        .unwrap();
    let again = ask_to_join(&first, address, [1; 16], &runtime)
        .await
        .unwrap();
    assert_eq!(one, again);
    assert_eq!(one.node_id, 2);
    assert!(one.members.contains(&(2, member(address))), "{one:?}");
    let other = ask_to_join(&first, address, [2; 16], &runtime)
        .await
        .unwrap();
    assert_eq!(other.node_id, 3);
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_single_node_leads_again_and_cannot_be_initialized_twice() {
    let first = Node::first().await;
    let index = first.set("key", "1").await.unwrap().index;
    assert_eq!(
        first.raft.initialize().await,
        Err(InitializeError::AlreadyInitialized)
    );
    let (id, address, dir) = first.stop().await;
    let again = Node::restarted(id, address, dir).await;
    patient(again.raft.recovered()).await.unwrap();
    assert!(again.raft.applied() >= index);
    again.wait_ready().await;
    assert_eq!(again.read("key").unwrap().1, b"1");
    let before = again.raft.now().lease_time;
    assert!(again.set("key", "2").await.unwrap().index > index);
    assert!(again.raft.now().lease_time >= before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_lose_the_quorum_is_refused() {
    let [first, second, third] = three().await;
    let not_leader = second.raft.remove(3).await;
    assert_eq!(
        not_leader,
        Err(MembershipError::NotLeader { leader: Some(1) })
    );
    assert_eq!(
        first.raft.remove(9).await,
        Err(MembershipError::UnknownNode(9))
    );
    let third = third.kill();
    // Of 1 and 3, which would be left, only 1 can be reached. It takes a moment to be noticed.
    let mut metrics = first.raft.core().metrics();
    let refused = patient(async {
        loop {
            match first.raft.transfer_leader(9).await {
                Err(MembershipError::UnknownNode(9)) => {}
                other => panic!("{other:?}"),
            }
            let status = first.raft.status().await;
            assert_eq!(status.members.len(), 3);
            if !first.raft.member_answers(3) {
                break first.raft.remove(2).await;
            }
            metrics.changed().await.unwrap();
        }
    })
    .await;
    let Err(MembershipError::Refused(why)) = refused else {
        panic!("{refused:?}")
    };
    assert!(why.contains("1 can be reached"), "{why}");

    // The dead one may go, and then the other.
    patient(first.raft.remove(third.0)).await.unwrap();
    patient(first.raft.remove(2)).await.unwrap();
    let status = first.raft.status().await;
    assert_eq!(
        status
            .members
            .iter()
            .map(|member| member.node_id)
            .collect::<Vec<_>>(),
        [1]
    );
    let Err(MembershipError::Refused(why)) = first.raft.remove(1).await else {
        panic!()
    };
    assert!(why.contains("only voter"), "{why}");
    first.set("alone", "1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_removed_leaves_a_cluster_that_goes_on() {
    let [first, second, third] = three().await;
    first.set("key", "1").await.unwrap();
    patient(first.raft.remove(1)).await.unwrap();
    let leader = second.wait_leader(|leader| leader != 1).await;
    let leader = if leader == 2 { &second } else { &third };
    leader.wait_ready().await;
    leader.set("key", "2").await.unwrap();
    let status = leader.raft.status().await;
    assert_eq!(
        status
            .members
            .iter()
            .map(|member| member.node_id)
            .collect::<Vec<_>>(),
        [2, 3]
    );
    assert!(first.set("key", "3").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_shut_down_hands_over_first() {
    let [first, second, third] = three().await;
    first.set("key", "1").await.unwrap();
    let fatal = {
        let raft = first.raft.clone();
        tokio::spawn(async move { raft.fatal().await })
    };
    patient(first.raft.shutdown()).await;
    assert_eq!(patient(fatal).await.unwrap(), Fatal::Stopped);
    assert!(first.raft.wait_applied(u64::MAX).await.is_err());
    assert!(first.set("key", "2").await.is_err());
    // Handed over, not missed: the next leader is there already.
    let leader = second.raft.leadership().leader.unwrap();
    assert_ne!(leader, 1);
    let leader = if leader == 2 { &second } else { &third };
    leader.wait_ready().await;
    leader.set("key", "2").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_behind_the_log_gets_a_snapshot() {
    let first = Node::first().await;
    for i in 0..30 {
        first
            .set(&format!("key {i}"), "in the snapshot")
            .await
            .unwrap();
    }
    let last = first.set("last", "1").await.unwrap().index;
    patient(first.raft.trigger_snapshot()).await.unwrap();
    let covered = crate::metrics::wait_for(first.raft.core(), |metrics| {
        metrics.snapshot.filter(|log_id| log_id.index >= last)
    });
    patient(covered).await.unwrap();
    first.raft.core().trigger().purge_log(last).await.unwrap();
    let purged = crate::metrics::wait_for(first.raft.core(), |metrics| {
        metrics.purged.filter(|log_id| log_id.index >= last)
    });
    patient(purged).await.unwrap();

    let second = Node::joined(&first).await;
    let index = first.set("after", "1").await.unwrap().index;
    patient(second.raft.wait_applied(index)).await.unwrap();
    for key in ["key 0", "key 29", "last", "after"] {
        assert_eq!(second.read(key), first.read(key));
    }
    let hello = hello(&second.address.to_string(), &secret(), Handle::current())
        .await
        .unwrap();
    assert_eq!(
        hello.belongs_to,
        Some((super::harness::CLUSTER.to_owned(), 2))
    );
    assert!(second.raft.read_index(PATIENCE).await.unwrap() >= index);
}
