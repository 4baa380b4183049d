//! `duet`: the server and its command line.
//!
//! The only crate that sees all others. HTTP ([`http`]) and the stream between nodes ([`forward`])
//! turn requests into calls; [`service`] serves them over `sql`, `topics` and `raft`; [`serve`]
//! starts and stops a node. Wall clock and randomness enter here and nowhere below.

mod auth;
mod cli;
mod config;
mod data_dir;
mod fatal;
mod forward;
mod http;
mod inject;
mod logging;
mod metrics;
mod readiness;
mod serve;
mod service;
mod tls;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ServeArgs};

/// A replicated SQL database whose tables feed topics
#[derive(Parser)]
#[command(name = "duet", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one node
    Serve(Box<ServeArgs>),
    #[command(flatten)]
    Client(cli::Command),
}

fn main() -> ExitCode {
    // clap prints what is wrong with a flag and exits with 2.
    match Cli::parse().command {
        Command::Serve(args) if args.print_config => {
            print!("{}", config::sample::render());
            ExitCode::SUCCESS
        }
        Command::Serve(args) => match Config::resolve(*args) {
            Ok(config) => {
                logging::start(&config.log, config.log_format);
                serve::run(config)
            }
            Err(error) => {
                eprintln!("duet: {error}");
                ExitCode::from(2)
            }
        },
        Command::Client(command) => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(cli::run(command)),
                Err(error) => {
                    eprintln!("duet: cannot start threads: {error}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}
