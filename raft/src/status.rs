//! What a cluster looks like from one of its nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::RaftMetrics;
use types::ids::{LogIndex, NodeId, Term, WallTimeUs};

use crate::disk::Disk;
use crate::handle::Core;
use crate::metrics;
use crate::network::peers::{Lane, Peers};
use crate::rpc::messages::{StatusRequest, StatusResponse};
use crate::rpc::path;
use crate::type_config::TypeConfig;

/// The cluster, as far as this node could find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The cluster.
    pub cluster_id: String,
    /// The node that says so.
    pub node_id: NodeId,
    /// Who leads, where known.
    pub leader: Option<NodeId>,
    /// The leadership period of this node.
    pub term: Term,
    /// The last entry this node knows to be committed.
    pub committed: LogIndex,
    /// All members, by number.
    pub members: Vec<MemberStatus>,
}

/// One member. Of an unreachable one the positions are what the leader knows, or 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its number.
    pub node_id: NodeId,
    /// What it is doing.
    pub role: Role,
    /// Does the membership count its vote?
    pub voter: bool,
    /// Is it to have one once it has caught up?
    pub voter_wanted: bool,
    /// Address of its RPC listener.
    pub rpc: String,
    /// URL of its HTTP listener.
    pub http: String,
    /// The build it runs.
    pub version: String,
    /// The last entry in its log.
    pub last_log_index: LogIndex,
    /// The last entry it has applied.
    pub applied: LogIndex,
    /// How many committed entries it has not applied.
    pub lag: LogIndex,
    /// The last entry its newest snapshot covers; 0: it has none.
    pub snapshot_index: LogIndex,
    /// The room on its disk.
    pub disk: Disk,
    /// It does not want to lead.
    pub draining: bool,
    /// For how long the first of its certificates that ends is still good, in seconds; none: it has
    /// none, or is not known.
    pub certificate_expires_in_s: Option<i64>,
    /// The files of one of them hold something newer that cannot be used.
    pub certificate_refused: bool,
    /// By how much its clock is ahead of the one of the node that says so, in ms; to within the
    /// time that asking took. None where it is not known.
    pub clock_ahead_ms: Option<i64>,
}

/// What a member is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It votes and follows.
    Follower,
    /// It follows without a vote.
    Learner,
    /// It asks for votes.
    Candidate,
    /// It did not answer.
    Unreachable,
}

impl Role {
    /// The role as clients see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Learner => "learner",
            Role::Candidate => "candidate",
            Role::Unreachable => "unreachable",
        }
    }
}

/// How long a member may take to say how it is doing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What this node knows before it asks anybody.
struct Known {
    status: Status,
    /// The last entry each member is known to have; only the leader knows.
    matching: BTreeMap<NodeId, LogIndex>,
}

/// How this node is doing.
pub(crate) fn own(core: &Core, applied: LogIndex, version: &str) -> StatusResponse {
    metrics::look(core, |metrics| StatusResponse {
        term: metrics.current_term,
        leader: metrics.current_leader.unwrap_or(0),
        candidate: metrics.state.is_candidate(),
        last_log_index: metrics.last_log_index.unwrap_or(0),
        applied,
        committed: committed(metrics).max(applied),
        snapshot_index: metrics.snapshot.map_or(0, |log_id| log_id.index),
        version: version.to_owned(),
        ..StatusResponse::default()
    })
}

