//! F14: every node is told to end and comes back, one after the other.

use std::time::Duration;

use super::{Kind, Seen};
use crate::Cluster;

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "F14-rolling-restart",
    changes_leader: false,
    mending: Duration::from_secs(12),
    play: |cluster, _| Box::pin(rolling(cluster)),
}];

async fn rolling(cluster: &mut Cluster) -> Seen {
    for node in 0..cluster.nodes().len() {
        let status = cluster.nodes_mut()[node].terminate().await;
        assert!(status.success(), "SIGTERM is no failure: {status}");
        cluster.restart(&[node]).await;
        cluster.wait_for_voters(cluster.nodes().len()).await;
    }
    Seen::default()
}
