//! F2: the power of all nodes fails in the same moment, under load.

use super::{Scene, examine, scene};

/// How often it fails.
const TIMES: u32 = 2;
/// Writes before each failure that are not on the disk of a node that does not sync.
const WRITES: u64 = 150;

pub(super) async fn all(scene: Scene) -> Vec<String> {
    let mut cluster = scene.lab().await;
    let root = cluster.root().await;
    let (table, mut load) = scene::write(&cluster, &root).await;
    for _ in 0..TIMES {
        // What made the cluster is to survive, also where nothing is ever synced.
        for node in cluster.nodes() {
            node.disk().sync();
        }
        load.progress(WRITES).await;
        cluster.lose_power(&[0, 1, 2]).await;
        cluster.restart(&[0, 1, 2]).await;
        load.progress(1).await;
    }
    let ops = load.finish().await;
    let wrong = examine::all(&mut cluster, &root, &table, ops).await;
    examine::end(cluster, wrong)
}
