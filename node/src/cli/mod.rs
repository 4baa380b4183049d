//! The commands that talk to a cluster from outside: `duet sql`, `topic`, `cluster` and `demo`.
//!
//! They are clients like any other: everything goes through the `client` crate and HTTP, so what
//! they can do, a program can do. `main` adds `serve` beside them.

mod ask;
mod cluster;
mod connection;
mod demo;
mod error;
mod output;
mod sql;
mod topic;

use std::process::ExitCode;

use clap::Subcommand;

/// Commands of `duet` that are clients of a cluster.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a three-node cluster on this machine and watch it survive the loss of its leader
    Demo(demo::DemoArgs),
    /// Run statements: one (-c), a file (-f), or at a prompt
    Sql(sql::SqlArgs),
    /// Look at topics and consumer groups
    Topic(topic::TopicArgs),
    /// Look at the cluster and change its members
    Cluster(cluster::ClusterArgs),
}

/// Runs a command to its end. Errors go to stderr; the exit code is 0 when it is done, 1 when the
/// server or a statement said no, 2 when the command line makes no sense.
pub async fn run(command: Command) -> ExitCode {
    let result = match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Sql(args) => sql::run(args).await,
        Command::Topic(args) => topic::run(args).await,
        Command::Cluster(args) => cluster::run(args).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has seen enough (`duet topic tail … | head`).
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duet: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod args_tests;
