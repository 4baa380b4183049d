//! The network between nodes is cut; clients still reach all of them.

use std::time::Duration;

use cluster_tests::check::{Fate, Op};
use cluster_tests::load::{Load, Table};
use cluster_tests::{Cluster, lab, wait};

use crate::history::assert_history;

const DISK_MIB: u32 = 512;
const WRITERS: u32 = 8;
/// Writes answered between two steps.
const PROGRESS: u64 = 300;
/// How long a node that is cut off may take to say that it is not ready.
const NOT_READY_MAX: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_leader_cut_off_refuses_and_the_others_go_on() {
    if !lab::available() {
        return;
    }
    cut_off(Cluster::start_in_lab(3, DISK_MIB, &[]).await).await;
}

/// The same by relays, which anybody may have.
#[tokio::test]
async fn without_the_lab_a_leader_cut_off_refuses_and_the_others_go_on() {
    cut_off(Cluster::start_with_relays(3, &[]).await).await;
}

async fn cut_off(mut cluster: Cluster) {
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let mut load = Load::start(&cluster.client(), &table, WRITERS);
    load.progress(PROGRESS).await;
    let leader = cluster.leader().await;
    cluster
        .network()
        .isolate(u8::try_from(leader).expect("few nodes"));
    // Writers that asked the leader are told, and turn to the others.
    load.progress(PROGRESS).await;
    let url = cluster.urls()[leader].clone();
    let soon = [("Duet-Timeout-Ms", "2000")];
    for sql in [
        "INSERT INTO shop.events (id, writer, seq) VALUES ('lonely', 0, 1)",
        "SELECT COUNT(*) FROM shop.events",
    ] {
        let reply = root.sql_on(&url, sql, &soon).await;
        assert!(matches!(reply.status, 503 | 504), "{sql}: {reply:?}");
        assert!(reply.took < Duration::from_secs(4), "{sql}: {reply:?}");
    }
    let api = cluster.api();
    wait::until("it says that it is not ready", NOT_READY_MAX, async || {
        let ready = api.get_from(&url, "/ready", &[]).await;
        (ready.status == 503).then_some(())
    })
    .await;
    cluster.network().heal();
    cluster.wait_for_voters(3).await;
    load.progress(PROGRESS).await;
    let mut ops = load.finish().await;
    ops.push(Op {
        ids: vec!["lonely".into()],
        fate: Fate::AllOrNothing,
    });
    assert_history(&cluster, &root, &table, ops).await;
}
