//! F14: every node is told to end and comes back, one after the other.

use crate::Cluster;

pub(super) async fn rolling(cluster: &mut Cluster) {
    for node in 0..cluster.nodes().len() {
        let status = cluster.nodes_mut()[node].terminate().await;
        assert!(status.success(), "SIGTERM is no failure: {status}");
        cluster.restart(&[node]).await;
        cluster.wait_for_voters(cluster.nodes().len()).await;
    }
}
