//! F3: the leader stops for longer than its lease, and goes on as if nothing had been.

use std::time::Duration;

use super::{Kind, Seen, hold};
use crate::Cluster;
use crate::chaos::Step;

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "F3-pause-leader",
    changes_leader: true,
    mending: Duration::from_secs(3),
    play: |cluster, step| Box::pin(leader(cluster, step)),
}];

async fn leader(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    cluster.nodes()[leader].pause();
    hold(step).await;
    cluster.nodes()[leader].resume();
    Seen::default()
}
