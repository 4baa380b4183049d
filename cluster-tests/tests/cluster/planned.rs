//! What an operator plans no client notices but as a pause: leaders change, nodes are restarted one
//! after the other, under a load on all of them, and no request fails.

use std::time::Duration;

use cluster_tests::Cluster;
use cluster_tests::load::{Load, Table};
use serde_json::json;

use crate::history::assert_history;

/// Writes answered between two steps: enough that some are under way at each.
const BETWEEN_STEPS: u64 = 100;
/// Writers and readers; two begin at each node.
const CLIENTS: usize = 6;
/// What a planned step may cost a request: two steps of a second each within the server, on a
/// machine that does other things too. An election alone takes about as long.
const PAUSE_MAX: Duration = Duration::from_secs(5);

fn load(cluster: &Cluster, table: &Table) -> Load {
    let clients = (0..CLIENTS).map(|first| cluster.client_from(first));
    Load::through(clients.collect(), table)
}

fn assert_nothing_failed(load: &Load, what: &str) {
    let longest = load.longest();
    println!("{what}: the longest pause was {} ms", longest.as_millis());
    let failures = load.failures();
    assert!(failures.is_empty(), "{what}: {}", failures.join("\n"));
    assert!(longest < PAUSE_MAX, "{what}: {longest:?}");
}

#[tokio::test]
async fn ten_transfers_in_a_row_under_load() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let ids = cluster.ids().await;
    let mut load = load(&cluster, &table);
    load.progress(BETWEEN_STEPS).await;
    load.forget_longest();
    let mut leader = cluster.leader().await;
    for step in 1..=10 {
        leader = (leader + 1 + step % 2) % 3;
        let asked = cluster.client().pinned_to(step);
        let status = asked.transfer_leader(ids[leader]).await.unwrap();
        assert_eq!(status.leader_id, Some(ids[leader]), "transfer {step}");
        // Done already: the same answer.
        let again = asked.transfer_leader(ids[leader]).await.unwrap();
        assert_eq!(again.leader_id, Some(ids[leader]), "transfer {step}");
        load.progress(BETWEEN_STEPS).await;
    }
    assert_nothing_failed(&load, "ten transfers");
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

#[tokio::test]
async fn a_rolling_restart_under_load() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let mut load = load(&cluster, &table);
    load.progress(BETWEEN_STEPS).await;
    load.forget_longest();
    // The leader last: it would otherwise be the one that was just restarted.
    let leader = cluster.leader().await;
    for node in [(leader + 1) % 3, (leader + 2) % 3, leader] {
        load.progress(BETWEEN_STEPS).await;
        let status = cluster.nodes_mut()[node].terminate().await;
        assert!(status.success(), "{status}");
        load.progress(BETWEEN_STEPS).await;
        cluster.restart(&[node]).await;
    }
    load.progress(BETWEEN_STEPS).await;
    assert_nothing_failed(&load, "a rolling restart");
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

#[tokio::test]
async fn a_drained_node_does_not_lead_is_not_ready_and_goes_on_answering() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    Table::create(&root, "shop").await;
    let drained = cluster.leader().await;
    let ids = cluster.ids().await;
    let id = ids[drained].to_string();
    for time in ["first", "again"] {
        let done = cluster.duet(&["cluster", "drain", &id, "--json"]).await;
        assert!(done.status.success(), "{time}: {done:?}");
        let status: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        let members = status["members"].as_array().unwrap();
        let member = members
            .iter()
            .find(|member| member["node_id"] == ids[drained]);
        assert_eq!(member.unwrap()["draining"], true, "{time}: {status}");
    }
    assert_ne!(cluster.leader().await, drained);

    let url = cluster.urls()[drained].clone();
    let api = cluster.api();
    let ready = api.get_from(&url, "/ready", &[]).await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(
        ready.body["reason"].as_str().unwrap().contains("drain"),
        "{ready:?}"
    );
    let insert = "INSERT INTO shop.events (id, writer, seq) VALUES ('through it', 0, 1)";
    root.sql_on(&url, insert, &[]).await.results();
    let rows = root.sql_on(&url, "SELECT id FROM shop.events", &[]).await;
    assert_eq!(rows.rows(), [json!({"id": "through it"})]);

    let doctor = cluster.duet(&["cluster", "doctor"]).await;
    assert_eq!(doctor.status.code(), Some(1), "{doctor:?}");
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        said.contains(&format!("node {id} was told to drain")),
        "{said}"
    );

    cluster.nodes_mut()[drained].terminate().await;
    cluster.restart(&[drained]).await;
    let doctor = cluster.duet(&["cluster", "doctor"]).await;
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(0), "{said}");
}

#[tokio::test]
async fn a_transfer_to_a_node_that_hangs_is_given_up_and_nothing_fails() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let leader = cluster.leader().await;
    let hangs = (leader + 1) % 3;
    let ids = cluster.ids().await;
    let urls = cluster.urls();
    let others: Vec<&String> = (0..3)
        .filter(|it| *it != hangs)
        .map(|it| &urls[it])
        .collect();
    let client = || {
        let builder = client::Client::builder().urls(others.iter().copied());
        let builder = builder.credentials("root", cluster_tests::ROOT_PASSWORD);
        builder.build().unwrap()
    };
    let mut load = Load::through((0..CLIENTS).map(|_| client()).collect(), &table);
    load.progress(BETWEEN_STEPS).await;
    load.forget_longest();
    cluster.nodes()[hangs].pause();
    let refused = client().transfer_leader(ids[hangs]).await.unwrap_err();
    println!("refused: {refused}");
    load.progress(BETWEEN_STEPS).await;
    cluster.nodes()[hangs].resume();
    let longest = load.longest();
    println!("the longest pause was {} ms", longest.as_millis());
    let failures = load.failures();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    cluster.wait_for_voters(3).await;
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}
