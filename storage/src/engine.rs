//! The engine trait: an ordered map of bytes with atomic batches, snapshots and checkpoints.
//!
//! Two engines implement it: [`crate::rocks`] on disk, and [`crate::memory`], which forgets what
//! was not flushed, for tests and simulation. Everything is synchronous; who calls it from async
//! code decides on which thread.

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;

/// A key with its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A half-open range of keys: from `start` to before `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key in the range.
    pub start: Vec<u8>,
    /// First key after it; none: to the end of the database.
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// All keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        KeyRange {
            start: prefix.to_vec(),
            end: prefix_end(prefix),
        }
    }

    /// From `start` to before `end`.
    pub fn new(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> KeyRange {
        KeyRange {
            start: start.into(),
            end: Some(end.into()),
        }
    }

    /// Holds the range no key, because it ends where it starts or before?
    pub fn is_empty(&self) -> bool {
        self.end
            .as_deref()
            .is_some_and(|end| end <= self.start.as_slice())
    }

    /// Is `key` in the range?
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.end.as_deref().is_none_or(|end| key < end)
    }
}

/// The first key after all keys that start with `prefix`; none if there is no such key.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Reverse,
}

/// Pairs of a scan, in order. An item that is an error is the last one.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<Pair>> + 'a>;

/// A consistent view of keys and values.
///
/// Implemented by snapshots, and by [`crate::batch::Batch`], which shows its own writes on top.
pub trait Read {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// The pairs of a range, in the order of their keys. The range must lie within one
    /// [key kind](crate::keys::Kind).
    fn scan<'a>(&'a self, range: &KeyRange, direction: Direction) -> Scan<'a>;
}

/// A point-in-time view that lives as long as somebody holds it, also when the engine it came from
/// has been replaced by an installed snapshot.
pub trait Snapshot: Read + Send + Sync {}

impl<T: Read + Send + Sync> Snapshot for T {}

/// One change of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The key gets the value.
    Put {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// The key loses its value.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// All keys of the range lose their values. The range lies within one key kind and has an end.
    DeleteRange {
        /// The range.
        range: KeyRange,
    },
}

/// When a write must be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the call returns: the log.
    Synced,
    /// When [`Engine::flush`] returns: the state, which the log can rebuild.
    Flushed,
}

/// What an engine holds in memory and has to do, in bytes; all 0 where it has nothing to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Writes that are not in a file yet.
    pub memtable_bytes: u64,
    /// Blocks of files that are kept for the next read.
    pub cache_bytes: u64,
    /// Files that hold keys and values.
    pub table_bytes: u64,
    /// What compaction has yet to rewrite, estimated.
    pub compaction_pending_bytes: u64,
    /// Are writes made to wait until compaction or a flush has caught up?
    pub writes_stopped: bool,
}

/// An ordered map of bytes on some medium.
///
/// - `write` is atomic: all of its ops or none, also across a crash.
/// - Writes become visible to later reads in the order of the calls, at once.
/// - After a crash the engine holds a prefix of its writes, which includes every
///   [`Durability::Synced`] one and all that was written before the last `flush`.
/// - After an error from `write` or `flush` every later write fails too: the process has to end.
pub trait Engine: Send + Sync {
    /// Applies `ops` in order, atomically.
    fn write(&self, ops: &[Op], durability: Durability) -> Result<()>;

    /// The current state, kept for as long as it is held.
    fn snapshot(&self) -> Arc<dyn Snapshot>;

    /// Returns once all that was written is on the disk.
    fn flush(&self) -> Result<()>;

    /// Writes a copy of the current state, flushed, into a new directory `dir`, sharing files
    /// where it can. The copy can be opened as an engine of its own.
    fn checkpoint(&self, dir: &Path) -> Result<()>;

    /// What the engine holds in memory and has to do. Cheap: reads no file.
    fn usage(&self) -> Result<Usage> {
        Ok(Usage::default())
    }

    /// The value of a key, now. Cheaper than a snapshot for a single key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
}
