//! Consumer groups: who works on which message, what is done, and what must be delivered again.
//!
//! # The interval map
//!
//! A group has a cursor in each partition: `committed`, the first offset that is
//! not done, and `next`, the first that was never granted. Everything below `committed` is done and
//! everything from `next` on is fresh; neither needs a record. What lies between is covered exactly
//! by segments, runs of offsets in one state:
//!
//! ```text
//!            committed                                  next
//! ───────────────┼───────────┬──────┬───────────┬─────────┼──────────────
//!  done          │ leased L1 │ done │ ready     │ leased  │  fresh
//!  (no record)   │ until t   │      │ from t'   │ L2 …    │  (no record)
//! ```
//!
//! - No two done segments touch, and the first segment is not done: `committed` moved over it.
//! - Every segment that is not done has a deadline key with the time from which it can be granted
//!   again: the end of its lease, or the end of its delay.
//! - A lease has a record for as long as it holds at least one offset. It holds an offset from the
//!   grant until that is acked, nacked, released or *given to somebody else*; running out alone
//!   takes nothing from it, for whoever comes next is served first come. One that lost nothing and
//!   was acked to its end keeps its record a while longer
//!   ([`LEASE_DONE_KEEP_MS`](types::limits::LEASE_DONE_KEEP_MS)), with a key that says until when.
//! - Open (not done) offsets of a partition are bounded by
//!   [`GROUP_IN_FLIGHT_MAX`](types::limits::GROUP_IN_FLIGHT_MAX), and with them the segments: that
//!   bounds the work of every command.
//!
//! A partition's floor may rise above a group's position. Each claim first moves the position up to
//! it; until then nothing else looks at the floor.
//!
//! # Promises
//!
//! No offset is in two live leases. `committed` goes back by [`reset()`] only. An offset below
//! `committed` was delivered, or was below the floor, or below the place where the group began or
//! was set to. A lease id is made of its claim's place in the log and is never given twice.
//! `tests/machine.rs` checks these against a model with one entry an offset.

mod ack;
mod claim;
mod demand;
mod describe;
mod extend;
mod lease;
mod nack;
mod partition;
mod position;
mod record;
mod release;
mod reset;
mod segment;
mod stop;
#[cfg(test)]
mod tests;

pub use ack::ack;
pub use claim::claim;
pub use demand::{Demand, demand};
pub use describe::{GroupPosition, leases, position, positions};
pub use extend::extend;
pub use nack::nack;
pub use release::release;
pub use reset::reset;
