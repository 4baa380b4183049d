//! Who belongs to the cluster, and who votes.
//!
//! - One change at a time: callers on this node take turns, and each change is proposed against the
//!   membership it was decided on; a change elsewhere in between makes it fail, not overwrite.
//! - A node joins as a learner. The leader gives it a vote when it has caught up, if it is to have
//!   one: that wish is in the membership, so whoever leads next goes on with it. So does a change
//!   that a leader left half done.
//! - A step that would leave the cluster without a quorum is refused, with the reason.
//! - Every step may be repeated: one that is done already succeeds and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant, Precondition, RaftMetrics};
use tokio::sync::Mutex;
use types::ids::{LogIndex, NodeId};

use crate::batcher::Batcher;
use crate::error::{MembershipError, Stopped};
use crate::handle::Core;
use crate::metrics;
use crate::network::peers::Peers;
use crate::type_config::{LogId, Member, StoredMembership, TypeConfig};

/// How far behind the leader's log a learner may be to be given a vote, in entries.
pub(crate) const PROMOTE_LAG_MAX: LogIndex = 100;
/// How often the leader looks for learners that have caught up.
const PROMOTE_INTERVAL: Duration = Duration::from_millis(200);
/// How long a change may take to be committed and applied.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a transfer of the leadership waits for each of its steps.
const TRANSFER_STEP_TIMEOUT: Duration = Duration::from_secs(1);

/// What becomes of entries that are not committed when the leadership is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InFlight {
    /// They are committed before.
    Finishes,
    /// They stay in the log, and the next leader decides.
    Stays,
}

pub(crate) type Result<T, E = MembershipError> = std::result::Result<T, E>;

/// Changes the membership.
pub(crate) struct Changes {
    pub(crate) core: Core,
    batcher: Batcher,
    pub(crate) peers: Peers,
    /// Silence after which a voter counts as unreachable.
    silence_max: Duration,
    turn: Mutex<()>,
    /// This node does not want to lead.
    draining: AtomicBool,
}

impl Changes {
    pub(crate) fn new(
        core: Core,
        batcher: Batcher,
        peers: Peers,
        silence_max: Duration,
    ) -> Changes {
        Changes {
            core,
            batcher,
            peers,
            silence_max,
            turn: Mutex::new(()),
            draining: AtomicBool::new(false),
        }
    }

    /// Adds a node that follows; nothing changes if it is there already.
    pub(crate) async fn add_learner(&self, node_id: NodeId, member: Member) -> Result<()> {
        let _turn = self.turn.lock().await;
        let stored = self.leading()?;
        match stored.membership().get_node(&node_id) {
            Some(known) if *known == member => return Ok(()),
            Some(known) if known.rpc != member.rpc => {
                return Err(MembershipError::Refused(format!(
                    "node {node_id} is a member at {}",
                    known.rpc
                )));
            }
            _ => {}
        }
        let nodes = BTreeMap::from([(node_id, member)]);
        self.change(ChangeMembers::SetNodes(nodes), &stored).await
    }

    /// Gives a member other addresses, or another wish for a vote.
    pub(crate) async fn set_member(&self, node_id: NodeId, member: Member) -> Result<()> {
        let _turn = self.turn.lock().await;
        let stored = self.leading()?;
        if *known(&stored, node_id)? == member {
            return Ok(());
        }
        let nodes = BTreeMap::from([(node_id, member)]);
        self.change(ChangeMembers::SetNodes(nodes), &stored).await
    }

    /// Writes down which build a member runs, whatever else was changed of it meanwhile.
    pub(crate) async fn set_build(
        &self,
        node_id: NodeId,
        version: &str,
        apply_version: u32,
    ) -> Result<()> {
        let _turn = self.turn.lock().await;
        let stored = self.leading()?;
        let known = known(&stored, node_id)?;
        let member = Member {
            version: version.to_owned(),
            apply_version,
            ..known.clone()
        };
        if member == *known {
            return Ok(());
        }
        let nodes = BTreeMap::from([(node_id, member)]);
        self.change(ChangeMembers::SetNodes(nodes), &stored).await
    }

