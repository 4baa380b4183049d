//! `duet`: the server and its command line.
//!
//! The only crate that sees all others. HTTP ([`http`]) and the stream between nodes ([`forward`])
//! turn requests into calls; [`service`] serves them over `sql`, `topics` and `raft`; [`serve`]
//! starts and stops a node. Wall clock and randomness enter here and nowhere below.

mod accept;
mod auth;
mod cli;
mod config;
mod data_dir;
mod disk;
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

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

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
    /// Print a script that completes commands in a shell, e.g. `source <(duet completions bash)`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
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
                #[cfg(feature = "planted")]
                if let Err(error) = plant() {
                    eprintln!("duet: {error}");
                    return ExitCode::from(2);
                }
                serve::run(config)
            }
            Err(error) => {
                eprintln!("duet: {error}");
                ExitCode::from(2)
            }
        },
        Command::Completions { shell } => completions(shell),
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

/// Plants what the environment names.
#[cfg(feature = "planted")]
fn plant() -> Result<(), String> {
    let value = |name| std::env::var(name).ok();
    let (bug, crash) = (value("DUET_PLANTED"), value("DUET_CRASH"));
    types::planted::plant(bug.as_deref(), crash.as_deref())
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "duet", &mut script);
    match std::io::stdout().write_all(&script) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duet: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_know_the_commands_in_every_shell() {
        use clap_complete::Shell::{Bash, Fish, Zsh};
        for shell in [Bash, Zsh, Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "duet", &mut script);
            let script = String::from_utf8(script).expect("scripts are text");
            for word in ["serve", "cluster", "replace", "long-poll-max-seconds"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
