//! The keys of the state database: the disk format's one owner and one page.
//!
//! ```text
//! key := raft group (u16) kind (u8) fields of the kind
//! ```
//! | kind | number | fields | value |
//! |---|---|---|---|
//! | Meta | 1 | name | see [`meta`] |
//! | Counter | 2 | name | version, last number given out (u64) |
//! | Namespace | 3 | name | version, JSON |
//! | Table | 4 | table id | version, JSON of the current definition |
//! | TableName | 5 | namespace id, name | version, table id (u32) |
//! | TableVersion | 6 | table id, schema version (u32) | version, JSON of that definition |
//! | Topic | 7 | topic id | version, JSON |
//! | TopicName | 8 | namespace id, name | version, topic id (u32) |
//! | User | 9 | name | version, JSON |
//! | Node | 10 | node id (u64) | nonce it was given out for |
//! | NodeNonce | 11 | nonce | node id (u64) |
//! | IndexName | 12 | namespace id, name | version, table id (u32), index id (u32) |
//! | Audit | 13 | log index (u64), ordinal (u32) | JSON |
//! | Row | 20 | table id, owner, primary key | version, row |
//! | Index | 21 | table id, index id (u32), owner, values, primary key | version, primary key |
//! | UniqueIndex | 22 | table id, index id (u32), owner, values | version, primary key |
//! | Message | 30 | topic id, partition (u32), offset (u64) | see `topics::message` |
//! | Tail | 31 | topic id, partition (u32) | earliest, next offset, bytes, two chains (u64 each) |
//! | Group | 40 | topic id, group | see `topics::groups` |
//! | Cursor | 41 | topic id, group, partition (u32) | see `topics::groups` |
//! | Segment | 42 | topic id, group, partition (u32), first offset (u64) | see `topics::groups` |
//! | Lease | 43 | topic id, group, lease id | see `topics::groups` |
//! | Deadline | 44 | topic id, group, partition (u32), lease time (u64), offset (u64) | empty |
//! | LeaseEnd | 45 | topic id, group, lease time (u64), lease id | empty |
//! | Idempotency | 50 | actor, key, ordinal (u32) | see `raft::apply::idempotency` |
//! | IdempotencyAge | 51 | wall time (i64), actor, key, ordinal (u32) | empty |
//!
//! Numbers are big-endian, so byte order is numeric order. Names are in the order-preserving form
//! of [`encoding::put_bytes`], so no name is a prefix of another. An owner is one byte 0 for none,
//! or 1 and a name. `version` is [`types::ids::Version`], put in front by apply.
//!
//! Kinds are never renumbered; a number once used keeps its meaning. `tests/frozen_keys.rs` holds
//! the bytes.

pub mod catalog;
pub mod encoding;
pub mod log;
pub mod meta;
pub mod rows;
pub mod topics;

/// The raft group all keys belong to. There is one now; the bytes are there so that a second one
/// needs no new format.
pub const RAFT_GROUP: u16 = 1;

/// What a key is about. The discriminants are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Facts about this database as a whole.
    Meta = 1,
    /// Numbers given out.
    Counter = 2,
    /// Namespaces.
    Namespace = 3,
    /// Current table definitions.
    Table = 4,
    /// Tables by name.
    TableName = 5,
    /// All table definitions.
    TableVersion = 6,
    /// Topics.
    Topic = 7,
    /// Topics by name.
    TopicName = 8,
    /// Users.
    User = 9,
    /// Node numbers given out.
    Node = 10,
    /// Node numbers by nonce.
    NodeNonce = 11,
    /// Secondary indexes by name.
    IndexName = 12,
    /// The audit log.
    Audit = 13,
    /// Rows.
    Row = 20,
    /// Entries of indexes that allow duplicates.
    Index = 21,
    /// Entries of UNIQUE indexes.
    UniqueIndex = 22,
    /// Messages.
    Message = 30,
    /// Ends of partitions.
    Tail = 31,
    /// Consumer groups.
    Group = 40,
    /// Positions of groups in partitions.
    Cursor = 41,
    /// Offsets of a group between its committed and its next one.
    Segment = 42,
    /// Leases.
    Lease = 43,
    /// When segments can be claimed again.
    Deadline = 44,
    /// When leases whose messages are all acked are forgotten.
    LeaseEnd = 45,
    /// Answers under idempotency keys.
    Idempotency = 50,
    /// Idempotency keys by age.
    IdempotencyAge = 51,
}

impl Kind {
    /// All kinds, in order.
    pub const ALL: [Kind; 26] = [
        Kind::Meta,
        Kind::Counter,
        Kind::Namespace,
        Kind::Table,
        Kind::TableName,
        Kind::TableVersion,
        Kind::Topic,
        Kind::TopicName,
        Kind::User,
        Kind::Node,
        Kind::NodeNonce,
        Kind::IndexName,
        Kind::Audit,
        Kind::Row,
        Kind::Index,
        Kind::UniqueIndex,
        Kind::Message,
        Kind::Tail,
        Kind::Group,
        Kind::Cursor,
        Kind::Segment,
        Kind::Lease,
        Kind::Deadline,
        Kind::LeaseEnd,
        Kind::Idempotency,
        Kind::IdempotencyAge,
    ];

    /// The kind of a key; `None` if it is not a key of the state database.
    pub fn of(key: &[u8]) -> Option<Kind> {
        let (group, rest) = key.split_first_chunk::<2>()?;
        let number = *rest.first()?;
        (u16::from_be_bytes(*group) == RAFT_GROUP)
            .then(|| Kind::ALL.into_iter().find(|kind| *kind as u8 == number))
            .flatten()
    }

    /// The column family the kind lives in.
    pub fn family(self) -> Family {
        match self {
            Kind::Row | Kind::Index | Kind::UniqueIndex => Family::Rows,
            Kind::Message => Family::Messages,
            _ => Family::Meta,
        }
    }

    /// The bytes every key of the kind starts with.
    pub fn prefix(self) -> Vec<u8> {
        let mut key = Vec::with_capacity(48);
        key.extend_from_slice(&RAFT_GROUP.to_be_bytes());
        key.push(self as u8);
        key
    }
}

/// A column family: kinds that are written and compacted alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Small records, read often.
    Meta,
    /// Rows and their indexes.
    Rows,
    /// Messages: appended in order, removed in ranges.
    Messages,
}

impl Family {
    /// All families.
    pub const ALL: [Family; 3] = [Family::Meta, Family::Rows, Family::Messages];

    /// Its name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Family::Meta => "meta",
            Family::Rows => "rows",
            Family::Messages => "messages",
        }
    }
}