    /// Gives a learner that has caught up a vote.
    pub(crate) async fn promote(&self, node_id: NodeId) -> Result<()> {
        let _turn = self.turn.lock().await;
        let stored = self.leading()?;
        if stored.voter_ids().any(|voter| voter == node_id) {
            return Ok(());
        }
        known(&stored, node_id)?;
        if !self
            .soon(|metrics| lag_of(metrics, node_id) <= PROMOTE_LAG_MAX)
            .await
        {
            return Err(match self.lag(node_id) {
                LogIndex::MAX => refused("the node has not said yet what it has"),
                lag => MembershipError::Lagging { node_id, lag },
            });
        }
        if !self.soon(|metrics| self.answers(metrics, node_id)).await {
            let why = format!("node {node_id} does not answer, so its vote would be missing");
            return Err(MembershipError::Refused(why));
        }
        let change = ChangeMembers::AddVoterIds(BTreeSet::from([node_id]));
        self.change(change, &stored).await
    }

    /// Takes a node out, and returns what the membership said of it. A leader that is to remove
    /// itself hands its leadership on, and its successor is to be asked: so the answer comes from a
    /// node that stays, and the leader that goes has nothing in flight.
    pub(crate) async fn remove(&self, node_id: NodeId) -> Result<Member> {
        let _turn = self.turn.lock().await;
        let stored = self.leading()?;
        let Ok(member) = known(&stored, node_id).cloned() else {
            self.committed(&stored).await?;
            return Err(MembershipError::UnknownNode(node_id));
        };
        let nodes = BTreeSet::from([node_id]);
        let voters: BTreeSet<NodeId> = stored.voter_ids().collect();
        if !voters.contains(&node_id) {
            self.change(ChangeMembers::RemoveNodes(nodes), &stored)
                .await?;
            return Ok(member);
        }
        self.keeps_quorum(&voters, node_id).await?;
        if node_id == *self.core.node_id() {
            let successor = self
                .successor()
                .await
                .ok_or_else(|| refused("no other voter answers, so nobody could lead"))?;
            self.hand_over(successor, InFlight::Finishes).await?;
            return Err(MembershipError::NotLeader {
                leader: Some(successor),
            });
        }
        self.change(ChangeMembers::RemoveVoters(nodes), &stored)
            .await?;
        Ok(member)
    }

    /// Waits until a membership that was read is sure to stay.
    async fn committed(&self, stored: &StoredMembership) -> Result<()> {
        let wanted = *stored.log_id();
        let sure = metrics::wait_for(&self.core, |metrics| {
            let committed = *metrics.committed_membership_config.log_id();
            (committed >= wanted || !metrics.state.is_leader()).then_some(())
        });
        let sure = tokio::time::timeout(CHANGE_TIMEOUT, sure).await;
        sure.map_err(|_| MembershipError::Unknown)??;
        self.leading().map(drop)
    }

