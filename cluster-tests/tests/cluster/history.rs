//! What is true when everything has settled.

use cluster_tests::check::Op;
use cluster_tests::load::Table;
use cluster_tests::{Cluster, User, settled};

/// All nodes hold the same rows and messages, and these are what the writers were told.
pub async fn assert_history(cluster: &Cluster, root: &User, table: &Table, ops: Vec<Op>) {
    let history = settled::history(cluster, root, table, ops).await;
    println!(
        "{} writes, {} of them unknown, {} rows and {} messages checked",
        history.writes, history.unknown, history.rows, history.messages
    );
    let wrong = history.violations;
    assert!(
        wrong.is_empty(),
        "{} violations:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
