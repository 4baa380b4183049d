//! The state's and the log's bytes: engines, keys, batches, snapshots.
//!
//! This crate is the only one that knows RocksDB, and the owner of the disk format
//! ([`keys`]). It knows neither Raft nor SQL, and is synchronous throughout.

pub mod batch;
pub mod chain;
pub mod engine;
pub mod error;
mod files;
pub mod keys;
pub mod marker;
pub mod memory;
pub mod rocks;

pub use batch::Batch;
pub use engine::{Direction, Durability, Engine, KeyRange, Op, Pair, Read, Scan, Snapshot, Usage};
pub use error::{Error, Result};
