//! F11 and F12: a node comes back that lacks more than the others' logs hold, and so gets a
//! snapshot; and what can go wrong meanwhile.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Kind, Seen, hold, other_than};
use crate::chaos::Step;
use crate::{Cluster, Metrics, wait};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "F11-kill-receiver",
        changes_leader: false,
        mending: Duration::from_secs(15),
        play: |cluster, step| Box::pin(kill_receiver(cluster, step)),
    },
    Kind {
        name: "F11-kill-sender",
        changes_leader: false,
        mending: Duration::from_secs(15),
        play: |cluster, step| Box::pin(kill_sender(cluster, step)),
    },
    Kind {
        name: "F11-corrupt",
        changes_leader: false,
        mending: Duration::from_secs(10),
        play: |cluster, step| Box::pin(corrupt(cluster, step)),
    },
    Kind {
        name: "F11-kill-builder",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(kill_builder(cluster, step)),
    },
    Kind {
        name: "F12-install",
        changes_leader: false,
        mending: Duration::from_secs(10),
        play: |cluster, step| Box::pin(install(cluster, step)),
    },
];

/// How long the others may take to drop from their logs what a node lacks.
const DROP_MAX: Duration = Duration::from_secs(60);
/// How long a transfer, or the making of a snapshot, may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(30);
/// How long a node may take to catch up, its start included. Promised.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);
/// How long to wait for that before giving up.
const GIVE_UP: Duration = Duration::from_secs(180);
/// Within how many ms after its beginning something is broken off.
const MOMENTS_MS: usize = 80;
/// Between two looks at a directory or a log.
const LOOK: Duration = Duration::from_millis(1);
/// Where a snapshot's record is, once all of it was received and compared.
const MANIFEST: &str = "SNAPSHOT";

const APPLIED: &str = "duet_raft_applied_index";
const LAST: &str = "duet_raft_last_log_index";
const PURGED: &str = "duet_raft_purged_index";
const INSTALLED: &str = "duet_raft_snapshots_installed_total";

/// F12: the node gets a snapshot while writes go on.
async fn install(cluster: &mut Cluster, step: &Step) -> Seen {
    let away = leave_behind(cluster, step).await;
    cluster.nodes_mut()[away].spawn(&[]);
    catch_up(cluster, away).await
}

/// F11: the node dies while it receives or installs, and comes back.
async fn kill_receiver(cluster: &mut Cluster, step: &Step) -> Seen {
    let away = leave_behind(cluster, step).await;
    begin(cluster, away).await;
    moment(step).await;
    cluster.nodes_mut()[away].kill9();
    hold(step).await;
    cluster.nodes_mut()[away].spawn(&[]);
    catch_up(cluster, away).await
}

/// F11: the leader, which sends, dies meanwhile. The third node leads then, and sends its own.
async fn kill_sender(cluster: &mut Cluster, step: &Step) -> Seen {
    let away = leave_behind(cluster, step).await;
    let sender = cluster.leader().await;
    begin(cluster, away).await;
    moment(step).await;
    cluster.nodes_mut()[sender].kill9();
    hold(step).await;
    cluster.restart(&[sender]).await;
    catch_up(cluster, away).await
}

/// F11: a byte changes in what was received. The node notices, and gets all of it again.
async fn corrupt(cluster: &mut Cluster, step: &Step) -> Seen {
    let away = leave_behind(cluster, step).await;
    begin(cluster, away).await;
    let log = cluster.nodes()[away].log();
    let refusals = || count(&log, "a snapshot could not be received");
    let before = refusals();
    let snapshots = snapshots_of(cluster, away);
    let node = &cluster.nodes()[away];
    let changed = look(|| {
        node.pause();
        let changed = change_a_byte(&snapshots, step);
        node.resume();
        changed
    })
    .await;
    let Some(file) = changed else {
        panic!("nothing of a snapshot could be changed before it was whole")
    };
    let mut seen = catch_up(cluster, away).await;
    if refusals() == before {
        let file = file.display();
        seen.violations
            .push(format!("{file} was changed as it came, and nobody noticed"));
    }
    seen
}

