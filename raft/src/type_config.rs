//! The types consensus works with: what an entry carries, what apply answers, who the nodes are.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message as _;
use types::ids::{NodeId, Term};
use types::outcome::Outcome;

openraft::declare_raft_types!(
    /// What this crate plugs into openraft.
    pub TypeConfig:
        D = Proposal,
        R = Outcomes,
        NodeId = NodeId,
        Node = Member,
        Term = Term,
        LeaderId = LeaderId,
);

/// A leadership: its term and the node that holds it.
pub type LeaderId = openraft::impls::leader_id_adv::LeaderId<Term, NodeId>;
/// Position of an entry in the log, with the leadership that wrote it.
pub type LogId = openraft::LogId<LeaderId>;
/// A vote, or the leadership it became.
pub type Vote = openraft::Vote<LeaderId>;
/// What an entry of the log carries.
pub type Payload = openraft::EntryPayload<Proposal, NodeId, Member>;
/// An entry of the log.
pub type LogEntry = openraft::Entry<LeaderId, Payload>;
/// Who votes and who only follows.
pub type Membership = openraft::Membership<NodeId, Member>;
/// A membership and the entry it was written in.
pub type StoredMembership = openraft::StoredMembership<LeaderId, NodeId, Member>;
/// Up to which entry a snapshot goes, and the membership at that entry.
pub type SnapshotMeta = openraft::SnapshotMeta<LeaderId, NodeId, Member>;
/// A directory that holds a snapshot; see [`crate::snapshot`].
pub type SnapshotData = crate::snapshot::SnapshotDir;
/// A snapshot with what it covers.
pub type Snapshot = openraft::Snapshot<LeaderId, NodeId, Member, SnapshotData>;

/// What the membership says of a node, beside its number.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Member {
    /// Address other nodes reach its RPC listener under, `host:port`.
    #[prost(string, tag = "1")]
    pub rpc: String,
    /// Address clients reach its HTTP listener under, as a URL.
    #[prost(string, tag = "2")]
    pub http: String,
    /// Version of the build it runs.
    #[prost(string, tag = "3")]
    pub version: String,
    /// Is it to vote once it has caught up? A node that only follows says no.
    #[prost(bool, tag = "4")]
    pub voter_wanted: bool,
    /// Highest [`types::command::APPLY_VERSION`] its build understands.
    #[prost(uint32, tag = "5")]
    pub apply_version: u32,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.rpc, self.version)
    }
}

/// The bytes of a proposal are not an entry this version can read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("proposal of {bytes} bytes cannot be decoded: {source}")]
pub struct UndecodableProposal {
    bytes: usize,
    source: prost::DecodeError,
}

/// One [`types::command::Entry`] as the log carries it.
///
/// Holds the encoded form, which the log store and the network write, and the decoded form, which
/// apply reads. Encoding happens once, on the leader; decoding once, in apply, where the entry did
/// not start. Clones share both.
#[derive(Clone)]
pub struct Proposal {
    shared: Arc<ProposalForms>,
}

struct ProposalForms {
    encoded: Bytes,
    decoded: OnceLock<types::command::Entry>,
}

impl Proposal {
    /// A proposal of this node.
    pub fn new(entry: types::command::Entry) -> Proposal {
        let encoded = Bytes::from(entry.encode_to_vec());
        Proposal {
            shared: Arc::new(ProposalForms {
                encoded,
                decoded: OnceLock::from(entry),
            }),
        }
    }

    /// A proposal from the log or from another node. Nothing is decoded or copied yet.
    pub fn from_encoded(encoded: Bytes) -> Proposal {
        Proposal {
            shared: Arc::new(ProposalForms {
                encoded,
                decoded: OnceLock::new(),
            }),
        }
    }

    /// The entry as bytes.
    pub fn encoded(&self) -> &Bytes {
        &self.shared.encoded
    }

    /// The entry. Fails where a newer version wrote something this one cannot read.
    pub fn decoded(&self) -> Result<&types::command::Entry, UndecodableProposal> {
        if let Some(entry) = self.shared.decoded.get() {
            return Ok(entry);
        }
        let encoded = &self.shared.encoded;
        let entry = types::command::Entry::decode(encoded.clone()).map_err(|source| {
            UndecodableProposal {
                bytes: encoded.len(),
                source,
            }
        })?;
        Ok(self.shared.decoded.get_or_init(|| entry))
    }
}

impl PartialEq for Proposal {
    fn eq(&self, other: &Proposal) -> bool {
        self.shared.encoded == other.shared.encoded
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.shared.encoded.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.shared.encoded.len())
    }
}

/// What apply says of an entry: one [`Outcome`] for each of its Envelopes, in order; none for an
/// entry that carries no Envelope.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes(pub Vec<Outcome>);

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} outcomes", self.0.len())
    }
}
