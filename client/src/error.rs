//! How a request can end without an answer.

use api::ReceivedError;
use types::ErrorCode;

/// How a request ended without an answer. The variants differ in what the caller knows now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server said no; nothing happened (of a batch, nothing from the failed statement on).
    #[error("{0}")]
    Refused(Box<ReceivedError>),
    /// It may have happened. Look, or send it again with an idempotency key from the start.
    #[error("the outcome is unknown: {0}")]
    Unknown(UnknownCause),
    /// No node could be reached; nothing happened.
    #[error("no node could be reached: {}", .tried.join("; "))]
    Unreachable {
        /// Each node that was tried, with the reason.
        tried: Vec<String>,
    },
    /// The client was described wrongly, or has no credentials where it needs them.
    #[error("{0}")]
    Configuration(String),
}

/// Why the outcome of a request is unknown.
#[derive(Debug, thiserror::Error)]
pub enum UnknownCause {
    /// The server itself does not know: it lost its leader or its deadline while the request was
    /// under way.
    #[error("{0}")]
    Server(Box<ReceivedError>),
    /// The connection broke, or no answer came in time.
    #[error("{url}: {reason}")]
    Connection {
        /// The node that was asked.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The answer came but could not be read.
    #[error("{url} answered what is not understood: {reason}")]
    Unreadable {
        /// The node that was asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// What the server said, if it said something.
    pub fn received(&self) -> Option<&ReceivedError> {
        match self {
            Error::Refused(error) | Error::Unknown(UnknownCause::Server(error)) => Some(error),
            Error::Unknown(_) | Error::Unreachable { .. } | Error::Configuration(_) => None,
        }
    }

    /// The server's code, if it gave one that this version knows.
    pub fn code(&self) -> Option<ErrorCode> {
        self.received().and_then(ReceivedError::known_code)
    }

    /// May the request have taken effect?
    pub fn maybe_applied(&self) -> bool {
        matches!(self, Error::Unknown(_))
    }
}
