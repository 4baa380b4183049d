//! How other nodes call this one.
//!
//! Files: [`auth`] says who may; [`messages`] are what is said; [`service`] takes the calls and
//! [`append`], [`snapshot`] answer the two that are streams; [`convert`] turns messages into
//! openraft's types and back, and [`reread`] shows what is left of one by then.

pub mod auth;
pub mod messages;

pub(crate) mod convert;

mod append;
mod reread;
mod service;
mod snapshot;

use std::time::Duration;

use tonic::transport::Server;

pub use reread::{Said, reread};
pub use service::{Invitation, RpcService};

/// How often a connection without traffic is tried, and how long the answer may take.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that may be under way on one stream, and on one connection.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// A server as the services between nodes need it. The listener's sockets should have `TCP_NODELAY`
/// set, as [`tonic::transport::server::TcpIncoming::with_nodelay`] does.
pub fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
}

/// The names of the calls.
pub mod path {
    /// Two nodes meet.
    pub const HANDSHAKE: &str = "/duet.raft.v1.Raft/Handshake";
    /// Who is there?
    pub const HELLO: &str = "/duet.raft.v1.Raft/Hello";
    /// A member says where it is, and hears whether it still is one.
    pub const ANNOUNCE: &str = "/duet.raft.v1.Raft/Announce";
    /// The leader tells a node that it is not a member any more.
    pub const FAREWELL: &str = "/duet.raft.v1.Raft/Farewell";
    /// The leader tells a node that waits where the cluster is.
    pub const INVITE: &str = "/duet.raft.v1.Raft/Invite";
    /// A node asks to belong to the cluster.
    pub const JOIN: &str = "/duet.raft.v1.Raft/Join";
    /// Log entries and heartbeats: a stream of each kind.
    pub const APPEND: &str = "/duet.raft.v1.Raft/Append";
    /// A candidate asks for a vote.
    pub const VOTE: &str = "/duet.raft.v1.Raft/Vote";
    /// The leader hands its leadership over.
    pub const TRANSFER: &str = "/duet.raft.v1.Raft/Transfer";
    /// What of a snapshot is there already?
    pub const SNAPSHOT_OFFER: &str = "/duet.raft.v1.Raft/SnapshotOffer";
    /// A stream of a snapshot's chunks, answered when it is installed.
    pub const SNAPSHOT: &str = "/duet.raft.v1.Raft/Snapshot";
    /// The leader's read index.
    pub const READ_INDEX: &str = "/duet.raft.v1.Raft/ReadIndex";
    /// How a node is doing.
    pub const STATUS: &str = "/duet.raft.v1.Raft/Status";
}
