//! What must hold of all nodes at any moment, whatever happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::{EntryPayload, ServerState};
use storage::Direction;
use storage::keys::log;
use types::ids::{LeaseTimeMs, LogIndex, NodeId, Term};

use super::node::Node;
use crate::codec;
use crate::metrics;
use crate::type_config::{LeaderId, Vote};

/// Who wrote an entry. A term may have several leaders one after the other: the later one has the
/// higher number.
type Leader = (Term, NodeId);

/// An entry: its leader, a checksum of its bytes, and the lease time it was stamped with, if it is
/// one that the batcher made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    leader: Leader,
    crc: u32,
    lease_time: Option<LeaseTimeMs>,
}

/// What one node shows at one moment.
#[derive(Clone, Debug)]
struct Shown {
    vote: Vote,
    leads: bool,
    last: Option<LogIndex>,
    applied: Option<LogIndex>,
    snapshot: Option<LogIndex>,
    purged: Option<LogIndex>,
}

/// What was seen so far.
#[derive(Default)]
pub(super) struct Checks {
    leaders: BTreeSet<Leader>,
    /// Every entry that was ever applied by anybody, while some log held it.
    committed: BTreeMap<LogIndex, Entry>,
    /// Every entry seen in any log, by place and leader, with the leader of the one before it.
    entries: BTreeMap<(LogIndex, Leader), (u32, Option<Leader>)>,
    digests: BTreeMap<LogIndex, u64>,
    /// When an entry was first seen applied, and its lease time.
    stamped: BTreeMap<LogIndex, (Instant, LeaseTimeMs)>,
    /// Of each node that runs, what it showed last.
    before: BTreeMap<NodeId, Shown>,
    /// Of each node, its last leadership: a vote for itself that was on its disk.
    led: BTreeMap<NodeId, Leader>,
    pub looks: u64,
}

impl Checks {
    /// How many entries were seen applied, and how many leaders.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.committed.len(), self.leaders.len())
    }

    /// A node lost its power: what was not on its disk may be gone.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.before.remove(&node);
    }

    /// Looks at every node that runs.
    pub(super) fn look<'n>(&mut self, nodes: impl Iterator<Item = &'n Node>) {
        self.looks += 1;
        for node in nodes {
            self.check_vote(node);
            let Some(shown) = shown(node) else {
                continue;
            };
            self.check_order(node.id, &shown);
            if shown.leads {
                let leader = leader(&shown.vote.leader_id);
                assert_eq!(leader.1, node.id, "it leads by another's vote");
                self.leaders.insert(leader);
                self.led.insert(node.id, leader);
            }
            let entries = stored(node);
            self.check_matching(node.id, &entries);
            self.check_committed(node.id, &shown, &entries);
            self.check_digest(node);
            self.before.insert(node.id, shown);
        }
    }

    /// What only grows does, and what lies below what else.
    fn check_order(&self, node: NodeId, shown: &Shown) {
        assert!(shown.purged <= shown.snapshot, "{node}: {shown:?}");
        assert!(shown.snapshot <= shown.applied, "{node}: {shown:?}");
        assert!(shown.applied <= shown.last, "{node}: {shown:?}");
        if let Some(before) = self.before.get(&node) {
            let term = |shown: &Shown| shown.vote.leader_id.term;
            assert!(term(before) <= term(shown), "{node}: {before:?} {shown:?}");
            assert!(before.vote <= shown.vote, "{node}: {before:?} {shown:?}");
            assert!(
                before.applied <= shown.applied,
                "{node}: {before:?} {shown:?}"
            );
            assert!(
                before.purged <= shown.purged,
                "{node}: {before:?} {shown:?}"
            );
        }
    }

    /// A node that led never has a lower vote again, whatever became of its power.
    fn check_vote(&self, node: &Node) {
        let vote = node.raft.log().vote().map(|vote| leader(&vote.leader_id));
        let led = self.led.get(&node.id).copied();
        assert!(led <= vote, "{} led in {led:?} and has {vote:?}", node.id);
    }

    /// The same place and leader is the same entry, after the same one, in every log and for ever.
    fn check_matching(&mut self, node: NodeId, entries: &BTreeMap<LogIndex, Entry>) {
        for (index, Entry { leader, crc, .. }) in entries {
            let before = index.checked_sub(1).and_then(|before| entries.get(&before));
            let before = before.map(|entry| entry.leader);
            let known = self
                .entries
                .entry((*index, *leader))
                .or_insert((*crc, before));
            assert_eq!(known.0, *crc, "{node}: another entry {index} of {leader:?}");
            known.1 = known.1.or(before);
            let same = before.is_none() || known.1 == before;
            assert!(same, "{node}: another entry before {index} of {leader:?}");
        }
    }

    /// What was applied is the same everywhere, and what leads later has it.
    fn check_committed(
        &mut self,
        node: NodeId,
        shown: &Shown,
        entries: &BTreeMap<LogIndex, Entry>,
    ) {
        let Some((last, _)) = entries.last_key_value() else {
            return;
        };
        let purged = shown.purged.map_or(0, |purged| purged + 1);
        if shown.leads {
            let leader = leader(&shown.vote.leader_id);
            for (index, entry) in self.committed.range(purged..=*last) {
                let has = entry.leader >= leader || entries.get(index) == Some(entry);
                assert!(
                    has,
                    "{node} leads as {leader:?} without entry {index}: {entry:?}"
                );
            }
        }
        let applied = shown.applied.map_or(0..0, |applied| 0..applied + 1);
        let now = Instant::now();
        for (index, entry) in entries.range(applied) {
            let known = self.committed.entry(*index).or_insert(*entry);
            assert_eq!(known, entry, "{node} applied another entry {index}");
            if let Some(lease_time) = entry.lease_time {
                self.stamped.entry(*index).or_insert((now, lease_time));
            }
        }
    }

    /// Lease time may stand still, but never runs faster than time: a lease would end early.
    /// `acknowledged` are entries with a moment before each was stamped. From then until a later
    /// entry was seen is more time than passed between the stamps of the two.
    pub(super) fn check_lease_time(&self, acknowledged: &[(LogIndex, Instant)]) {
        for (index, before) in acknowledged {
            let Some((_, stamp)) = self.stamped.get(index) else {
                continue;
            };
            for (later, (seen, later_stamp)) in self.stamped.range(index + 1..) {
                let counted = Duration::from_millis(later_stamp.saturating_sub(*stamp));
                let passed = seen.saturating_duration_since(*before);
                // Stamps are whole milliseconds.
                assert!(
                    counted <= passed + Duration::from_millis(1),
                    "{counted:?} of lease time in {passed:?}, from entry {index} to {later}"
                );
            }
        }
    }

    /// The same entries make the same state.
    fn check_digest(&mut self, node: &Node) {
        let applied = node.raft.store().applied();
        if let Some(last) = applied.last {
            let known = *self.digests.entry(last.index).or_insert(applied.digest);
            assert_eq!(
                known, applied.digest,
                "{} differs at {}",
                node.id, last.index
            );
        }
    }
}