    /// See [`crate::Raft::drain`].
    pub(crate) async fn drain(&self) -> Result<()> {
        let (leads, voters) = metrics::look(&self.core, |metrics| {
            let voters = metrics.membership_config.voter_ids();
            let others = voters.filter(|voter| *voter != metrics.id).count();
            (metrics.state.is_leader(), others)
        });
        if leads && voters == 0 {
            return Err(refused(
                "this node is the only voter, so nobody else can lead",
            ));
        }
        let heirs = if leads {
            self.heirs().await
        } else {
            Vec::new()
        };
        if !heirs.is_empty() && heirs.iter().all(|heir| heir.draining) {
            return Err(refused(
                "all other voters that answer were told to drain too, so nobody else wants to lead",
            ));
        }
        self.draining.store(true, Ordering::Relaxed);
        let Some(successor) = heirs.first() else {
            return Ok(());
        };
        match self.transfer(successor.node_id).await {
            Ok(()) | Err(MembershipError::NotLeader { .. }) => Ok(()),
            // It is tried again until it works.
            Err(error) => Err(error),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Would the voters without `node_id` have a quorum among those that answer?
    async fn keeps_quorum(&self, voters: &BTreeSet<NodeId>, node_id: NodeId) -> Result<()> {
        let rest: Vec<NodeId> = voters
            .iter()
            .copied()
            .filter(|voter| *voter != node_id)
            .collect();
        if rest.is_empty() {
            let why = format!("node {node_id} is the only voter; nobody could decide anything");
            return Err(MembershipError::Refused(why));
        }
        let (count, quorum) = (rest.len(), rest.len() / 2 + 1);
        let reachable = |metrics: &RaftMetrics<TypeConfig>| {
            let answer = rest.iter().filter(|voter| self.answers(metrics, **voter));
            answer.count()
        };
        if self.soon(|metrics| reachable(metrics) >= quorum).await {
            return Ok(());
        }
        let reachable = metrics::look(&self.core, reachable);
        Err(MembershipError::Refused(format!(
            "without node {node_id} there are {count} voters; {quorum} of them have to agree on \
             every write, and only {reachable} can be reached"
        )))
    }

    /// Does `met` hold within a second? A leader that has just been elected has not heard from
    /// anybody yet.
    async fn soon(&self, met: impl Fn(&RaftMetrics<TypeConfig>) -> bool) -> bool {
        self.wait("", met).await.is_ok()
    }

    /// Has the node answered this leader lately?
    pub(crate) fn reachable(&self, node_id: NodeId) -> bool {
        metrics::look(&self.core, |metrics| self.answers(metrics, node_id))
    }

    /// Has a majority of the voters answered this leader lately? False on any other node.
    pub(crate) fn quorum_answers(&self) -> bool {
        metrics::look(&self.core, |metrics| {
            let voters: Vec<NodeId> = metrics.membership_config.voter_ids().collect();
            let answering = voters
                .iter()
                .filter(|id| self.answers(metrics, **id))
                .count();
            metrics.state.is_leader() && answering > voters.len() / 2
        })
    }

    pub(crate) fn answers(&self, metrics: &RaftMetrics<TypeConfig>, node_id: NodeId) -> bool {
        let heartbeats = metrics.heartbeat.as_ref();
        let last = heartbeats.and_then(|nodes| *nodes.get(&node_id)?);
        node_id == metrics.id || last.is_some_and(|at| at.elapsed() <= self.silence_max)
    }

    /// Hands the leadership to a voter. Nothing new is proposed meanwhile, and nothing is in flight
    /// when it is handed over: clients see a pause, not an error.
    pub(crate) async fn transfer(&self, node_id: NodeId) -> Result<()> {
        let _turn = self.turn.lock().await;
        let stored = self.leading()?;
        known(&stored, node_id)?;
        if node_id == *self.core.node_id() {
            return Ok(());
        }
        if !stored.voter_ids().any(|voter| voter == node_id) {
            let why = format!("node {node_id} has no vote, so it cannot lead");
            return Err(MembershipError::Refused(why));
        }
        if !self.soon(|metrics| self.answers(metrics, node_id)).await {
            let why = format!("node {node_id} does not answer, so it cannot lead");
            return Err(MembershipError::Refused(why));
        }
        self.hand_over(node_id, InFlight::Finishes).await
    }

    /// The same from a leader whose log cannot be written at the moment. What is in flight stays
    /// so: the next leader commits what it has of it, and who asked is told once this node's
    /// disk moves again.
    pub(crate) async fn leave_stalled(&self, node_id: NodeId) -> Result<()> {
        let _turn = self.turn.lock().await;
        self.leading()?;
        match self.hand_over(node_id, InFlight::Stays).await {
            // A node whose vote cannot be written does not get to hear who leads.
            Ok(()) | Err(MembershipError::Unknown) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The steps of a transfer. The caller has the turn and leads.
    async fn hand_over(&self, node_id: NodeId, in_flight: InFlight) -> Result<()> {
        // While the gate is still open: nobody pauses for a node that does not keep up.
        if !self
            .soon(|metrics| lag_of(metrics, node_id) <= PROMOTE_LAG_MAX)
            .await
        {
            return Err(refused("the node does not keep up, so it cannot lead"));
        }
        // Nothing new is proposed from the first look on, also where this is not waited for.
        let mut shut = pin!(self.batcher.shut());
        let patience = match in_flight {
            InFlight::Finishes => TRANSFER_STEP_TIMEOUT,
            InFlight::Stays => Duration::ZERO,
        };
        let finished = tokio::time::timeout(patience, &mut shut).await;
        if finished.is_err() && in_flight == InFlight::Finishes {
            return Err(refused("what is being written does not finish"));
        }
        self.wait("the node does not catch up", |metrics| {
            lag_of(metrics, node_id) == 0
        })
        .await?;
        self.core
            .trigger()
            .transfer_leader(node_id)
            .await
            .map_err(|_| Stopped)?;
        // Whoever leads then, it is not this node in this term any more.
        let elected = self
            .wait("", |metrics| metrics.current_leader == Some(node_id))
            .await;
        elected.map_err(|error| match error {
            MembershipError::Refused(_) => MembershipError::Unknown,
            other => other,
        })
    }

    async fn wait(
        &self,
        otherwise: &str,
        met: impl Fn(&RaftMetrics<TypeConfig>) -> bool,
    ) -> Result<()> {
        let wait = metrics::wait_for(&self.core, |metrics| met(metrics).then_some(()));
        let waited = tokio::time::timeout(TRANSFER_STEP_TIMEOUT, wait).await;
        Ok(waited.map_err(|_| refused(otherwise))??)
    }

    fn lag(&self, node_id: NodeId) -> LogIndex {
        metrics::look(&self.core, |metrics| lag_of(metrics, node_id))
    }

    /// The membership in force, if this node leads.
    fn leading(&self) -> Result<StoredMembership> {
        metrics::look(&self.core, |metrics| {
            if !metrics.state.is_leader() {
                return Err(MembershipError::NotLeader {
                    leader: metrics.current_leader,
                });
            }
            Ok(StoredMembership::clone(&metrics.membership_config))
        })
    }

    /// Proposes a change against the membership it was decided on, and reads again what came of it.
    async fn change(
        &self,
        change: ChangeMembers<NodeId, Member>,
        decided_on: &StoredMembership,
    ) -> Result<()> {
        let unchanged = Precondition::LastMembershipLogId {
            last_membership_log_id: *decided_on.log_id(),
        };
        tracing::info!(%change, "changing the membership");
        let changing = self.core.change_membership_if(change, false, [unchanged]);
        let changed = tokio::time::timeout(CHANGE_TIMEOUT, changing).await;
        let changed = changed.map_err(|_| MembershipError::Unknown)?;
        let log_id = changed.map_err(MembershipError::from)?.log_id;
        // The caller decides his next step on what the metrics say.
        let seen = |metrics: &RaftMetrics<TypeConfig>| {
            let stored = &metrics.membership_config;
            let joint = stored.membership().get_joint_config().len() > 1;
            (*stored.log_id() >= Some(log_id)).then_some(joint)
        };
        if metrics::wait_for(&self.core, seen).await? {
            return Err(MembershipError::InProgress);
        }
        Ok(())
    }

    /// What the leader does by itself: finishes a change that was left half done, and gives a vote
    /// to learners that are to have one and have caught up. Ends with the core.
    pub(crate) async fn look_after(&self) -> std::result::Result<Infallible, Stopped> {
        let mut every = tokio::time::interval(PROMOTE_INTERVAL);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let todo = metrics::look(&self.core, |metrics| match metrics.running_state {
                Ok(()) => Some(self.todo(metrics)),
                Err(_) => None,
            });
            let todo = todo.ok_or(Stopped)?;
            let result = match todo {
                Todo::Nothing => continue,
                Todo::Promote(node_id) => self.promote(node_id).await,
                Todo::HandOn => self.hand_on().await,
                Todo::Finish(log_id) => self.finish(log_id).await,
            };
            if let Err(error) = result {
                tracing::warn!(%error, ?todo, "the membership was not changed; trying again");
            }
        }
    }

    fn todo(&self, metrics: &RaftMetrics<TypeConfig>) -> Todo {
        let stored = &metrics.membership_config;
        let committed = metrics.committed_membership_config.log_id() == stored.log_id();
        if !metrics.state.is_leader() || !committed {
            return Todo::Nothing;
        }
        if stored.membership().get_joint_config().len() > 1 {
            return stored.log_id().map_or(Todo::Nothing, Todo::Finish);
        }
        let keeps_up = |node_id: NodeId| {
            lag_of(metrics, node_id) <= PROMOTE_LAG_MAX && self.answers(metrics, node_id)
        };
        let mut others = stored.voter_ids().filter(|voter| *voter != metrics.id);
        if self.is_draining() && others.any(keeps_up) {
            return Todo::HandOn;
        }
        let wanted = |node_id: &NodeId| {
            stored
                .membership()
                .get_node(node_id)
                .is_some_and(|member| member.voter_wanted)
        };
        let learners = stored.membership().learner_ids();
        let next = learners.filter(wanted).find(|id| keeps_up(*id));
        next.map_or(Todo::Nothing, Todo::Promote)
    }

    /// Ends a joint membership that nobody is working on any more.
    async fn finish(&self, log_id: LogId) -> Result<()> {
        let _turn = self.turn.lock().await;
        let stored = self.leading()?;
        if *stored.log_id() != Some(log_id) {
            return Ok(());
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new()), &stored)
            .await
    }
}

/// What the leader should do to the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Todo {
    Nothing,
    HandOn,
    Promote(NodeId),
    Finish(LogId),
}

/// How many entries a node does not have, as far as the leader knows; of a node that never said
/// what it has, as many as there can be.
pub(crate) fn lag_of(metrics: &RaftMetrics<TypeConfig>, node_id: NodeId) -> LogIndex {
    let replication = metrics.replication.as_ref();
    let matching = replication.and_then(|nodes| *nodes.get(&node_id)?);
    let last = metrics.last_log_index.unwrap_or(0);
    matching.map_or(LogIndex::MAX, |log_id| last.saturating_sub(log_id.index))
}

fn known(stored: &StoredMembership, node_id: NodeId) -> Result<&Member> {
    let node = stored.membership().get_node(&node_id);
    node.ok_or(MembershipError::UnknownNode(node_id))
}

fn refused(why: &str) -> MembershipError {
    MembershipError::Refused(why.to_owned())
}

impl From<RaftError<TypeConfig, ClientWriteError<TypeConfig>>> for MembershipError {
    fn from(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> MembershipError {
        let RaftError::APIError(error) = error else {
            return Stopped.into();
        };
        match error {
            ClientWriteError::ForwardToLeader(forward) => MembershipError::NotLeader {
                leader: forward.leader_id,
            },
            ClientWriteError::LogEntryDiscarded(_) => MembershipError::Unknown,
            ClientWriteError::PreconditionFailed(_) => MembershipError::InProgress,
            ClientWriteError::ChangeMembershipError(error) => match error {
                ChangeMembershipError::InProgress(_) => MembershipError::InProgress,
                ChangeMembershipError::LearnerNotFound(error) => {
                    MembershipError::UnknownNode(error.node_id)
                }
                other => MembershipError::Refused(other.to_string()),
            },
        }
    }
}
