//! F1: processes end without a chance to write or say anything.

use super::{hold, other_than};
use crate::Cluster;
use crate::chaos::Step;

pub(super) async fn leader(cluster: &mut Cluster, step: &Step) {
    let leader = cluster.leader().await;
    nodes(cluster, step, &[leader]).await;
}

pub(super) async fn follower(cluster: &mut Cluster, step: &Step) {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    nodes(cluster, step, &[follower]).await;
}

pub(super) async fn most(cluster: &mut Cluster, step: &Step) {
    let count = cluster.nodes().len();
    let first = step.pick(count);
    let most: Vec<usize> = (0..=count / 2).map(|next| (first + next) % count).collect();
    nodes(cluster, step, &most).await;
}

pub(super) async fn all(cluster: &mut Cluster, step: &Step) {
    let all: Vec<usize> = (0..cluster.nodes().len()).collect();
    cluster.kill_all();
    hold(step).await;
    cluster.restart(&all).await;
}

async fn nodes(cluster: &mut Cluster, step: &Step, which: &[usize]) {
    for node in which {
        cluster.nodes_mut()[*node].kill9();
    }
    hold(step).await;
    cluster.restart(which).await;
}
