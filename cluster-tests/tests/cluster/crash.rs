//! Nodes die at once under load: what was answered is there, with its messages, on every node.

use std::time::Duration;

use cluster_tests::check::{Fate, Op, Topic, violations};
use cluster_tests::cluster::Ask;
use cluster_tests::http::objects;
use cluster_tests::load::{Load, Table, first_write};
use cluster_tests::{Cluster, User};
use serde_json::json;

const WRITERS: u32 = 8;
/// Writes answered before each crash: enough that some are in flight whatever the disk does.
const BEFORE_CRASH: u64 = 500;
/// In how long a write must succeed once a quorum is back.
const BACK_MAX: Duration = Duration::from_secs(30);

#[tokio::test]
async fn all_nodes_killed_at_once_under_load_three_times_over() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let client = cluster.client();
    let mut load = Load::start(&client, &table, WRITERS);
    for _ in 0..3 {
        load.progress(BEFORE_CRASH).await;
        cluster.kill_all();
        cluster.restart(&[0, 1, 2]).await;
    }
    load.progress(BEFORE_CRASH).await;
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

#[tokio::test]
async fn one_node_after_the_other_killed_under_load() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let client = cluster.client();
    let mut load = Load::start(&client, &table, WRITERS);
    for node in 0..3 {
        load.progress(BEFORE_CRASH).await;
        cluster.nodes_mut()[node].kill9();
        load.progress(BEFORE_CRASH).await;
        cluster.restart(&[node]).await;
        cluster.wait_for_voters(3).await;
    }
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

#[tokio::test]
async fn without_any_crash_the_same_load_is_whole() {
    let cluster = Cluster::start(1).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let client = cluster.client();
    let mut load = Load::start(&client, &table, WRITERS);
    load.progress(BEFORE_CRASH).await;
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

/// All nodes hold the same rows and messages, and these are what the writers were told.
pub(super) async fn assert_history(
    cluster: &Cluster,
    root: &User,
    table: &Table,
    mut ops: Vec<Op>,
) {
    let index = first_write(&cluster.client(), table, "the-end", BACK_MAX).await;
    ops.push(Op {
        ids: vec!["the-end".into()],
        fate: Fate::Present,
    });
    let sql = "SELECT id, writer, seq, note FROM shop.events ORDER BY id";
    let rows = cluster
        .same_everywhere(root, index, &Ask::Rows(sql.into()))
        .await;
    let names = ["id", "writer", "seq", "note"].map(|name| json!({"name": name}));
    let rows = objects(&json!({"schema": names, "rows": rows}));
    let mut topics: Vec<Topic> = Vec::new();
    for (topic, partitions) in table.topics() {
        let mut all = Vec::new();
        for partition in 0..partitions {
            let ask = Ask::Messages {
                topic: topic.clone(),
                partition,
            };
            let same = cluster.same_everywhere(root, index, &ask).await;
            all.push(same.as_array().unwrap().clone());
        }
        topics.push(all);
    }
    let unknown = ops
        .iter()
        .filter(|op| op.fate == Fate::AllOrNothing)
        .count();
    println!(
        "{} writes, {unknown} of them unknown, {} rows checked",
        ops.len(),
        rows.len()
    );
    let wrong = violations(&ops, &rows, &topics);
    assert!(
        wrong.is_empty(),
        "{} violations:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
