//! F17: requests arrive and their answers do not: the connection ends in their place, or nothing
//! comes at all. Those who repeat their write under its key must have it once.

use std::time::Duration;

use super::{Kind, Seen, hold};
use crate::Cluster;
use crate::chaos::Step;
use crate::lab::Proxy;

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "F17-lost-answers",
    changes_leader: false,
    mending: Duration::from_secs(1),
    play: |cluster, step| Box::pin(lost(cluster, step)),
}];

/// Of a hundred answers, how many end their connection.
const CUT: u32 = 15;
/// Of a hundred answers, how many never come.
const SWALLOWED: u32 = 2;

async fn lost(cluster: &mut Cluster, step: &Step) -> Seen {
    let count = |cluster: &Cluster| cluster.doors().iter().map(Proxy::lost).sum::<u64>();
    let before = count(cluster);
    for door in cluster.doors() {
        door.lose(CUT, SWALLOWED);
    }
    hold(step).await;
    for door in cluster.doors() {
        door.lose(0, 0);
    }
    let lost = count(cluster) - before;
    assert!(lost > 0, "not one answer was lost");
    Seen {
        counted: vec![("answers lost", lost)],
        violations: Vec::new(),
    }
}
