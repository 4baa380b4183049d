//! Short lives of a cluster of three, each from a seed: writes and linearizable reads while
//! directions of the network are cut, delayed and reset, nodes lose their power alone or together,
//! and snapshots are taken. Everything is real but disks and sockets: consensus, batcher, guard,
//! joining, RPC with its sessions and streams. Everything that must hold at any moment is checked
//! some hundred times a life (`checks`), and at the end that nothing acknowledged is gone.
//!
//! The seed decides what happens and how the network behaves; threads and time are real ones, so a
//! seed that fails need not fail the next time. `SIMULATION_SEEDS=first..end` sets which are tried.

mod checks;
mod node;
mod wire;

pub(crate) use wire::connector;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use storage::keys::catalog;
use tokio::task::JoinSet;
use types::command::{Change, CommandKind, Envelope, Write};
use types::ids::{LogIndex, NodeId};
use types::outcome::Outcome;

use self::checks::Checks;
use self::node::{Disk, Node, PATIENCE};
use self::wire::{Link, Net};
use crate::Raft;

/// Nodes of a cluster.
const NODES: u64 = 3;
/// Lives at the same time; a life mostly waits.
const LIVES_AT_ONCE: usize = 12;
/// What happens in a life, one thing after the other.
const EVENTS: u64 = 16;
/// How long each lasts at most, in ms.
const EVENT_MAX_MS: u64 = 120;
/// Between two looks at all nodes.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Between two writes of one client.
const WRITE_INTERVAL: Duration = Duration::from_millis(3);
/// How long a client waits for an answer.
const CLIENT_PATIENCE: Duration = Duration::from_millis(500);

/// A generator of numbers: splitmix64.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn node(&mut self) -> NodeId {
        1 + self.next() % NODES
    }
}

/// What clients share.
#[derive(Default)]
struct Clients {
    /// The nodes that run.
    nodes: Mutex<BTreeMap<NodeId, Raft>>,
    /// What was acknowledged, by the number of the write: the entry, and when it was asked for.
    acknowledged: Mutex<BTreeMap<u64, (LogIndex, Instant)>>,
    next_write: AtomicU64,
    reads: AtomicU64,
}

impl Clients {
    /// The last entry that was acknowledged to any of them.
    fn newest(&self) -> LogIndex {
        let acknowledged = self.acknowledged.lock().unwrap();
        let entries = acknowledged.values().map(|(index, _)| *index);
        entries.max().unwrap_or(0)
    }
}

/// What a life came to.
#[derive(Debug, Default)]
struct Story {
    acknowledged: usize,
    reads: u64,
    applied: usize,
    leaders: usize,
    looks: u64,
    power_losses: u64,
    snapshots: u64,
}

/// One life.
struct Life {
    net: Arc<Net>,
    random: Random,
    nodes: BTreeMap<NodeId, Node>,
    off: Vec<(NodeId, Disk)>,
    clients: Arc<Clients>,
    checks: Checks,
    story: Story,
}

impl Life {
    async fn begin(seed: u64) -> Life {
        let net = Net::new(&format!("sim{seed}"), seed);
        let mut nodes = BTreeMap::new();
        let first = Node::start(&net, 1, Disk::new()).await;
        first.raft.initialize().await.unwrap();
        found(&first.raft).await;
        nodes.insert(1, first);
        for id in 2..=NODES {
            let node = Node::join(&net, id).await;
            wait_voter(&node.raft).await;
            nodes.insert(id, node);
        }
        let life = Life {
            net,
            random: Random::new(!seed),
            nodes,
            off: Vec::new(),
            clients: Arc::default(),
            checks: Checks::default(),
            story: Story::default(),
        };
        life.tell_clients();
        life
    }

    /// Clients know the nodes that run.
    fn tell_clients(&self) {
        let running = self.nodes.iter().map(|(id, node)| (*id, node.raft.clone()));
        *self.clients.nodes.lock().unwrap() = running.collect();
    }

