//! `cargo xtask chaos`: a seeded mix of faults on a cluster in the lab, and whether every promise
//! held. Exit code 0: it did; 1: it did not, or the run shows nothing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use cluster_tests::chaos::history::History;
use cluster_tests::chaos::{Fault, Plan, Report, Setting, Workload, runner};
use cluster_tests::lab;

/// Break a cluster under load, and check every promise afterwards
#[derive(Debug, Parser)]
struct Arguments {
    /// About how long to go on breaking it
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Makes the schedule; left out: a new one, which is printed
    #[arg(long)]
    seed: Option<u64>,
    /// Only these faults, by code (F2) or name (F2-power-all)
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// Only these workloads besides that of rows, W1, which every run has
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// How many nodes there are
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=9))]
    nodes: u8,
    /// Break only processes and connections, those between nodes by relays, which needs no rights;
    /// so it is done where there can be no lab
    #[arg(long)]
    no_lab: bool,
    /// Keep what every client was told in this file; left out: only if the run fails
    #[arg(long)]
    history: Option<PathBuf>,
    /// Print the schedule and do nothing
    #[arg(long)]
    plan: bool,
    /// Print the report as one line of JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let faults = Fault::named(&arguments.faults);
    if faults.is_empty() {
        let names: Vec<&str> = Fault::all().iter().map(|fault| fault.name()).collect();
        eprintln!("chaos: no such fault; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    let Some(workloads) = Workload::named(&arguments.workloads) else {
        let names: Vec<&str> = Workload::all().iter().map(|work| work.name()).collect();
        eprintln!(
            "chaos: no such workload; there are W1-rows, {}",
            names.join(", ")
        );
        return ExitCode::from(2);
    };
    let setting = setting(&arguments);
    let faults = possible(faults, setting);
    if faults.is_empty() {
        return ExitCode::from(2);
    }
    let length = Duration::from_secs_f64(arguments.minutes.clamp(0.1, 100_000.0) * 60.0);
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let plan = Plan::new(seed, length, &faults);
    eprintln!("chaos: seed {seed}, {} faults", plan.steps.len());
    if arguments.plan {
        for step in &plan.steps {
            println!("{} {:?} {:?}", step.fault.name(), step.hold, step.calm);
        }
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime can be made");
    let path = history_path(&arguments, seed);
    let history = match History::create(&path) {
        Ok(history) => history,
        Err(error) => {
            eprintln!("chaos: {}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    let run = runner::run(&plan, setting, &workloads, &history, |line| {
        eprintln!("chaos: {line}");
    });
    let report = runtime.block_on(run);
    keep(&history, &report, &arguments);
    if arguments.json {
        println!("{}", report.json());
    } else {
        println!("{report}");
    }
    if report.is_good() {
        ExitCode::SUCCESS
    } else {
        eprintln!(
            "chaos: to repeat: cargo xtask chaos --seed {seed} --minutes {}",
            arguments.minutes
        );
        ExitCode::FAILURE
    }
}

/// In the lab, unless there is none or nobody wants it.
fn setting(arguments: &Arguments) -> Setting {
    let missing = lab::missing().filter(|_| !arguments.no_lab && !arguments.plan);
    if let Some(reason) = &missing {
        eprintln!("chaos: without the lab: {reason}");
    }
    Setting {
        nodes: arguments.nodes,
        in_lab: !arguments.no_lab && missing.is_none(),
    }
}

/// Those of the faults that can be played here; says of the others why not.
fn possible(faults: Vec<Fault>, setting: Setting) -> Vec<Fault> {
    let can = |fault: &Fault| match fault.missing(setting) {
        None => true,
        Some(reason) => {
            eprintln!("chaos: without {}: {reason}", fault.name());
            false
        }
    };
    faults.into_iter().filter(can).collect()
}

fn history_path(arguments: &Arguments, seed: u64) -> PathBuf {
    let name = format!("duet-chaos-{seed}-{}.jsonl", std::process::id());
    let wanted = arguments.history.clone();
    wanted.unwrap_or_else(|| std::env::temp_dir().join(name))
}

/// The history stays if somebody asked for it or will want it.
fn keep(history: &History, report: &Report, arguments: &Arguments) {
    history.flush();
    let path = history.path();
    if arguments.history.is_some() || !report.is_good() {
        eprintln!("chaos: what every client was told is in {}", path.display());
    } else if let Err(error) = std::fs::remove_file(path) {
        eprintln!("chaos: {} stays: {error}", path.display());
    }
}
