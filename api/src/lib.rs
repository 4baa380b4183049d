//! What crosses HTTP: paths, headers, request, response and error bodies.
//!
//! One set of serde types serves the server, the client and the tests, so that a body has one
//! definition; the unit tests beside each type freeze its JSON, because clients in other languages
//! depend on the spelling. Unknown request fields are ignored, and a field is only ever added as
//! optional.
//!
//! This crate does not know: sockets, HTTP libraries, SQL, Raft, storage.

pub mod auth;
pub mod cluster;
pub mod error;
pub mod headers;
pub mod openapi;
pub mod paths;
pub mod sql;
pub mod topics;

pub use error::{AuthErrorBody, ReceivedError, SqlError, TopicErrorBody};
pub use sql::{Receipt, ResultSet, SqlRequest, SqlResponse};
pub use topics::{ConsumeRequest, ConsumeResponse, StartPosition};
