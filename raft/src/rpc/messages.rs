//! What nodes say to each other.

use bytes::Bytes;
use prost::Message;

use crate::codec::LogIdRecord;
use crate::type_config::{LeaderId, Member, Vote};

/// [`Vote`] in prost.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct VoteRecord {
    /// Its term.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Who asks for it or has it.
    #[prost(uint64, tag = "2")]
    pub node_id: u64,
    /// Did a quorum grant it?
    #[prost(bool, tag = "3")]
    pub committed: bool,
}

impl From<&Vote> for VoteRecord {
    fn from(vote: &Vote) -> VoteRecord {
        VoteRecord {
            term: vote.leader_id.term,
            node_id: vote.leader_id.node_id,
            committed: vote.committed,
        }
    }
}

impl From<VoteRecord> for Vote {
    fn from(record: VoteRecord) -> Vote {
        let leader_id = LeaderId {
            term: record.term,
            node_id: record.node_id,
        };
        Vote {
            leader_id,
            committed: record.committed,
        }
    }
}

/// One message of the append stream, leader to follower.
#[derive(Clone, PartialEq, Message)]
pub struct AppendRequest {
    /// The leadership.
    #[prost(message, optional, tag = "1")]
    pub vote: Option<VoteRecord>,
    /// The entry before the first one sent; none: they start the log.
    #[prost(message, optional, tag = "2")]
    pub prev: Option<LogIdRecord>,
    /// What the leader knows to be committed.
    #[prost(message, optional, tag = "3")]
    pub committed: Option<LogIdRecord>,
    /// Consecutive entries, each as [`crate::codec`] writes it; none: a heartbeat.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub entries: Vec<Bytes>,
}

/// The follower's answer to one [`AppendRequest`]; answers come in the order of the requests.
#[derive(Clone, PartialEq, Message)]
pub struct AppendResponse {
    /// What became of it.
    #[prost(oneof = "AppendOutcome", tags = "1, 2, 3, 4")]
    pub outcome: Option<AppendOutcome>,
}

/// What became of an [`AppendRequest`].
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum AppendOutcome {
    /// All is on the follower's disk, up to this entry.
    #[prost(message, tag = "1")]
    Matching(LogIdRecord),
    /// All is well, and the log is empty.
    #[prost(bool, tag = "2")]
    MatchingEmpty(bool),
    /// The follower does not have this entry.
    #[prost(message, tag = "3")]
    Conflict(LogIdRecord),
    /// The follower has seen a higher vote. The stream ends.
    #[prost(message, tag = "4")]
    HigherVote(VoteRecord),
}

/// Asks for a vote, or whether it would be given.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct VoteRequest {
    /// The vote.
    #[prost(message, optional, tag = "1")]
    pub vote: Option<VoteRecord>,
    /// The candidate's last entry.
    #[prost(message, optional, tag = "2")]
    pub last_log_id: Option<LogIdRecord>,
    /// Did the leader itself ask for this election?
    #[prost(bool, tag = "3")]
    pub leadership_transfer: bool,
    /// Only whether it would be given; nothing is remembered.
    #[prost(bool, tag = "4")]
    pub pre_vote: bool,
}

/// The answer to [`VoteRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct VoteResponse {
    /// The voter's vote after the request.
    #[prost(message, optional, tag = "1")]
    pub vote: Option<VoteRecord>,
    /// Was it given?
    #[prost(bool, tag = "2")]
    pub granted: bool,
    /// The voter's last entry.
    #[prost(message, optional, tag = "3")]
    pub last_log_id: Option<LogIdRecord>,
}

/// The leader hands its leadership over.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TransferRequest {
    /// The leadership.
    #[prost(message, optional, tag = "1")]
    pub from: Option<VoteRecord>,
    /// Who is to have it.
    #[prost(uint64, tag = "2")]
    pub to: u64,
    /// What that node has to have on its disk.
    #[prost(message, optional, tag = "3")]
    pub last_log_id: Option<LogIdRecord>,
}

/// The answer to [`TransferRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TransferResponse {
    /// Was it taken on?
    #[prost(bool, tag = "1")]
    pub accepted: bool,
    /// The vote of the node asked, where it is another than the leader's.
    #[prost(message, optional, tag = "2")]
    pub actual_vote: Option<VoteRecord>,
    /// The last entry of the node asked, where it is behind.
    #[prost(message, optional, tag = "3")]
    pub actual_last: Option<LogIdRecord>,
}

