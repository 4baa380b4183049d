//! Why a command ends early.

/// Within this module the two ways to fail share `?`; [`settle`] takes them apart again.
#[derive(Debug)]
pub enum Stop {
    /// The end of the node.
    Fatal(storage::Error),
    /// A refusal for the client, the same on every node.
    Refused(types::Error),
}

impl From<storage::Error> for Stop {
    fn from(error: storage::Error) -> Stop {
        Stop::Fatal(error)
    }
}

impl From<types::Error> for Stop {
    fn from(error: types::Error) -> Stop {
        Stop::Refused(error)
    }
}

/// The outer error is fatal, the inner one a refusal.
pub fn settle<T>(result: Result<T, Stop>) -> storage::Result<types::Result<T>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
        Err(Stop::Fatal(error)) => Err(error),
    }
}

/// `INVALID_INPUT`.
pub fn invalid(message: impl Into<String>) -> Stop {
    Stop::Refused(types::Error::new(types::ErrorCode::InvalidInput, message))
}

/// `LEASE_LOST`.
pub fn lease_lost(message: impl Into<String>) -> Stop {
    Stop::Refused(types::Error::new(types::ErrorCode::LeaseLost, message))
}
