//! Keys of the log database, which is a database of its own: none of them is a [`super::Kind`].
//!
//! ```text
//! key := raft group (u16) kind (u8) fields of the kind
//! ```
//! | kind | number | fields | value |
//! |---|---|---|---|
//! | Entry | 1 | log index (u64) | see `raft::codec` |
//! | Vote | 2 | | see `raft::log_store::records` |
//! | Committed | 3 | | see `raft::log_store::records` |
//! | Purged | 4 | | see `raft::log_store::records` |

use types::ids::LogIndex;

use super::RAFT_GROUP;
use super::encoding::{MalformedKey, take_u64};
use crate::engine::KeyRange;

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const PURGED: u8 = 4;

/// An entry of the log.
pub fn entry(index: LogIndex) -> Vec<u8> {
    let mut key = of_kind(ENTRY);
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// The entries from `start` to before `end`.
pub fn entries(start: LogIndex, end: LogIndex) -> KeyRange {
    KeyRange::new(entry(start), entry(end))
}

/// All entries.
pub fn all_entries() -> KeyRange {
    KeyRange::prefix(&of_kind(ENTRY))
}

/// The index in an [`entry`] key.
pub fn split_entry(key: &[u8]) -> Result<LogIndex, MalformedKey> {
    let mut rest = key
        .strip_prefix(of_kind(ENTRY).as_slice())
        .ok_or(MalformedKey)?;
    let index = take_u64(&mut rest)?;
    if rest.is_empty() {
        Ok(index)
    } else {
        Err(MalformedKey)
    }
}

/// The last vote this node gave.
pub fn vote() -> Vec<u8> {
    of_kind(VOTE)
}

/// The last entry this node knew to be committed; a lower bound.
pub fn committed() -> Vec<u8> {
    of_kind(COMMITTED)
}

/// The last entry that was removed from the front of the log.
pub fn purged() -> Vec<u8> {
    of_kind(PURGED)
}

fn of_kind(kind: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(11);
    key.extend_from_slice(&RAFT_GROUP.to_be_bytes());
    key.push(kind);
    key
}
