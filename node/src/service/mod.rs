//! What the node does for its clients, whichever interface they come through.
//!
//! A request becomes a [`call::Call`]; [`dispatch`] serves it here or at the leader; each service
//! holds what it needs and no more.

pub mod access;
pub mod auth;
pub mod call;
pub mod cluster;
pub mod consensus;
pub mod digest;
pub mod dispatch;
pub mod sql;
pub mod topics;
