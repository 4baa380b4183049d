//! Names of our own headers, in lower case as HTTP/2 and header maps want them, and their values.

use std::fmt;
use std::str::FromStr;

/// Request: how fresh a read must be, see [`Consistency`].
pub const CONSISTENCY: &str = "duet-consistency";
/// Request: the read waits until this node has applied that log index.
pub const MIN_INDEX: &str = "duet-min-index";
/// Request: a write repeated with the same key gets the first one's answer.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Request: deadline in milliseconds.
pub const TIMEOUT_MS: &str = "duet-timeout-ms";
/// Request: the id of the last event that a stream's client saw.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// Response: the log index the answer reflects.
pub const INDEX: &str = "duet-index";
/// Response: the node that answered.
pub const NODE: &str = "duet-node";
/// Response: seconds to wait before the next try.
pub const RETRY_AFTER: &str = "retry-after";

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Everything answered before the read was sent is seen, on any node.
    #[default]
    Linearizable,
    /// What this node has applied, at once.
    Local,
}

impl Consistency {
    /// The header's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Consistency::Linearizable => "linearizable",
            Consistency::Local => "local",
        }
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The header had another value than the two that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownConsistency;

impl fmt::Display for UnknownConsistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Duet-Consistency is `linearizable` or `local`")
    }
}

impl std::error::Error for UnknownConsistency {}

impl FromStr for Consistency {
    type Err = UnknownConsistency;

    fn from_str(text: &str) -> Result<Consistency, UnknownConsistency> {
        [Consistency::Linearizable, Consistency::Local]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(text.trim()))
            .ok_or(UnknownConsistency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consistency_is_read_in_any_case_and_nothing_else_is_guessed() {
        assert_eq!("local".parse(), Ok(Consistency::Local));
        assert_eq!(" Linearizable ".parse(), Ok(Consistency::Linearizable));
        assert_eq!("eventual".parse::<Consistency>(), Err(UnknownConsistency));
    }
}
