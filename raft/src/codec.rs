//! An entry of the log as bytes: in the log database and between nodes.
//!
//! ```text
//! record     := format (u8 = 1) kind (u8) term (u64) node id (u64) index (u64) body crc32 (u32)
//! kind       := 0 blank, 1 proposal, 2 membership
//! ```
//! Numbers are big-endian. The checksum is over everything before it, so a flipped bit is noticed
//! wherever the record is read: on the disk, in replication, in a snapshot. The body of a proposal
//! is a [`types::command::Entry`], that of a membership a [`MembershipRecord`], both in prost.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use crate::type_config::{
    LeaderId, LogEntry, LogId, Member, Membership, Payload, Proposal, StoredMembership,
};

const FORMAT: u8 = 1;
const KIND_BLANK: u8 = 0;
const KIND_PROPOSAL: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;
/// Bytes of a record before its body.
const HEAD_BYTES: usize = 26;
const CRC_BYTES: usize = 4;
/// Bytes of a record beside its body.
pub const RECORD_OVERHEAD_BYTES: usize = HEAD_BYTES + CRC_BYTES;

/// Bytes that should be a record and are not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedEntry {
    /// Too few bytes to hold any record.
    #[error("log record of {0} bytes is too short")]
    Short(usize),
    /// The checksum says that the bytes changed.
    #[error("log record's checksum is {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// What the bytes sum up to.
        found: u32,
        /// What the record says.
        expected: u32,
    },
    /// The bytes are what was written, by a version this one does not know.
    #[error("log record has format {format} and kind {kind}, which this version does not know")]
    Unknown {
        /// The record's format.
        format: u8,
        /// The record's kind.
        kind: u8,
    },
    /// The membership in the record cannot be one.
    #[error("log record holds an invalid membership: {0}")]
    Membership(String),
}

/// Encodes an entry.
pub fn encode(entry: &LogEntry) -> Vec<u8> {
    match &entry.payload {
        Payload::Blank => record(KIND_BLANK, &entry.log_id, &[]),
        Payload::Normal(proposal) => record(KIND_PROPOSAL, &entry.log_id, proposal.encoded()),
        Payload::Membership(membership) => {
            let body = MembershipRecord::of(membership).encode_to_vec();
            record(KIND_MEMBERSHIP, &entry.log_id, &body)
        }
    }
}

/// Bytes of the record of an entry; exact, but for a membership, where it is an estimate.
pub fn encoded_len(entry: &LogEntry) -> usize {
    RECORD_OVERHEAD_BYTES
        + match &entry.payload {
            Payload::Blank => 0,
            Payload::Normal(proposal) => proposal.encoded().len(),
            Payload::Membership(membership) => 64 * membership.nodes().count(),
        }
}

/// Decodes an entry. The body of a proposal is not copied.
pub fn decode(record: &Bytes) -> Result<LogEntry, MalformedEntry> {
    let Some(body_end) = record
        .len()
        .checked_sub(CRC_BYTES)
        .filter(|end| *end >= HEAD_BYTES)
    else {
        return Err(MalformedEntry::Short(record.len()));
    };
    let (checked, crc) = record.split_at(body_end);
    let (expected, found) = (be_u32(crc), crc32fast::hash(checked));
    if found != expected {
        return Err(MalformedEntry::Checksum { found, expected });
    }
    let (format, kind) = (checked[0], checked[1]);
    let log_id = LogId::new(
        LeaderId {
            term: be_u64(&checked[2..10]),
            node_id: be_u64(&checked[10..18]),
        },
        be_u64(&checked[18..26]),
    );
    let body = record.slice(HEAD_BYTES..body_end);
    let payload = match (format, kind) {
        (FORMAT, KIND_BLANK) => Payload::Blank,
        (FORMAT, KIND_PROPOSAL) => Payload::Normal(Proposal::from_encoded(body)),
        (FORMAT, KIND_MEMBERSHIP) => {
            let record = MembershipRecord::decode(body)
                .map_err(|error| MalformedEntry::Membership(error.to_string()))?;
            Payload::Membership(record.to_membership()?)
        }
        _ => return Err(MalformedEntry::Unknown { format, kind }),
    };
    Ok(LogEntry { log_id, payload })
}

fn record(kind: u8, log_id: &LogId, body: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(RECORD_OVERHEAD_BYTES + body.len());
    record.extend_from_slice(&[FORMAT, kind]);
    record.extend_from_slice(&log_id.leader_id.term.to_be_bytes());
    record.extend_from_slice(&log_id.leader_id.node_id.to_be_bytes());
    record.extend_from_slice(&log_id.index.to_be_bytes());
    record.extend_from_slice(body);
    let crc = crc32fast::hash(&record);
    record.extend_from_slice(&crc.to_be_bytes());
    record
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn be_u64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// [`LogId`] in prost.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LogIdRecord {
    /// Term of the leadership that wrote the entry.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Node that held it.
    #[prost(uint64, tag = "2")]
    pub node_id: u64,
    /// The entry's position.
    #[prost(uint64, tag = "3")]
    pub index: u64,
}

impl From<&LogId> for LogIdRecord {
    fn from(id: &LogId) -> LogIdRecord {
        LogIdRecord {
            term: id.leader_id.term,
            node_id: id.leader_id.node_id,
            index: id.index,
        }
    }
}

