//! Nodes move, are found under the wrong address, or meet nodes of another cluster.

use std::time::Duration;

use cluster_tests::cluster::Ask;
use cluster_tests::load::{Table, first_write};
use cluster_tests::node::Node;
use cluster_tests::{Cluster, ROOT_PASSWORD, wait};

/// How long the cluster may take to know where a node is.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Waits until the cluster says that its members are where the nodes are.
async fn wait_until_found(cluster: &Cluster) {
    let client = cluster.client();
    let rpc = |node: &Node| node.rpc.to_string();
    let mut expected: Vec<String> = cluster.nodes().iter().map(rpc).collect();
    expected.sort();
    wait::until("members are where they are", SETTLE_MAX, async || {
        let status = client.cluster_status().await.ok()?;
        let mut found: Vec<String> = status.members.iter().map(|it| it.rpc.clone()).collect();
        found.sort();
        let https = cluster.nodes().iter().all(|node| {
            let mut members = status.members.iter();
            members.any(|it| it.rpc == rpc(node) && it.http == node.url())
        });
        (found == expected && https).then_some(())
    })
    .await;
}

async fn same_everywhere(cluster: &Cluster, index: u64, rows: usize) {
    let root = cluster.root().await;
    let ask = Ask::Rows("SELECT id FROM shop.events ORDER BY id".into());
    let same = cluster.same_everywhere(&root, index, &ask).await;
    assert_eq!(same.as_array().unwrap().len(), rows);
}

#[tokio::test]
async fn a_follower_and_then_the_leader_come_back_at_other_addresses() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let leader = cluster.leader().await;
    for (round, moves) in [(leader + 1) % 3, leader].into_iter().enumerate() {
        cluster.nodes_mut()[moves].kill9();
        cluster.nodes_mut()[moves].move_away();
        let client = cluster.client();
        first_write(&client, &table, &format!("away {round}"), SETTLE_MAX).await;
        cluster.restart(&[moves]).await;
        wait_until_found(&cluster).await;
        cluster.wait_for_voters(3).await;
        let client = cluster.client_from(moves);
        let index = first_write(&client, &table, &format!("back {round}"), SETTLE_MAX).await;
        same_everywhere(&cluster, index, 2 * (round + 1)).await;
    }
}

#[tokio::test]
async fn a_cluster_whose_nodes_have_all_moved_finds_itself_again() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    first_write(&cluster.client(), &table, "before", SETTLE_MAX).await;
    cluster.kill_all();
    for node in cluster.nodes_mut() {
        node.move_away();
    }
    let seed = ["--join".to_owned(), cluster.nodes()[0].rpc.to_string()];
    for node in cluster.nodes_mut() {
        node.spawn(&seed);
    }
    for node in cluster.nodes_mut() {
        node.ready().await;
    }
    wait_until_found(&cluster).await;
    cluster.wait_for_voters(3).await;
    let index = first_write(&cluster.client(), &table, "after", SETTLE_MAX).await;
    same_everywhere(&cluster, index, 2).await;
}