/// Asks all members at once how they are doing.
pub(crate) async fn collect(
    core: &Core,
    peers: &Peers,
    cluster_id: &str,
    own: StatusResponse,
    wall: impl Fn() -> WallTimeUs + Sync,
) -> Status {
    let Known {
        mut status,
        matching,
    } = metrics::look(core, |metrics| known(metrics, cluster_id));
    status.committed = status.committed.max(own.committed);
    let node_id = status.node_id;
    let asked = status.members.iter().map(|member| async {
        if member.node_id == node_id {
            return Some((own.clone(), Some(0)));
        }
        let before = wall();
        let answer = ask(peers, member.node_id, &member.rpc, StatusRequest::default()).await?;
        let after = wall();
        let said = Some(answer.wall_time).filter(|wall_time| *wall_time != 0);
        let ahead_ms = said.map(|said| (said - before.midpoint(after)) / 1_000);
        Some((answer, ahead_ms))
    });
    let answers: Vec<Option<(StatusResponse, Option<i64>)>> =
        futures::future::join_all(asked).await;
    let most = answers
        .iter()
        .flatten()
        .map(|(answer, _)| answer.committed)
        .max();
    status.committed = status.committed.max(most.unwrap_or(0));
    for (member, answer) in status.members.iter_mut().zip(answers) {
        let last_known = matching.get(&member.node_id).copied().unwrap_or(0);
        fill(member, answer, last_known, status.committed, status.leader);
    }
    status
}

/// Asks another node how it is doing; none if it does not answer.
pub(crate) async fn ask(
    peers: &Peers,
    node_id: NodeId,
    rpc: &str,
    request: StatusRequest,
) -> Option<StatusResponse> {
    let peer = peers.peer(node_id, rpc, Lane::Requests).ok()?;
    let answer = peer.unary(path::STATUS, request, ANSWER_TIMEOUT).await;
    answer
        .inspect_err(|status| tracing::debug!(node = node_id, %status, "no status"))
        .ok()
}

fn fill(
    member: &mut MemberStatus,
    answer: Option<(StatusResponse, Option<i64>)>,
    last_known: LogIndex,
    committed: LogIndex,
    leader: Option<NodeId>,
) {
    let Some((answer, clock_ahead_ms)) = answer else {
        member.last_log_index = last_known;
        member.lag = committed.saturating_sub(last_known);
        return;
    };
    member.role = if leader == Some(member.node_id) {
        Role::Leader
    } else if answer.candidate {
        Role::Candidate
    } else if member.voter {
        Role::Follower
    } else {
        Role::Learner
    };
    member.disk = Disk::from(&answer);
    member.version = answer.version;
    member.last_log_index = answer.last_log_index;
    member.applied = answer.applied;
    member.lag = committed.saturating_sub(answer.applied);
    member.snapshot_index = answer.snapshot_index;
    member.draining = answer.draining;
    member.certificate_expires_in_s = answer.certificate_expires_in_s;
    member.certificate_refused = answer.certificate_refused;
    member.clock_ahead_ms = clock_ahead_ms;
}

fn known(metrics: &RaftMetrics<TypeConfig>, cluster_id: &str) -> Known {
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
    let members = membership.nodes().map(|(node_id, member)| MemberStatus {
        node_id: *node_id,
        role: Role::Unreachable,
        voter: voters.contains(node_id),
        voter_wanted: member.voter_wanted,
        rpc: member.rpc.clone(),
        http: member.http.clone(),
        version: member.version.clone(),
        last_log_index: 0,
        applied: 0,
        lag: 0,
        snapshot_index: 0,
        disk: Disk::UNKNOWN,
        draining: false,
        certificate_expires_in_s: None,
        certificate_refused: false,
        clock_ahead_ms: None,
    });
    let matching = metrics.replication.iter().flatten();
    Known {
        matching: matching
            .filter_map(|(id, log_id)| Some((*id, log_id.as_ref()?.index)))
            .collect(),
        status: Status {
            cluster_id: cluster_id.to_owned(),
            node_id: metrics.id,
            leader: metrics.current_leader,
            term: metrics.current_term,
            committed: committed(metrics),
            members: members.collect(),
        },
    }
}

/// The last entry this node knows to be committed.
pub(crate) fn committed(metrics: &RaftMetrics<TypeConfig>) -> LogIndex {
    let known = metrics.cluster_committed.max(metrics.local_committed);
    known.map_or(0, |log_id| log_id.index)
}
