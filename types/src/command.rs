//! What is replicated: an [`Entry`] of the log, the [`Envelope`]s packed in it, their [`Command`]s.
//!
//! A command is physical: keys, bytes and conditions. Everything that needed a clock, randomness,
//! a schema or SQL was evaluated by the planner on the leader, once. Apply checks and copies.

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::ids::{LeaseTimeMs, LogIndex, Offset, PartitionId, Term, TopicId, Version, WallTimeUs};
use crate::schema::{PayloadMode, RowOp};

/// Version of apply that this build's commands need. An entry says which it needs; a node that is
/// older than an entry stops rather than guess.
pub const APPLY_VERSION: u32 = 1;

/// One entry of the log: what the batcher packed, stamped once.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// The version of apply this entry needs.
    #[prost(uint32, tag = "1")]
    pub apply_version: u32,
    /// The lease clock, in ms; never runs back from entry to entry.
    #[prost(uint64, tag = "2")]
    pub lease_time: LeaseTimeMs,
    /// The wall clock, in µs since 1970; never runs back from entry to entry.
    #[prost(int64, tag = "3")]
    pub wall_time: WallTimeUs,
    /// What to apply, each as if it were alone; an Envelope's position is part of its identity.
    #[prost(message, repeated, tag = "4")]
    pub envelopes: Vec<Envelope>,
}

/// What one statement or one BEGIN…COMMIT replicates: all of it or nothing.
#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    /// Names the request in logs and traces; 16 bytes of a ULID.
    #[prost(bytes = "bytes", tag = "1")]
    pub request_id: Bytes,
    /// The leadership the plan was made in; proposed under no other.
    #[prost(uint64, tag = "2")]
    pub term: Term,
    /// User who asked; empty for the server itself.
    #[prost(string, tag = "3")]
    pub actor: String,
    /// What the plan saw. All are checked, against the state before this Envelope, before any
    /// command runs; a miss rejects the Envelope.
    #[prost(message, repeated, tag = "4")]
    pub expectations: Vec<Expectation>,
    /// Run in order; an error of one undoes all.
    #[prost(message, repeated, tag = "5")]
    pub commands: Vec<Command>,
    /// Set when the caller wants this to happen once however often it is sent.
    #[prost(message, optional, tag = "6")]
    pub idempotency: Option<Idempotency>,
}

/// A condition on one key or prefix of the state.
#[derive(Clone, PartialEq, Message)]
pub struct Expectation {
    /// A whole key; the prefix for kinds that speak of one.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// What must be true of it.
    #[prost(enumeration = "ExpectationKind", tag = "2")]
    pub kind: i32,
    /// The log entry the value was written in; of a prefix, the newest of all.
    #[prost(uint64, tag = "3")]
    pub version_index: u64,
    /// With [`ExpectationKind::Version`]: the change within it.
    #[prost(uint32, tag = "4")]
    pub version_ordinal: u32,
    /// With [`ExpectationKind::PrefixUnchanged`]: how many keys there are.
    #[prost(uint64, tag = "5")]
    pub count: u64,
}

/// The kinds of [`Expectation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum ExpectationKind {
    /// The key has a value of exactly this version.
    Version = 0,
    /// The key has no value.
    Absent = 1,
    /// The key has a value.
    Exists = 2,
    /// No key starts with the prefix.
    PrefixEmpty = 3,
    /// As many keys start with the prefix, none with a newer value. Whoever plans it bounds them.
    PrefixUnchanged = 4,
}

impl Expectation {
    /// The key's value is the one the plan read.
    pub fn version(key: impl Into<Bytes>, version: Version) -> Expectation {
        Expectation {
            key: key.into(),
            kind: ExpectationKind::Version.into(),
            version_index: version.index,
            version_ordinal: version.ordinal,
            count: 0,
        }
    }

    /// The key has no value.
    pub fn absent(key: impl Into<Bytes>) -> Expectation {
        Expectation::of(key, ExpectationKind::Absent)
    }

    /// The key has some value.
    pub fn exists(key: impl Into<Bytes>) -> Expectation {
        Expectation::of(key, ExpectationKind::Exists)
    }

