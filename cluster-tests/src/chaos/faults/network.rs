//! F4 and F5: the network between nodes is cut, in both directions or in one. Clients still reach
//! every node.

use super::{hold, host, other_than};
use crate::Cluster;
use crate::chaos::Step;

pub(super) async fn isolate_leader(cluster: &mut Cluster, step: &Step) {
    let leader = cluster.leader().await;
    isolate(cluster, step, &[leader]).await;
}

pub(super) async fn isolate_follower(cluster: &mut Cluster, step: &Step) {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    isolate(cluster, step, &[follower]).await;
}

pub(super) async fn isolate_all(cluster: &mut Cluster, step: &Step) {
    let all: Vec<usize> = (0..cluster.nodes().len()).collect();
    isolate(cluster, step, &all).await;
}

async fn isolate(cluster: &Cluster, step: &Step, which: &[usize]) {
    for node in which {
        cluster.network().isolate(host(*node));
    }
    hold(step).await;
    cluster.network().heal();
}

pub(super) async fn deaf_leader(cluster: &mut Cluster, step: &Step) {
    let leader = cluster.leader().await;
    for other in others(cluster, leader) {
        cluster.network().deafen(host(other), host(leader));
    }
    hold(step).await;
    cluster.network().heal();
}

pub(super) async fn mute_leader(cluster: &mut Cluster, step: &Step) {
    let leader = cluster.leader().await;
    for other in others(cluster, leader) {
        cluster.network().deafen(host(leader), host(other));
    }
    hold(step).await;
    cluster.network().heal();
}

/// F20: with the leader cut off, a follower dies, so that nobody has a quorum.
pub(super) async fn isolate_and_kill(cluster: &mut Cluster, step: &Step) {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    cluster.network().isolate(host(leader));
    cluster.nodes_mut()[follower].kill9();
    hold(step).await;
    cluster.network().heal();
    cluster.restart(&[follower]).await;
}

fn others(cluster: &Cluster, node: usize) -> impl Iterator<Item = usize> + use<> {
    (0..cluster.nodes().len()).filter(move |other| *other != node)
}
