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
/// How long until what was installed is counted.
const COUNTED_MAX: Duration = Duration::from_secs(5);
/// Within how many ms after its beginning something is broken off.
const MOMENTS_MS: usize = 80;
/// Between two looks at a directory or a log.
const LOOK: Duration = Duration::from_millis(1);
/// What a node's log says when a snapshot begins to come, with its directory and bytes.
const RECEIVING: &str = "receiving a snapshot";
/// What it says when all of it is there.
const RECEIVED: &str = "received a snapshot";
/// How many snapshots may be whole before a byte of them is changed.
const TRIES: usize = 5;
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
    catch_up(cluster, away, 1).await
}

/// F11: the node dies while it receives or installs, and comes back.
async fn kill_receiver(cluster: &mut Cluster, step: &Step) -> Seen {
    let away = leave_behind(cluster, step).await;
    begin(cluster, away).await;
    moment(step).await;
    cluster.nodes_mut()[away].kill9();
    hold(step).await;
    cluster.nodes_mut()[away].spawn(&[]);
    // None, if it had taken it up in its last moment.
    catch_up(cluster, away, 0).await
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
    catch_up(cluster, away, 1).await
}

/// F11: a byte changes in what was received. The node notices, and gets all of it again. A snapshot
/// that was whole before a byte could be changed is another's turn.
async fn corrupt(cluster: &mut Cluster, step: &Step) -> Seen {
    for _ in 0..TRIES {
        let away = leave_behind(cluster, step).await;
        let log = cluster.nodes()[away].log();
        let refusals = || count(&log, "a snapshot could not be received");
        let (before, whole) = (refusals(), count(&log, RECEIVED));
        begin(cluster, away).await;
        let node = &cluster.nodes()[away];
        let changed = look(|| {
            node.pause();
            let changed = coming(&log).and_then(|coming| change_a_byte(&coming, step));
            node.resume();
            let too_late = || (count(&log, RECEIVED) > whole).then_some(None);
            changed.map(Some).or_else(too_late)
        })
        .await;
        let mut seen = catch_up(cluster, away, 1).await;
        if let Some(file) = changed.flatten() {
            if refusals() == before {
                let file = file.display();
                seen.violations
                    .push(format!("{file} was changed as it came, and nobody noticed"));
            }
            return seen;
        }
    }
    panic!("nothing of {TRIES} snapshots could be changed before they were whole")
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
    cluster.nodes_mut()[away].kill9();
    // What it was sent in its last moment counts as well.
    let had = cluster.metrics(leader).await.get(LAST);
    hold(step).await;
    let (api, mut others) = (cluster.api(), cluster.urls());
    others.remove(away);
    wait::until("the logs lack what the node lacks", DROP_MAX, async || {
        for url in &others {
            let purged = Metrics::of(&api, url).await?.find(PURGED)?;
            if purged < had {
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
    let before = count(&log, RECEIVING);
    cluster.nodes_mut()[away].spawn(&[]);
    let begun = || (count(&log, RECEIVING) > before).then_some(());
    look(begun).await.expect("a snapshot is sent");
}

/// Waits until the node has what was committed when this began. Panics if it has taken up fewer
/// than `least` snapshots by then, since it was started.
async fn catch_up(cluster: &mut Cluster, away: usize, least: u64) -> Seen {
    let began = Instant::now();
    let api = cluster.api();
    let leader = cluster.leader().await;
    let aim = cluster.metrics(leader).await.get(APPLIED);
    let url = cluster.nodes()[away].url();
    wait::until("the node has caught up", GIVE_UP, async || {
        let metrics = Metrics::of(&api, &url).await?;
        metrics.find(APPLIED).filter(|applied| *applied >= aim)
    })
    .await;
    cluster.nodes_mut()[away].ready().await;
    let took = began.elapsed();
    let late = (took > CATCH_UP_MAX).then(|| format!("a node took {took:?} to catch up"));
    // A snapshot is counted just after its state is shown.
    let installed = wait::until("it needed a snapshot", COUNTED_MAX, async || {
        let installed = Metrics::of(&api, &url).await?.find(INSTALLED)? as u64;
        (installed >= least).then_some(installed)
    })
    .await;
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

/// A snapshot on its way to a node.
struct Coming {
    directory: PathBuf,
    bytes: u64,
}

/// The snapshot that is received now, by the node's log: beside it the node may make one itself.
fn coming(log: &Path) -> Option<Coming> {
    let text = fs::read_to_string(log).ok()?;
    let mut said = text.lines().filter(|line| line.contains(RECEIVING));
    let said: serde_json::Value = serde_json::from_str(said.next_back()?).ok()?;
    Some(Coming {
        directory: said["directory"].as_str()?.into(),
        bytes: said["bytes"].as_u64()?,
    })
}

/// Changes a byte of what came of a snapshot of which more is to come; in which file. Once all is
/// there the receiver may have read it for the last time.
fn change_a_byte(coming: &Coming, step: &Step) -> Option<PathBuf> {
    let entries = fs::read_dir(&coming.directory).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<(PathBuf, u64)> = paths
        .filter_map(|path| Some((fs::metadata(&path).ok()?.len(), path)))
        .filter(|(size, _)| *size > 0)
        .map(|(size, path)| (path, size))
        .collect();
    files.sort();
    let came: u64 = files.iter().map(|(_, size)| size).sum();
    if came >= coming.bytes {
        return None;
    }
    let (path, _) = files.get(step.pick(files.len().max(1)))?.clone();
    let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
    let (size, mut byte) = (file.metadata().ok()?.len(), [0]);
    let at = u64::from(step.choice) % size;
    file.read_exact_at(&mut byte, at).ok()?;
    file.write_all_at(&[!byte[0]], at).ok()?;
    Some(path)
}