    /// No key starts with `prefix`.
    pub fn prefix_empty(prefix: impl Into<Bytes>) -> Expectation {
        Expectation::of(prefix, ExpectationKind::PrefixEmpty)
    }

    /// Under `prefix` there are `count` keys, none written after the log entry `newest`.
    pub fn prefix_unchanged(prefix: impl Into<Bytes>, newest: LogIndex, count: u64) -> Expectation {
        Expectation {
            version_index: newest,
            count,
            ..Expectation::of(prefix, ExpectationKind::PrefixUnchanged)
        }
    }

    fn of(key: impl Into<Bytes>, kind: ExpectationKind) -> Expectation {
        Expectation {
            key: key.into(),
            kind: kind.into(),
            version_index: 0,
            version_ordinal: 0,
            count: 0,
        }
    }
}

/// Makes an Envelope happen at most once per (actor, key, ordinal).
#[derive(Clone, PartialEq, Message)]
pub struct Idempotency {
    /// What the caller chose.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Which statement of the request, from 0.
    #[prost(uint32, tag = "2")]
    pub ordinal: u32,
    /// SHA-256 of the request: the key under another request is refused.
    #[prost(bytes = "bytes", tag = "3")]
    pub request_hash: Bytes,
    /// The planned answer, opaque here, given again to who repeats the request. Empty if it was
    /// larger than its limit: then a repeat gets only the receipt.
    #[prost(bytes = "bytes", tag = "4")]
    pub answer: Bytes,
}

/// One step of an Envelope.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// Which; none means a newer version wrote it.
    #[prost(oneof = "CommandKind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub kind: Option<CommandKind>,
}

impl From<CommandKind> for Command {
    fn from(kind: CommandKind) -> Command {
        Command { kind: Some(kind) }
    }
}

/// The families of commands; each has a file of its own in apply.
#[derive(Clone, PartialEq, Oneof)]
pub enum CommandKind {
    /// Puts and deletes of keys, with the messages the row changes cause.
    #[prost(message, tag = "1")]
    Write(Write),
    /// A lease on messages for a consumer.
    #[prost(message, tag = "2")]
    Claim(Claim),
    /// Messages are done.
    #[prost(message, tag = "3")]
    Ack(Ack),
    /// Messages are to be delivered again.
    #[prost(message, tag = "4")]
    Nack(Nack),
    /// A lease lasts longer.
    #[prost(message, tag = "5")]
    Extend(Extend),
    /// What a claim granted never reached its client.
    #[prost(message, tag = "6")]
    Release(Release),
    /// A group starts again elsewhere.
    #[prost(message, tag = "7")]
    Reset(ResetGroup),
    /// All messages of a topic go; its offsets go on.
    #[prost(message, tag = "8")]
    ClearTopic(ClearTopic),
    /// A node gets its number.
    #[prost(message, tag = "9")]
    RegisterNode(RegisterNode),
    /// A line of the audit log.
    #[prost(message, tag = "10")]
    Audit(Audit),
    /// Old messages go: everything below an offset of a partition.
    #[prost(message, tag = "11")]
    Retain(Retain),
}

/// Changes of keys, in order, and range deletes before them.
#[derive(Clone, PartialEq, Message)]
pub struct Write {
    /// Removed first: every key from `start` to before `end`.
    #[prost(message, repeated, tag = "1")]
    pub delete_ranges: Vec<DeleteRange>,
    /// Puts and deletes, in order.
    #[prost(message, repeated, tag = "2")]
    pub changes: Vec<Change>,
}

/// A half-open range of keys.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteRange {
    /// First key to go.
    #[prost(bytes = "bytes", tag = "1")]
    pub start: Bytes,
    /// First key to stay.
    #[prost(bytes = "bytes", tag = "2")]
    pub end: Bytes,
}

/// One key gets a value or loses it.
#[derive(Clone, PartialEq, Message)]
pub struct Change {
    /// The key in the state.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The new value, without the version that apply puts in front; none: the key goes.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub after: Option<Bytes>,
    /// The messages it causes, if it is a row with routes.
    #[prost(message, optional, tag = "3")]
    pub event: Option<RowEvent>,
}

