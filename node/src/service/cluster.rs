//! Members: who they are, and the steps that change them.

use api::cluster as wire;
use raft::{AddMember, MemberStatus, MembershipError, Raft};
use types::ids::NodeId;
use types::schema::Role;
use types::{Error, ErrorCode, Result};

use super::access::Access;
use super::call::{Call, Failure, Reply};
use super::consensus::{Consensus, stopping, too_late};

/// Serves what is under `/v1/api/cluster`.
pub struct ClusterService {
    consensus: Consensus,
    access: Access,
}

impl ClusterService {
    /// Over this node's raft.
    pub fn new(consensus: Consensus, access: Access) -> ClusterService {
        ClusterService { consensus, access }
    }

    fn raft(&self) -> &Raft {
        self.consensus.raft()
    }

    /// `GET /v1/api/cluster`.
    pub async fn status(&self, call: &Call) -> Result<Reply> {
        let to = "see the cluster";
        self.access
            .require(call.caller()?, Role::User, to, call.deadline)
            .await?;
        self.status_reply().await
    }

    async fn status_reply(&self) -> Result<Reply> {
        let status = self.raft().status().await;
        let body = wire::ClusterStatus {
            cluster_id: status.cluster_id,
            leader_id: status.leader,
            term: status.term,
            members: status.members.iter().map(member).collect(),
        };
        Reply::json(&body, self.raft().applied())
    }

    /// `GET /v1/api/cluster/health`.
    pub async fn health(&self) -> Result<Reply> {
        let status = self.raft().status().await;
        let is_leader = status.leader == Some(status.node_id);
        let all_there = status
            .members
            .iter()
            .all(|m| m.role != raft::Role::Unreachable);
        let health = match (status.leader, all_there) {
            (None, _) => "unhealthy",
            (Some(_), false) => "degraded",
            (Some(_), true) => "healthy",
        };
        let nodes = status.members.iter().map(|m| wire::ClusterHealthNode {
            node_id: m.node_id,
            role: m.role.as_str().into(),
            status: if m.role == raft::Role::Unreachable {
                "unreachable"
            } else {
                "active"
            }
            .into(),
            api_addr: m.http.clone(),
            is_self: m.node_id == status.node_id,
            is_leader: Some(m.node_id) == status.leader,
            replication_lag: (m.role != raft::Role::Unreachable).then_some(m.lag),
            catchup_progress_pct: None,
        });
        let body = wire::ClusterHealth {
            status: health.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            is_cluster_mode: true,
            cluster_id: status.cluster_id.clone(),
            node_id: status.node_id,
            is_leader,
            total_groups: 1,
            groups_leading: u32::from(is_leader),
            current_term: status.term,
            last_applied: self.raft().applied(),
            millis_since_quorum_ack: None,
            nodes: nodes.collect(),
        };
        Reply::json(&body, self.raft().applied())
    }

    /// `POST /v1/api/cluster/members`.
    pub async fn add_member(&self, call: &Call) -> Result<Reply, Failure> {
        self.admin(call).await?;
        let request: wire::AddMemberRequest = call.json()?;
        if request.node_id == Some(0) {
            return Err(input("node_id must be 1 or higher").into());
        }
        let wish = AddMember {
            node_id: request.node_id,
            rpc: request.rpc,
            http: request.http,
            voter: request.voter,
        };
        let raft = self.raft().clone();
        let step = async move { raft.add_member(wish).await.map(drop) };
        self.step(call, step).await
    }

    /// `POST /v1/api/cluster/members/{id}/promote`.
    pub async fn promote(&self, call: &Call) -> Result<Reply, Failure> {
        self.admin(call).await?;
        let (raft, node_id) = (self.raft().clone(), node_id(call)?);
        self.step(call, async move { raft.promote(node_id).await })
            .await
    }

    /// `DELETE /v1/api/cluster/members/{id}`.
    pub async fn remove(&self, call: &Call) -> Result<Reply, Failure> {
        self.admin(call).await?;
        let (raft, node_id) = (self.raft().clone(), node_id(call)?);
        self.step(call, async move { raft.remove(node_id).await })
            .await
    }

    /// `POST /v1/api/cluster/leader`.
    pub async fn transfer_leader(&self, call: &Call) -> Result<Reply, Failure> {
        self.admin(call).await?;
        let request: wire::TransferLeaderRequest = call.json()?;
        let raft = self.raft().clone();
        let step = async move { raft.transfer_leader(request.node_id).await };
        self.step(call, step).await
    }

    /// Takes a step within the call's deadline. One that was begun is finished, whoever waits.
    async fn step(
        &self,
        call: &Call,
        step: impl Future<Output = Result<(), MembershipError>> + Send + 'static,
    ) -> Result<Reply, Failure> {
        let step = tokio::spawn(step);
        match tokio::time::timeout_at(call.deadline.into(), step).await {
            Ok(Ok(taken)) => taken.map_err(refusal)?,
            Ok(Err(_)) => return Err(Failure::Error(stopping().maybe_applied())),
            Err(_) => {
                let error = too_late("the step is not finished yet; it may still be");
                return Err(Failure::Error(error.maybe_applied()));
            }
        }
        Ok(self.status_reply().await?)
    }

