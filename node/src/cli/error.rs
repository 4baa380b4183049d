//! How a command can fail.

use std::io;
use std::path::PathBuf;

/// The server or a statement said no, or something on this machine failed.
const EXIT_FAILED: u8 = 1;
/// The command line makes no sense, as clap's own code.
const EXIT_USAGE: u8 = 2;

/// How a command can fail.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The cluster said no or could not be reached.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The terminal, or a pipe to or from another program.
    #[error("{0}")]
    Terminal(#[from] io::Error),
    /// A file.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was named does not exist.
    #[error("there is no {kind} {name:?}")]
    NotFound {
        /// Of which kind.
        kind: &'static str,
        /// As it was named.
        name: String,
    },
    /// The server answered, but not as the contract says.
    #[error("unexpected answer: {0}")]
    Answer(String),
    /// A node's own files.
    #[error("{0}")]
    Files(String),
    /// Something in the cluster needs doing; it was said.
    #[error("needs doing, see above: {0}")]
    Unhealthy(usize),
    /// The person in front of the terminal said no.
    #[error("not done")]
    Declined,
    /// The demonstration went wrong, or showed that a promise does not hold.
    #[error("{0}")]
    Demo(String),
}

impl CliError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Usage(_) | CliError::Client(client::Error::Configuration(_)) => EXIT_USAGE,
            CliError::Client(_)
            | CliError::Terminal(_)
            | CliError::File { .. }
            | CliError::NotFound { .. }
            | CliError::Answer(_)
            | CliError::Declined
            | CliError::Files(_)
            | CliError::Unhealthy(_)
            | CliError::Demo(_) => EXIT_FAILED,
        }
    }

    /// Whether the reader of our output went away.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, CliError::Terminal(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
