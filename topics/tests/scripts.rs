//! Runs the scripts in `tests/scripts/`: pages of commands, each with what it must answer.
//!
//! A line `> command` is applied as a log entry of its own, and the lines below it are its answer.
//! `at MS` sets both clocks. Leases are called L1, L2, … in the order they are granted. All else
//! is read from the commands themselves.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod driver;

use std::fs;
use std::path::Path;

use driver::Driver;

#[test]
fn append_and_fetch() {
    run("append_and_fetch");
}

#[test]
fn a_group_works_off_a_partition() {
    run("group");
}

#[test]
fn positions() {
    run("positions");
}

#[test]
fn many_partitions() {
    run("partitions");
}

#[test]
fn retention() {
    run("retention");
}

#[test]
fn in_a_transaction() {
    run("strict");
}

#[test]
fn bad_input() {
    run("bad_input");
}

fn run(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/scripts/{name}.txt"));
    let expected = fs::read_to_string(&path).unwrap();
    let mut driver = Driver::new();
    let mut actual = String::new();
    let mut in_answer = false;
    for line in expected.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            actual.push_str(line);
            actual.push('\n');
            actual.push_str(&driver.run(command));
            in_answer = true;
        } else if line.is_empty() || line.starts_with('#') {
            actual.push_str(line);
            actual.push('\n');
            in_answer = false;
        } else {
            assert!(
                in_answer,
                "{name}: {line:?} is neither command, comment nor answer"
            );
        }
    }
    assert!(
        actual == expected,
        "{name}: what was answered differs:\n{actual}"
    );
}
