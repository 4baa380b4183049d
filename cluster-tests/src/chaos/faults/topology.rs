//! F5 on five nodes: each still reaches some, and no two reach the same.

use std::time::Duration;

use super::{Kind, Seen, hold, host};
use crate::Cluster;
use crate::chaos::Step;

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "F5-bridge",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(bridge(cluster, step)),
    },
    Kind {
        name: "F5-ring",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(ring(cluster, step)),
    },
];

/// Fewer nodes have no such shapes.
pub(super) const NODES_MIN: u8 = 5;

/// Two halves that reach each other through one node alone, which reaches everybody.
async fn bridge(cluster: &mut Cluster, step: &Step) -> Seen {
    let count = cluster.nodes().len();
    let middle = step.pick(count);
    let at = |place: usize| host(cluster, (middle + place) % count);
    let half = count / 2;
    for one in 1..=half {
        for other in half + 1..count {
            cluster.network().cut(at(one), at(other));
        }
    }
    held(cluster, step).await
}

/// Each node reaches its two neighbours.
async fn ring(cluster: &mut Cluster, step: &Step) -> Seen {
    let count = cluster.nodes().len();
    for one in 0..count {
        for other in one + 2..count {
            if (other + 1) % count != one {
                cluster
                    .network()
                    .cut(host(cluster, one), host(cluster, other));
            }
        }
    }
    held(cluster, step).await
}

async fn held(cluster: &Cluster, step: &Step) -> Seen {
    hold(step).await;
    cluster.network().heal();
    Seen::default()
}
