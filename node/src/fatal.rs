//! Failures that end the node: its disk lies, or its state is not what was written.

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
