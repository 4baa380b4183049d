//! What a caller may ask of one request, and what comes back beside the body.

use std::ops::Deref;
use std::time::Duration;

use api::headers::Consistency;

/// May a request be sent again although it may have happened?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Safety {
    /// It may change something: only if it certainly did not happen.
    #[default]
    Once,
    /// Twice does no harm.
    Repeatable,
}

/// Options of one request. The default suits a write: linearizable, sent at most once.
#[derive(Clone, Debug, Default)]
pub struct RequestOptions {
    /// A write repeated with the same key gets the first one's answer and changes nothing.
    pub idempotency_key: Option<String>,
    /// The read waits until the node has applied that log index.
    pub min_index: Option<u64>,
    /// How fresh a read must be; left out: linearizable.
    pub consistency: Option<Consistency>,
    /// The deadline, in place of the client's own.
    pub timeout: Option<Duration>,
    /// May it be sent again although it may have happened?
    pub safety: Safety,
}

impl RequestOptions {
    /// For statements that only read.
    pub fn read() -> RequestOptions {
        RequestOptions {
            safety: Safety::Repeatable,
            ..RequestOptions::default()
        }
    }

    /// For a read of what the node has applied, but at least up to `index`.
    pub fn local_from(index: u64) -> RequestOptions {
        RequestOptions {
            consistency: Some(Consistency::Local),
            min_index: Some(index),
            ..RequestOptions::read()
        }
    }

    /// For a write that may be sent again, because the server knows it by this key.
    pub fn idempotent(key: impl Into<String>) -> RequestOptions {
        RequestOptions {
            idempotency_key: Some(key.into()),
            ..RequestOptions::default()
        }
    }

    /// With a deadline of its own.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> RequestOptions {
        self.timeout = Some(timeout);
        self
    }

    pub(crate) fn repeatable(&self) -> bool {
        self.safety == Safety::Repeatable || self.idempotency_key.is_some()
    }
}

/// A body, and who gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<T> {
    /// The body.
    pub body: T,
    /// The log index it reflects.
    pub index: Option<u64>,
    /// The node that answered, by its number in the cluster.
    pub node: Option<u64>,
    /// The node that was asked.
    pub url: String,
}

impl<T> Answer<T> {
    /// The same answer with another body.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        Answer {
            body: change(self.body),
            index: self.index,
            node: self.node,
            url: self.url,
        }
    }
}

impl<T> Deref for Answer<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.body
    }
}
