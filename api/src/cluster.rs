//! Bodies of the routes about the cluster and the node itself.

use serde::{Deserialize, Serialize};

/// `GET /health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResponse {
    /// `healthy`.
    pub status: String,
    /// The program's version.
    pub version: String,
    /// `v1`.
    pub api_version: String,
}

/// `GET /ready`: 200 when the node can serve, 503 before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyResponse {
    /// Whether the node can serve.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `GET /v1/api/cluster`; also the answer to every membership step, as it stands after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Chosen once, when the cluster was bootstrapped.
    pub cluster_id: String,
    /// Null while there is none.
    pub leader_id: Option<u64>,
    /// The leadership period this node knows of.
    pub term: u64,
    /// All members, by number.
    pub members: Vec<Member>,
}

impl ClusterStatus {
    /// The member that leads.
    pub fn leader(&self) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| Some(member.node_id) == self.leader_id)
    }
}

/// One member as the answering node or its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number; never used again once it is removed.
    pub node_id: u64,
    /// What it does.
    pub role: MemberRole,
    /// URL for clients.
    pub http: String,
    /// `host:port` for other nodes.
    pub rpc: String,
    /// End of its log; null if it could not be asked.
    pub last_log_index: Option<u64>,
    /// What it has applied; null if it could not be asked.
    pub applied_index: Option<u64>,
    /// Entries it is behind the leader; null if unknown.
    pub lag: Option<u64>,
    /// Version of its program; null if it could not be asked.
    pub version: Option<String>,
    /// Free bytes of the file system of its data; null if it could not be asked.
    #[serde(default)]
    pub disk_free_bytes: Option<u64>,
    /// The free bytes below which it counts as full; null if it could not be asked.
    #[serde(default)]
    pub disk_reserve_bytes: Option<u64>,
    /// Is that below its reserve? Writes that grow are refused when too few voters have room. Null
    /// if it could not be asked.
    #[serde(default)]
    pub disk_full: Option<bool>,
    /// Does its vote count? Also of one that does not answer.
    #[serde(default)]
    pub voter: bool,
    /// Does it have a vote, or get one by itself once it has caught up? False of one that was to
    /// stay a learner.
    #[serde(default)]
    pub voter_wanted: bool,
    /// It was told to drain: it does not want to lead and is not ready.
    #[serde(default)]
    pub draining: bool,
    /// By how much its clock is ahead of the answering node's, in ms, to within the time that
    /// asking took; null if it could not be asked.
    #[serde(default)]
    pub clock_ahead_ms: Option<i64>,
    /// For how long the first of its certificates that ends is still good; less than 0: it is not
    /// any more. Null if it serves without TLS or could not be asked.
    #[serde(default)]
    pub certificate_expires_in_seconds: Option<i64>,
    /// Do the files of one of its certificates hold something newer that cannot be used? Null if it
    /// could not be asked.
    #[serde(default)]
    pub certificate_refused: Option<bool>,
}

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// Takes the writes.
    Leader,
    /// Votes and follows.
    Follower,
    /// Follows without a vote.
    Learner,
    /// Asks for votes.
    Candidate,
    /// Does not answer.
    Unreachable,
}

impl MemberRole {
    /// The role as it is spelt on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            MemberRole::Leader => "leader",
            MemberRole::Follower => "follower",
            MemberRole::Learner => "learner",
            MemberRole::Candidate => "candidate",
            MemberRole::Unreachable => "unreachable",
        }
    }
}

/// `POST /v1/api/cluster/members`: the node at an address is to be a member. One that waits to join
/// is invited; a member that answers at a new address moves there; one that is as asked for already
/// stays as it is. Whatever else is there is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddMemberRequest {
    /// Left out: the number the node has, or one never used before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<u64>,
    /// `host:port` where the other nodes reach it. It has to answer there.
    pub rpc: String,
    /// URL for clients; left out: what the node says itself, or said before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// False keeps it a learner; left out: true.
    #[serde(default = "yes")]
    pub voter: bool,
}

fn yes() -> bool {
    true
}

/// `POST /v1/api/cluster/leader`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferLeaderRequest {
    /// Who shall lead.
    pub node_id: u64,
}

/// `POST /v1/api/cluster/drain`: a node is to leave its work to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRequest {
    /// Which; left out: the node that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<u64>,
}

