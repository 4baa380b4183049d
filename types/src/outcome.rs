//! What apply says of an Envelope. The same on every node.

use bytes::Bytes;

use crate::error::Error;
use crate::ids::{LeaseTimeMs, LogIndex, NodeId, Offset, PartitionId, TopicId};

/// What became of one Envelope.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It happened.
    Applied(Applied),
    /// It had happened before, under the same idempotency key and for the same request.
    Replayed(Replayed),
    /// It changed nothing.
    Rejected(Rejection),
}

/// An Envelope that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The entry it was in.
    pub index: LogIndex,
    /// One a command, in order.
    pub results: Vec<CommandResult>,
}

/// What a repeated request gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// The entry the first one was in.
    pub index: LogIndex,
    /// The planned answer as it was stored; empty if it was too large to be.
    pub answer: Bytes,
    /// The messages the first one caused.
    pub messages: Vec<AppendedRange>,
}

/// Why an Envelope changed nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Rejection {
    /// State differs from what the plan saw at this key: plan again.
    Stale {
        /// The key or prefix of the expectation that missed.
        key: Bytes,
    },
    /// The idempotency key belongs to another request.
    KeyReused,
    /// A command cannot be done, and planning again would not help.
    Refused {
        /// Which of the Envelope's, from 0.
        command: usize,
        /// Why.
        error: Error,
    },
}

/// Consecutive messages appended to one partition by one Envelope.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AppendedRange {
    /// The topic.
    #[prost(uint32, tag = "1")]
    pub topic_id: TopicId,
    /// The partition.
    #[prost(uint32, tag = "2")]
    pub partition: PartitionId,
    /// The first offset.
    #[prost(uint64, tag = "3")]
    pub first_offset: Offset,
    /// How many.
    #[prost(uint64, tag = "4")]
    pub count: u64,
}

/// What one command did.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandResult {
    /// [`crate::command::Write`]: the messages it caused, by topic and partition in the order of
    /// their first message.
    Written(Vec<AppendedRange>),
    /// [`crate::command::Claim`]: nothing could be granted; the group and its positions exist.
    NothingToClaim,
    /// [`crate::command::Claim`].
    Granted(Grant),
    /// [`crate::command::Ack`]: every offset below this is done.
    Acknowledged {
        /// The group's committed position in the partition: the first offset not done.
        committed: Offset,
    },
    /// [`crate::command::Extend`]: the lease's new end.
    Extended {
        /// On the lease clock.
        expires: LeaseTimeMs,
        /// From now, in ms.
        lease_ms: u64,
    },
    /// [`crate::command::RegisterNode`].
    NodeRegistered(NodeId),
    /// Any other command.
    Done,
}

/// A lease on messages of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Names the lease; from the log index and ordinal of its claim, so never given twice.
    pub lease_id: String,
    /// The partition.
    pub partition: PartitionId,
    /// The offsets, ascending and disjoint.
    pub ranges: Vec<GrantedRange>,
    /// When it ends, on the lease clock.
    pub expires: LeaseTimeMs,
    /// Is there more that could be claimed now?
    pub has_more: bool,
}

/// Consecutive offsets of a grant with the same history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantedRange {
    /// The first offset.
    pub start: Offset,
    /// The offset after the last.
    pub end: Offset,
    /// How often they were delivered, this time included.
    pub deliveries: u32,
}
