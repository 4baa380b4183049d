//! What the leader watches over for the whole cluster: room on the disks, replicas that differ,
//! and which version of apply every member's build has.
//!
//! Every second it asks all members how they are. From the answers follow:
//!
//! - whether growth is refused ([`crate::disk`]);
//! - whether this leader's disk stands still, and another is to lead ([`crate::stall`]);
//! - now and then, whether all hold the same state: digests are compared at one entry that all have
//!   applied. A minority that differs is told through the log, by an entry that names the
//!   majority's digest, and stops when it applies that. Where no majority agrees nobody can say who
//!   is right: that is an alarm. Nothing is compared while nothing is written;
//! - that the membership says which build a member runs, after it was restarted with another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use types::command::{CommandKind, CompareDigest, Envelope};
use types::ids::{LogIndex, NodeId, Term};
use types::limits::{DIGEST_COMPARE_INTERVAL_MS, WATCH_INTERVAL_MS};

use crate::batcher::Batcher;
use crate::clock::Clock;
use crate::compaction::frees_log;
use crate::disk::{Disk, Room, Verdict};
use crate::error::ProposeError;
use crate::handle::{Core, Raft};
use crate::leadership::Leadership;
use crate::log_store::LogHandle;
use crate::membership::Changes;
use crate::metrics;
use crate::network::peers::Peers;
use crate::rpc::messages::{StatusRequest, StatusResponse};
use crate::stall;
use crate::state_machine::StateStore;
use crate::status;
use crate::tls::Certificates;
use crate::type_config::{Member, StoredMembership};

/// How long the leader waits for the digest of a member that has not got so far.
const COMPARE_PATIENCE: Duration = Duration::from_millis(DIGEST_COMPARE_INTERVAL_MS);
/// How long a full leader waits after a transfer that failed.
const HANDOVER_PAUSE: Duration = Duration::from_secs(10);

/// What a node says of itself when it is asked how it is.
pub(crate) struct Own {
    pub core: Core,
    pub store: Arc<StateStore>,
    pub member: Member,
    pub disk: watch::Receiver<Disk>,
    pub log: LogHandle,
    pub certificates: watch::Receiver<Certificates>,
    pub clock: Arc<Clock>,
    pub changes: Arc<Changes>,
}

impl Own {
    pub fn status(&self, request: StatusRequest) -> StatusResponse {
        let applied = self.store.applied().index();
        let disk = *self.disk.borrow();
        let certificates = *self.certificates.borrow();
        StatusResponse {
            certificate_expires_in_s: certificates.expire_in_s(self.clock.wall()),
            certificate_refused: certificates.refused(),
            disk_free_bytes: disk.free_bytes,
            disk_full: disk.full,
            disk_reserve_bytes: disk.reserve_bytes,
            digest: request
                .digest_at
                .and_then(|index| self.store.digest_at(index)),
            apply_version: self.member.apply_version,
            draining: self.changes.is_draining(),
            log_write_ms: self
                .log
                .write_takes()
                .as_millis()
                .try_into()
                .unwrap_or(u64::MAX),
            wall_time: self.clock.wall(),
            ..status::own(&self.core, applied, &self.member.version)
        }
    }
}

/// What others may know of the guard.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    growth_refused: AtomicBool,
    differing: AtomicU64,
    compared: AtomicU64,
}

impl Findings {
    /// Is growth refused, as far as this node decides it?
    pub fn growth_refused(&self) -> bool {
        self.growth_refused.load(Ordering::Acquire)
    }

    /// How many members held another state when this leader compared last.
    pub fn differing(&self) -> u64 {
        self.differing.load(Ordering::Relaxed)
    }

    /// The entry at which this leader compared last; 0: none.
    pub fn compared(&self) -> LogIndex {
        self.compared.load(Ordering::Relaxed)
    }
}

/// The task.
pub(crate) struct Guard {
    own: Arc<Own>,
    peers: Peers,
    batcher: Batcher,
    changes: Arc<Changes>,
    findings: Arc<Findings>,
    /// What each node said last of its disk. Of this leadership.
    disks: BTreeMap<NodeId, Disk>,
    /// When the leadership could not be handed to a node with room.
    stuck: Option<Instant>,
    comparison: Option<Comparison>,
    last_compared: Option<Instant>,
}

/// Digests at one entry, as they come in.
struct Comparison {
    index: LogIndex,
    began: Instant,
    digests: BTreeMap<NodeId, u64>,
}

