//! A client for Duet: knows several nodes, logs in, sends a request again when that is safe.
//!
//! What "safe" means is the heart of this crate. A request is sent again only if
//! - it certainly did not happen: no connection was made, or the server says so
//!   (`retryable` and not `maybe_applied`), or
//! - it may happen twice without harm: a read, an ack, or a write with an idempotency key.
//!
//! Everything else ends in [`Error::Unknown`]: a write whose answer was lost is unknown, never
//! failed.
//!
//! ```no_run
//! # async fn example() -> Result<(), client::Error> {
//! let duet = client::Client::builder()
//!     .url("http://127.0.0.1:8080")
//!     .url("http://127.0.0.1:8081")
//!     .credentials("root", "secret")
//!     .build()?;
//! let answer = duet.sql("INSERT INTO demo.messages (msg) VALUES ('hi')").await?;
//! println!("written at {:?}", answer.index);
//! # Ok(()) }
//! ```
//!
//! This crate does not know: the server's inside. It sees `api` and HTTP only.

mod admin;
mod builder;
mod consumer;
mod error;
mod options;
mod send;
mod sql;
mod topics;

pub use api;
pub use builder::Builder;
pub use consumer::{Batch, Consumer, ConsumerOptions, Record};
pub use error::{Error, UnknownCause};
pub use options::{Answer, RequestOptions, Safety};

use std::sync::Arc;

/// A cheap handle; clones share connections, tokens and the choice of node.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<send::Sender>,
}

impl Client {
    /// Starts to describe a client.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The nodes, in the order given.
    pub fn urls(&self) -> &[String] {
        self.inner.urls()
    }

    /// The same client, which asks only the `node`-th of its nodes (modulo their count).
    ///
    /// For tools that compare nodes; tokens are shared with the original.
    #[must_use]
    pub fn pinned_to(&self, node: usize) -> Client {
        Client {
            inner: Arc::new(self.inner.pinned_to(node)),
        }
    }
}
