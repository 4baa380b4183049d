//! Topics: messages made by row changes, and the consumer groups that work them off.
//!
//! Everything here is synchronous and deterministic: commands change a [`storage::Batch`], reads
//! look at any [`storage::Read`], and the only clock is [`ApplyContext`]. This crate knows no Raft
//! and runs no SQL: which messages a row change makes was decided by the planner.
//!
//! # Life of a message
//!
//! 1. The planner evaluates a table's routes and puts a [`types::command::RowEvent`] beside the row
//!    change: topic, partition, message key, payload mode.
//! 2. Apply calls [`append::append`] in the same batch as the row. The partition's [`Tail`] gives
//!    the offset; the message holds the row's image, not its JSON ([`message`]).
//! 3. A consumer without a group reads it with [`fetch::fetch`].
//! 4. For a group, the leader asks [`groups::demand`] whether a claim would grant anything and
//!    proposes it; [`groups::claim`] picks the offsets in apply, and the node that holds the
//!    consumer's connection reads them with [`fetch::fetch_granted`].
//! 5. [`render`] makes the payload's JSON when it is read, by the renderer version and the table
//!    definition the message names, so a message never changes its bytes.
//! 6. [`groups::ack`] says it is done; the group's committed position moves over what is done.
//!    What is not acked in time is granted again.
//! 7. [`retention`] raises the partition's floor, and the message is gone. Offsets go on.
//!
//! A refusal for the client is a [`types::Error`]; a [`storage::Error`] is the end of the node.
//! Where both can happen the type is `storage::Result<types::Result<T>>`.

use types::ids::{LeaseTimeMs, Version, WallTimeUs};

pub mod append;
pub mod chain;
pub mod fetch;
pub mod groups;
pub mod message;
pub mod render;
pub mod retention;
mod tail;

pub use tail::Tail;

/// What a command knows of where and when it is applied. The same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyContext {
    /// The log entry, and this command's or change's place in it. No two commands share one: lease
    /// ids are made of it.
    pub version: Version,
    /// The lease clock of the entry, in ms.
    pub lease_time: LeaseTimeMs,
    /// The wall clock of the entry, in µs since 1970.
    pub wall_time: WallTimeUs,
}
