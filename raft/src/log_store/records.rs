//! The small values of the log database: the vote and two positions.
//!
//! ```text
//! vote     := format (u8 = 1) term (u64) node id (u64) committed (u8) crc32 (u32)
//! position := format (u8 = 1) term (u64) node id (u64) index (u64) crc32 (u32)
//! ```
//! Numbers are big-endian; the checksum is over all before it.

use crate::type_config::{LeaderId, LogId, Vote};

const FORMAT: u8 = 1;

/// Encodes a vote.
pub(super) fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut bytes = head(&vote.leader_id);
    bytes.push(u8::from(vote.committed));
    seal(bytes)
}

/// Decodes a vote; none if the bytes are not one.
pub(super) fn decode_vote(bytes: &[u8]) -> Option<Vote> {
    let (leader_id, rest) = open(bytes)?;
    let committed = match rest {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    Some(Vote {
        leader_id,
        committed,
    })
}

/// Encodes a position in the log.
pub(super) fn encode_position(id: &LogId) -> Vec<u8> {
    let mut bytes = head(&id.leader_id);
    bytes.extend_from_slice(&id.index.to_be_bytes());
    seal(bytes)
}

/// Decodes a position in the log; none if the bytes are not one.
pub(super) fn decode_position(bytes: &[u8]) -> Option<LogId> {
    let (leader_id, rest) = open(bytes)?;
    Some(LogId::new(
        leader_id,
        u64::from_be_bytes(rest.try_into().ok()?),
    ))
}

fn head(leader: &LeaderId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(29);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&leader.term.to_be_bytes());
    bytes.extend_from_slice(&leader.node_id.to_be_bytes());
    bytes
}

fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

fn open(bytes: &[u8]) -> Option<(LeaderId, &[u8])> {
    let (checked, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(checked) != u32::from_be_bytes(*crc) {
        return None;
    }
    let (format, rest) = checked.split_first()?;
    let (term, rest) = rest.split_first_chunk::<8>()?;
    let (node_id, rest) = rest.split_first_chunk::<8>()?;
    let leader_id = LeaderId {
        term: u64::from_be_bytes(*term),
        node_id: u64::from_be_bytes(*node_id),
    };
    (*format == FORMAT).then_some((leader_id, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_damage_is_noticed() {
        let leader_id = LeaderId {
            term: 9,
            node_id: 2,
        };
        let vote = Vote {
            leader_id,
            committed: true,
        };
        let position = LogId::new(leader_id, 77);
        assert_eq!(decode_vote(&encode_vote(&vote)), Some(vote));
        assert_eq!(decode_position(&encode_position(&position)), Some(position));
        for bit in 0..encode_position(&position).len() * 8 {
            let mut damaged = encode_position(&position);
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_position(&damaged), None, "bit {bit}");
        }
        assert_eq!(decode_vote(&encode_position(&position)), None);
    }
}
