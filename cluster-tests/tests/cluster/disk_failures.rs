//! A disk that fails under a running node ends that node, which says so, and nothing else.

use std::time::{Duration, Instant};

use cluster_tests::lab::syncs::{self, FailingSyncs};
use cluster_tests::load::{Load, Table};
use cluster_tests::{Cluster, lab, wait};

use crate::history::assert_history;

const DISK_MIB: u32 = 512;
const WRITERS: u32 = 6;
/// Writes answered between two failures.
const BETWEEN: u64 = 100;
/// How long a node whose disk has failed may go on.
const STOP_MAX: Duration = Duration::from_secs(20);

/// How long nobody else may lead while the leader's disk stands still.
const ANOTHER_LEADS_MAX: Duration = Duration::from_secs(10);

/// How a disk fails.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// Every access fails.
    Dead,
    /// Every write fails.
    ReadOnly,
    /// Every sync of what was written fails.
    Syncs,
}

impl Failure {
    fn says(self) -> &'static str {
        match self {
            Failure::Dead | Failure::Syncs => "Input/output error",
            Failure::ReadOnly => "Read-only file system",
        }
    }
}

#[tokio::test]
async fn a_disk_that_fails_ends_its_node_and_nothing_else() {
    if !lab::available() {
        return;
    }
    let mut cluster = Cluster::start_in_lab(3, DISK_MIB, &[]).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let mut load = Load::start(&cluster.client(), &table, WRITERS);
    let ids = cluster.ids().await;
    for (is_leader, failure) in [
        (true, Failure::Dead),
        (false, Failure::ReadOnly),
        (true, Failure::Syncs),
        (false, Failure::Dead),
    ] {
        load.progress(BETWEEN).await;
        let leader = cluster.leader().await;
        let which = if is_leader { leader } else { (leader + 1) % 3 };
        fails(&mut cluster, which, ids[which], failure).await;
        // Without it, and with it again.
        load.progress(BETWEEN).await;
        cluster.nodes()[which].disk().power_on().await;
        cluster.restart(&[which]).await;
        cluster.wait_for_voters(3).await;
    }
    load.progress(BETWEEN).await;
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

#[tokio::test]
async fn a_leader_whose_disk_stands_still_is_followed_by_another() {
    if !lab::available() {
        return;
    }
    let mut cluster = Cluster::start_in_lab(3, DISK_MIB, &[]).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let mut load = Load::start(&cluster.client(), &table, WRITERS);
    load.progress(BETWEEN).await;
    let (ids, leader) = (cluster.ids().await, cluster.leader().await);
    let frozen = cluster.nodes()[leader].disk().freeze();
    let began = Instant::now();
    // Its heartbeats go on, and so does what its disk was asked before.
    wait::until("another leads", ANOTHER_LEADS_MAX, async || {
        let client = cluster.client().pinned_to((leader + 1) % 3);
        let leads = client.cluster_status().await.ok()?.leader_id?;
        (leads != ids[leader]).then_some(())
    })
    .await;
    load.progress(BETWEEN).await;
    println!("writes go on after {:?}", began.elapsed());
    drop(frozen);
    cluster.wait_for_voters(3).await;
    load.progress(BETWEEN).await;
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}

/// The disk of a node fails, and so the node ends by itself, saying why.
async fn fails(cluster: &mut Cluster, which: usize, id: u64, failure: Failure) {
    let node = &mut cluster.nodes_mut()[which];
    node.expect_failure(failure.says());
    let mut failing = None;
    match failure {
        Failure::Dead => node.disk().break_down(),
        Failure::ReadOnly => node.turn_disk_read_only().await,
        Failure::Syncs => match syncs::missing() {
            None => failing = Some(FailingSyncs::of(node)),
            Some(reason) => {
                println!("no sync was made to fail, a whole disk instead: {reason}");
                node.disk().break_down();
            }
        },
    }
    let status = node.ends(STOP_MAX).await;
    drop(failing);
    let last = node.last_words();
    assert_eq!(status.code(), Some(1), "{failure:?}: {last}");
    let command = format!("`duet cluster replace {id}`");
    for says in ["duet: this node had to stop", failure.says(), &command] {
        assert!(last.contains(says), "{failure:?}: {last}");
    }
}
