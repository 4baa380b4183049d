//! F19: a node may take little more memory than it has, while rows of nearly the largest size are
//! written through it. It slows down, or refuses; with less than what its queues, memtables and
//! caches may take together the kernel may kill it, and it comes back. With that it goes on.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::overload::{self, Counts};
use super::{Kind, Seen, other_than};
use crate::chaos::Step;
use crate::lab::memory::MemoryLimit;
use crate::lab::process;
use crate::{Cluster, wait};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "F19-memory-limit",
        changes_leader: false,
        mending: Duration::from_secs(8),
        play: |cluster, step| Box::pin(limited(cluster, step, Limit::Little)),
    },
    Kind {
        name: "F19-memory-enough",
        changes_leader: false,
        mending: Duration::from_secs(6),
        play: |cluster, step| Box::pin(limited(cluster, step, Limit::Enough)),
    },
];

/// What a node may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    /// Hardly more than it has.
    Little,
    /// [`ENOUGH_BYTES`].
    Enough,
}

impl Limit {
    /// What a node may take beyond what it has.
    fn room(self, had: u64) -> u64 {
        match self {
            Limit::Little => ROOM_BYTES.max(LIMIT_MIN_BYTES.saturating_sub(had)),
            Limit::Enough => ROOM_BYTES.max(ENOUGH_BYTES.saturating_sub(had)),
        }
    }
}

/// What a node may take beyond what it has.
const ROOM_BYTES: u64 = 96 * MIB;
/// What it may have in all, at least: less than that no node needs to get along with.
const LIMIT_MIN_BYTES: u64 = 400 * MIB;
/// With so much no node is killed, whatever is asked of it: memtables, caches and queues that are
/// full, and the requests under way. `docs/operations.md` tells who runs one.
const ENOUGH_BYTES: u64 = 1536 * MIB;
/// Writers of large rows at once, all through the one node.
const WRITERS: usize = 24;
/// How long a node may take to meet its limit, and a killed one to be gone.
const EFFECT_MAX: Duration = Duration::from_secs(60);
/// How often memory is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
const SIGKILL: i32 = 9;
const MIB: u64 = 1024 * 1024;

async fn limited(cluster: &mut Cluster, step: &Step, limit: Limit) -> Seen {
    overload::prepare(cluster).await;
    let leader = cluster.leader().await;
    let is_leader = step.choice.is_multiple_of(2);
    let which = match is_leader {
        true => leader,
        false => other_than(leader, cluster, step),
    };
    let process = cluster.nodes()[which].pid();
    let had = process::memory_bytes(process);
    let room = limit.room(had);
    let group = MemoryLimit::give(process, room).expect("root may make control groups");
    let counts = Arc::new(Counts::default());
    let going = Arc::new(AtomicBool::new(true));
    let crowd = burst(cluster, which, &counts, &going);
    let highest = squeeze(cluster, step, which, limit, &group).await;
    going.store(false, Ordering::Relaxed);
    crowd.join_all().await;
    let (taken, kills) = (group.highest(), group.kills());
    drop(group);
    eprintln!(
        "chaos: {} had {} MiB and might take {} more; it had {} at most, {} were taken{}",
        if is_leader {
            "the leader"
        } else {
            "a follower"
        },
        had / MIB,
        room / MIB,
        highest / MIB,
        taken / MIB,
        if kills > 0 { ", and it was killed" } else { "" },
    );
    if kills > 0 {
        let node = &mut cluster.nodes_mut()[which];
        let status = node.ends(EFFECT_MAX).await;
        assert_eq!(status.signal(), Some(SIGKILL), "the kernel killed it");
        cluster.restart(&[which]).await;
    }
    let mut seen = counts.seen();
    if kills > 0 && limit == Limit::Enough {
        seen.violations.push(format!(
            "memory: a node that might have {} MiB was killed",
            (had + room) / MIB
        ));
    }
    seen.counted.extend([
        ("nodes with a limit of memory", 1),
        ("of them killed by the kernel", kills),
        ("MiB of memory at most, summed over limits", highest / MIB),
        (
            "MiB of memory allowed, summed over limits",
            (had + room) / MIB,
        ),
    ]);
    seen
}

/// Writers of large rows, as long as it goes on.
fn burst(
    cluster: &Cluster,
    which: usize,
    counts: &Arc<Counts>,
    going: &Arc<AtomicBool>,
) -> JoinSet<()> {
    let client = cluster.client().pinned_to(which);
    let body = overload::body();
    let mut crowd = JoinSet::new();
    for writer in 0..WRITERS {
        let (client, going) = (client.clone(), Arc::clone(going));
        let go_on = move || going.load(Ordering::Relaxed);
        let (body, counts) = (Arc::clone(&body), Arc::clone(counts));
        crowd.spawn(overload::write(client, writer, body, go_on, counts));
    }
    crowd
}

/// Waits until the limit was met, if it is low, and for as long as the fault lasts, or until the
/// node is killed; the most memory it had.
async fn squeeze(
    cluster: &mut Cluster,
    step: &Step,
    which: usize,
    limit: Limit,
    group: &MemoryLimit,
) -> u64 {
    let started = std::time::Instant::now();
    let node = &mut cluster.nodes_mut()[which];
    let process = node.pid();
    let mut highest = 0;
    wait::until("a node meets its limit of memory", EFFECT_MAX, async || {
        highest = process::memory_bytes(process).max(highest);
        (limit == Limit::Enough || group.met() > 0).then_some(())
    })
    .await;
    while started.elapsed() < step.hold && node.is_running() {
        highest = process::memory_bytes(process).max(highest);
        // sleep: how often memory is looked at
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    highest
}
