//! A little chaos in every run of the tests: each of the faults that matter most once, under all
//! workloads and with all checks. `cargo xtask chaos` goes on for as long as one likes.

use cluster_tests::chaos::history::History;
use cluster_tests::chaos::{Fault, Plan, Setting, Workload, runner};
use cluster_tests::lab;

const LAB: Setting = Setting {
    nodes: 3,
    in_lab: true,
};
const NO_LAB: Setting = Setting {
    nodes: 3,
    in_lab: false,
};
/// The schedule stays the same from run to run, so that a failure can be tied to a change; what
/// new seeds find is for the long runs.
const SEED: u64 = 1;

#[tokio::test]
async fn processes_are_killed() {
    survive(&["F1"]).await;
}

#[tokio::test]
async fn the_power_fails() {
    survive(&["F2"]).await;
}

#[tokio::test]
async fn a_leader_stands_still_or_is_cut_off() {
    survive(&["F3", "F4"]).await;
}

#[tokio::test]
async fn snapshots_are_installed_and_nodes_restarted() {
    survive(&["F12", "F14"]).await;
}

#[tokio::test]
async fn disks_fill_up_and_files_are_damaged() {
    survive(&["F9", "F10"]).await;
}

#[tokio::test]
async fn without_the_lab_a_leader_is_cut_off_or_heard_by_nobody() {
    let faults = ["F4-isolate-leader", "F5-mute-leader"];
    // Those that would see two leaders at once.
    let workloads = ["W4", "W5-register", "W6"].map(str::to_owned);
    let workloads = Workload::named(&workloads).expect("there are such workloads");
    survive_in(NO_LAB, &faults, &workloads).await;
}

/// Plays each of the faults whose code or name begins so once in the lab, and wants nothing
/// objected to.
async fn survive(faults: &[&str]) {
    if lab::available() {
        survive_in(LAB, faults, &Workload::all()).await;
    }
}

/// The same anywhere and under some workloads.
async fn survive_in(setting: Setting, faults: &[&str], workloads: &[Workload]) {
    let codes: Vec<String> = faults.iter().map(|code| (*code).to_owned()).collect();
    let plan = Plan::once(SEED, &Fault::named(&codes));
    assert!(
        !plan.steps.is_empty(),
        "there are no such faults: {codes:?}"
    );
    let directory = tempfile::tempdir().unwrap();
    let history = History::create(&directory.path().join("history.jsonl")).unwrap();
    let tell = |line| println!("{line}");
    let report = runner::run(&plan, setting, workloads, &history, tell).await;
    println!("{report}");
    if !report.is_good() {
        history.flush();
        let kept = directory.keep();
        panic!("what every client was told is in {}", kept.display());
    }
}
