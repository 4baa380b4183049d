//! Replication: one log, applied the same way on every node.
//!
//! [`Raft`] is the handle the node holds. A write goes `batcher` → openraft → [`log_store`] and
//! [`network`] → [`state_machine`] → [`apply`]; a read asks `read_index` first. Who belongs to the
//! cluster is `membership`'s, what other nodes ask of this one [`rpc`]'s; `guard` watches over
//! disks and over replicas that differ. `OVERVIEW.md` has it all on a page.
//!
//! This crate is the only one that knows openraft. It knows no SQL. Only [`clock`] reads a clock.

mod add;
mod administer;
mod announce;
pub mod apply;
mod batcher;
pub mod clock;
pub mod codec;
mod compaction;
mod disk;
pub mod error;
mod guard;
mod handle;
pub mod join;
pub mod leadership;
pub mod log_store;
mod membership;
mod metrics;
pub mod network;
mod observe;
mod options;
#[cfg(feature = "planted")]
mod planted;
mod read_index;
pub mod recover;
pub mod rpc;
pub mod snapshot;
mod stall;
pub mod state_machine;
pub mod status;
mod successor;
mod tls;
pub mod type_config;

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod simulation;

pub use add::AddMember;
pub use announce::Removed;
pub use clock::Stamps;
pub use disk::Disk;
pub use error::{
    Fatal, InitializeError, MembershipError, ProposeError, ReadIndexError, StartError, Stopped,
};
pub use handle::{Proposed, Raft, StateView};
pub use leadership::Leadership;
pub use observe::{Observed, StorageObserved};
pub use options::{Engines, Options, Retention, Secret, Timing};
pub use state_machine::RequestId;
pub use status::{MemberStatus, Role, Status};
pub use tls::{Certificate, Certificates, SharedTls, Tls};
pub use type_config::Member;