/// None while the core has not said anything yet.
fn shown(node: &Node) -> Option<Shown> {
    let shown = metrics::look(node.raft.core(), |metrics| Shown {
        vote: metrics.vote,
        leads: metrics.state == ServerState::Leader,
        last: metrics.last_log_index,
        applied: metrics.last_applied.map(|id| id.index),
        snapshot: metrics.snapshot.map(|id| id.index),
        purged: metrics.purged.map(|id| id.index),
    });
    (shown.vote.leader_id.term > 0).then_some(shown)
}

fn leader(id: &LeaderId) -> Leader {
    (id.term, id.node_id)
}

fn stored(node: &Node) -> BTreeMap<LogIndex, Entry> {
    let engine = node.log();
    let all = engine.scan(&log::all_entries(), Direction::Forward);
    all.map(|pair| {
        let (key, record) = pair.unwrap();
        let crc = crc32fast::hash(&record);
        let entry = codec::decode(&Bytes::from(record)).unwrap();
        let lease_time = match &entry.payload {
            EntryPayload::Normal(proposal) => Some(proposal.decoded().unwrap().lease_time),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        };
        let entry = Entry {
            leader: leader(&entry.log_id.leader_id),
            crc,
            lease_time,
        };
        (log::split_entry(&key).unwrap(), entry)
    })
    .collect()
}

#[test]
#[should_panic(expected = "of lease time in")]
fn lease_time_that_runs_faster_than_time_is_seen() {
    let asked = Instant::now();
    let at = |ms| asked + Duration::from_millis(ms);
    // It stood still, and went on as it should.
    let mut checks = Checks {
        stamped: [(1, (at(2), 100)), (2, (at(50), 100)), (4, (at(60), 110))].into(),
        ..Checks::default()
    };
    checks.check_lease_time(&[(1, asked), (2, at(45)), (3, at(50))]);
    checks.stamped.insert(5, (at(70), 151));
    checks.check_lease_time(&[(2, at(45))]);
}
