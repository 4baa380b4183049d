//! Failures that end the node: its disk lies, or its state is not what was written.

use raft::StartError;
use types::ids::NodeId;
use types::{Error, ErrorCode};

/// The node cannot go on. Whoever holds one reports it through [`Fatal::report`] and answers
/// INTERNAL_ERROR; the process then stops, so that no later answer is built on bad state.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(String);

impl From<storage::Error> for Fatal {
    fn from(error: storage::Error) -> Fatal {
        Fatal(error.to_string())
    }
}

/// A record of the state is not readable.
pub fn corrupt(what: &str) -> Fatal {
    Fatal(format!("the state is corrupt: unreadable {what}"))
}

/// How a node that cannot go on comes back by the others, for the end of the line that says why.
pub fn replacing(node_id: NodeId) -> String {
    format!(
        "where the other members are up, start a node with --join and an empty data directory, and \
         run `duet cluster replace {node_id}`"
    )
}

/// Why a node could not start, and what to do where it will not start again.
pub fn not_started(error: &StartError, node_id: NodeId) -> String {
    use storage::Error::{Corrupt, Io};
    let damaged = match error {
        StartError::Storage(Corrupt { .. } | Io { .. }) => true,
        StartError::Core(raft::Fatal::Storage(_)) => true,
        StartError::Storage(_) | StartError::Options(_) | StartError::Core(_) => false,
    };
    match damaged {
        true => format!("cannot start: {error}; {}", replacing(node_id)),
        false => format!("cannot start: {error}"),
    }
}

/// Why a node had to stop, and what to do if it does not start again.
pub fn stopped(error: &dyn std::fmt::Display, node_id: NodeId) -> String {
    let how = replacing(node_id);
    format!("this node had to stop: {error}; if it does not start again, {how}")
}

/// Tells the process's main task to end the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FatalReporter(tokio::sync::mpsc::UnboundedSender<Fatal>);

impl FatalReporter {
    /// The reporter and the end on which the main task waits.
    pub fn new() -> (FatalReporter, tokio::sync::mpsc::UnboundedReceiver<Fatal>) {
        // Unbounded is safe: the receiver ends the process at the first message.
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        (FatalReporter(sender), receiver)
    }

    /// Ends the process soon, and gives the error its caller gets meanwhile.
    pub fn report(&self, fatal: Fatal) -> Error {
        let message = "this node had to stop: its storage failed".to_owned();
        // Without a receiver the process is already ending.
        drop(self.0.send(fatal));
        Error::new(ErrorCode::InternalError, message).maybe_applied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_start_says_how_it_comes_back_and_only_if_it_must() {
        let damage = || storage::Error::Corrupt {
            what: "/data/7.sst".into(),
        };
        for error in [
            StartError::Storage(damage()),
            StartError::Core(raft::Fatal::Storage("/data/7.sst".into())),
        ] {
            let said = not_started(&error, 3);
            assert!(said.contains("/data/7.sst"), "{said}");
            assert!(said.contains("`duet cluster replace 3`"), "{said}");
        }
        let in_use = storage::Error::Foreign {
            what: "in use".into(),
        };
        let said = not_started(&StartError::Storage(in_use), 3);
        assert_eq!(said, "cannot start: in use");
    }
}
