//! A process that writes to both databases is killed, over and over, at moments nobody chose.
//!
//! Each time the log must hold every write it acknowledged, whole, and the state must be what the
//! first so many entries of the log make of it, never half an entry. The next process brings the
//! state forward from the log, as a node does, and goes on.
//!
//! A kill takes nothing from the page cache, so this proves atomicity and recovery. That synced
//! writes survive a loss of power is what [`Durability::Synced`] asks of RocksDB and the disk.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use storage::keys::{Kind, log, meta, rows, topics};
use storage::rocks::RocksEngine;
use storage::{Batch, Direction, Durability, Engine, KeyRange, Op, Snapshot};
use types::value::Value;

const ROUNDS: u64 = 30;
/// Most acknowledged writes of a round.
const WRITES_MAX: u64 = 40;
/// Acknowledged writes of the test with large messages, and the bytes of each: together more than
/// one family's memtable may hold.
const MUCH_WRITES: u64 = 1_000;
const MUCH_BYTES: usize = 64 << 10;
/// A file that says: this directory is for the writer.
const HERE: &str = "written-by-the-crash-test";
/// Entries of the log that are kept; more than the state may be behind.
const KEEP: u64 = 100;

/// The writer: brings the state up to the log, then writes numbered entries and says so of each
/// on stderr once it is synced.
#[test]
#[ignore = "the process that the other test starts and kills"]
fn writer() {
    assert!(
        Path::new(HERE).exists(),
        "started by hand; only the other test does that"
    );
    let log = RocksEngine::open_log(Path::new("log")).unwrap();
    let state = RocksEngine::open_state(Path::new("state")).unwrap();
    let last = last_entry(&*log.snapshot());
    for index in applied(&state) + 1..=last {
        assert_eq!(
            log.get(&log::entry(index)).unwrap(),
            Some(payload(index)),
            "to be replayed"
        );
        apply(&state, index);
    }
    // More than any round waits for: who started this is gone then.
    for index in last + 1..last + 100 * WRITES_MAX {
        log.write(&log_ops(index), Durability::Synced).unwrap();
        eprintln!("acknowledged {index}");
        apply(&state, index);
    }
}

/// The other writer: fills the state's memtables, so that RocksDB flushes when it finds it right.
#[test]
#[ignore = "the process that the other test starts and kills"]
fn writer_of_much() {
    assert!(
        Path::new(HERE).exists(),
        "started by hand; only the other test does that"
    );
    let state = RocksEngine::open_state(Path::new("state")).unwrap();
    for index in 1..100 * MUCH_WRITES {
        state.write(&much_ops(index), Durability::Flushed).unwrap();
        eprintln!("acknowledged {index}");
    }
}

/// One family is full long before the others. What is on the disk when the process dies was
/// flushed by RocksDB alone; still it is the same entry's in all families.
#[test]
fn families_flushed_by_rocksdb_itself_do_not_part() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(HERE), "").unwrap();
    killed_after("writer_of_much", MUCH_WRITES, dir.path());
    let state = RocksEngine::open_state(&dir.path().join("state")).unwrap();
    let applied = applied(&state);
    assert!(
        applied > 0,
        "RocksDB flushed nothing of {} MiB",
        (MUCH_WRITES * MUCH_BYTES as u64) >> 20
    );
    let snapshot = state.snapshot();
    let count = |kind: Kind| {
        snapshot
            .scan(&KeyRange::prefix(&kind.prefix()), Direction::Forward)
            .count() as u64
    };
    assert_eq!(
        count(Kind::Message),
        applied,
        "messages and the applied index parted"
    );
    assert_eq!(
        count(Kind::Row),
        applied,
        "rows and the applied index parted"
    );
}

#[test]
fn a_killed_process_comes_back_to_a_prefix_of_its_log() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(HERE), "").unwrap();
    let mut acknowledged = 0;
    let mut prefixes = Vec::new();
    for round in 0..ROUNDS {
        acknowledged =
            killed_after("writer", random.below(WRITES_MAX), dir.path()).unwrap_or(acknowledged);
        let last = check_log(dir.path(), acknowledged);
        let applied = check_state(dir.path(), last);
        println!("round {round}: acknowledged {acknowledged}, log {last}, state {applied}");
        acknowledged = last;
        prefixes.push((applied, last));
    }
    assert!(acknowledged > ROUNDS, "the writers got somewhere");
    assert!(
        prefixes.iter().any(|(applied, last)| applied < last),
        "a state had to be rebuilt"
    );
    assert!(
        prefixes.iter().any(|(applied, _)| *applied > 0),
        "a state was flushed"
    );
}

/// Starts a writer, kills it once it acknowledged this many writes; the last it acknowledged.
fn killed_after(test: &str, writes: u64, dir: &Path) -> Option<u64> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test, "--nocapture"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(writer.stderr.take().unwrap()).lines();
    let mut seen = 0;
    let mut last = None;
    if writes == 0 {
        kill(&mut writer);
    }
    // To the end: what it had said before it died counts, read or not.
    for line in lines.map(Result::unwrap) {
        let Some(index) = line.strip_prefix("acknowledged ") else {
            panic!("writer: {line}")
        };
        last = Some(index.parse().unwrap());
        seen += 1;
        if seen == writes {
            kill(&mut writer);
        }
    }
    let status = writer.wait().unwrap();
    assert!(!status.success(), "it ended by itself");
    last
}

/// SIGKILL.
fn kill(writer: &mut Child) {
    writer.kill().unwrap();
}