/// `POST /v1/api/cluster/snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotResponse {
    /// The node that took it: the one that was asked.
    pub node_id: u64,
    /// Everything up to this log index is in it.
    pub snapshot_index: u64,
}

/// Query of `GET /v1/api/cluster/digest`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestQuery {
    /// With `partition` and `offset`: the chain of that partition instead of the node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The partition; left out: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// The chain's value after this offset; left out: after the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The node's chain at this log index, which must be the last one it applied or a multiple of
    /// 256 that it applied lately; left out: the last one. The node first waits until it has
    /// applied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Reads the whole state and hashes that, instead of giving a chain's value. One at a time.
    #[serde(default)]
    pub scan: bool,
}

/// A hash chain's value: two nodes that answer for the same position answer the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestResponse {
    /// The node that answered, from its own state.
    pub node_id: u64,
    /// The log index the value stands for; for a partition, what the node had applied.
    pub index: u64,
    /// The offset the value stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The value, in hexadecimal.
    pub digest: String,
}

/// `GET /v1/api/cluster/health`, in the shape existing tools read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterHealth {
    /// `healthy`, `degraded` (a member is missing) or `unhealthy` (no leader).
    pub status: String,
    /// The program's version.
    pub version: String,
    /// Always true.
    pub is_cluster_mode: bool,
    /// Chosen once, when the cluster was bootstrapped.
    pub cluster_id: String,
    /// The node that answered.
    pub node_id: u64,
    /// Whether it leads.
    pub is_leader: bool,
    /// Raft groups: 1.
    pub total_groups: u32,
    /// Of them led by this node.
    pub groups_leading: u32,
    /// The leadership period this node knows of.
    pub current_term: u64,
    /// What this node has applied.
    pub last_applied: u64,
    /// How long ago a quorum answered; null if this node does not lead.
    pub millis_since_quorum_ack: Option<u64>,
    /// All members.
    pub nodes: Vec<ClusterHealthNode>,
}

