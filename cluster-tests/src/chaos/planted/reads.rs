//! F3 and F4: a leader that does not know yet that it is none is asked for what is new.

use std::time::Duration;

use super::{Scene, examine, scene};
use crate::Cluster;
use crate::chaos::workloads::Verdict;

/// How long a leader is paused or cut off: longer than an election.
const HOLD: Duration = Duration::from_secs(5);
/// How long all is well afterwards.
const CALM: Duration = Duration::from_secs(2);

/// Readers follow a partition on each node while rows are written.
pub(super) async fn follow(scene: Scene) -> Vec<String> {
    let mut cluster = scene.lab().await;
    let root = cluster.root().await;
    let (table, mut load) = scene::write(&cluster, &root).await;
    let tail = scene::start("W6", &cluster, &root).await;
    for _ in 0..2 {
        isolate_leader(&mut cluster).await;
    }
    load.progress(1).await;
    let ops = load.finish().await;
    let Verdict { violations, .. } = tail.finish(&cluster, &root).await;
    let mut wrong = violations;
    wrong.extend(examine::all(&mut cluster, &root, &table, ops).await);
    examine::end(cluster, wrong)
}

/// A value that only grows is written and read.
pub(super) async fn register(scene: Scene) -> Vec<String> {
    let mut cluster = scene.lab().await;
    let root = cluster.root().await;
    let register = scene::start("W5-register", &cluster, &root).await;
    let leader = cluster.leader().await;
    cluster.nodes()[leader].pause();
    hold(HOLD).await;
    cluster.nodes()[leader].resume();
    hold(CALM).await;
    isolate_leader(&mut cluster).await;
    let Verdict { violations, .. } = register.finish(&cluster, &root).await;
    examine::end(cluster, violations)
}

async fn isolate_leader(cluster: &mut Cluster) {
    let leader = cluster.leader().await;
    let host = u8::try_from(leader).expect("a lab has few hosts");
    cluster.network().isolate(host);
    hold(HOLD).await;
    cluster.network().heal();
    hold(CALM).await;
}

pub(super) async fn hold(length: Duration) {
    // sleep: how long a fault lasts is part of the scene
    tokio::time::sleep(length).await;
}
