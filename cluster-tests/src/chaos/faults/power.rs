//! F2: the power fails. What was not synced is gone.

use super::hold;
use crate::Cluster;
use crate::chaos::Step;

pub(super) async fn one(cluster: &mut Cluster, step: &Step) {
    let node = step.pick(cluster.nodes().len());
    nodes(cluster, step, &[node]).await;
}

pub(super) async fn all(cluster: &mut Cluster, step: &Step) {
    let all: Vec<usize> = (0..cluster.nodes().len()).collect();
    nodes(cluster, step, &all).await;
}

async fn nodes(cluster: &mut Cluster, step: &Step, which: &[usize]) {
    cluster.lose_power(which).await;
    hold(step).await;
    cluster.restart(which).await;
}
