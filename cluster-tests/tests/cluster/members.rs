//! Members come and go under load, and whatever was answered is there afterwards.

use std::time::Duration;

use client::api::cluster::{AddMemberRequest, ClusterStatus, MemberRole};
use cluster_tests::load::{Load, Table};
use cluster_tests::node::Node;
use cluster_tests::{Cluster, wait};

use crate::history::assert_history;

const WRITERS: u32 = 6;
/// Writes answered between two steps.
const BETWEEN_STEPS: u64 = 100;
/// How long a membership may take to settle.
const SETTLE_MAX: Duration = Duration::from_secs(60);

fn numbers(status: &ClusterStatus) -> Vec<u64> {
    status.members.iter().map(|member| member.node_id).collect()
}

#[tokio::test]
async fn from_three_to_five_and_back_under_load() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let client = cluster.client();
    let mut load = Load::start(&client, &table, WRITERS);
    for voters in [4, 5] {
        load.progress(BETWEEN_STEPS).await;
        cluster.grow(0).await;
        cluster.wait_for_voters(voters).await;
    }
    for voters in [4, 3] {
        load.progress(BETWEEN_STEPS).await;
        // The leader each time, asked through itself.
        let leader = cluster.leader().await;
        let id = cluster.ids().await[leader];
        let asked = cluster.client_from(leader);
        let status = asked.remove_member(id).await.unwrap();
        assert!(!numbers(&status).contains(&id), "{:?}", *status);
        let node = cluster.forget(leader);
        let ended = node.ends(SETTLE_MAX).await;
        assert!(ended.success(), "a removed node ends by itself: {ended}");
        // Removed before: the same answer. A number that never was is none.
        let again = cluster.client().remove_member(id).await.unwrap();
        assert!(!numbers(&again).contains(&id), "{:?}", *again);
        let never = cluster.client().remove_member(99).await.unwrap_err();
        assert!(never.to_string().contains("99"), "{never}");
        cluster.wait_for_voters(voters).await;
    }
    load.progress(BETWEEN_STEPS).await;
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

#[tokio::test]
async fn a_killed_node_is_replaced_under_load_with_one_command() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let client = cluster.client();
    let mut load = Load::start(&client, &table, WRITERS);
    load.progress(BETWEEN_STEPS).await;
    let lost = (cluster.leader().await + 1) % 3;
    let old = cluster.ids().await[lost];
    cluster.nodes_mut()[lost].kill9();
    load.progress(BETWEEN_STEPS).await;

    // Under its old number it is refused, with the command that replaces it.
    cluster.nodes_mut()[lost].lose_data();
    let through = cluster.nodes()[(lost + 1) % 3].rpc.to_string();
    let mut wiped = cluster.nodes()[lost].command();
    wiped.args(["--node-id", &old.to_string(), "--join", &through]);
    let refused = tokio::task::spawn_blocking(move || wiped.output());
    let refused = refused.await.unwrap().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let command = format!("duet cluster replace {old}");
    assert!(said.contains(&command), "{said}");

    // On the same machine, as a new node; the command may be given before it has joined.
    cluster.nodes_mut()[lost].spawn(&["--join".to_owned(), through]);
    let words: Vec<&str> = command.split(' ').skip(1).chain(["--yes"]).collect();
    for time in ["first", "again"] {
        let done = cluster.duet(&words).await;
        assert!(done.status.success(), "{time}: {done:?}");
        let status = cluster.client().cluster_status().await.unwrap();
        assert!(!numbers(&status).contains(&old), "{time}: {:?}", *status);
        let voters = status.members.iter().filter(|member| member.voter).count();
        assert_eq!(voters, 3, "{time}: {:?}", *status);
    }
    cluster.nodes_mut()[lost].ready().await;
    load.progress(BETWEEN_STEPS).await;
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

