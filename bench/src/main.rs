//! Load against a running cluster, with figures one can trust.
//!
//! The client shares the machine with the nodes it measures, so it must be cheap: one task per
//! client on one thread, one kept-alive HTTP/1.1 connection each, bodies made before the clock
//! starts. What a figure means is said in README.md beside this crate.
//!
//! This crate does not know: the server's inside. It sees `api`, `client` and HTTP only.

mod args;
mod bodies;
mod cluster;
mod connection;
mod cpu;
mod error;
mod recorder;
mod report;
mod step;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Arguments, Command};
use crate::cluster::Nodes;
use crate::cpu::Process;
use crate::error::BenchError;
use crate::report::Printer;
use crate::workload::Bench;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread: on a small machine every other core belongs to the nodes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), BenchError> {
    let printer = Printer {
        json: arguments.json,
    };
    match arguments.command {
        Command::Workload(workload) => {
            let target = arguments.target.checked()?;
            let bench = Bench::log_in(target, vec![Process::own()], printer).await?;
            workload::run(&bench, &workload).await
        }
        Command::Cluster(cluster) => {
            let workloads = cluster.workloads()?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut nodes = Nodes::prepare(&cluster.duet, cluster.dir.as_deref())?;
            let result = tokio::select! {
                result = nodes.play(&workloads, printer) => result,
                _ = tokio::signal::ctrl_c() => Err(BenchError::Interrupted),
                _ = terminate.recv() => Err(BenchError::Interrupted),
            };
            nodes.finish(result).await
        }
    }
}
