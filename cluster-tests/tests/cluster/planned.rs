//! What an operator plans no client notices but as a pause: leaders change, nodes are restarted one
//! after the other, under a load on all of them, and no request fails.

use std::time::{Duration, Instant};

use cluster_tests::Cluster;
use cluster_tests::load::{Load, Table};
use cluster_tests::user::User;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::history::assert_history;

/// Writes answered between two steps: enough that some are under way at each.
const BETWEEN_STEPS: u64 = 100;
/// Writers and readers; two begin at each node.
const CLIENTS: usize = 6;
/// How long a poller leaves a node alone that does not run.
const POLL_AGAIN: Duration = Duration::from_millis(50);
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

/// Polls one node for as long as it takes connections, each poll longer than a node takes to stop.
/// Says what went wrong with a poll that the node had taken.
async fn poll(user: User, url: String, body: Value, stop: watch::Receiver<bool>) -> Vec<String> {
    let (bearer, body) = (user.bearer(), body.to_string().into_bytes());
    let headers = [("Authorization", bearer.as_str())];
    let (path, mut failures) = ("/v1/api/topics/consume", Vec::new());
    while !*stop.borrow() {
        let api = user.api();
        let polled = api.send(Method::POST, &url, path, Some(body.clone()), &headers);
        match polled.await {
            Ok(reply) if reply.status == 200 => {}
            // It does not run, or takes nobody any more: nothing was asked.
            Err(error) if error.is_connect() => {
                // sleep: how often it is tried
                tokio::time::sleep(POLL_AGAIN).await;
            }
            Ok(reply) => failures.push(format!("{url}: {reply:?}")),
            Err(error) => failures.push(format!("{url}: {error:?}")),
        }
    }
    failures
}

#[tokio::test]
async fn a_rolling_restart_under_long_polls() {
    let mut cluster = Cluster::start_with(3, &[("DUET_LONG_POLL_MAX_SECONDS", "60")]).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    root.ok("CREATE TOPIC shop.quiet PARTITIONS 1").await;
    let (stop, stopped) = watch::channel(false);
    let mut polls = JoinSet::new();
    for url in cluster.urls() {
        // With messages and without, with a group, whose claims wait at the leader, and without.
        for topic in ["shop.quiet", "shop.single"] {
            let alone = json!({"topic_id": topic, "timeout_seconds": 40});
            let group = json!({"topic_id": topic, "group_id": "g", "timeout_seconds": 40});
            for body in [alone, group] {
                polls.spawn(poll(root.clone(), url.clone(), body, stopped.clone()));
            }
        }
    }
    let mut load = load(&cluster, &table);
    load.progress(BETWEEN_STEPS).await;
    load.forget_longest();
    let leader = cluster.leader().await;
    for node in [(leader + 1) % 3, (leader + 2) % 3, leader] {
        load.progress(BETWEEN_STEPS).await;
        let began = Instant::now();
        let status = cluster.nodes_mut()[node].terminate().await;
        assert!(status.success(), "{status}");
        println!(
            "node {node} took {} ms to stop",
            began.elapsed().as_millis()
        );
        load.progress(BETWEEN_STEPS).await;
        cluster.restart(&[node]).await;
    }
    load.progress(BETWEEN_STEPS).await;
    assert_nothing_failed(&load, "a rolling restart under long polls");
    // What still waits ends with a node that stops, too.
    stop.send_replace(true);
    for node in 0..3 {
        cluster.nodes_mut()[node].terminate().await;
        if node < 2 {
            cluster.restart(&[node]).await;
        }
    }
    while let Some(failures) = polls.join_next().await {
        let failures = failures.unwrap();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
    cluster.restart(&[2]).await;
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
async fn of_two_drained_nodes_neither_leads() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let ids = cluster.ids().await;
    let mut load = load(&cluster, &table);
    load.progress(BETWEEN_STEPS).await;
    let mut drained = Vec::new();
    for _ in 0..2 {
        // Whoever leads: the second one must not hand it back to the first.
        let leader = cluster.leader().await;
        assert!(!drained.contains(&leader), "{drained:?} and {leader}");
        let id = ids[leader].to_string();
        let done = cluster.duet(&["cluster", "drain", &id]).await;
        assert!(done.status.success(), "{done:?}");
        drained.push(leader);
    }
    let last = cluster.leader().await;
    assert!(!drained.contains(&last), "{drained:?} and {last}");
    let term = cluster.client().cluster_status().await.unwrap().term;
    load.progress(5 * BETWEEN_STEPS).await;
    let status = cluster.client().cluster_status().await.unwrap();
    assert_eq!(
        (status.term, status.leader_id),
        (term, Some(ids[last])),
        "it stays"
    );
    let id = ids[last].to_string();
    let refused = cluster.duet(&["cluster", "drain", &id]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("told to drain too"), "{said}");
    assert_nothing_failed(&load, "two drains");
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
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