/// Every acknowledged entry is there and whole, and nothing but entries; the last one's index.
fn check_log(dir: &Path, acknowledged: u64) -> u64 {
    let log = RocksEngine::open_log(&dir.join("log")).unwrap();
    let snapshot = log.snapshot();
    let last = last_entry(&*snapshot);
    assert!(
        last >= acknowledged,
        "lost: acknowledged {acknowledged}, found {last}"
    );
    assert!(last <= acknowledged + 1, "the writer waits for each");
    let mut model = Model::new();
    (1..=last).for_each(|index| write(&mut model, &log_ops(index)));
    let all = KeyRange {
        start: Vec::new(),
        end: None,
    };
    let found: Model = snapshot
        .scan(&all, Direction::Forward)
        .collect::<storage::Result<_>>()
        .unwrap();
    assert!(found == model, "the log is not its first {last} writes");
    last
}

/// The state is that of some entry of the log; which one.
fn check_state(dir: &Path, last: u64) -> u64 {
    let state = RocksEngine::open_state(&dir.join("state")).unwrap();
    let applied = applied(&state);
    assert!(
        applied <= last,
        "the state is ahead of the log: {applied} of {last}"
    );
    let mut model = Model::new();
    (1..=applied).for_each(|index| write(&mut model, &state_ops(index)));
    let snapshot = state.snapshot();
    let mut found = Model::new();
    for kind in Kind::ALL {
        let range = KeyRange::prefix(&kind.prefix());
        let pairs = snapshot.scan(&range, Direction::Forward);
        found.append(&mut pairs.collect::<storage::Result<_>>().unwrap());
    }
    assert!(found == model, "the state is not that of entry {applied}");
    applied
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn write(model: &mut Model, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Put { key, value } => {
                model.insert(key.clone(), value.clone());
            }
            Op::Delete { key } => {
                model.remove(key);
            }
            Op::DeleteRange { range } => model.retain(|key, _| !range.contains(key)),
        }
    }
}

fn last_entry(log: &dyn Snapshot) -> u64 {
    let last = log.scan(&log::all_entries(), Direction::Reverse).next();
    last.map_or(0, |pair| log::split_entry(&pair.unwrap().0).unwrap())
}

fn applied(state: &RocksEngine) -> u64 {
    let value = state.get(&meta::applied()).unwrap();
    value.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

fn apply(state: &RocksEngine, index: u64) {
    let mut batch = Batch::new(state.snapshot());
    let ops = state_ops(index);
    for (i, op) in ops.into_iter().enumerate() {
        if i == 2 {
            let savepoint = batch.savepoint();
            batch.delete_range(KeyRange::prefix(&Kind::Message.prefix()));
            batch.put(meta::applied(), b"undone".to_vec());
            batch.rollback(savepoint);
        }
        match op {
            Op::Put { key, value } => batch.put(key, value),
            Op::Delete { key } => batch.delete(key),
            Op::DeleteRange { range } => batch.delete_range(range),
        }
    }
    state.write(&batch.into_ops(), Durability::Flushed).unwrap();
    if Random(index).below(20) == 0 || index.is_multiple_of(60) {
        state.flush().unwrap();
    }
}

/// What an entry changes in the log: the entry, the committed index, now and then a purge.
fn log_ops(index: u64) -> Vec<Op> {
    let mut ops = vec![
        Op::Put {
            key: log::entry(index),
            value: payload(index),
        },
        Op::Put {
            key: log::committed(),
            value: index.to_be_bytes().to_vec(),
        },
    ];
    if index.is_multiple_of(50) && index > KEEP {
        ops.push(Op::DeleteRange {
            range: log::entries(0, index - KEEP),
        });
        ops.push(Op::Put {
            key: log::purged(),
            value: (index - KEEP).to_be_bytes().to_vec(),
        });
    }
    ops
}

/// A large message, with a little in each other family.
fn much_ops(index: u64) -> Vec<Op> {
    let mut random = Random(index);
    let words = MUCH_BYTES / size_of::<u64>();
    let message = (0..words)
        .flat_map(|_| random.next().to_be_bytes())
        .collect();
    let stamp = index.to_be_bytes().to_vec();
    let row = rows::row(1, None, [&Value::BigInt(index.cast_signed())]);
    vec![
        Op::Put {
            key: meta::applied(),
            value: stamp.clone(),
        },
        Op::Put {
            key: row,
            value: stamp,
        },
        Op::Put {
            key: topics::message(1, 0, index),
            value: message,
        },
    ]
}

/// What an entry changes in the state, over all column families.
fn state_ops(index: u64) -> Vec<Op> {
    let mut random = Random(index);
    let stamp = index.to_be_bytes().to_vec();
    let mut ops = vec![
        Op::Put {
            key: meta::applied(),
            value: stamp.clone(),
        },
        Op::Put {
            key: topics::message(1, 0, index),
            value: payload(index),
        },
        Op::Put {
            key: topics::tail(1, 0),
            value: stamp.clone(),
        },
    ];
    for _ in 0..random.below(8) {
        let id = Value::BigInt(random.below(40).cast_signed());
        let key = rows::row(1, None, [&id]);
        ops.push(match random.below(3) {
            0 => Op::Delete { key },
            _ => Op::Put {
                key,
                value: stamp.clone(),
            },
        });
    }
    if index.is_multiple_of(20) {
        let range = KeyRange::new(topics::message(1, 0, 0), topics::message(1, 0, index - 15));
        ops.push(Op::DeleteRange { range });
    }
    ops
}

/// Bytes that only this entry has, from none to some pages of them.
fn payload(index: u64) -> Vec<u8> {
    let mut random = Random(index ^ 0x5eed);
    let words = random.below(2_000);
    (0..words)
        .flat_map(|_| random.next().to_be_bytes())
        .collect()
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
