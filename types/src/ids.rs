//! Identifiers. All numbers are allocated through the log and never used again.

/// A node of the cluster; from 1. A number once used is never given out again.
pub type NodeId = u64;
/// Position of an entry in the replicated log; from 1.
pub type LogIndex = u64;
/// A leadership period.
pub type Term = u64;
/// A namespace.
pub type NamespaceId = u32;
/// A table, in all its versions; also the number of its primary key's key space.
pub type TableId = u32;
/// A secondary index of a table.
pub type IndexId = u32;
/// A topic; its name is what clients call `topic_id`.
pub type TopicId = u32;
/// A column of a table, stable over renames; never used again in that table.
pub type ColumnId = u32;
/// Position of a message in its partition; dense from 0.
pub type Offset = u64;
/// Partition of a topic; from 0.
pub type PartitionId = u32;
/// Milliseconds of the log's lease clock (monotonic over leaders; not the time of day).
pub type LeaseTimeMs = u64;
/// Microseconds since 1970-01-01T00:00:00Z, stamped by the leader, never running back.
pub type WallTimeUs = i64;

/// Where in the log something was written: entry, and position among that entry's changes.
/// Stored in front of every row, index entry and catalog record as its version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The log entry.
    pub index: LogIndex,
    /// The change within the entry, from 0, counted over all its Envelopes.
    pub ordinal: u32,
}

impl Version {
    /// Bytes of an encoded version.
    pub const LEN: usize = 12;

    /// Big-endian, so that byte order is version order.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.index.to_be_bytes());
        bytes[8..].copy_from_slice(&self.ordinal.to_be_bytes());
        bytes
    }

    /// Splits a stored value into its version and what follows; `None` if it is too short.
    pub fn split(stored: &[u8]) -> Option<(Version, &[u8])> {
        let (head, rest) = stored.split_at_checked(Self::LEN)?;
        Some((
            Version {
                index: u64::from_be_bytes(head[..8].try_into().ok()?),
                ordinal: u32::from_be_bytes(head[8..].try_into().ok()?),
            },
            rest,
        ))
    }
}
