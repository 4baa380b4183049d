//! F3: the leader stops for longer than its lease, and goes on as if nothing had been.

use super::hold;
use crate::Cluster;
use crate::chaos::Step;

pub(super) async fn leader(cluster: &mut Cluster, step: &Step) {
    let leader = cluster.leader().await;
    cluster.nodes()[leader].pause();
    hold(step).await;
    cluster.nodes()[leader].resume();
}
