//! F16: processes end at points of the code, under load, and come back; afterwards all must be as
//! was promised. Needs a build with the feature `planted`, and no bug.

use std::time::Duration;

use super::{Scene, examine, reads, scene};
use crate::load::Load;
use crate::{Cluster, wait};

const VARIABLE: &str = "DUET_CRASH";
/// So few entries are kept that a node which was away for a moment needs a snapshot.
const KEEP: (&str, &str) = ("DUET_LOG_KEEP_ENTRIES", "100");
/// At which passes the process ends, one time after the other.
const PASSES: [u32; 5] = [1, 6, 25, 2, 60];
/// How long it may take to get there.
const CRASH_MAX: Duration = Duration::from_secs(40);
/// How long a leader is cut off: others are elected, and it keeps what it must give up again.
const CUT: Duration = Duration::from_secs(4);
/// How often at most: a leader that was asked nothing meanwhile gives nothing up.
const ISOLATIONS: usize = 3;
/// Writes that a node misses so that it needs a snapshot.
const MISSED: u64 = 500;
/// How long until the others' logs do not have these any more.
const DROP_MAX: Duration = Duration::from_secs(60);
const LAST: &str = "duet_raft_last_log_index";
const PURGED: &str = "duet_raft_purged_index";

/// What brings a process to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drive {
    /// Writes, and members of a group at work.
    Load,
    /// A snapshot that it is asked for.
    Build,
    /// One that it gets.
    Install,
    /// Being a leader that was cut off.
    Isolate,
}

/// The points, as `DUET_CRASH` spells them.
const POINTS: [(&str, Drive); 13] = [
    ("before-append", Drive::Load),
    ("after-append", Drive::Load),
    ("before-sync", Drive::Load),
    ("after-sync", Drive::Load),
    ("before-committed", Drive::Load),
    ("between-runs", Drive::Load),
    ("before-position", Drive::Load),
    ("after-position", Drive::Load),
    ("mid-build", Drive::Build),
    ("mid-purge", Drive::Build),
    ("mid-install", Drive::Install),
    ("after-install", Drive::Install),
    ("mid-truncate", Drive::Isolate),
];

/// Ends a process at every point, so many times. What was objected to, and how often a process
/// ended.
pub async fn all(times: u32, mut tell: impl FnMut(String)) -> (Vec<String>, u32) {
    let mut cluster = Scene::clean().lab_with(&[KEEP]).await;
    let root = cluster.root().await;
    let (table, mut load) = scene::write(&cluster, &root).await;
    let groups = scene::start("W2-groups", &cluster, &root).await;
    let (mut wrong, mut crashes) = (Vec::new(), 0);
    for time in 0..times as usize {
        for (number, (point, drive)) in POINTS.into_iter().enumerate() {
            let pass = if drive == Drive::Load {
                PASSES[time % PASSES.len()]
            } else {
                1
            };
            let planted = format!("{point}:{pass}");
            let node = (number + time) % cluster.nodes().len();
            if end_at(&mut cluster, &mut load, node, &planted, drive).await {
                crashes += 1;
            } else {
                wrong.push(format!("invalid: no process ended at {planted}"));
            }
            tell(planted);
            load.progress(20).await;
        }
    }
    wrong.extend(groups.finish(&cluster, &root).await.violations);
    let ops = load.finish().await;
    wrong.extend(examine::all(&mut cluster, &root, &table, ops).await);
    (examine::end(cluster, wrong), crashes)
}

/// Lets a process end at a point, and starts it again. False if it did not get there.
async fn end_at(
    cluster: &mut Cluster,
    load: &mut Load,
    node: usize,
    planted: &str,
    drive: Drive,
) -> bool {
    // Whoever leads when it is cut off is the one to give something up.
    let armed: Vec<usize> = match drive {
        Drive::Isolate => (0..cluster.nodes().len()).collect(),
        _ => vec![node],
    };
    for node in &armed {
        cluster.nodes_mut()[*node].kill9();
    }
    if drive == Drive::Install {
        let leader = cluster.leader().await;
        let had = cluster.metrics(leader).await.get(LAST);
        load.progress(MISSED).await;
        drop_from_logs(cluster, node, had).await;
    }
    for node in &armed {
        cluster.nodes_mut()[*node].set_variable(VARIABLE, Some(planted));
        cluster.nodes_mut()[*node].spawn(&[]);
    }
    let ended = match drive {
        Drive::Load | Drive::Install => ends(cluster, &armed).await,
        Drive::Build => {
            cluster.nodes_mut()[node].ready().await;
            load.progress(MISSED).await;
            // It ends before it can answer.
            drop(cluster.client().pinned_to(node).snapshot().await);
            ends(cluster, &armed).await
        }
        // One of them may have had something to give up as soon as it came back.
        Drive::Isolate => {
            let mut ended = !all_come_back(cluster, &armed).await;
            for _ in 0..ISOLATIONS {
                ended = ended || isolated(cluster, load).await;
            }
            ended
        }
    };
    for node in &armed {
        cluster.nodes_mut()[*node].kill9();
        cluster.nodes_mut()[*node].set_variable(VARIABLE, None);
    }
    cluster.restart(&armed).await;
    cluster.wait_for_voters(cluster.nodes().len()).await;
    ended
}

/// Are all of them ready to serve? False if one has ended.
async fn all_come_back(cluster: &mut Cluster, nodes: &[usize]) -> bool {
    for node in nodes {
        if cluster.nodes_mut()[*node].ready_or_ended().await.is_some() {
            return false;
        }
    }
    true
}

/// Cuts the leader off for a while. Does a node end by that?
async fn isolated(cluster: &mut Cluster, load: &mut Load) -> bool {
    load.progress(20).await;
    let leader = cluster.leader().await;
    cluster
        .network()
        .isolate(u8::try_from(leader).expect("a lab has few hosts"));
    reads::hold(CUT).await;
    cluster.network().heal();
    let all: Vec<usize> = (0..cluster.nodes().len()).collect();
    ends(cluster, &all).await
}

/// Lets all nodes but one take snapshots until none of them has in its log what that one lacks: the
/// log is kept for a member that is being sent it.
async fn drop_from_logs(cluster: &Cluster, except: usize, had: f64) {
    for node in (0..cluster.nodes().len()).filter(|node| *node != except) {
        let client = cluster.client().pinned_to(node);
        wait::until("the log lacks what the node lacks", DROP_MAX, async || {
            client.snapshot().await.ok()?;
            let purged = cluster.metrics(node).await.find(PURGED)?;
            (purged >= had).then_some(())
        })
        .await;
    }
}

/// Does one of them end by itself?
pub(super) async fn ends(cluster: &mut Cluster, nodes: &[usize]) -> bool {
    let begun = std::time::Instant::now();
    while begun.elapsed() < CRASH_MAX {
        let gone = |node: &usize| !cluster.nodes_mut()[*node].is_running();
        if nodes.iter().any(gone) {
            return true;
        }
        // sleep: between two looks at another process
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}
