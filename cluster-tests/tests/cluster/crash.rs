//! Nodes die at once under load: what was answered is there, with its messages, on every node.

use cluster_tests::Cluster;
use cluster_tests::load::{Load, Table};

use crate::history::assert_history;

const WRITERS: u32 = 8;
/// Writes answered before each crash: enough that some are in flight whatever the disk does.
const BEFORE_CRASH: u64 = 500;

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