impl From<&LogIdRecord> for LogId {
    fn from(record: &LogIdRecord) -> LogId {
        LogId::new(
            LeaderId {
                term: record.term,
                node_id: record.node_id,
            },
            record.index,
        )
    }
}

/// [`Membership`] in prost.
#[derive(Clone, PartialEq, Message)]
pub struct MembershipRecord {
    /// One set of voters; two while membership changes.
    #[prost(message, repeated, tag = "1")]
    pub configs: Vec<VoterSetRecord>,
    /// All nodes, voters and others, by number.
    #[prost(btree_map = "uint64, message", tag = "2")]
    pub nodes: BTreeMap<u64, Member>,
}

/// Nodes of which a majority decides.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct VoterSetRecord {
    /// Their numbers, ascending.
    #[prost(uint64, repeated, tag = "1")]
    pub voters: Vec<u64>,
}

impl MembershipRecord {
    /// The record of a membership.
    pub fn of(membership: &Membership) -> MembershipRecord {
        let voters = |set: &BTreeSet<u64>| VoterSetRecord {
            voters: set.iter().copied().collect(),
        };
        MembershipRecord {
            configs: membership.get_joint_config().iter().map(voters).collect(),
            nodes: membership
                .nodes()
                .map(|(id, member)| (*id, member.clone()))
                .collect(),
        }
    }

    /// The membership; an error if a voter is none of its nodes.
    pub fn to_membership(&self) -> Result<Membership, MalformedEntry> {
        if self.configs.is_empty() && self.nodes.is_empty() {
            return Ok(Membership::default());
        }
        let configs = self
            .configs
            .iter()
            .map(|set| set.voters.iter().copied().collect())
            .collect();
        Membership::new(configs, self.nodes.clone())
            .map_err(|error| MalformedEntry::Membership(error.to_string()))
    }
}

/// [`StoredMembership`] in prost.
#[derive(Clone, PartialEq, Message)]
pub struct StoredMembershipRecord {
    /// The entry it was written in; none for a node that belongs to no cluster yet.
    #[prost(message, optional, tag = "1")]
    pub log_id: Option<LogIdRecord>,
    /// The membership.
    #[prost(message, optional, tag = "2")]
    pub membership: Option<MembershipRecord>,
}

impl StoredMembershipRecord {
    /// The record of a stored membership.
    pub fn of(stored: &StoredMembership) -> StoredMembershipRecord {
        StoredMembershipRecord {
            log_id: stored.log_id().as_ref().map(LogIdRecord::from),
            membership: Some(MembershipRecord::of(stored.membership())),
        }
    }

    /// The stored membership; an error if it cannot be one.
    pub fn to_stored(&self) -> Result<StoredMembership, MalformedEntry> {
        let membership = match &self.membership {
            Some(record) => record.to_membership()?,
            None => Membership::default(),
        };
        Ok(StoredMembership::new(
            self.log_id.as_ref().map(LogId::from),
            membership,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_id(term: u64, index: u64) -> LogId {
        LogId::new(LeaderId { term, node_id: 7 }, index)
    }

    fn entries() -> Vec<LogEntry> {
        let member = Member {
            rpc: "10.0.0.1:7001".into(),
            http: "http://10.0.0.1:7000".into(),
            version: "0.1.0".into(),
            voter_wanted: true,
            apply_version: 1,
        };
        let membership = Membership::new(
            vec![BTreeSet::from([1, 2]), BTreeSet::from([1])],
            BTreeMap::from([(1, member.clone()), (2, member.clone()), (3, member)]),
        )
        .unwrap();
        let proposal = Proposal::new(types::command::Entry {
            apply_version: 1,
            lease_time: 12,
            wall_time: 34,
            envelopes: vec![Default::default()],
        });
        [
            Payload::Blank,
            Payload::Normal(proposal),
            Payload::Membership(membership),
        ]
        .into_iter()
        .zip(5..)
        .map(|(payload, index)| LogEntry {
            log_id: log_id(3, index),
            payload,
        })
        .collect()
    }

    #[test]
    fn entries_come_back_as_they_were() {
        for entry in entries() {
            let record = Bytes::from(encode(&entry));
            let decoded = decode(&record).unwrap();
            assert_eq!(decoded, entry);
            if let (Payload::Normal(ours), Payload::Normal(theirs)) =
                (&decoded.payload, &entry.payload)
            {
                assert_eq!(ours.decoded().unwrap(), theirs.decoded().unwrap());
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_lost_end_is_noticed() {
        for entry in entries() {
            let record = encode(&entry);
            for bit in 0..record.len() * 8 {
                let mut damaged = record.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    decode(&Bytes::from(damaged)).is_err(),
                    "bit {bit} of {entry}"
                );
            }
            for len in 0..record.len() {
                assert!(
                    decode(&Bytes::from(record[..len].to_vec())).is_err(),
                    "{len} bytes"
                );
            }
        }
    }

    #[test]
    fn the_bytes_of_a_record_are_frozen() {
        let entry = LogEntry {
            log_id: log_id(3, 5),
            payload: Payload::Blank,
        };
        let mut expected = vec![1, 0];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 3]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 7]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 5]);
        expected.extend(crc32fast::hash(&expected).to_be_bytes());
        assert_eq!(encode(&entry), expected);
    }
}