/// What a routed row change tells the topics.
#[derive(Clone, PartialEq, Message)]
pub struct RowEvent {
    /// The table.
    #[prost(uint32, tag = "1")]
    pub table_id: u32,
    /// What happened.
    #[prost(enumeration = "RowOp", tag = "2")]
    pub op: i32,
    /// Owner of the row; empty for SHARED tables.
    #[prost(string, tag = "3")]
    pub user: String,
    /// The primary key's value as text.
    #[prost(string, tag = "4")]
    pub message_key: String,
    /// The row before the change, when a payload needs it (DELETE, diff).
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub before: Option<Bytes>,
    /// Where the messages go, in the order of the table's routes.
    #[prost(message, repeated, tag = "6")]
    pub targets: Vec<RouteTarget>,
}

/// One message to append.
#[derive(Clone, PartialEq, Message)]
pub struct RouteTarget {
    /// The topic.
    #[prost(uint32, tag = "1")]
    pub topic_id: TopicId,
    /// Its partition, chosen by the planner.
    #[prost(uint32, tag = "2")]
    pub partition: PartitionId,
    /// What the payload shows.
    #[prost(enumeration = "PayloadMode", tag = "3")]
    pub payload: i32,
}

/// Where a group without a position, or one that is reset, goes on.
#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
pub enum Position {
    /// After the last message.
    #[prost(bool, tag = "1")]
    Latest(bool),
    /// At the first message kept.
    #[prost(bool, tag = "2")]
    Earliest(bool),
    /// At this offset.
    #[prost(uint64, tag = "3")]
    Offset(Offset),
    /// At the first message stamped at or after this, in µs since 1970.
    #[prost(int64, tag = "4")]
    Timestamp(WallTimeUs),
}

/// [`Position`] as a message of its own.
#[derive(Clone, PartialEq, Message)]
pub struct StartAt {
    /// The position; none is Latest.
    #[prost(oneof = "Position", tags = "1, 2, 3, 4")]
    pub position: Option<Position>,
}

impl StartAt {
    /// The position; Latest where none is given.
    pub fn get(&self) -> Position {
        self.position.unwrap_or(Position::Latest(true))
    }
}

impl From<Position> for StartAt {
    fn from(position: Position) -> StartAt {
        StartAt {
            position: Some(position),
        }
    }
}

/// A consumer asks for messages of a group. Makes the group and its position if there is none.
#[derive(Clone, PartialEq, Message)]
pub struct Claim {
    /// The topic.
    #[prost(uint32, tag = "1")]
    pub topic_id: TopicId,
    /// The group's name.
    #[prost(string, tag = "2")]
    pub group: String,
    /// The partition; none: any with work.
    #[prost(uint32, optional, tag = "3")]
    pub partition: Option<PartitionId>,
    /// How many partitions the topic has.
    #[prost(uint32, tag = "4")]
    pub partitions: u32,
    /// Where to start while a partition has no position.
    #[prost(message, optional, tag = "5")]
    pub start: Option<StartAt>,
    /// Who asks; empty: consumers without a name count as one.
    #[prost(string, tag = "6")]
    pub consumer_id: String,
    /// Most messages to grant.
    #[prost(uint32, tag = "7")]
    pub limit: u32,
    /// The lease's length.
    #[prost(uint64, tag = "8")]
    pub lease_ms: u64,
}

/// Messages of a group are done.
#[derive(Clone, PartialEq, Message)]
pub struct Ack {
    /// The topic.
    #[prost(uint32, tag = "1")]
    pub topic_id: TopicId,
    /// The group's name.
    #[prost(string, tag = "2")]
    pub group: String,
    /// The partition.
    #[prost(uint32, tag = "3")]
    pub partition: PartitionId,
    /// Cumulative: up to and including this offset. None: by lease.
    #[prost(uint64, optional, tag = "4")]
    pub upto_offset: Option<Offset>,
    /// By lease: the lease.
    #[prost(string, tag = "5")]
    pub lease_id: String,
    /// By lease: just these; empty: all the lease still holds.
    #[prost(uint64, repeated, tag = "6")]
    pub offsets: Vec<Offset>,
    /// Who acks; see [`Claim::consumer_id`].
    #[prost(string, tag = "7")]
    pub consumer_id: String,
    /// In a transaction: every offset named must still be open, or LEASE_LOST.
    #[prost(bool, tag = "8")]
    pub strict: bool,
}

