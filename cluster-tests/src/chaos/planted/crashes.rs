//! F1 and F16: a follower's process ends under load, anywhere or at a point, and comes back.

use std::time::Duration;

use super::{Scene, examine, scene};
use crate::load::Load;
use crate::{Cluster, User};

/// Writes while the follower runs, so that it has flushed its state several times.
const WRITES: u64 = 200;
/// At which pass the process ends.
const CRASH: &str = "between-runs:4";
/// How long it may take to get there.
const CRASH_MAX: Duration = Duration::from_secs(60);

/// Nothing ends.
pub(super) async fn none(scene: Scene) -> Vec<String> {
    let mut cluster = scene.plain(&[]).await;
    let root = cluster.root().await;
    let (table, mut load) = scene::write(&cluster, &root).await;
    load.progress(WRITES).await;
    let ops = load.finish().await;
    let wrong = examine::all(&mut cluster, &root, &table, ops).await;
    examine::end(cluster, wrong)
}

/// It is killed.
pub(super) async fn kill(scene: Scene) -> Vec<String> {
    let mut cluster = scene.plain(&[]).await;
    let root = cluster.root().await;
    let (table, mut load) = scene::write(&cluster, &root).await;
    load.progress(WRITES).await;
    let follower = follower(&mut cluster).await;
    cluster.nodes_mut()[follower].kill9();
    cluster.nodes_mut()[follower].spawn(&[]);
    back(cluster, &root, &table, load).await
}

/// It ends between two batches of what it applies, the first of which was flushed.
pub(super) async fn between_runs(scene: Scene) -> Vec<String> {
    let mut cluster = scene.plain(&[]).await;
    let root = cluster.root().await;
    let (table, load) = scene::write(&cluster, &root).await;
    let follower = follower(&mut cluster).await;
    let node = &mut cluster.nodes_mut()[follower];
    node.kill9();
    node.set_variable("DUET_CRASH", Some(CRASH));
    node.spawn(&[]);
    node.ends(CRASH_MAX).await;
    node.set_variable("DUET_CRASH", None);
    node.spawn(&[]);
    back(cluster, &root, &table, load).await
}

async fn follower(cluster: &mut Cluster) -> usize {
    (cluster.leader().await + 1) % cluster.nodes().len()
}

/// Goes on for a while, and looks at everything.
async fn back(
    mut cluster: Cluster,
    root: &User,
    table: &crate::load::Table,
    mut load: Load,
) -> Vec<String> {
    load.progress(WRITES).await;
    let ops = load.finish().await;
    let wrong = examine::all(&mut cluster, root, table, ops).await;
    examine::end(cluster, wrong)
}