    async fn happen(&mut self) {
        let (one, other) = (self.random.node(), self.random.node());
        let link = Link {
            cut: self.random.next().is_multiple_of(2),
            delay_max: Duration::from_micros(self.random.next() % 8_000),
            resets: self.random.next() % 30,
        };
        match self.random.next() % 12 {
            0 | 1 => self.net.set(one, other, link),
            2 | 3 => {
                // One that hears nobody, is heard by nobody, or both.
                let (deaf, mute) = [(true, false), (false, true), (true, true)]
                    [usize::try_from(self.random.next() % 3).unwrap()];
                let cut = Link { cut: true, ..link };
                for peer in (1..=NODES).filter(|peer| *peer != one) {
                    if deaf {
                        self.net.set(peer, one, cut);
                    }
                    if mute {
                        self.net.set(one, peer, cut);
                    }
                }
            }
            4 | 5 => self.net.change_all(|link| *link = Link::default()),
            6 => self
                .net
                .change_all(|to_change| *to_change = Link { cut: false, ..link }),
            7 => self.lose_power(vec![one]).await,
            8 => self.lose_power((1..=NODES).collect()).await,
            9 => self.power_back().await,
            10 => {
                if let Some(node) = self.nodes.get(&one) {
                    node.raft.trigger_snapshot().await.unwrap();
                    self.story.snapshots += 1;
                }
            }
            _ => {}
        }
    }

    async fn lose_power(&mut self, of: Vec<NodeId>) {
        let lost: Vec<Node> = of.iter().filter_map(|id| self.nodes.remove(id)).collect();
        self.tell_clients();
        for node in &lost {
            self.checks.forget(node.id);
            self.story.power_losses += 1;
        }
        let kept = Node::power_loss(&self.net, lost).await;
        self.off.extend(kept);
    }

    async fn power_back(&mut self) {
        for (id, disk) in std::mem::take(&mut self.off) {
            let node = Node::start(&self.net, id, disk).await;
            self.nodes.insert(id, node);
        }
        self.tell_clients();
    }

