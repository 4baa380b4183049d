//! Why a measurement ended without figures, or with figures that must not be believed.

use std::path::PathBuf;

use crate::connection::ConnectionError;
use crate::workload::insert::Discrepancy;

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Arguments(#[from] clap::Error),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("{address}: {source}")]
    Connection {
        address: String,
        source: ConnectionError,
    },
    /// A request outside of a counted step was refused.
    #[error("{request}: {code}")]
    Refused { request: &'static str, code: String },
    #[error("{request}: the answer is not understood: {source}")]
    Unreadable {
        request: &'static str,
        source: serde_json::Error,
    },
    #[error("rows and messages disagree: {0}")]
    Discrepancy(#[from] Discrepancy),
    #[error("offset {found} came where {expected} was due")]
    Gap { expected: u64, found: u64 },
    #[error("the topic {0} is empty; run `insert` first")]
    Empty(String),
    #[error("only {acked} of {total} messages were acked, and none for {seconds} s")]
    NotDrained {
        acked: u64,
        total: u64,
        seconds: u64,
    },
    #[error("a client stopped: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("node {number} {what}\n  {log}")]
    Node {
        number: usize,
        what: String,
        log: String,
    },
    #[error("only {voters} nodes got a vote")]
    Voters { voters: usize },
    #[error("there are no {0} free ports")]
    Ports(usize),
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl BenchError {
    /// As for all client commands: 2 for the command line, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            BenchError::Usage(_) | BenchError::Arguments(_) => 2,
            _ => 1,
        }
    }
}
