//! Nodes come, catch up, get a vote, and go.

use openraft::async_runtime::WatchReceiver;
use tokio::runtime::Handle;
use types::command::APPLY_VERSION;

use super::harness::{
    Node, PATIENCE, ask_to_join, ask_to_join_as, member, patient, put, secret, three,
};
use crate::join::{JoinError, hello};
use crate::recover::StoppedNode;
use crate::status;
use crate::{AddMember, Fatal, InitializeError, Member, MembershipError, StartError};

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
async fn a_build_that_is_older_than_all_members_is_not_let_in() {
    let first = Node::first().await;
    let second = Node::joined(&first).await;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let old = Member {
        version: "0.0.9".into(),
        apply_version: APPLY_VERSION - 1,
        ..member("127.0.0.1:1".parse().unwrap())
    };
    let nonce = [1; 16];
    // Through a node that does not lead, too.
    for seed in [&first, &second] {
        let refused = ask_to_join_as(seed, old.clone(), nonce, &runtime).await;
        let Err(JoinError::Refused(why)) = refused else {
            panic!("{refused:?}")
        };
        assert!(
            why.contains("0.0.9") && why.contains("the members have (test)"),
            "{why}"
        );
    }
    // It was given no number.
    let new = member(old.rpc.parse().unwrap());
    let joined = ask_to_join_as(&first, new, nonce, &runtime).await.unwrap();
    assert_eq!(joined.node_id, 3);

    // In the middle of an upgrade, when one member still has the old build, it may come.
    let second = Node::restarted_as(second.stop().await, APPLY_VERSION - 1).await;
    let known = crate::metrics::wait_for(first.raft.core(), |metrics| {
        let mut nodes = metrics.membership_config.membership().nodes();
        nodes
            .find(|(_, member)| member.apply_version < APPLY_VERSION)
            .map(drop)
    });
    patient(known).await.unwrap();
    let joined = ask_to_join_as(&first, old, [2; 16], &runtime)
        .await
        .unwrap();
    assert_eq!(joined.node_id, 4);
    drop(second);
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
    // It hands over, and who leads then is to be asked.
    let handed = patient(first.raft.remove(1)).await;
    let Err(MembershipError::NotLeader { leader: Some(next) }) = handed else {
        panic!("{handed:?}")
    };
    let leader = if next == 2 { &second } else { &third };
    leader.wait_ready().await;
    for _again in 0..2 {
        patient(leader.raft.remove(1)).await.unwrap();
    }
    leader.set("key", "2").await.unwrap();
    let taken = patient(leader.raft.add_member(AddMember {
        node_id: Some(1),
        rpc: first.address.to_string(),
        http: None,
        voter: true,
    }))
    .await;
    assert_eq!(taken, Err(MembershipError::NumberTaken(1)));
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
    // The removed node hears it, and what waits for entries there does not wait for ever.
    patient(first.raft.stay_member(&[])).await.unwrap();
    assert!(patient(first.raft.wait_applied(u64::MAX)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_hands_leadership_on_whenever_it_has_it() {
    let [first, second, third] = three().await;
    first.set("key", "1").await.unwrap();
    for _again in 0..2 {
        patient(first.raft.drain()).await.unwrap();
    }
    assert!(first.raft.is_draining());
    let leader = second.wait_leader(|leader| leader != 1).await;
    let leader = if leader == 2 { &second } else { &third };
    leader.wait_ready().await;
    let term = leader.raft.leadership().term;
    leader.set("key", "2").await.unwrap();
    // It may be made to lead, and does not stay it. Whether the call hears in time that it led is
    // open, because it does not lead for long.
    drop(patient(leader.raft.transfer_leader(1)).await);
    let mut leadership = second.raft.leadership_watch();
    let handed_on =
        leadership.wait_for(|now| now.term > term && now.leader.is_some_and(|leader| leader != 1));
    patient(handed_on).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn drained_nodes_do_not_hand_the_leadership_to_each_other() {
    let nodes = three().await;
    nodes[0].set("key", "1").await.unwrap();
    // The second drain is asked of whoever leads then: it must not go back to the first.
    patient(nodes[0].raft.drain()).await.unwrap();
    let second = nodes[1].wait_leader(|leader| leader != 1).await;
    let (second, third) = (second as usize - 1, 4 - second as usize);
    nodes[second].wait_ready().await;
    patient(nodes[second].raft.drain()).await.unwrap();
    assert_eq!(
        nodes[second]
            .wait_leader(|id| id != second as u64 + 1)
            .await,
        third as u64 + 1
    );
    nodes[third].wait_ready().await;
    let term = nodes[third].raft.leadership().term;

    // Nobody is left who wants to lead, so it is refused and changes nothing.
    let refused = patient(nodes[third].raft.drain()).await;
    let Err(MembershipError::Refused(why)) = refused else {
        panic!("{refused:?}")
    };
    assert!(why.contains("told to drain"), "{why}");
    assert!(!nodes[third].raft.is_draining());

    // A drained one that is made to lead gives it back to the only one that wants it.
    drop(patient(nodes[third].raft.transfer_leader(1)).await);
    let mut leadership = nodes[second].raft.leadership_watch();
    let given_back =
        leadership.wait_for(|now| now.term > term + 1 && now.leader == Some(third as u64 + 1));
    let term = patient(given_back).await.unwrap().term;
    nodes[third].wait_ready().await;
    // It stays there: entries go on being written in its term.
    for value in 0..20 {
        nodes[third].set("key", &value.to_string()).await.unwrap();
    }
    assert_eq!(nodes[third].raft.leadership().term, term);

    // One that drains leads rather than nobody: the other two are enough to elect it.
    let [one, two, three] = nodes;
    let stays = if third == 1 { two } else { three };
    let (id, _, _dir) = stays.kill();
    let leader = one.wait_leader(|leader| leader != id).await;
    assert_ne!(leader, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_voter_cannot_be_drained() {
    let first = Node::first().await;
    let refused = first.raft.drain().await;
    assert!(
        matches!(refused, Err(MembershipError::Refused(_))),
        "{refused:?}"
    );
    first.set("key", "1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_believed_when_the_node_there_has_proved_who_it_is() {
    let [first, second, third] = three().await;
    let (id, _, dir) = third.kill();
    // Another node is there, or nobody.
    let wrong = first
        .raft
        .hear_announcement(id, Some(member(second.address)))
        .await;
    assert!(wrong.refused.contains("is node 2 of"), "{wrong:?}");
    let nobody = "127.0.0.1:1".parse().unwrap();
    let wrong = first.raft.hear_announcement(id, Some(member(nobody))).await;
    assert!(wrong.refused.contains("nobody"), "{wrong:?}");

    let third = Node::restarted_elsewhere(id, dir).await;
    let staying = third.stays_member(Vec::new());
    patient(crate::metrics::wait_for(first.raft.core(), |metrics| {
        let committed = metrics.committed_membership_config.membership();
        let there = committed.get_node(&3)?;
        (*there == member(third.address)).then_some(())
    }))
    .await
    .unwrap();
    let index = first.set("key", "1").await.unwrap().index;
    patient(third.raft.wait_applied(index)).await.unwrap();
    staying.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_have_all_moved_find_each_other_through_one() {
    let nodes = three().await;
    nodes[0].set("key", "1").await.unwrap();
    let mut dirs = Vec::new();
    for node in nodes {
        let (id, _, dir) = node.kill();
        dirs.push((id, dir));
    }
    let mut moved = Vec::new();
    for (id, dir) in dirs {
        moved.push(Node::restarted_elsewhere(id, dir).await);
    }
    let seeds = vec![moved[0].address.to_string()];
    let staying: Vec<_> = moved
        .iter()
        .map(|node| node.stays_member(seeds.clone()))
        .collect();
    for node in &moved {
        let all_found = crate::metrics::wait_for(node.raft.core(), |metrics| {
            let committed = metrics.committed_membership_config.membership();
            let there = |node: &Node| {
                let id = node.raft.node_id();
                committed.get_node(&id) == Some(&member(node.address))
            };
            moved.iter().all(there).then_some(())
        });
        patient(all_found).await.unwrap();
    }
    for task in staying {
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_is_invited() {
    let first = Node::first().await;
    let second = Node::waiting().await;
    let wish = AddMember {
        node_id: None,
        rpc: second.address.to_string(),
        http: None,
        voter: true,
    };
    let added = patient(first.raft.add_member(wish.clone()));
    let (added, second) = tokio::join!(added, second.accept());
    assert_eq!(added, Ok(2));
    second.wait_voter().await;
    // Done already; another number, or no vote, is not what it is.
    assert_eq!(patient(first.raft.add_member(wish.clone())).await, Ok(2));
    for wish in [
        AddMember {
            node_id: Some(9),
            ..wish.clone()
        },
        AddMember {
            voter: false,
            ..wish
        },
    ] {
        let refused = patient(first.raft.add_member(wish)).await;
        assert!(
            matches!(refused, Err(MembershipError::Refused(_))),
            "{refused:?}"
        );
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_on_alone_keeps_all_that_its_log_holds() {
    let [first, second, third] = three().await;
    first.set("key", "1").await.unwrap();
    second.kill();
    third.kill();
    // Written and never committed: its writer never hears.
    let raft = first.raft.clone();
    let term = raft.leadership().term;
    let lonely = tokio::spawn(async move { raft.propose(put(term, "key", "2", vec![])).await });
    let appended = crate::metrics::wait_for(first.raft.core(), |metrics| {
        metrics
            .last_log_index
            .filter(|last| *last > status::committed(metrics))
    });
    let last = patient(appended).await.unwrap();
    let (id, address, dir) = first.kill();
    drop(lonely.await);

    for _again in 0..2 {
        let stopped = StoppedNode::open(dir.path(), id).await.unwrap();
        assert!(stopped.remains().last >= last);
        assert!(
            stopped
                .remains()
                .members
                .iter()
                .any(|(member, _)| *member == id)
        );
        stopped.go_on_alone().await.unwrap();
    }
    let alone = Node::restarted(id, address, dir).await;
    alone.wait_ready().await;
    assert_eq!(alone.read("key").unwrap().1, b"2");
    assert_eq!(alone.raft.status().await.members.len(), 1);
    alone.set("key", "3").await.unwrap();
}

#[tokio::test]
async fn a_node_without_a_log_has_nothing_to_go_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let stopped = StoppedNode::open(dir.path(), 1).await.unwrap();
    let refused = stopped.go_on_alone().await;
    assert!(
        matches!(refused, Err(StartError::Options(_))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_asked_for_at_once_are_made_one_after_the_other() {
    let [first, _second, _third] = three().await;
    let (one, same, other) = patient(async {
        tokio::join!(
            first.raft.remove(3),
            first.raft.remove(3),
            first.raft.remove(2)
        )
    })
    .await;
    // The harness gives every node its number through the log, so a removed one is known.
    assert_eq!([one, same, other], [Ok(()), Ok(()), Ok(())]);
    let members = first.raft.status().await.members;
    assert_eq!(members.iter().map(|it| it.node_id).collect::<Vec<_>>(), [1]);
    first.set("key", "1").await.unwrap();
}
