//! F1: processes end without a chance to write or say anything.

use std::time::Duration;

use super::{Kind, Seen, hold, other_than};
use crate::Cluster;
use crate::chaos::Step;

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "F1-kill-leader",
        changes_leader: true,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(leader(cluster, step)),
    },
    Kind {
        name: "F1-kill-follower",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(follower(cluster, step)),
    },
    Kind {
        name: "F1-kill-most",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(most(cluster, step)),
    },
    Kind {
        name: "F1-kill-all",
        changes_leader: false,
        mending: Duration::from_secs(6),
        play: |cluster, step| Box::pin(all(cluster, step)),
    },
];

async fn leader(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    nodes(cluster, step, &[leader]).await
}

async fn follower(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    nodes(cluster, step, &[follower]).await
}

async fn most(cluster: &mut Cluster, step: &Step) -> Seen {
    let count = cluster.nodes().len();
    let first = step.pick(count);
    let most: Vec<usize> = (0..=count / 2).map(|next| (first + next) % count).collect();
    nodes(cluster, step, &most).await
}

async fn all(cluster: &mut Cluster, step: &Step) -> Seen {
    let all: Vec<usize> = (0..cluster.nodes().len()).collect();
    cluster.kill_all();
    hold(step).await;
    cluster.restart(&all).await;
    Seen::default()
}

async fn nodes(cluster: &mut Cluster, step: &Step, which: &[usize]) -> Seen {
    for node in which {
        cluster.nodes_mut()[*node].kill9();
    }
    hold(step).await;
    cluster.restart(which).await;
    Seen::default()
}
