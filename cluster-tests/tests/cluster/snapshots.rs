//! A node that was away for longer than the others keep their log comes back by a snapshot.

use std::time::Duration;

use cluster_tests::load::{Load, Table};
use cluster_tests::{Cluster, wait};

use crate::history::assert_history;

const WRITERS: u32 = 8;
/// Writes answered before the node goes.
const BEFORE: u64 = 100;
/// How long the others may take to drop from their logs what the node lacks.
const DROP_MAX: Duration = Duration::from_secs(60);
/// How long a node may take to catch up under load.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// Of everything the least that may be configured.
const LITTLE_LOG: [(&str, &str); 3] = [
    ("DUET_SNAPSHOT_LOG_BYTES", "65536"),
    ("DUET_LOG_KEEP_ENTRIES", "100"),
    ("DUET_LOG_KEEP_BYTES", "65536"),
];

const APPLIED: &str = "duet_raft_applied_index";
const PURGED: &str = "duet_raft_purged_index";
const BUILT: &str = "duet_raft_snapshots_built_total";
const SENT: &str = "duet_raft_snapshots_sent_total";
const INSTALLED: &str = "duet_raft_snapshots_installed_total";

#[tokio::test]
async fn a_node_away_for_longer_than_the_log_is_kept_gets_a_snapshot_under_load() {
    let mut cluster = Cluster::start_with(3, &LITTLE_LOG).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let client = cluster.client();
    let mut load = Load::start(&client, &table, WRITERS);
    load.progress(BEFORE).await;
    let leader = cluster.leader().await;
    let away = (leader + 1) % 3;
    let has = cluster.metrics(away).await.get(APPLIED);
    cluster.nodes_mut()[away].kill9();
    wait::until("the log lacks what the node lacks", DROP_MAX, async || {
        let purged = cluster.metrics(leader).await.get(PURGED);
        (purged > has + 100.0).then_some(())
    })
    .await;
    cluster.restart(&[away]).await;
    let committed = cluster.metrics(leader).await.get(APPLIED);
    wait::until("it has caught up", CATCH_UP_MAX, async || {
        let applied = cluster.metrics(away).await.get(APPLIED);
        (applied >= committed).then_some(())
    })
    .await;
    load.progress(BEFORE).await;
    let (here, there) = (cluster.metrics(leader).await, cluster.metrics(away).await);
    assert!(here.get(BUILT) >= 1.0 && here.get(SENT) >= 1.0, "{here:?}");
    assert!(there.get(INSTALLED) >= 1.0, "{there:?}");
    let ops = load.finish().await;
    assert_history(&cluster, &root, &table, ops).await;
}