impl Guard {
    pub fn new(
        own: &Arc<Own>,
        peers: &Peers,
        batcher: &Batcher,
        findings: &Arc<Findings>,
    ) -> Guard {
        Guard {
            own: Arc::clone(own),
            peers: peers.clone(),
            batcher: batcher.clone(),
            changes: Arc::clone(&own.changes),
            findings: Arc::clone(findings),
            disks: BTreeMap::new(),
            stuck: None,
            comparison: None,
            last_compared: None,
        }
    }

    /// Watches while this node leads. Ends with the core.
    pub async fn run(mut self, mut leadership: watch::Receiver<Leadership>) {
        let mut disk = self.own.disk.clone();
        let every = Duration::from_millis(WATCH_INTERVAL_MS);
        loop {
            let now = leadership.borrow_and_update().clone();
            if now.is_leader {
                self.watch(now.term).await;
            } else {
                self.rest();
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                // A gauge that is gone says nothing new, and must not make this loop spin.
                Ok(()) = disk.changed() => {}
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    /// Another node watches.
    fn rest(&mut self) {
        self.disks.clear();
        self.stuck = None;
        self.comparison = None;
        self.findings.growth_refused.store(false, Ordering::Release);
        self.findings.differing.store(0, Ordering::Relaxed);
    }

    async fn watch(&mut self, term: Term) {
        self.begin_comparison();
        let stored = metrics::look(&self.own.core, |metrics| metrics.membership_config.clone());
        let answers = self.ask_all(&stored).await;
        for (node_id, answer) in &answers {
            self.disks.insert(*node_id, Disk::from(answer));
        }
        self.disks
            .retain(|id, _| stored.membership().get_node(id).is_some());
        if self.leave_stalled_disk(&stored, &answers).await {
            return;
        }
        self.judge_disks(&stored, &answers).await;
        self.announce_builds(&stored, &answers).await;
        self.compare(&stored, &answers, term).await;
    }

    async fn ask_all(&self, stored: &StoredMembership) -> BTreeMap<NodeId, StatusResponse> {
        let own_id = *self.own.core.node_id();
        let request = StatusRequest {
            digest_at: self.comparison.as_ref().map(|comparison| comparison.index),
        };
        let asked = stored.membership().nodes().map(|(id, member)| async move {
            let answer = if *id == own_id {
                Some(self.own.status(request))
            } else {
                status::ask(&self.peers, *id, &member.rpc, request).await
            };
            Some((*id, answer?))
        });
        let answers = futures::future::join_all(asked).await;
        answers.into_iter().flatten().collect()
    }

    /// Lets another voter lead while this node cannot write its log. False if all is well, or if
    /// there is nobody. Tried at every look: no write is answered meanwhile that a try could delay,
    /// and the new leader refuses one that comes too late.
    async fn leave_stalled_disk(
        &self,
        stored: &StoredMembership,
        answers: &BTreeMap<NodeId, StatusResponse>,
    ) -> bool {
        let own = *self.own.core.node_id();
        let Some(next) = stall::successor(own, stored.voter_ids(), answers) else {
            return false;
        };
        let for_ms = answers.get(&own).map(|answer| answer.log_write_ms);
        tracing::warn!(
            next,
            for_ms,
            "the log's disk stands still: another is to lead"
        );
        if let Err(error) = self.changes.leave_stalled(next).await {
            tracing::warn!(next, %error, "the leadership was not handed on");
        }
        true
    }

    async fn judge_disks(
        &mut self,
        stored: &StoredMembership,
        answers: &BTreeMap<NodeId, StatusResponse>,
    ) {
        let voters = voters(stored);
        let drains = answers.iter().filter(|(_, answer)| answer.draining);
        let draining = drains.map(|(id, _)| *id).collect();
        // A new leader has not heard heartbeats answered yet, and a busy node may be slow to say
        // how it is: either will do.
        let answers = |id: &NodeId| answers.contains_key(id) || self.changes.reachable(*id);
        let room = Room {
            leader: *self.own.core.node_id(),
            answering: voters.iter().flatten().copied().filter(answers).collect(),
            voters,
            disks: &self.disks,
            draining,
        };
        let verdict = room.verdict();
        let refuse = match verdict {
            Verdict::Grow => {
                self.stuck = None;
                false
            }
            Verdict::Refuse => true,
            // Until it has failed once, clients see the pause of a transfer and no error.
            Verdict::HandOver(node_id) => !self.hand_over(node_id).await,
        };
        let before = self.findings.growth_refused.swap(refuse, Ordering::AcqRel);
        let full: Vec<_> = self.disks.iter().filter(|(_, disk)| disk.full).collect();
        match (before, refuse) {
            (false, true) => tracing::warn!(?full, "too few voters have room: growth is refused"),
            (true, false) => tracing::info!(?full, "enough voters have room: growth goes on"),
            _ => {}
        }
    }

    /// Hands the leadership on, but not at every look: each try stops writes for a moment. False if
    /// the last one failed.
    async fn hand_over(&mut self, node_id: NodeId) -> bool {
        if self.stuck.is_some_and(|at| at.elapsed() < HANDOVER_PAUSE) {
            return false;
        }
        tracing::warn!(
            node_id,
            "the disk is nearly full: handing the leadership on"
        );
        let handed_on = self.changes.transfer(node_id).await;
        self.stuck = match handed_on {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!(node_id, %error, "the leadership was not handed on");
                Some(Instant::now())
            }
        };
        self.stuck.is_none()
    }

    /// Writes into the membership what a restarted member's build is.
    async fn announce_builds(
        &self,
        stored: &StoredMembership,
        answers: &BTreeMap<NodeId, StatusResponse>,
    ) {
        for (node_id, known) in stored.membership().nodes() {
            let Some(answer) = answers.get(node_id) else {
                continue;
            };
            let (version, apply_version) = (&answer.version, answer.apply_version);
            let same = known.version == *version && known.apply_version == apply_version;
            if apply_version == 0 || same {
                continue;
            }
            if let Err(error) = self
                .changes
                .set_build(*node_id, version, apply_version)
                .await
            {
                tracing::warn!(node_id, %error, "its build was not written down; trying again");
            }
        }
    }

    /// Chooses the entry to compare at, if it is time and there is a new one.
    fn begin_comparison(&mut self) {
        let due = self
            .last_compared
            .is_none_or(|at| at.elapsed() >= COMPARE_PATIENCE);
        if self.comparison.is_some() || !due {
            return;
        }
        let newest = self.own.store.digests().newest();
        let Some((index, _)) = newest.filter(|(index, _)| *index > self.findings.compared()) else {
            return;
        };
        self.comparison = Some(Comparison {
            index,
            began: Instant::now(),
            digests: BTreeMap::new(),
        });
    }

    /// Gathers digests, and judges them once all are there or enough time has passed.
    async fn compare(
        &mut self,
        stored: &StoredMembership,
        answers: &BTreeMap<NodeId, StatusResponse>,
        term: Term,
    ) {
        let Some(comparison) = &mut self.comparison else {
            return;
        };
        let digests = answers
            .iter()
            .filter_map(|(id, answer)| Some((*id, answer.digest?)));
        comparison.digests.extend(digests);
        let all = stored.membership().nodes().count();
        if comparison.digests.len() < all && comparison.began.elapsed() < COMPARE_PATIENCE {
            return;
        }
        let Some(Comparison { index, digests, .. }) = self.comparison.take() else {
            return;
        };
        self.last_compared = Some(Instant::now());
        self.findings.compared.store(index, Ordering::Relaxed);
        let judgement = judge(&voters(stored), &digests);
        self.findings
            .differing
            .store(judgement.differing(), Ordering::Relaxed);
        match judgement {
            Judgement::Same => {}
            Judgement::NoMajority => tracing::error!(
                index,
                ?digests,
                "the replicas have diverged, and no majority agrees on one state"
            ),
            Judgement::Minority { majority, nodes } => {
                tracing::error!(
                    index,
                    ?nodes,
                    "these nodes hold another state than the majority, and are told to stop"
                );
                if let Err(error) = self.tell(index, majority, term).await {
                    tracing::error!(index, %error, "they could not be told; trying again");
                    self.findings.compared.store(0, Ordering::Relaxed);
                }
            }
        }
    }

    async fn tell(&self, index: LogIndex, digest: u64, term: Term) -> Result<(), ProposeError> {
        let compare = CommandKind::CompareDigest(CompareDigest { index, digest });
        let envelope = Envelope {
            term,
            commands: vec![compare.into()],
            ..Envelope::default()
        };
        self.batcher.propose(envelope).await.map(drop)
    }
}

/// What digests at one entry say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Judgement {
    /// All that are known are the same.
    Same,
    /// A majority of the voters holds one; these nodes hold another.
    Minority { majority: u64, nodes: Vec<NodeId> },
    /// They differ, and no majority holds any.
    NoMajority,
}

impl Judgement {
    fn differing(&self) -> u64 {
        match self {
            Judgement::Same => 0,
            Judgement::Minority { nodes, .. } => nodes.len() as u64,
            // Who of them is wrong is not known; one is.
            Judgement::NoMajority => 1,
        }
    }
}

fn judge(voters: &[BTreeSet<NodeId>], digests: &BTreeMap<NodeId, u64>) -> Judgement {
    let values: BTreeSet<u64> = digests.values().copied().collect();
    if values.len() <= 1 {
        return Judgement::Same;
    }
    // A majority of all voters, not of those that answered: the others may agree with either side.
    let held = |value: &u64| {
        voters.iter().all(|voters| {
            let holders = voters.iter().filter(|id| digests.get(id) == Some(value));
            holders.count() > voters.len() / 2
        })
    };
    let Some(majority) = values.into_iter().find(held) else {
        return Judgement::NoMajority;
    };
    let others = digests.iter().filter(|(_, digest)| **digest != majority);
    Judgement::Minority {
        majority,
        nodes: others.map(|(id, _)| *id).collect(),
    }
}

/// The voters of each configuration in force.
fn voters(stored: &StoredMembership) -> Vec<BTreeSet<NodeId>> {
    stored.membership().get_joint_config().clone()
}

impl Raft {
    /// The last entry applied and the digest of the state then: a hash chain over every change that
    /// was ever applied, the same on all nodes.
    pub fn digest(&self) -> (LogIndex, u64) {
        let applied = self.store().applied();
        (applied.index(), applied.digest)
    }