    /// Where a drain is to be served, if not here. NOT_FOUND for a number that is no member's.
    pub async fn drains_elsewhere(&self, call: &Call) -> Result<Option<(NodeId, String)>> {
        self.admin(call).await?;
        let request: wire::DrainRequest = call.json()?;
        let Some(node_id) = request.node_id.filter(|id| *id != self.raft().node_id()) else {
            return Ok(None);
        };
        let unknown = || {
            let message = format!("node {node_id} is not a member");
            Error::new(ErrorCode::NotFound, message)
        };
        let rpc = self.raft().member_rpc(node_id).ok_or_else(unknown)?;
        Ok(Some((node_id, rpc)))
    }

    /// `POST /v1/api/cluster/drain`, of this node.
    pub async fn drain(&self, call: &Call) -> Result<Reply, Failure> {
        self.admin(call).await?;
        let raft = self.raft().clone();
        self.step(call, async move { raft.drain().await }).await
    }

    /// `POST /v1/api/cluster/snapshot`: of the node that is asked.
    pub async fn snapshot(&self, call: &Call) -> Result<Reply> {
        self.admin(call).await?;
        if self.raft().disk().full && !self.raft().snapshot_frees_log() {
            let message = "this node's disk is nearly full, and a snapshot now would free nothing";
            return Err(Error::new(ErrorCode::DiskFull, message));
        }
        let taken = tokio::time::timeout_at(call.deadline.into(), self.raft().take_snapshot());
        let snapshot_index = match taken.await {
            Ok(taken) => taken.map_err(|_| stopping())?,
            Err(_) => return Err(too_late("the snapshot is not finished yet").maybe_applied()),
        };
        let body = wire::SnapshotResponse {
            node_id: self.raft().node_id(),
            snapshot_index,
        };
        Reply::json(&body, self.raft().applied())
    }

    async fn admin(&self, call: &Call) -> Result<()> {
        let caller = call.caller()?;
        let to = "administer the cluster";
        self.access
            .require(caller, Role::Dba, to, call.deadline)
            .await
            .map(drop)
    }
}

/// `GET /v1/api/cluster/health` of a node that is in no cluster yet, or has not opened what it had.
pub fn health_before_start() -> Result<Reply> {
    let body = wire::ClusterHealth {
        status: "unhealthy".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        is_cluster_mode: true,
        cluster_id: String::new(),
        node_id: 0,
        is_leader: false,
        total_groups: 1,
        groups_leading: 0,
        current_term: 0,
        last_applied: 0,
        millis_since_quorum_ack: None,
        nodes: Vec::new(),
    };
    Reply::json(&body, 0)
}

fn node_id(call: &Call) -> Result<NodeId> {
    let text = std::str::from_utf8(&call.body).unwrap_or_default();
    text.parse()
        .map_err(|_| input("the node id in the path is not a whole number"))
}

fn input(message: &str) -> Error {
    Error::new(ErrorCode::InvalidInput, message)
}

fn member(m: &MemberStatus) -> wire::Member {
    let role = match m.role {
        raft::Role::Leader => wire::MemberRole::Leader,
        raft::Role::Follower => wire::MemberRole::Follower,
        raft::Role::Learner => wire::MemberRole::Learner,
        raft::Role::Candidate => wire::MemberRole::Candidate,
        raft::Role::Unreachable => wire::MemberRole::Unreachable,
    };
    let there = m.role != raft::Role::Unreachable;
    wire::Member {
        node_id: m.node_id,
        role,
        http: m.http.clone(),
        rpc: m.rpc.clone(),
        last_log_index: there.then_some(m.last_log_index),
        applied_index: there.then_some(m.applied),
        lag: there.then_some(m.lag),
        version: there.then(|| m.version.clone()),
        disk_free_bytes: m.disk.free_bytes.filter(|_| there),
        disk_reserve_bytes: m.disk.reserve_bytes.filter(|_| there),
        disk_full: there.then_some(m.disk.full),
        voter: m.voter,
        voter_wanted: m.voter || m.voter_wanted,
        draining: m.draining,
        clock_ahead_ms: m.clock_ahead_ms,
        certificate_expires_in_seconds: m.certificate_expires_in_s.filter(|_| there),
        certificate_refused: there.then_some(m.certificate_refused),
    }
}

fn refusal(error: MembershipError) -> Failure {
    let message = error.to_string();
    match error {
        MembershipError::NotLeader { .. } => Failure::NotLeader,
        MembershipError::UnknownNode(_) => Failure::new(ErrorCode::NotFound, message),
        MembershipError::NumberTaken(_)
        | MembershipError::Refused(_)
        | MembershipError::InProgress
        | MembershipError::Lagging { .. } => Failure::new(ErrorCode::Conflict, message),
        // Whoever leads next can tell, when the step is repeated.
        MembershipError::Unknown => {
            Failure::Lost(Error::new(ErrorCode::ClusterUnavailable, message).maybe_applied())
        }
        MembershipError::Overloaded => Failure::new(ErrorCode::Overloaded, message),
        MembershipError::Stopped(_) => stopping().into(),
    }
}
