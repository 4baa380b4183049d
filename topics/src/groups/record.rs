//! The records of groups, as they are stored: prost messages under the keys of
//! [`storage::keys::topics`].

use prost::Message;
use storage::{Batch, Error, Read};
use types::ids::{LeaseTimeMs, LogIndex, Offset, PartitionId, WallTimeUs};

/// A group of a topic.
#[derive(Clone, PartialEq, Message)]
pub struct Group {
    /// Raised by every reset.
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    /// Where a claim on any partition begins to look, so that all get their turn.
    #[prost(uint32, tag = "2")]
    pub next_partition: PartitionId,
    /// Does every partition of the topic have a cursor?
    #[prost(bool, tag = "3")]
    pub complete: bool,
    /// When it was made.
    #[prost(int64, tag = "4")]
    pub created_at: WallTimeUs,
}

/// A group's position in a partition.
#[derive(Clone, PartialEq, Message)]
pub struct Cursor {
    /// The first offset that is not done.
    #[prost(uint64, tag = "1")]
    pub committed: Offset,
    /// The first offset that was never granted; not below `committed`.
    #[prost(uint64, tag = "2")]
    pub next: Offset,
    /// How many offsets between the two are not done.
    #[prost(uint64, tag = "3")]
    pub open: u64,
    /// Has the group ever claimed here? Until then an ack may set any position.
    #[prost(bool, tag = "4")]
    pub consumed: bool,
    /// When `committed` last moved or was set.
    #[prost(int64, tag = "5")]
    pub updated_at: WallTimeUs,
}

/// A run of offsets in one state; its first offset is in the key.
#[derive(Clone, PartialEq, Message)]
pub struct SegmentRecord {
    /// The offset after the last.
    #[prost(uint64, tag = "1")]
    pub end: Offset,
    /// What they are.
    #[prost(enumeration = "SegmentKind", tag = "2")]
    pub kind: i32,
    /// How often they were delivered; 0 when done.
    #[prost(uint32, tag = "3")]
    pub deliveries: u32,
    /// When they can be granted (again); 0 when done.
    #[prost(uint64, tag = "4")]
    pub claimable_at: LeaseTimeMs,
    /// When leased: the log entry of the lease.
    #[prost(uint64, tag = "5")]
    pub lease_index: LogIndex,
    /// When leased: the claim within that entry.
    #[prost(uint32, tag = "6")]
    pub lease_ordinal: u32,
}

/// The kinds of [`SegmentRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum SegmentKind {
    /// Held by a lease, which may have run out.
    Leased = 0,
    /// Held by nobody: nacked or released.
    Ready = 1,
    /// Acked.
    Done = 2,
}

/// A lease that holds something, or whose messages were all acked lately.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseRecord {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: PartitionId,
    /// Whose it is; empty: consumers without a name count as one.
    #[prost(string, tag = "2")]
    pub consumer_id: String,
    /// When it runs out.
    #[prost(uint64, tag = "3")]
    pub expires: LeaseTimeMs,
    /// How many offsets it holds; 0 if it was acked to its end, and stays for who repeats that.
    #[prost(uint64, tag = "4")]
    pub held: u64,
    /// Has any of what it was granted been given to somebody else or done by another consumer?
    #[prost(bool, tag = "5")]
    pub lost: bool,
    /// What it was granted: ascending, disjoint.
    #[prost(message, repeated, tag = "6")]
    pub granted: Vec<RangeRecord>,
}

/// Consecutive offsets.
#[derive(Clone, PartialEq, Message)]
pub struct RangeRecord {
    /// The first offset.
    #[prost(uint64, tag = "1")]
    pub start: Offset,
    /// The offset after the last.
    #[prost(uint64, tag = "2")]
    pub end: Offset,
}

/// Reads the record under a key.
pub fn load<R: Message + Default>(read: &dyn Read, key: &[u8]) -> storage::Result<Option<R>> {
    read.get(key)?
        .map(|stored| decode(key, &stored))
        .transpose()
}

/// Decodes what is stored under a key.
pub fn decode<R: Message + Default>(key: &[u8], stored: &[u8]) -> storage::Result<R> {
    R::decode(stored).map_err(|e| corrupt(key, &e.to_string()))
}

/// Puts a record under a key.
pub fn store(batch: &mut Batch, key: Vec<u8>, record: &impl Message) {
    batch.put(key, record.encode_to_vec());
}

/// A record is not what this module wrote.
pub fn corrupt(key: &[u8], why: &str) -> Error {
    Error::Corrupt {
        what: format!("group record {key:02x?}: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(record: &impl Message) -> String {
        record
            .encode_to_vec()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// What is frozen here is on disks.
    #[test]
    fn the_bytes_of_the_records() {
        let group = Group {
            generation: 1,
            next_partition: 2,
            complete: true,
            created_at: 3,
        };
        assert_eq!(hex(&group), "0801100218012003");
        let cursor = Cursor {
            committed: 1,
            next: 300,
            open: 2,
            consumed: true,
            updated_at: 4,
        };
        assert_eq!(hex(&cursor), "080110ac02180220012804");
        let segment = SegmentRecord {
            end: 9,
            kind: SegmentKind::Ready.into(),
            deliveries: 2,
            claimable_at: 1_000,
            lease_index: 0xa1,
            lease_ordinal: 7,
        };
        assert_eq!(hex(&segment), "08091001180220e80728a1013007");
        let lease = LeaseRecord {
            partition: 1,
            consumer_id: "c".to_owned(),
            expires: 5,
            held: 2,
            lost: true,
            granted: vec![RangeRecord { start: 3, end: 5 }],
        };
        assert_eq!(hex(&lease), "0801120163180520022801320408031005");
        let kinds = [SegmentKind::Leased, SegmentKind::Ready, SegmentKind::Done];
        assert_eq!(kinds.map(i32::from), [0, 1, 2]);
    }
}