#[tokio::test]
async fn clusters_that_meet_do_not_mix() {
    let mut ours = Cluster::start(3).await;
    let mut theirs = Cluster::start(1).await;
    let root = ours.root().await;
    let table = Table::create(&root, "shop").await;
    let their_id = theirs
        .client()
        .cluster_status()
        .await
        .unwrap()
        .cluster_id
        .clone();

    // Theirs is told to join ours, at the address of one of our nodes, which is down.
    let leader = ours.leader().await;
    let (down, up) = ((leader + 1) % 3, (leader + 2) % 3);
    ours.nodes_mut()[down].kill9();
    theirs.nodes_mut()[0].terminate().await;
    theirs.nodes_mut()[0].rpc = ours.nodes()[down].rpc;
    let join = ["--join".to_owned(), ours.nodes()[up].rpc.to_string()];
    theirs.nodes_mut()[0].spawn(&join);
    theirs.nodes_mut()[0].ready().await;

    first_write(&ours.client_from(leader), &table, "one", SETTLE_MAX).await;
    let status = theirs.client().cluster_status().await.unwrap();
    assert_eq!((&status.cluster_id, status.members.len()), (&their_id, 1));
    let tables = cluster_tests::User::login(theirs.api(), "root", ROOT_PASSWORD).await;
    assert_eq!(tables.rows("SELECT * FROM system.topics").await.len(), 0);
    let status = ours.client_from(leader).cluster_status().await.unwrap();
    assert_ne!(status.cluster_id, their_id);
    assert_eq!(status.members.len(), 3);

    // Ours comes back somewhere else, and is found.
    ours.nodes_mut()[down].move_away();
    ours.restart(&[down]).await;
    wait_until_found(&ours).await;
    let index = first_write(&ours.client(), &table, "two", SETTLE_MAX).await;
    same_everywhere(&ours, index, 2).await;
}

#[tokio::test]
async fn a_first_node_that_lost_its_data_makes_no_second_cluster() {
    let mut cluster = Cluster::describe(3, &[]);
    let rpc: Vec<String> = cluster
        .nodes()
        .iter()
        .map(|node| node.rpc.to_string())
        .collect();
    let others = [rpc[1].as_str(), &rpc[2]].join(",");
    let first = ["--bootstrap".to_owned(), "--join".to_owned(), others];
    let next = ["--join".to_owned(), rpc[0].clone()];
    cluster.nodes_mut()[0].spawn(&first);
    for node in &mut cluster.nodes_mut()[1..] {
        node.spawn(&next);
    }
    for node in cluster.nodes_mut() {
        node.ready().await;
    }
    cluster.wait_for_voters(3).await;

    cluster.nodes_mut()[0].terminate().await;
    cluster.nodes_mut()[0].lose_data();
    let mut again = cluster.nodes()[0].command();
    again.args(&first);
    let refused = tokio::task::spawn_blocking(move || again.output());
    let refused = refused.await.unwrap().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("`duet cluster replace 1`"), "{said}");

    // What it says helps.
    cluster.nodes_mut()[0].spawn(&["--join".to_owned(), rpc[1].clone()]);
    cluster.nodes_mut()[0].ready().await;
    let done = cluster.duet(&["cluster", "replace", "1", "--yes"]).await;
    assert!(done.status.success(), "{done:?}");
    cluster.wait_for_voters(3).await;
    let status = cluster.client().cluster_status().await.unwrap();
    let numbers: Vec<u64> = status.members.iter().map(|it| it.node_id).collect();
    assert_eq!(numbers, [2, 3, 4]);
}

#[tokio::test]
async fn a_node_that_says_anothers_address_is_not_believed() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let liar = (leader + 1) % 3;
    let others = cluster.nodes()[leader].rpc.to_string();
    let secret = vec![(
        "DUET_CLUSTER_SECRET".to_owned(),
        "between us nodes".to_owned(),
    )];
    let fresh = Node::new(cluster.directory(), "fresh", secret);
    let mut command = fresh.command();
    command.args(["--join", &others, "--advertise-rpc", &others]);
    let refused = tokio::task::spawn_blocking(move || command.output());
    let refused = refused.await.unwrap().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("of cluster"), "{said}");

    // A member goes on where it is known to be.
    cluster.nodes_mut()[liar].terminate().await;
    cluster.nodes_mut()[liar].spawn(&["--advertise-rpc".to_owned(), others]);
    cluster.nodes_mut()[liar].ready().await;
    let log = cluster.nodes()[liar].log();
    wait::until("the node is told", SETTLE_MAX, async || {
        let text = std::fs::read_to_string(&log).ok()?;
        text.contains("does not believe where this node says it is")
            .then_some(())
    })
    .await;
    wait_until_found(&cluster).await;
    cluster.wait_for_voters(3).await;
}