/// Asks the leader for a read index.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ReadIndexRequest {}

/// The answer to [`ReadIndexRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ReadIndexResponse {
    /// The entry a read must have applied; 0: the node asked does not lead.
    #[prost(uint64, tag = "1")]
    pub index: u64,
}

/// Asks a node about itself.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StatusRequest {
    /// Also: the digest of the state at this entry.
    #[prost(uint64, optional, tag = "20")]
    pub digest_at: Option<u64>,
}

/// The answer to [`StatusRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StatusResponse {
    /// Its term.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Who leads; 0: it does not know.
    #[prost(uint64, tag = "2")]
    pub leader: u64,
    /// Is it asking for votes?
    #[prost(bool, tag = "3")]
    pub candidate: bool,
    /// Its last entry.
    #[prost(uint64, tag = "4")]
    pub last_log_index: u64,
    /// What it has applied.
    #[prost(uint64, tag = "5")]
    pub applied: u64,
    /// What it knows to be committed.
    #[prost(uint64, tag = "6")]
    pub committed: u64,
    /// What its newest snapshot covers.
    #[prost(uint64, tag = "7")]
    pub snapshot_index: u64,
    /// The build it runs.
    #[prost(string, tag = "8")]
    pub version: String,
    /// Is it to lead no more?
    #[prost(bool, tag = "9")]
    pub draining: bool,
    /// The time of day on its machine, in µs since 1970; 0: it does not say.
    #[prost(int64, tag = "10")]
    pub wall_time: i64,
    /// Free bytes of its data's file system, where known.
    #[prost(uint64, optional, tag = "20")]
    pub disk_free_bytes: Option<u64>,
    /// Is that below its reserve?
    #[prost(bool, tag = "21")]
    pub disk_full: bool,
    /// The digest that was asked for; none: it does not know, or has not applied so much.
    #[prost(fixed64, optional, tag = "22")]
    pub digest: Option<u64>,
    /// Highest version of apply that its build has; 0: it did not say.
    #[prost(uint32, tag = "23")]
    pub apply_version: u32,
    /// The free bytes below which its disk counts as full, where known.
    #[prost(uint64, optional, tag = "24")]
    pub disk_reserve_bytes: Option<u64>,
    /// For how long the first of its certificates that ends is still good, in seconds; none: it has
    /// none.
    #[prost(sint64, optional, tag = "25")]
    pub certificate_expires_in_s: Option<i64>,
    /// The files of one of them hold something newer that cannot be used.
    #[prost(bool, tag = "26")]
    pub certificate_refused: bool,
    /// For how long the write of its log that is under way takes, in ms.
    #[prost(uint64, tag = "27")]
    pub log_write_ms: u64,
}

/// A node asks another who it is; the one question answered before it belongs to a cluster.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HelloRequest {
    /// The RPC address of the one who asks; empty: it does not say.
    #[prost(string, tag = "1")]
    pub rpc: String,
}

/// The answer to [`HelloRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HelloResponse {
    /// The cluster it belongs to; empty: none yet.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// Its number; 0: none yet.
    #[prost(uint64, tag = "2")]
    pub node_id: u64,
    /// The member that has the address of the one who asked; 0: none.
    #[prost(uint64, tag = "3")]
    pub member_there: u64,
}

/// A member says where it is and what it runs, or only asks whether it still is one.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AnnounceRequest {
    /// Its addresses and build; none: it only asks.
    #[prost(message, optional, tag = "1")]
    pub member: Option<Member>,
}

/// The answer to [`AnnounceRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AnnounceResponse {
    /// The membership has it, and as it says.
    #[prost(bool, tag = "1")]
    pub known: bool,
    /// It was removed. Only a leader that a quorum has just confirmed says so.
    #[prost(bool, tag = "2")]
    pub removed: bool,
    /// The node asked does not lead; this one does. Empty: it knows none, or leads itself.
    #[prost(string, tag = "3")]
    pub leader_rpc: String,
    /// Why what it says is not believed; empty: it may say it again.
    #[prost(string, tag = "4")]
    pub refused: String,
}

