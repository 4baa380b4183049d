//! F18: members of a group that are slower than their lease, and acknowledge all the same.

use std::time::Duration;

use super::{Scene, examine, reads, scene};

/// How long the group works: some of its members are slow at one time or another.
const WORK: Duration = Duration::from_secs(20);

pub(super) async fn slow_members(scene: Scene) -> Vec<String> {
    let cluster = scene.plain(&[]).await;
    let root = cluster.root().await;
    let groups = scene::start("W2-groups", &cluster, &root).await;
    reads::hold(WORK).await;
    let verdict = groups.finish(&cluster, &root).await;
    examine::end(cluster, verdict.violations)
}