#[tokio::test]
async fn a_copy_that_has_no_vote_does_not_take_a_lost_voters_place() {
    let mut cluster = Cluster::start(3).await;
    let through = cluster.nodes()[0].rpc.to_string();
    let environment = vec![(
        "DUET_CLUSTER_SECRET".to_owned(),
        "between us nodes".to_owned(),
    )];
    let join = ["--join".to_owned(), through];
    let mut copy = Node::new(cluster.directory(), "copy", environment.clone());
    copy.spawn(&[&join[..], &["--learner".to_owned()]].concat());
    copy.ready().await;
    let lost = (cluster.leader().await + 1) % 3;
    let old = cluster.ids().await[lost];
    cluster.nodes_mut()[lost].kill9();

    // Nobody else has joined: it waits, and changes nothing.
    let replace = ["cluster", "replace", &old.to_string(), "--yes", "--timeout"];
    let waits = cluster.duet(&[&replace[..], &["2"]].concat()).await;
    let said = String::from_utf8_lossy(&waits.stderr).into_owned();
    assert_eq!(waits.status.code(), Some(1), "{said}");
    assert!(said.contains("waiting for the new node"), "{said}");
    assert!(said.contains("that is to vote from now on: 4"), "{said}");
    let status = cluster.client().cluster_status().await.unwrap();
    assert_eq!(numbers(&status), [1, 2, 3, 4]);
    let learner = &status.members[3];
    assert!(!learner.voter && !learner.voter_wanted, "{learner:?}");
    assert!(
        learner.disk_free_bytes > learner.disk_reserve_bytes,
        "{learner:?}"
    );

    // Whoever joins takes the place, though the copy was there first.
    let mut new = Node::new(cluster.directory(), "new", environment);
    new.spawn(&join);
    let done = cluster.duet(&[&replace[..], &["60"]].concat()).await;
    assert!(done.status.success(), "{done:?}");
    let status = cluster.client().cluster_status().await.unwrap();
    let voters = status.members.iter().filter(|member| member.voter);
    let voters: Vec<u64> = voters.map(|member| member.node_id).collect();
    assert_eq!(numbers(&status).len(), 4, "{status:?}");
    assert!(!voters.contains(&old) && voters.contains(&5), "{status:?}");
    assert!(
        numbers(&status).contains(&4) && !voters.contains(&4),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_node_that_waits_is_added_by_its_address_and_never_under_a_used_number() {
    let mut cluster = Cluster::start(1).await;
    let secret = vec![(
        "DUET_CLUSTER_SECRET".to_owned(),
        "between us nodes".to_owned(),
    )];
    // It waits for a node that does not exist.
    let mut waiting = Node::new(cluster.directory(), "waiting", secret.clone());
    let nobody = Node::new(cluster.directory(), "nobody", Vec::new());
    waiting.spawn(&["--join".to_owned(), nobody.rpc.to_string()]);
    let rpc = waiting.rpc.to_string();
    let add = ["cluster", "add", "--rpc", &rpc, "--learner", "--json"];
    let added = wait::until("the node waits", SETTLE_MAX, async || {
        let added = cluster.duet(&add).await;
        added.status.success().then_some(added.stdout)
    })
    .await;
    let status: ClusterStatus = serde_json::from_slice(&added).unwrap();
    assert_eq!(numbers(&status), [1, 2]);
    waiting.ready().await;
    // Done already: the same answer.
    let again = cluster.duet(&add).await;
    let status: ClusterStatus = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(status.members[1].role, MemberRole::Learner, "{status:?}");

    // With the right to vote it gets its vote by itself.
    let client = cluster.client();
    let mut wish = AddMemberRequest {
        node_id: Some(2),
        rpc: rpc.clone(),
        http: None,
        voter: true,
    };
    client.add_member(&wish).await.unwrap();
    cluster.wait_for_voters(2).await;

    // Another URL for clients.
    wish.http = Some("http://elsewhere.test:8080".into());
    for _again in 0..2 {
        let status = client.add_member(&wish).await.unwrap();
        assert_eq!(Some(&status.members[1].http), wish.http.as_ref());
    }
    wish.http = None;

    // What is at the address decides: another node, or nobody.
    wish.node_id = Some(1);
    let other = client.add_member(&wish).await.unwrap_err().to_string();
    assert!(other.contains("is node 2 of cluster"), "{other}");
    wish.rpc = nobody.rpc.to_string();
    let none = client.add_member(&wish).await.unwrap_err().to_string();
    assert!(none.contains("no node could be heard"), "{none}");

    // Its number is used up once it is removed.
    client.remove_member(2).await.unwrap();
    waiting.ends(SETTLE_MAX).await;
    let mut fresh = Node::new(cluster.directory(), "fresh", secret);
    fresh.spawn(&["--join".to_owned(), nobody.rpc.to_string()]);
    let wish = AddMemberRequest {
        node_id: Some(2),
        rpc: fresh.rpc.to_string(),
        http: None,
        voter: true,
    };
    let taken = client.add_member(&wish).await.unwrap_err().to_string();
    assert!(taken.contains("never used again"), "{taken}");

    // Started again on its old data it says why it cannot, and ends.
    let mut removed = waiting.command();
    let ended = tokio::task::spawn_blocking(move || removed.output());
    let ended = ended.await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("node 2 was removed"), "{said}");
    cluster.expect_errors("removed");
}

#[tokio::test]
async fn what_would_lose_the_quorum_is_refused_in_numbers() {
    let mut cluster = Cluster::start(3).await;
    let ids = cluster.ids().await;
    let leader = cluster.leader().await;
    let (dead, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes_mut()[dead].kill9();
    let client = cluster.client_from(leader);
    // It takes a moment until the leader has missed it.
    let why = wait::until("the dead node is missed", SETTLE_MAX, async || {
        let to_dead = client.transfer_leader(ids[dead]).await.unwrap_err();
        let missed = to_dead.to_string().contains("does not answer");
        missed.then_some(to_dead)
    })
    .await;
    let code = why.received().unwrap().code.clone();
    assert_eq!(code, "CONFLICT", "{why}");
    let doctor = cluster.duet(&["cluster", "doctor"]).await;
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(1), "{said}");
    assert!(said.contains("one more lost node stops writes"), "{said}");

    let why = client
        .remove_member(ids[other])
        .await
        .unwrap_err()
        .to_string();
    assert!(
        why.contains("there are 2 voters; 2 of them have to agree") && why.contains("only 1"),
        "{why}"
    );
}
