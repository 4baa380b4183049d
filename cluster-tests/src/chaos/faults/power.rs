//! F2: the power fails. What was not synced is gone.

use std::time::Duration;

use super::{Kind, Seen, hold};
use crate::Cluster;
use crate::chaos::Step;

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "F2-power-one",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(one(cluster, step)),
    },
    Kind {
        name: "F2-power-all",
        changes_leader: false,
        mending: Duration::from_secs(6),
        play: |cluster, step| Box::pin(all(cluster, step)),
    },
];

async fn one(cluster: &mut Cluster, step: &Step) -> Seen {
    let node = step.pick(cluster.nodes().len());
    nodes(cluster, step, &[node]).await
}

async fn all(cluster: &mut Cluster, step: &Step) -> Seen {
    let all: Vec<usize> = (0..cluster.nodes().len()).collect();
    nodes(cluster, step, &all).await
}

async fn nodes(cluster: &mut Cluster, step: &Step, which: &[usize]) -> Seen {
    cluster.lose_power(which).await;
    hold(step).await;
    cluster.restart(which).await;
    Seen::default()
}
