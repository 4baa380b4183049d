//! A load whose pace is given, and what those who make it notice of something big.

use std::time::{Duration, Instant};

use cluster_tests::load::{Load, Table};
use cluster_tests::{Cluster, Metrics, Times, wait};

/// Clients of the steady load, and how often each of them writes. Many that write seldom: one that
/// waits for its answer is not late with its next write before long.
const WRITERS: usize = 32;
const EVERY: Duration = Duration::from_millis(400);
/// Writes after which all of them have made a few.
const WARM_WRITES: u64 = 5 * WRITERS as u64;
/// How long the load is watched while nothing else happens.
const WATCHED: Duration = Duration::from_secs(30);
/// How often the nodes are asked how far they are.
pub const LOOK: Duration = Duration::from_millis(250);
/// How much slower the slowest hundredth of the writes may become, beyond what nobody minds.
const SLOWER_MAX: u32 = 2;
const NOBODY_MINDS: Duration = Duration::from_millis(25);

pub const APPLIED: &str = "duet_raft_applied_index";
pub const INSTALLED: &str = "duet_raft_snapshots_installed_total";

/// A load on the nodes `on`, whatever happens to the others. It is under way: that every writer
/// connects and proves its password is behind it.
pub async fn load(cluster: &Cluster, table: &Table, on: &[usize]) -> Load {
    let client = cluster.client();
    let clients = (0..WRITERS).map(|writer| client.pinned_to(on[writer % on.len()]));
    let mut load = Load::steady(clients.collect(), table, EVERY);
    load.progress(WARM_WRITES).await;
    load
}

/// How long writes take while nothing else happens.
pub async fn watch(load: &Load) -> Times {
    let since = Instant::now();
    // sleep: how long it is watched is part of the measurement
    tokio::time::sleep(WATCHED).await;
    load.times_since(since)
}

/// Waits until the metrics of a node say so, and gives them.
pub async fn shows(
    cluster: &Cluster,
    node: usize,
    what: &str,
    limit: Duration,
    met: impl Fn(&Metrics) -> bool,
) -> Metrics {
    let (api, url) = (cluster.api(), cluster.nodes()[node].url());
    wait::until(what, limit, async || {
        // sleep: the questions are not to be a load of their own
        tokio::time::sleep(LOOK).await;
        Metrics::of(&api, &url).await.filter(&met)
    })
    .await
}

/// What the clients of the steady load felt.
pub struct Felt {
    pub before: Times,
    pub meanwhile: Times,
}

impl Felt {
    /// Asserts that the slowest hundredth of the writes became less than twice as slow, if it did
    /// not stay below what nobody notices.
    pub fn assert_hardly(&self) {
        let (before, meanwhile) = (self.before.percentile(99), self.meanwhile.percentile(99));
        println!(
            "p99 is {:.2} of what it was",
            meanwhile.as_secs_f64() / before.as_secs_f64()
        );
        assert!(
            meanwhile < SLOWER_MAX * before.max(NOBODY_MINDS),
            "{before:?} became {meanwhile:?}"
        );
    }
}
