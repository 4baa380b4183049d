//! A quorum is lost for good, and one node goes on alone with all it has.

use std::time::Duration;

use client::api::cluster::MemberRole;
use cluster_tests::Cluster;
use cluster_tests::cluster::Ask;
use cluster_tests::load::{Table, first_write};
use serde_json::json;

const SETTLE_MAX: Duration = Duration::from_secs(60);

#[tokio::test]
async fn one_node_of_three_goes_on_as_a_new_cluster() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let index = first_write(&cluster.client(), &table, "before", SETTLE_MAX).await;
    let ask = Ask::Rows("SELECT id FROM shop.events ORDER BY id".into());
    cluster.same_everywhere(&root, index, &ask).await;
    let old = cluster.client().cluster_status().await.unwrap();

    let data_dir = cluster.nodes()[0].data_dir().display().to_string();
    let recover = ["cluster", "recover", "--data-dir", &data_dir];
    let running = cluster
        .duet(&[recover.as_slice(), &["--yes"]].concat())
        .await;
    assert_eq!(
        running.status.code(),
        Some(1),
        "a node that runs: {running:?}"
    );
    cluster.kill_all();
    let unasked = cluster.duet(&recover).await;
    assert_eq!(unasked.status.code(), Some(2), "{unasked:?}");
    // Repeated, it does the same again.
    for time in ["first", "again"] {
        let done = cluster
            .duet(&[recover.as_slice(), &["--yes"]].concat())
            .await;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{time}: {said}");
        assert!(said.contains("is lost"), "{time}: {said}");
    }
    cluster.restart(&[0]).await;
    let new = cluster.client_from(0).cluster_status().await.unwrap();
    assert_ne!(new.cluster_id, old.cluster_id);
    assert_eq!(
        (new.members.len(), new.members[0].role),
        (1, MemberRole::Leader)
    );

    // One of the old members is started on its data: it is none of this cluster.
    let stale = cluster.forget(1);
    stale.spawn(&[]);
    cluster.expect_errors("cluster");
    // Another one joins with nothing, and gets all there is.
    cluster.nodes_mut()[1].lose_data();
    let join = ["--join".to_owned(), cluster.nodes()[0].rpc.to_string()];
    cluster.nodes_mut()[1].spawn(&join);
    cluster.nodes_mut()[1].ready().await;
    cluster.wait_for_voters(2).await;
    let index = first_write(&cluster.client(), &table, "after", SETTLE_MAX).await;
    let rows = cluster.same_everywhere(&root, index, &ask).await;
    assert_eq!(rows, json!([["after"], ["before"]]));
    let status = cluster.client().cluster_status().await.unwrap();
    let numbers: Vec<u64> = status.members.iter().map(|it| it.node_id).collect();
    assert_eq!(numbers.len(), 2, "{numbers:?}");
    assert!(numbers[1] > 3, "numbers are never used again: {numbers:?}");
}
