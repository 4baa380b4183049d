//! `cargo xtask planted`: bugs planted in the server, and whether the checks notice. Exit code 0:
//! the check meant for each of them objected, and none did without them; 1: not so.

use std::process::ExitCode;

use clap::Parser;
use cluster_tests::chaos::planted::{CASES, Case, points};
use cluster_tests::lab;
use tokio::task::LocalSet;

/// See that the checks notice bugs that were planted
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these
    #[arg(long, value_delimiter = ',')]
    bugs: Vec<String>,
    /// Print the bugs, the scenes and the checks, and do nothing
    #[arg(long)]
    list: bool,
    /// Instead of bugs: let processes end at points of the code, and see that all is well then
    #[arg(long)]
    points: bool,
    /// How often at each point
    #[arg(
        long,
        default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..),
        requires = "points"
    )]
    times: u32,
    /// Do not play the scenes without the bugs
    #[arg(long)]
    no_control: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted = |case: &&Case| {
        arguments.bugs.is_empty() || arguments.bugs.iter().any(|bug| bug == case.bug)
    };
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    if cases.is_empty() {
        eprintln!("planted: no such bug; --list names them");
        return ExitCode::from(2);
    }
    if arguments.list {
        for case in cases {
            println!(
                "{:27} {:55} {}",
                case.bug,
                case.scene,
                case.checks.join(", ")
            );
        }
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = lab::missing() {
        eprintln!("planted: {reason}");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime can be made");
    if arguments.points {
        let tell = |point| eprintln!("planted: {point}");
        return report(runtime.block_on(points::all(arguments.times, tell)));
    }
    let mut outcomes = Vec::new();
    for case in cases {
        let local = LocalSet::new();
        let tell = |line| eprintln!("planted: {line}");
        let outcome = runtime.block_on(local.run_until(case.judge(!arguments.no_control, tell)));
        println!("{outcome}");
        outcomes.push(outcome);
    }
    let good = outcomes.iter().filter(|outcome| outcome.is_good()).count();
    println!(
        "{good} of {} bugs were noticed as they must be",
        outcomes.len()
    );
    if good == outcomes.len() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What came of processes that ended at points of the code.
fn report((wrong, crashes): (Vec<String>, u32)) -> ExitCode {
    for objection in &wrong {
        println!("VIOLATION: {objection}");
    }
    println!("{crashes} processes ended, {} violations", wrong.len());
    if wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