/// The leader tells a node that is not a member any more to ask.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct FarewellRequest {}

/// The answer to [`FarewellRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct FarewellResponse {}

/// The leader tells a node that waits to join where the cluster is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InviteRequest {
    /// RPC addresses of the members.
    #[prost(string, repeated, tag = "1")]
    pub members: Vec<String>,
    /// The number it is to ask for; 0: any.
    #[prost(uint64, tag = "2")]
    pub requested_id: u64,
    /// It is to stay without a vote, whatever it was started with.
    #[prost(bool, tag = "3")]
    pub learner: bool,
}

/// The answer to [`InviteRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InviteResponse {
    /// The RPC address it will join with.
    #[prost(string, tag = "1")]
    pub rpc: String,
}

/// A node asks to belong to the cluster.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct JoinRequest {
    /// Its own secret name for this attempt, 16 bytes: asked again with the same, it gets the same
    /// number.
    #[prost(bytes = "bytes", tag = "1")]
    pub nonce: Bytes,
    /// The number it would like; 0: any.
    #[prost(uint64, tag = "2")]
    pub requested_id: u64,
    /// Its addresses, and whether it is to vote.
    #[prost(message, optional, tag = "3")]
    pub member: Option<Member>,
}

/// The answer to [`JoinRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct JoinResponse {
    /// Its number; 0: see `leader_rpc` or `refused`.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// The cluster.
    #[prost(string, tag = "2")]
    pub cluster_id: String,
    /// The members.
    #[prost(message, repeated, tag = "3")]
    pub members: Vec<MemberRecord>,
    /// The node asked does not lead; this one does. Empty: it knows none.
    #[prost(string, tag = "4")]
    pub leader_rpc: String,
    /// Why it can never be; empty: it may ask again.
    #[prost(string, tag = "5")]
    pub refused: String,
}

/// A member with its number.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MemberRecord {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub node_id: u64,
    /// What the membership says of it.
    #[prost(message, optional, tag = "2")]
    pub member: Option<Member>,
}

/// What of this snapshot has arrived already, in a transfer that was broken off?
#[derive(Clone, PartialEq, Message)]
pub struct SnapshotOffer {
    /// [`crate::snapshot::Manifest`], encoded.
    #[prost(bytes = "bytes", tag = "1")]
    pub manifest: Bytes,
}

/// The answer to [`SnapshotOffer`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct SnapshotOfferResponse {
    /// So many of the manifest's first files are there, whole and with the right checksums.
    #[prost(uint32, tag = "1")]
    pub files: u32,
}

/// One message of a snapshot's transfer: the head first, then all chunks in order.
#[derive(Clone, PartialEq, Message)]
pub struct SnapshotRequest {
    /// Which.
    #[prost(oneof = "SnapshotPart", tags = "1, 2")]
    pub part: Option<SnapshotPart>,
}

/// What a [`SnapshotRequest`] is.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum SnapshotPart {
    /// What is coming.
    #[prost(message, tag = "1")]
    Head(SnapshotHead),
    /// The next bytes.
    #[prost(message, tag = "2")]
    Chunk(SnapshotChunk),
}

/// What a snapshot is.
#[derive(Clone, PartialEq, Message)]
pub struct SnapshotHead {
    /// The leadership that sends it.
    #[prost(message, optional, tag = "1")]
    pub vote: Option<VoteRecord>,
    /// [`crate::snapshot::Manifest`], encoded.
    #[prost(bytes = "bytes", tag = "2")]
    pub manifest: Bytes,
    /// So many of the manifest's first files are not sent, because they are there already.
    #[prost(uint32, tag = "3")]
    pub files_there: u32,
}

/// Bytes of one file of a snapshot.
#[derive(Clone, PartialEq, Message)]
pub struct SnapshotChunk {
    /// The file's place in the manifest.
    #[prost(uint32, tag = "1")]
    pub file: u32,
    /// Where in the file they belong.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// They.
    #[prost(bytes = "bytes", tag = "3")]
    pub bytes: Bytes,
}

/// The answer to a snapshot, once it is installed or was refused.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct SnapshotResponse {
    /// The follower's vote. A higher one than the sender's: it was refused.
    #[prost(message, optional, tag = "1")]
    pub vote: Option<VoteRecord>,
}
