//! What the node that holds a consumer and the leader say to each other about its claim.

use serde::{Deserialize, Serialize};
use types::ids::TopicId;
use types::outcome::{Grant, GrantedRange};

/// A claim, checked, with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// `namespace.name`.
    pub topic: String,
    /// The group.
    pub group: String,
    /// None: any with work.
    pub partition: Option<u32>,
    /// Where a group without a position starts.
    pub start: Start,
    /// Empty: none given.
    pub consumer_id: String,
    /// Most messages.
    pub limit: u32,
    /// The lease's length.
    pub lease_ms: u64,
}

/// A start position with its time parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// After the last message.
    Latest,
    /// At the first message kept.
    Earliest,
    /// At that offset.
    Offset(u64),
    /// At the first message stamped at or after that time, in µs since 1970.
    Timestamp(i64),
}

/// The leader's answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimReply {
    /// The log index from which on the messages can be read.
    pub index: u64,
    /// None: nothing came before the wait was over.
    pub grant: Option<GrantWire>,
    /// The offset after what the partition has, for an empty answer.
    pub next_offset: u64,
}

/// A grant, with its end as a length, since nodes' lease clocks are the leader's only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantWire {
    /// The lease.
    pub lease_id: String,
    /// The partition.
    pub partition: u32,
    /// First offset, offset after the last, deliveries.
    pub ranges: Vec<(u64, u64, u32)>,
    /// How long the lease still lasts, in ms.
    pub remaining_ms: u64,
    /// Is there more?
    pub has_more: bool,
}

impl GrantWire {
    /// For the wire, at this moment of the leader's lease clock.
    pub fn new(grant: &Grant, lease_now: u64) -> GrantWire {
        GrantWire {
            lease_id: grant.lease_id.clone(),
            partition: grant.partition,
            ranges: grant
                .ranges
                .iter()
                .map(|r| (r.start, r.end, r.deliveries))
                .collect(),
            remaining_ms: grant.expires.saturating_sub(lease_now),
            has_more: grant.has_more,
        }
    }

    /// As the topics crate reads messages by it.
    pub fn grant(&self) -> Grant {
        let range = |&(start, end, deliveries): &(u64, u64, u32)| GrantedRange {
            start,
            end,
            deliveries,
        };
        Grant {
            lease_id: self.lease_id.clone(),
            partition: self.partition,
            ranges: self.ranges.iter().map(range).collect(),
            expires: 0,
            has_more: self.has_more,
        }
    }
}

/// A lease, or the rest of it, that is given back because it did not reach its client.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// The topic; its name may have become another's by now.
    #[prost(uint32, tag = "1")]
    pub topic_id: TopicId,
    /// The group.
    #[prost(string, tag = "2")]
    pub group: String,
    /// The lease.
    #[prost(string, tag = "3")]
    pub lease_id: String,
    /// From this offset on; 0: all of it.
    #[prost(uint64, tag = "4")]
    pub from_offset: u64,
}
