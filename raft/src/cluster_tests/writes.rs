//! What is written is on all nodes, and stays there whoever dies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use storage::keys::catalog;
use types::command::Expectation;
use types::limits::{BATCHER_QUEUE_MAX, BATCHER_QUEUE_MAX_BYTES};
use types::outcome::{Outcome, Rejection};

use super::harness::{Node, PATIENCE, is_applied, patient, put, three};
use crate::ProposeError;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_leader_proposes_is_applied_on_all() {
    let nodes = three().await;
    let mut last = 0;
    for i in 0..20 {
        let proposed = nodes[0]
            .set(&format!("key {i}"), &format!("value {i}"))
            .await
            .unwrap();
        assert!(is_applied(&proposed), "{proposed:?}");
        assert!(proposed.index > last);
        last = proposed.index;
    }
    for node in &nodes {
        patient(node.raft.wait_applied(last)).await.unwrap();
        for i in 0..20 {
            let (version, value) = node.read(&format!("key {i}")).unwrap();
            assert_eq!(value, format!("value {i}").as_bytes());
            assert_eq!(
                Some(version),
                nodes[0].read(&format!("key {i}")).map(|read| read.0)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_and_an_old_term_are_refused_before_anything_is_appended() {
    let nodes = three().await;
    let before = nodes[0].set("a", "1").await.unwrap().index;
    patient(nodes[1].raft.wait_applied(before)).await.unwrap();
    let refused = nodes[1].set("a", "2").await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(1) }));
    let term = nodes[0].raft.leadership().term;
    for wrong in [term - 1, term + 1] {
        let refused = nodes[0]
            .raft
            .propose(put(wrong, "a", "3", Vec::new()))
            .await;
        assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(1) }));
    }
    assert_eq!(nodes[0].set("b", "1").await.unwrap().index, before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_loses_nothing_that_was_answered() {
    let [first, second, third] = three().await;
    let old_term = first.raft.leadership().term;
    for i in 0..50 {
        first.set(&format!("key {i}"), "before").await.unwrap();
    }
    let dead = first.kill();

    let leader = second.wait_leader(|leader| leader != 1).await;
    let leader = if leader == second.raft.node_id() {
        &second
    } else {
        &third
    };
    leader.wait_ready().await;
    assert!(leader.raft.leadership().term > old_term);
    for i in 0..50 {
        assert_eq!(leader.read(&format!("key {i}")).unwrap().1, b"before");
    }
    let index = leader.set("after", "the crash").await.unwrap().index;

    let again = Node::restarted(dead.0, dead.1, dead.2).await;
    patient(again.raft.recovered()).await.unwrap();
    patient(again.raft.wait_applied(index)).await.unwrap();
    assert_eq!(again.read("after").unwrap().1, b"the crash");
    assert_eq!(again.read("key 49"), leader.read("key 49"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_packed_envelopes_gets_its_own_outcome() {
    let node = Arc::new(Node::first().await);
    node.set("taken", "by the first").await.unwrap();
    let term = node.raft.leadership().term;
    let stale = |i: usize| i % 10 == 3;
    let proposals = (0..500).map(|i| {
        let node = node.clone();
        let expect = match stale(i) {
            true => vec![Expectation::absent(catalog::counter("taken"))],
            false => Vec::new(),
        };
        let envelope = put(term, &format!("key {i}"), &i.to_string(), expect);
        tokio::spawn(async move { (i, patient(node.raft.propose(envelope)).await.unwrap()) })
    });
    let mut sizes: BTreeMap<u64, usize> = BTreeMap::new();
    let mut versions = BTreeSet::new();
    for proposal in proposals.collect::<Vec<_>>() {
        let (i, proposed) = proposal.await.unwrap();
        *sizes.entry(proposed.index).or_default() += 1;
        if stale(i) {
            let key = catalog::counter("taken").into();
            assert_eq!(
                proposed.outcome,
                Outcome::Rejected(Rejection::Stale { key })
            );
            assert_eq!(node.read(&format!("key {i}")), None);
        } else {
            assert!(is_applied(&proposed), "{i}: {proposed:?}");
            let (version, value) = node.read(&format!("key {i}")).unwrap();
            assert_eq!(
                (version.index, value),
                (proposed.index, i.to_string().into_bytes())
            );
            assert!(
                versions.insert(version),
                "two changes have version {version:?}"
            );
        }
    }
    let largest = sizes.values().max().unwrap();
    assert!(*largest > 1, "nothing was packed: {} entries", sizes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_bound_the_queue_refuses_and_all_else_is_done() {
    let node = Node::first().await;
    let term = node.raft.leadership().term;
    let frozen = node.freeze();
    let mut refused = 0;
    let mut waiting = FuturesUnordered::new();
    for i in 0..BATCHER_QUEUE_MAX + 10 {
        let envelope = put(term, &format!("key {}", i % 100), "1", Vec::new());
        let mut proposal = Box::pin(node.raft.propose(envelope));
        match futures::poll!(&mut proposal) {
            Poll::Ready(Err(ProposeError::Overloaded)) => refused += 1,
            Poll::Ready(other) => panic!("{other:?}"),
            Poll::Pending => waiting.push(proposal),
        }
    }
    // One may have left the queue before the node froze.
    assert!((9..=10).contains(&refused), "{refused}");
    let large = put(
        term,
        "large",
        &"x".repeat(BATCHER_QUEUE_MAX_BYTES),
        Vec::new(),
    );
    assert_eq!(
        node.raft.propose(large).await,
        Err(ProposeError::Overloaded)
    );
    drop(frozen);
    while let Some(proposed) = patient(waiting.next()).await {
        assert!(is_applied(&proposed.unwrap()));
    }
    node.set("again", "1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_any_more_is_not_proposed() {
    let node = Node::first().await;
    let term = node.raft.leadership().term;
    let frozen = node.freeze();
    let mut given_up = Box::pin(node.raft.propose(put(term, "given up", "1", Vec::new())));
    assert!(futures::poll!(&mut given_up).is_pending());
    let mut kept = Box::pin(node.raft.propose(put(term, "kept", "1", Vec::new())));
    assert!(futures::poll!(&mut kept).is_pending());
    drop(given_up);
    drop(frozen);
    assert!(is_applied(&patient(kept).await.unwrap()));
    assert!(node.read("kept").is_some());
    assert_eq!(node.read("given up"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leadership_is_handed_over_under_load() {
    let nodes = Arc::new(three().await);
    let term = nodes[0].raft.leadership().term;
    let writers = (0..20).map(|writer| {
        let nodes = nodes.clone();
        tokio::spawn(async move {
            let mut answered = Vec::new();
            for i in 0.. {
                let envelope = put(term, &format!("{writer}/{i}"), "x", Vec::new());
                match patient(nodes[0].raft.propose(envelope)).await {
                    Ok(proposed) => answered.push((format!("{writer}/{i}"), proposed.index)),
                    // The only error there may be: nobody is left in doubt.
                    Err(ProposeError::NotLeader { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            answered
        })
    });
    let writers: Vec<_> = writers.collect();
    patient(nodes[0].raft.transfer_leader(3)).await.unwrap();
    nodes[2].wait_ready().await;
    assert_eq!(nodes[2].raft.leadership().leader, Some(3));
    for writer in writers {
        for (key, index) in writer.await.unwrap() {
            assert_eq!(
                nodes[2].read(&key).map(|read| read.0.index),
                Some(index),
                "{key}"
            );
        }
    }
    nodes[2].set("by the new one", "1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_hangs_delays_nobody_and_catches_up() {
    let nodes = three().await;
    let frozen = nodes[2].freeze();
    let mut last = 0;
    for i in 0..200 {
        last = nodes[0].set(&format!("key {i}"), "1").await.unwrap().index;
    }
    assert!(nodes[0].raft.read_index(PATIENCE).await.unwrap() >= last);
    drop(frozen);
    patient(nodes[2].raft.wait_applied(last)).await.unwrap();
    assert_eq!(nodes[2].read("key 199"), nodes[0].read("key 199"));
}

/// Prints what this build on this machine does; asserts only that all is answered.
#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_clients_are_all_answered() {
    const CLIENTS: usize = 300;
    const WRITES: usize = 20;
    let nodes = Arc::new(three().await);
    let term = nodes[0].raft.leadership().term;
    let mut alone = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        nodes[0].set("alone", "1").await.unwrap();
        alone.push(started.elapsed());
    }
    alone.sort();
    println!("one client: p50 {:?}, p90 {:?}", alone[100], alone[180]);
    let started = Instant::now();
    let clients = (0..CLIENTS).map(|client| {
        let nodes = nodes.clone();
        tokio::spawn(async move {
            for i in 0..WRITES {
                let envelope = put(term, &format!("{client}/{i}"), &"x".repeat(200), Vec::new());
                let proposed = patient(nodes[0].raft.propose(envelope)).await.unwrap();
                assert!(is_applied(&proposed));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    let log = nodes[0].raft.log().counters();
    println!(
        "{CLIENTS} clients: {:.0} writes/s, {} entries in {} fsyncs",
        (CLIENTS * WRITES) as f64 / seconds,
        log.entries,
        log.writes,
    );
}