/// One member in [`ClusterHealth`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterHealthNode {
    /// Its number.
    pub node_id: u64,
    /// As in [`Member::role`].
    pub role: String,
    /// `active` or `unreachable`.
    pub status: String,
    /// URL for clients.
    pub api_addr: String,
    /// Whether it is the node that answered.
    pub is_self: bool,
    /// Whether it leads.
    pub is_leader: bool,
    /// Entries behind the leader; null if unknown.
    pub replication_lag: Option<u64>,
    /// While it catches up, how far it is; null otherwise.
    pub catchup_progress_pct: Option<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_text<T: Serialize>(value: &T) -> String {
        serde_json::to_string(value).unwrap()
    }

    fn member(node_id: u64, role: MemberRole) -> Member {
        Member {
            node_id,
            role,
            http: "http://127.0.0.1:8080".into(),
            rpc: "127.0.0.1:9188".into(),
            last_log_index: Some(9),
            applied_index: Some(8),
            lag: Some(0),
            version: Some("0.1.0".into()),
            disk_free_bytes: Some(7),
            disk_reserve_bytes: Some(5),
            disk_full: Some(false),
            voter: true,
            voter_wanted: true,
            draining: false,
            clock_ahead_ms: Some(-3),
            certificate_expires_in_seconds: Some(86_400),
            certificate_refused: Some(false),
        }
    }

    #[test]
    fn status() {
        let mut gone = member(2, MemberRole::Unreachable);
        (
            gone.last_log_index,
            gone.applied_index,
            gone.lag,
            gone.version,
        ) = (None, None, None, None);
        (gone.disk_free_bytes, gone.disk_full, gone.clock_ahead_ms) = (None, None, None);
        gone.disk_reserve_bytes = None;
        (
            gone.certificate_expires_in_seconds,
            gone.certificate_refused,
        ) = (None, None);
        let status = ClusterStatus {
            cluster_id: "c".into(),
            leader_id: Some(1),
            term: 3,
            members: vec![member(1, MemberRole::Leader), gone],
        };
        let text = concat!(
            r#"{"cluster_id":"c","leader_id":1,"term":3,"members":[{"node_id":1,"#,
            r#""role":"leader","http":"http://127.0.0.1:8080","rpc":"127.0.0.1:9188","#,
            r#""last_log_index":9,"applied_index":8,"lag":0,"version":"0.1.0","#,
            r#""disk_free_bytes":7,"disk_reserve_bytes":5,"disk_full":false,"voter":true,"#,
            r#""voter_wanted":true,"draining":false,"#,
            r#""clock_ahead_ms":-3,"certificate_expires_in_seconds":86400,"#,
            r#""certificate_refused":false},{"node_id":2,"#,
            r#""role":"unreachable","http":"http://127.0.0.1:8080","rpc":"127.0.0.1:9188","#,
            r#""last_log_index":null,"applied_index":null,"lag":null,"version":null,"#,
            r#""disk_free_bytes":null,"disk_reserve_bytes":null,"disk_full":null,"#,
            r#""voter":true,"voter_wanted":true,"draining":false,"#,
            r#""clock_ahead_ms":null,"certificate_expires_in_seconds":null,"#,
            r#""certificate_refused":null}]}"#
        );
        assert_eq!(to_text(&status), text);
        assert_eq!(serde_json::from_str::<ClusterStatus>(text).unwrap(), status);
        assert_eq!(status.leader().unwrap().node_id, 1);
    }

    #[test]
    fn roles() {
        use MemberRole::*;
        for role in [Leader, Follower, Learner, Candidate, Unreachable] {
            assert_eq!(to_text(&role), format!("\"{}\"", role.as_str()));
        }
    }

    #[test]
    fn adding_a_member_needs_only_its_address() {
        let request: AddMemberRequest = serde_json::from_str(r#"{"rpc":"h:1"}"#).unwrap();
        assert!(request.voter && request.node_id.is_none() && request.http.is_none());
        let text = r#"{"node_id":4,"rpc":"h:1","http":"http://h:2","voter":false}"#;
        let request: AddMemberRequest = serde_json::from_str(text).unwrap();
        assert_eq!(to_text(&request), text);
    }

    #[test]
    fn small_bodies() {
        let health = HealthResponse {
            status: "healthy".into(),
            version: "0.1.0".into(),
            api_version: "v1".into(),
        };
        let text = r#"{"status":"healthy","version":"0.1.0","api_version":"v1"}"#;
        assert_eq!(to_text(&health), text);
        let ready = ReadyResponse {
            ready: false,
            reason: Some("no leader".into()),
        };
        assert_eq!(to_text(&ready), r#"{"ready":false,"reason":"no leader"}"#);
        assert_eq!(
            to_text(&TransferLeaderRequest { node_id: 2 }),
            r#"{"node_id":2}"#
        );
        assert_eq!(
            to_text(&DrainRequest { node_id: Some(2) }),
            r#"{"node_id":2}"#
        );
        assert_eq!(to_text(&DrainRequest::default()), "{}");
        let snapshot = SnapshotResponse {
            node_id: 1,
            snapshot_index: 7,
        };
        assert_eq!(to_text(&snapshot), r#"{"node_id":1,"snapshot_index":7}"#);
        let digest = DigestResponse {
            node_id: 1,
            index: 7,
            offset: Some(3),
            digest: "00ff".into(),
        };
        let text = r#"{"node_id":1,"index":7,"offset":3,"digest":"00ff"}"#;
        assert_eq!(to_text(&digest), text);
    }

    #[test]
    fn health_for_existing_tools() {
        let health = ClusterHealth {
            status: "healthy".into(),
            version: "0.1.0".into(),
            is_cluster_mode: true,
            cluster_id: "c".into(),
            node_id: 1,
            is_leader: true,
            total_groups: 1,
            groups_leading: 1,
            current_term: 3,
            last_applied: 9,
            millis_since_quorum_ack: Some(10),
            nodes: vec![ClusterHealthNode {
                node_id: 1,
                role: "leader".into(),
                status: "active".into(),
                api_addr: "http://127.0.0.1:8080".into(),
                is_self: true,
                is_leader: true,
                replication_lag: Some(0),
                catchup_progress_pct: None,
            }],
        };
        assert_eq!(
            to_text(&health),
            concat!(
                r#"{"status":"healthy","version":"0.1.0","is_cluster_mode":true,"#,
                r#""cluster_id":"c","node_id":1,"is_leader":true,"total_groups":1,"#,
                r#""groups_leading":1,"current_term":3,"last_applied":9,"#,
                r#""millis_since_quorum_ack":10,"nodes":[{"node_id":1,"role":"leader","#,
                r#""status":"active","api_addr":"http://127.0.0.1:8080","is_self":true,"#,
                r#""is_leader":true,"replication_lag":0,"catchup_progress_pct":null}]}"#
            )
        );
    }
}
