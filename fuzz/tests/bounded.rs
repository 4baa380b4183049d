//! Every target, for a while: its corpus, its seeds, and changes of them. The same ones every time,
//! so what fails once fails again; `FUZZ_TRIES` makes them more, `FUZZ_SEED` makes them others.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

use fuzz::mutate::{Random, change};
use fuzz::{TARGETS, Target};

/// Longer than any input may take, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(10);

fn number(variable: &str, usual: u64) -> u64 {
    let asked = std::env::var(variable).ok();
    asked.map_or(usual, |asked| asked.parse().expect("a number"))
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target.name);
    let files = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<_> = files.map(|file| file.expect("it lists").path()).collect();
    paths.sort();
    let kept = paths.iter().map(|path| fs::read(path).expect("it reads"));
    (target.seeds)().into_iter().chain(kept).collect()
}

fn try_one(target: &Target, input: &[u8]) {
    let started = Instant::now();
    let held = catch_unwind(|| (target.run)(input)).is_ok();
    let took = started.elapsed();
    let shown = String::from_utf8_lossy(input);
    assert!(held, "{} failed at {input:02x?}: {shown}", target.name);
    assert!(took < PATIENCE, "{} took {took:?} for {shown}", target.name);
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.expect("there is such a target");
    let corpus = corpus(target);
    assert!(corpus.len() > 1, "{name} has nothing to begin with");
    for input in &corpus {
        try_one(target, input);
    }
    let mut random = Random::new(number("FUZZ_SEED", 1));
    for _ in 0..number("FUZZ_TRIES", target.tries as u64) {
        try_one(target, &change(&corpus, &mut random));
    }
}

macro_rules! bounded {
    ($($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_run() {
            let run = [$(stringify!($name)),*];
            let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(known, run);
        }
    };
}

bounded!(
    sql_parse, sql_plan, bodies, rpc, log, apply, keys, rows, messages, records
);
