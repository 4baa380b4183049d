//! What RocksDB's engine refuses to open, and what it takes for a torn end.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::{Path, PathBuf};

use storage::keys::meta;
use storage::rocks::RocksEngine;
use storage::{Durability, Engine, Error, Op, Result};

/// Bytes of each value: a few records fill a block of the WAL (32 KiB), so that damage in the
/// middle has whole records after it.
const VALUE_BYTES: usize = 8 << 10;
const RECORDS: u64 = 20;

fn put(index: u64) -> [Op; 1] {
    [Op::Put {
        key: index.to_be_bytes().to_vec(),
        value: vec![index as u8; VALUE_BYTES],
    }]
}

/// A log with [`RECORDS`] synced records, closed; with its WAL.
fn closed_log(dir: &Path) -> PathBuf {
    let log = RocksEngine::open_log(dir).unwrap();
    for index in 1..=RECORDS {
        log.write(&put(index), Durability::Synced).unwrap();
    }
    drop(log);
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut wals: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    wals.sort();
    wals.pop().unwrap()
}

/// How many records from the first on are there; none is there after a gap.
fn records(log: &RocksEngine) -> u64 {
    let there = |index: u64| log.get(&index.to_be_bytes()).unwrap().is_some();
    let count = (1..=RECORDS).take_while(|index| there(*index)).count() as u64;
    assert!(
        (count + 1..=RECORDS).all(|index| !there(index)),
        "a gap after {count}"
    );
    count
}

fn message(result: Result<RocksEngine>) -> String {
    match result {
        Ok(_) => panic!("it opened"),
        Err(e) => {
            let text = e.to_string();
            assert!(matches!(e, Error::Foreign { .. }), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
            text
        }
    }
}

#[test]
fn a_synced_log_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    closed_log(dir.path());
    assert_eq!(
        records(&RocksEngine::open_log(dir.path()).unwrap()),
        RECORDS
    );
}

#[test]
fn a_flipped_bit_within_the_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wal = closed_log(dir.path());
    let mut bytes = fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&wal, bytes).unwrap();
    match RocksEngine::open_log(dir.path()) {
        Err(Error::Corrupt { what }) => {
            let place = format!("{}/*.log", dir.path().display());
            assert!(what.contains(&place), "{what}");
        }
        Err(e) => panic!("not taken for corruption: {e}"),
        Ok(log) => panic!("opened with {} of {RECORDS} records", records(&log)),
    }
}

/// A record that was being written when the power went was never acknowledged.
#[test]
fn a_torn_last_record_is_forgiven() {
    let dir = tempfile::tempdir().unwrap();
    let wal = closed_log(dir.path());
    let len = fs::metadata(&wal).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(&wal)
        .unwrap()
        .set_len(len - 100)
        .unwrap();
    assert_eq!(
        records(&RocksEngine::open_log(dir.path()).unwrap()),
        RECORDS - 1
    );
}

/// Why there is a marker beside the log: RocksDB cannot see this.
#[test]
fn a_log_without_its_last_wal_opens_as_a_shorter_one() {
    let dir = tempfile::tempdir().unwrap();
    let wal = closed_log(dir.path());
    fs::remove_file(&wal).unwrap();
    assert_eq!(records(&RocksEngine::open_log(dir.path()).unwrap()), 0);
}

#[test]
fn a_flushed_state_comes_back_and_damage_to_it_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let state = RocksEngine::open_state(dir.path()).unwrap();
    let value = vec![7; VALUE_BYTES];
    let op = Op::Put {
        key: meta::applied(),
        value: value.clone(),
    };
    state.write(&[op], Durability::Flushed).unwrap();
    state.flush().unwrap();
    drop(state);
    let state = RocksEngine::open_state(dir.path()).unwrap();
    assert_eq!(state.get(&meta::applied()).unwrap(), Some(value));
    drop(state);

    let files = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    for table in files.filter(|path| path.extension().is_some_and(|e| e == "sst")) {
        let mut bytes = fs::read(&table).unwrap();
        bytes[10] ^= 1;
        fs::write(&table, bytes).unwrap();
    }
    let read = RocksEngine::open_state(dir.path()).and_then(|state| state.get(&meta::applied()));
    let Err(Error::Corrupt { what }) = read else {
        panic!("{read:?}")
    };
    assert!(what.contains(".sst"), "names the file: {what}");
}

#[test]
fn a_missing_table_is_noticed_when_the_state_opens() {
    let dir = tempfile::tempdir().unwrap();
    let state = RocksEngine::open_state(dir.path()).unwrap();
    let op = Op::Put {
        key: meta::applied(),
        value: Vec::new(),
    };
    state.write(&[op], Durability::Flushed).unwrap();
    state.flush().unwrap();
    drop(state);
    let files = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let tables: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|e| e == "sst"))
        .collect();
    assert!(!tables.is_empty());
    tables
        .iter()
        .for_each(|table| fs::remove_file(table).unwrap());
    let opened = RocksEngine::open_state(dir.path()).map(drop);
    assert!(
        matches!(opened, Err(Error::Corrupt { .. } | Error::Io { .. })),
        "{opened:?}"
    );
}

#[test]
fn the_state_takes_no_synced_write_and_no_unknown_key() {
    let open = || {
        let dir = tempfile::tempdir().unwrap();
        let state = RocksEngine::open_state(dir.path()).unwrap();
        (dir, state)
    };
    let put = |key: Vec<u8>| {
        [Op::Put {
            key,
            value: Vec::new(),
        }]
    };
    let (_dir, state) = open();
    let refused = state.write(&put(meta::applied()), Durability::Synced);
    assert!(refused.unwrap_err().to_string().contains("no WAL"));
    let (_dir, state) = open();
    let refused = state.write(&put(b"unknown".to_vec()), Durability::Flushed);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("no state key starts with")
    );
}

#[test]
fn directories_of_others_are_refused_with_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let log = RocksEngine::open_log(dir.path()).unwrap();
    let text = message(RocksEngine::open_log(dir.path()));
    assert!(text.contains("in use by another process"), "{text}");
    drop(log);

    let text = message(RocksEngine::open_state(dir.path()));
    assert!(
        text.contains("holds \"duet log 1\"") && text.contains("\"duet state 1\""),
        "{text}"
    );

    let format = dir.path().join("FORMAT");
    assert_eq!(
        fs::read(&format).unwrap(),
        b"duet log 1\n",
        "the bytes are on disks"
    );
    fs::write(&format, "duet log 2\n").unwrap();
    let text = message(RocksEngine::open_log(dir.path()));
    assert!(
        text.contains("holds \"duet log 2\"; this version"),
        "{text}"
    );

    fs::remove_file(&format).unwrap();
    let text = message(RocksEngine::open_log(dir.path()));
    assert!(text.contains("a database without a FORMAT file"), "{text}");
}