/// Messages a lease holds are to be delivered again.
#[derive(Clone, PartialEq, Message)]
pub struct Nack {
    /// The topic.
    #[prost(uint32, tag = "1")]
    pub topic_id: TopicId,
    /// The group's name.
    #[prost(string, tag = "2")]
    pub group: String,
    /// The lease.
    #[prost(string, tag = "3")]
    pub lease_id: String,
    /// Just these; empty: all the lease still holds.
    #[prost(uint64, repeated, tag = "4")]
    pub offsets: Vec<Offset>,
    /// Not before this much later.
    #[prost(uint64, tag = "5")]
    pub delay_ms: u64,
    /// In a transaction: see [`Ack::strict`].
    #[prost(bool, tag = "6")]
    pub strict: bool,
}

/// A lease lasts `lease_ms` from now.
#[derive(Clone, PartialEq, Message)]
pub struct Extend {
    /// The topic.
    #[prost(uint32, tag = "1")]
    pub topic_id: TopicId,
    /// The group's name.
    #[prost(string, tag = "2")]
    pub group: String,
    /// The lease.
    #[prost(string, tag = "3")]
    pub lease_id: String,
    /// Its new length from now.
    #[prost(uint64, tag = "4")]
    pub lease_ms: u64,
}

/// Granted messages never reached the client: they are free again, and it was no delivery.
#[derive(Clone, PartialEq, Message)]
pub struct Release {
    /// The topic.
    #[prost(uint32, tag = "1")]
    pub topic_id: TopicId,
    /// The group's name.
    #[prost(string, tag = "2")]
    pub group: String,
    /// The lease.
    #[prost(string, tag = "3")]
    pub lease_id: String,
    /// From this offset on; 0: all the lease holds.
    #[prost(uint64, tag = "4")]
    pub from_offset: Offset,
}

/// A group goes on elsewhere; all its leases are void.
#[derive(Clone, PartialEq, Message)]
pub struct ResetGroup {
    /// The topic.
    #[prost(uint32, tag = "1")]
    pub topic_id: TopicId,
    /// The group's name.
    #[prost(string, tag = "2")]
    pub group: String,
    /// The partition; none: all.
    #[prost(uint32, optional, tag = "3")]
    pub partition: Option<PartitionId>,
    /// How many partitions the topic has.
    #[prost(uint32, tag = "4")]
    pub partitions: u32,
    /// Where to.
    #[prost(message, optional, tag = "5")]
    pub to: Option<StartAt>,
}

/// All messages of a topic go; offsets go on from where they are.
#[derive(Clone, PartialEq, Message)]
pub struct ClearTopic {
    /// The topic.
    #[prost(uint32, tag = "1")]
    pub topic_id: TopicId,
    /// How many partitions it has.
    #[prost(uint32, tag = "2")]
    pub partitions: u32,
}

/// Messages below an offset go.
#[derive(Clone, PartialEq, Message)]
pub struct Retain {
    /// The topic.
    #[prost(uint32, tag = "1")]
    pub topic_id: TopicId,
    /// The partition.
    #[prost(uint32, tag = "2")]
    pub partition: PartitionId,
    /// The first offset to keep.
    #[prost(uint64, tag = "3")]
    pub earliest: Offset,
}

/// A joining node gets a number never used before, or the one its nonce already has.
#[derive(Clone, PartialEq, Message)]
pub struct RegisterNode {
    /// The node's own secret name for this attempt; 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub nonce: Bytes,
    /// The number it would like; 0: any.
    #[prost(uint64, tag = "2")]
    pub requested_id: u64,
}

/// A line of the audit log.
#[derive(Clone, PartialEq, Message)]
pub struct Audit {
    /// [`crate::schema::AuditRecord`] as JSON.
    #[prost(bytes = "bytes", tag = "1")]
    pub record: Bytes,
}