    /// The digest at an entry: the last one applied, or a multiple of
    /// [`types::limits::DIGEST_MARK_ENTRIES`] that was applied lately and since the node started.
    pub fn digest_at(&self, index: LogIndex) -> Option<u64> {
        self.store().digest_at(index)
    }

    /// How many members held another state when this node, as the leader, compared them last, and
    /// at which entry that was; 0: it never did.
    pub fn differing_members(&self) -> (u64, LogIndex) {
        let findings = self.findings();
        (findings.differing(), findings.compared())
    }

    /// The room on this node's disk.
    pub fn disk(&self) -> Disk {
        *self.own().disk.borrow()
    }

    /// The certificates this node shows.
    pub fn certificates(&self) -> Certificates {
        *self.own().certificates.borrow()
    }

    /// Would a snapshot taken now let this node's log lose entries?
    pub fn snapshot_frees_log(&self) -> bool {
        frees_log(self.core(), self.log(), self.retention())
    }

    /// Does this node, as the leader, refuse what grows?
    pub fn growth_refused(&self) -> bool {
        self.findings().growth_refused()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(voters: &[NodeId], digests: &[(NodeId, u64)]) -> Judgement {
        let voters = [voters.iter().copied().collect()];
        judge(&voters, &digests.iter().copied().collect())
    }

    fn minority(nodes: &[NodeId]) -> Judgement {
        Judgement::Minority {
            majority: 7,
            nodes: nodes.to_vec(),
        }
    }

    #[test]
    fn only_a_majority_of_all_voters_says_who_is_wrong() {
        assert_eq!(
            judged(&[1, 2, 3], &[(1, 7), (2, 7), (3, 7)]),
            Judgement::Same
        );
        assert_eq!(judged(&[1, 2, 3], &[(1, 7)]), Judgement::Same);
        assert_eq!(
            judged(&[1, 2, 3], &[(1, 7), (2, 7), (3, 8)]),
            minority(&[3])
        );
        assert_eq!(
            judged(&[1, 2, 3], &[(1, 8), (2, 7), (3, 7)]),
            minority(&[1])
        );
        // One voter is silent: 1 against 1 of 3.
        assert_eq!(judged(&[1, 2, 3], &[(1, 8), (2, 7)]), Judgement::NoMajority);
        assert_eq!(judged(&[1, 2], &[(1, 8), (2, 7)]), Judgement::NoMajority);
        // Learners are judged and do not judge.
        let two_learners = [(1, 7), (2, 8), (3, 8)];
        assert_eq!(judged(&[1], &two_learners), minority(&[2, 3]));
    }
}
