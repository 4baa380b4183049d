//! F10: a bit of a node's log flips while it is down, and it comes back without those who know
//! better.

use std::fs::{File, read_dir};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Scene, examine, scene};
use crate::node::{Node, START_MAX};
use crate::{http, wait};

/// Writes that the node with the flipped bit and the one that stays away know, and no other.
const WRITES: u64 = 200;

/// Of three nodes the last one falls behind, the first one's log is damaged, and these two start.
/// The first must not pretend that it knows what it knew.
pub(super) async fn bit_flip(scene: Scene) -> Vec<String> {
    let mut cluster = scene.plain(&[]).await;
    let root = cluster.root().await;
    let (table, mut load) = scene::write(&cluster, &root).await;
    cluster.nodes_mut()[2].kill9();
    load.progress(WRITES).await;
    let ops = load.finish().await;
    cluster.kill_all();
    let changed = flip(&wal(&cluster.nodes()[0].data_dir()));
    // What a node says whose log is not what it wrote.
    cluster.expect_errors("orrupt");
    cluster.nodes_mut()[0].spawn(&[]);
    cluster.nodes_mut()[2].spawn(&[]);
    if !serves(&mut cluster.nodes_mut()[0]).await {
        cluster.nodes_mut()[1].spawn(&[]);
        cluster.nodes_mut()[1].ready().await;
    }
    cluster.nodes_mut()[2].ready().await;
    let mut wrong = examine::all(&mut cluster, &root, &table, ops).await;
    // One node of three is away in either case.
    wrong.retain(|objection| !objection.starts_with("ended"));
    if changed.is_none() {
        wrong.push("invalid: the log was too short to be damaged".into());
    }
    examine::end(cluster, wrong)
}

/// Does the node come up? False if it ends by itself.
async fn serves(node: &mut Node) -> bool {
    let ready = format!("{}/ready", node.url());
    let plain = http::client_trusting(None);
    wait::until("the node is ready or has ended", START_MAX, async || {
        if !node.is_running() {
            return Some(false);
        }
        let answer = plain
            .get(&ready)
            .timeout(Duration::from_secs(2))
            .send()
            .await;
        answer.ok().filter(|answer| answer.status() == 200)?;
        Some(true)
    })
    .await
}

/// The log's youngest file of writes.
fn wal(data: &Path) -> PathBuf {
    let files = read_dir(data.join("raft").join("log")).expect("a node has a log");
    let files = files.map(|file| file.expect("a directory can be read").path());
    let is_wal = |path: &PathBuf| path.extension().is_some_and(|end| end == "log");
    files.filter(is_wal).max().expect("a log has a WAL")
}

/// Flips a bit a little behind the middle; its place.
fn flip(path: &Path) -> Option<u64> {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("a file of one's own can be written");
    let length = file.metadata().expect("a file has a length").len();
    let at = length / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).ok()?;
    byte[0] ^= 1;
    file.write_all_at(&byte, at).ok()?;
    Some(at)
}