    /// Time passes, with everybody watched.
    async fn pass(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            self.checks.look(self.nodes.values());
            // sleep: a life is looked at in steps.
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn live(&mut self) {
        let mut clients = JoinSet::new();
        clients.spawn(write(Arc::clone(&self.clients)));
        clients.spawn(write(Arc::clone(&self.clients)));
        clients.spawn(read(
            Arc::clone(&self.clients),
            Random::new(self.random.next()),
        ));
        for _ in 0..EVENTS {
            self.happen().await;
            let time = Duration::from_millis(self.random.next() % EVENT_MAX_MS);
            self.pass(time).await;
            if let Some(ended) = clients.try_join_next() {
                panic!("a client ended: {ended:?}");
            }
        }
        clients.shutdown().await;
    }

    /// Everything is mended. Then a write is answered, all nodes come to it, and all that was
    /// acknowledged is there on each of them.
    async fn end(&mut self) {
        self.net.change_all(|link| *link = Link::default());
        self.power_back().await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let last = loop {
            assert!(
                tokio::time::Instant::now() < deadline,
                "no write is answered"
            );
            self.pass(LOOK_INTERVAL).await;
            if let Some(index) = write_once(&self.clients).await {
                break index;
            }
        };
        for node in self.nodes.values() {
            let reached = tokio::time::timeout(PATIENCE, node.raft.wait_applied(last)).await;
            reached.expect("all come to the last write").unwrap();
        }
        self.checks.look(self.nodes.values());
        let acknowledged = self.clients.acknowledged.lock().unwrap().clone();
        let entries: Vec<_> = acknowledged.values().copied().collect();
        self.checks.check_lease_time(&entries);
        for node in self.nodes.values() {
            let state = node.raft.snapshot().state;
            for (number, (index, _)) in &acknowledged {
                let found = state.get(&key(*number)).unwrap();
                let found =
                    found.map(|stored| types::ids::Version::split(&stored).unwrap().0.index);
                assert_eq!(found, Some(*index), "write {number} on node {}", node.id);
            }
        }
        (self.story.applied, self.story.leaders) = self.checks.counts();
        self.story.acknowledged = acknowledged.len();
        self.story.reads = self.clients.reads.load(Ordering::Relaxed);
        self.story.looks = self.checks.looks;
    }
}

fn key(number: u64) -> Vec<u8> {
    catalog::counter(&number.to_string())
}

/// The first node has the number it took.
async fn found(raft: &Raft) {
    let mut leadership = raft.leadership_watch();
    let ready = leadership.wait_for(|leadership| leadership.ready_to_plan);
    let term = ready.await.unwrap().term;
    let register = types::command::RegisterNode {
        nonce: vec![1; 16].into(),
        requested_id: 1,
    };
    let envelope = Envelope {
        term,
        commands: vec![CommandKind::RegisterNode(register).into()],
        ..Envelope::default()
    };
    raft.propose(envelope).await.unwrap();
}

async fn wait_voter(raft: &Raft) {
    let id = raft.node_id();
    let voter = crate::metrics::wait_for(raft.core(), |metrics| {
        let membership = &metrics.committed_membership_config;
        let joint = membership.membership().get_joint_config().len() > 1;
        (!joint && membership.voter_ids().any(|voter| voter == id)).then_some(())
    });
    let voter = tokio::time::timeout(PATIENCE, voter).await;
    voter.unwrap().unwrap();
}

/// Writes once, where somebody says that he leads. The entry, if that was answered.
async fn write_once(clients: &Clients) -> Option<LogIndex> {
    let nodes = clients.nodes.lock().unwrap().clone();
    let leader = nodes
        .values()
        .find(|raft| raft.leadership().ready_to_plan)?;
    let number = clients.next_write.fetch_add(1, Ordering::Relaxed);
    let change = Change {
        key: key(number).into(),
        after: Some(Bytes::from_static(b"written")),
        event: None,
    };
    let write = Write {
        changes: vec![change],
        ..Write::default()
    };
    let envelope = Envelope {
        term: leader.leadership().term,
        commands: vec![CommandKind::Write(write).into()],
        ..Envelope::default()
    };
    let asked = Instant::now();
    let answer = tokio::time::timeout(CLIENT_PATIENCE, leader.propose(envelope)).await;
    let proposed = answer.ok()?.ok()?;
    assert!(
        matches!(proposed.outcome, Outcome::Applied(_)),
        "{proposed:?}"
    );
    let mut acknowledged = clients.acknowledged.lock().unwrap();
    acknowledged.insert(number, (proposed.index, asked));
    Some(proposed.index)
}

async fn write(clients: Arc<Clients>) {
    loop {
        write_once(&clients).await;
        // sleep: a client thinks.
        tokio::time::sleep(WRITE_INTERVAL).await;
    }
}

/// Reads on any node: what was acknowledged before is there.
async fn read(clients: Arc<Clients>, mut random: Random) {
    loop {
        // sleep: a client thinks.
        tokio::time::sleep(WRITE_INTERVAL).await;
        let nodes = clients.nodes.lock().unwrap().clone();
        let Some(raft) = nodes.get(&random.node()) else {
            continue;
        };
        let newest = clients.newest();
        if let Ok(index) = raft.read_index(CLIENT_PATIENCE).await {
            assert!(
                index >= newest,
                "a read at {index} after {newest} was answered"
            );
            clients.reads.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A life on a thread of its own. What went wrong, if anything did.
fn run(seed: u64) -> Story {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let story = runtime.block_on(async {
        let mut life = Life::begin(seed).await;
        life.live().await;
        life.end().await;
        let all = life.nodes.keys().copied().collect();
        let story = std::mem::take(&mut life.story);
        life.lose_power(all).await;
        story
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    story
}

/// `first..end` of the environment, or the few of every day.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("SIMULATION_SEEDS").unwrap_or_else(|_| "0..100".to_owned());
    let (first, end) = asked.split_once("..").expect("first..end");
    first.parse().expect("a number")..end.parse().expect("a number")
}

#[test]
fn whatever_happens_to_a_cluster_nothing_acknowledged_is_lost() {
    let next = Mutex::new(seeds());
    let (failed, stories) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..LIVES_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(seed) = next.lock().unwrap().next() else {
                        return;
                    };
                    match std::panic::catch_unwind(|| run(seed)) {
                        Ok(story) => stories.lock().unwrap().push(story),
                        Err(_) => failed.lock().unwrap().push(seed),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
    check_stories(&stories.into_inner().unwrap());
}

/// Lives in which nothing happens show nothing.
fn check_stories(stories: &[Story]) {
    let sum = |of: fn(&Story) -> u64| stories.iter().map(of).sum::<u64>();
    let lives = stories.len() as u64;
    let total = Story {
        acknowledged: stories.iter().map(|story| story.acknowledged).sum(),
        reads: sum(|story| story.reads),
        applied: stories.iter().map(|story| story.applied).sum(),
        leaders: stories.iter().map(|story| story.leaders).sum(),
        looks: sum(|story| story.looks),
        power_losses: sum(|story| story.power_losses),
        snapshots: sum(|story| story.snapshots),
    };
    println!("{lives} lives: {total:?}");
    assert!(total.acknowledged as u64 > 20 * lives, "{total:?}");
    assert!(
        total.reads > 5 * lives && total.looks > 50 * lives,
        "{total:?}"
    );
    assert!(total.leaders as u64 > lives, "{total:?}");
    assert!(
        total.power_losses > lives && total.snapshots > 0,
        "{total:?}"
    );
}
