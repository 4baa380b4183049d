//! Starts real `duet` processes, breaks them, and checks what they promised.
//!
//! The tests in `tests/cluster` drive the binary named by `DUET_BIN`, or the one beside the test
//! binary, over HTTP as any client would. A test that fails leaves its data and logs and says
//! where; a panic or an unexpected ERROR line in any node's log fails the test. [`lab`] gives nodes
//! disks that lose power and a network that can be cut; [`chaos`] is a seeded mix of faults.
//!
//! This crate does not know: the server's code. It links `api` and `client` only.

pub mod binary;
pub mod certificates;
pub mod chaos;
pub mod check;
pub mod cluster;
pub mod damage;
pub mod digests;
pub mod http;
pub mod lab;
pub mod load;
pub mod logs;
pub mod metrics;
pub mod node;
pub mod ports;
pub mod settled;
pub mod sse;
pub mod times;
pub mod user;
pub mod wait;

pub use cluster::Cluster;
pub use http::{Api, Reply};
pub use metrics::Metrics;
pub use times::Times;
pub use user::{ROOT_PASSWORD, User};