/// F11: a node dies while it makes a snapshot of its state.
async fn kill_builder(cluster: &mut Cluster, step: &Step) -> Seen {
    let which = step.pick(cluster.nodes().len());
    let asked = cluster.client().pinned_to(which);
    // It dies before it can answer.
    let asking = tokio::spawn(async move { asked.snapshot().await.is_ok() });
    let snapshots = snapshots_of(cluster, which);
    look(|| unfinished(&snapshots))
        .await
        .expect("a snapshot is begun");
    cluster.nodes_mut()[which].kill9();
    asking.abort();
    hold(step).await;
    cluster.restart(&[which]).await;
    Seen::default()
}

/// Kills a follower, and waits as long as the step says and until the others' logs do not hold any
/// more what it lacks.
async fn leave_behind(cluster: &mut Cluster, step: &Step) -> usize {
    let leader = cluster.leader().await;
    let away = other_than(leader, cluster, step);
    let had = cluster.metrics(away).await.get(LAST);
    cluster.nodes_mut()[away].kill9();
    hold(step).await;
    let (api, mut others) = (cluster.api(), cluster.urls());
    others.remove(away);
    wait::until("the logs lack what the node lacks", DROP_MAX, async || {
        for url in &others {
            let purged = Metrics::of(&api, url).await?.find(PURGED)?;
            // What it was sent in its last moment counts as well.
            if purged < had + 100.0 {
                return None;
            }
        }
        Some(())
    })
    .await;
    away
}

/// Starts the node that was left behind, and waits until it is sent a snapshot.
async fn begin(cluster: &mut Cluster, away: usize) {
    let log = cluster.nodes()[away].log();
    let before = count(&log, "receiving a snapshot");
    cluster.nodes_mut()[away].spawn(&[]);
    let begun = || (count(&log, "receiving a snapshot") > before).then_some(());
    look(begun).await.expect("a snapshot is sent");
}

/// Waits until the node has taken up a snapshot and has what was committed when this began.
async fn catch_up(cluster: &mut Cluster, away: usize) -> Seen {
    let began = Instant::now();
    let api = cluster.api();
    let leader = cluster.leader().await;
    let aim = cluster.metrics(leader).await.get(APPLIED);
    let url = cluster.nodes()[away].url();
    let there = wait::until("the node has caught up", GIVE_UP, async || {
        let metrics = Metrics::of(&api, &url).await?;
        metrics.find(APPLIED).filter(|applied| *applied >= aim)?;
        Some(metrics)
    })
    .await;
    cluster.nodes_mut()[away].ready().await;
    let took = began.elapsed();
    let late = (took > CATCH_UP_MAX).then(|| format!("a node took {took:?} to catch up"));
    let installed = there.get(INSTALLED) as u64;
    assert!(installed >= 1, "there was no need of a snapshot");
    Seen {
        counted: vec![("snapshots installed", installed)],
        violations: late.into_iter().collect(),
    }
}

/// Looks often; none if there is nothing for long.
async fn look<T>(mut find: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    while began.elapsed() < BEGIN_MAX {
        if let Some(found) = find() {
            return Some(found);
        }
        // sleep: what is looked for lasts for milliseconds, and no event tells of it
        tokio::time::sleep(LOOK).await;
    }
    None
}

/// A moment that the seed chose.
async fn moment(step: &Step) {
    let ms = u64::try_from(step.pick(MOMENTS_MS)).unwrap_or_default();
    // sleep: when something breaks is part of the schedule
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

fn snapshots_of(cluster: &Cluster, node: usize) -> PathBuf {
    cluster.nodes()[node].data_dir().join("raft/snapshots")
}

/// How many lines of a log say this.
fn count(log: &Path, what: &str) -> usize {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.matches(what).count()
}

/// A snapshot that is being made or received.
fn unfinished(snapshots: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(snapshots).ok()?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("new-") && !path.join(MANIFEST).exists()
    })
}

/// Changes a byte of a table that came, of a snapshot of which more is to come; which file.
fn change_a_byte(snapshots: &Path, step: &Step) -> Option<PathBuf> {
    let entries = fs::read_dir(unfinished(snapshots)?).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = paths
        .filter(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0))
        .collect();
    files.sort();
    let path = files.get(step.pick(files.len().max(1)))?.clone();
    let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
    let (size, mut byte) = (file.metadata().ok()?.len(), [0]);
    let at = u64::from(step.choice) % size;
    file.read_exact_at(&mut byte, at).ok()?;
    file.write_all_at(&[!byte[0]], at).ok()?;
    Some(path)
}
