//! The log store beyond openraft's suite: crashes, damage, a failing disk, memory and bounds.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use crate::support::{append, blank, entry, log_id, proposal, put, row_key, rows};
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use raft::log_store::LogStore;
use raft::type_config::{LogEntry, TypeConfig, Vote};
use storage::keys::log as keys;
use storage::memory::MemoryEngine;
use storage::rocks::RocksEngine;
use storage::{Durability, Engine, Op, Snapshot};
use types::limits::{LOG_TAIL_MAX_BYTES, REPLICATION_READ_MAX_BYTES};

fn open(engine: &Arc<MemoryEngine>, dir: &Path) -> storage::Result<LogStore> {
    LogStore::open(Arc::clone(engine) as Arc<dyn Engine>, &dir.join("marker"))
}

async fn read_all(log: &LogStore) -> Vec<LogEntry> {
    log.reader().try_get_log_entries(0..).await.unwrap()
}

/// An entry of about `bytes`.
fn large(index: u64, bytes: usize) -> LogEntry {
    proposal(
        1,
        index,
        entry(index, vec![put(&row_key(index), &vec![7; bytes])]),
    )
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
    let vote = Vote::new_committed(3, 1);
    let entries = rows(0..20);
    {
        let mut log = open(&engine, dir.path()).unwrap();
        log.save_vote(&vote).await.unwrap();
        append(&mut log, entries.clone()).await.unwrap();
        engine.crash();
    }
    let mut log = open(&engine, dir.path()).unwrap();
    assert_eq!(log.reader().read_vote().await.unwrap(), Some(vote));
    assert_eq!(read_all(&log).await, entries);
    assert_eq!(
        log.get_log_state().await.unwrap().last_log_id,
        Some(log_id(1, 19))
    );
    assert_eq!(*log.handle().durable_end().borrow(), 20);
}

#[tokio::test]
async fn the_log_on_rocksdb_opens_again_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let engine = RocksEngine::open_log(&dir.path().join("log")).unwrap();
        LogStore::open(Arc::new(engine), &dir.path().join("marker")).unwrap()
    };
    {
        let mut log = open();
        append(&mut log, rows(0..10)).await.unwrap();
        log.truncate_after(Some(log_id(1, 6))).await.unwrap();
        append(&mut log, vec![blank(2, 7), blank(2, 8)])
            .await
            .unwrap();
        log.purge(log_id(1, 2)).await.unwrap();
    }
    let mut log = open();
    let mut expected = rows(3..7);
    expected.extend([blank(2, 7), blank(2, 8)]);
    assert_eq!(read_all(&log).await, expected);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 2)));
    assert_eq!(state.last_log_id, Some(log_id(2, 8)));
}

#[tokio::test]
async fn truncation_and_purge_are_durable_when_they_return() {
    let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
    {
        let mut log = open(&engine, dir.path()).unwrap();
        append(&mut log, rows(0..10)).await.unwrap();
        log.truncate_after(Some(log_id(1, 4))).await.unwrap();
        log.purge(log_id(1, 1)).await.unwrap();
        engine.crash();
    }
    let log = open(&engine, dir.path()).unwrap();
    assert_eq!(read_all(&log).await, rows(2..5));
}

#[tokio::test]
async fn a_purge_beyond_the_end_makes_the_purged_entry_the_last() {
    let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
    {
        let mut log = open(&engine, dir.path()).unwrap();
        append(&mut log, rows(0..3)).await.unwrap();
        log.purge(log_id(4, 50)).await.unwrap();
        append(&mut log, vec![blank(4, 51)]).await.unwrap();
    }
    let mut log = open(&engine, dir.path()).unwrap();
    assert_eq!(read_all(&log).await, [blank(4, 51)]);
    assert_eq!(
        log.get_log_state().await.unwrap().last_purged_log_id,
        Some(log_id(4, 50))
    );
    assert_eq!(*log.handle().durable_end().borrow(), 52);
}

#[tokio::test]
async fn the_committed_position_rides_along_with_the_next_write() {
    let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
    {
        let mut log = open(&engine, dir.path()).unwrap();
        append(&mut log, rows(0..5)).await.unwrap();
        let writes = log.handle().counters().writes;
        log.save_committed(Some(log_id(1, 3))).await.unwrap();
        assert_eq!(
            log.handle().counters().writes,
            writes,
            "no write of its own"
        );
        append(&mut log, rows(5..6)).await.unwrap();
        log.save_committed(Some(log_id(1, 5))).await.unwrap();
        assert_eq!(log.read_committed().await.unwrap(), Some(log_id(1, 5)));
        engine.crash();
    }
    let mut log = open(&engine, dir.path()).unwrap();
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(1, 3)));
}

#[tokio::test]
async fn a_log_that_lost_its_end_is_refused() {
    let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
    {
        let mut log = open(&engine, dir.path()).unwrap();
        append(&mut log, rows(0..10)).await.unwrap();
    }
    let lose = |ops: &[Op]| engine.write(ops, Durability::Synced).unwrap();
    lose(&[Op::Delete {
        key: keys::entry(9),
    }]);
    let error = open(&engine, dir.path()).err().unwrap().to_string();
    assert!(error.contains("its end was lost"), "{error}");

    let error = open(&Arc::new(MemoryEngine::new()), dir.path())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("the log is empty"), "{error}");
}

#[tokio::test]
async fn a_shorter_log_after_a_truncation_is_not_a_lost_end() {
    let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
    {
        let mut log = open(&engine, dir.path()).unwrap();
        append(&mut log, rows(0..10)).await.unwrap();
    }
    {
        // The marker has seen entry 9 by now: the store was closed.
        let mut log = open(&engine, dir.path()).unwrap();
        log.truncate_after(Some(log_id(1, 4))).await.unwrap();
    }
    assert_eq!(
        read_all(&open(&engine, dir.path()).unwrap()).await,
        rows(0..5)
    );
}

#[tokio::test]
async fn damage_and_holes_are_refused() {
    let damage: [(&str, Op); 3] = [
        (
            "checksum",
            Op::Put {
                key: keys::entry(4),
                value: vec![1; 60],
            },
        ),
        (
            "found entry",
            Op::Delete {
                key: keys::entry(4),
            },
        ),
        (
            "vote",
            Op::Put {
                key: keys::vote(),
                value: vec![1; 22],
            },
        ),
    ];
    for (what, op) in damage {
        let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
        {
            let mut log = open(&engine, dir.path()).unwrap();
            append(&mut log, rows(0..10)).await.unwrap();
        }
        engine.write(&[op], Durability::Synced).unwrap();
        let error = open(&engine, dir.path()).err().unwrap();
        assert!(matches!(error, storage::Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[tokio::test]
async fn damage_is_noticed_by_a_read_too() {
    let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
    {
        let mut log = open(&engine, dir.path()).unwrap();
        append(&mut log, rows(0..10)).await.unwrap();
    }
    let log = open(&engine, dir.path()).unwrap();
    let mut reader = log.reader();
    engine
        .write(
            &[Op::Put {
                key: keys::entry(4),
                value: vec![1; 60],
            }],
            Durability::Synced,
        )
        .unwrap();
    assert_eq!(
        reader.try_get_log_entries(5..10).await.unwrap(),
        rows(5..10)
    );
    assert!(reader.try_get_log_entries(0..10).await.is_err());
    assert!(reader.limited_get_log_entries(4, 5).await.is_err());
}

#[tokio::test]
async fn after_a_failed_write_nothing_succeeds() {
    let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
    let mut log = open(&engine, dir.path()).unwrap();
    append(&mut log, rows(0..5)).await.unwrap();
    let mut durable_end = log.handle().durable_end();
    engine.break_disk();

    append(&mut log, rows(5..6)).await.unwrap_err();
    // The disk recovers, but what it kept is not known.
    engine.crash();
    append(&mut log, rows(6..7)).await.unwrap_err();
    log.save_vote(&Vote::new(9, 1)).await.unwrap_err();
    log.purge(log_id(1, 2)).await.unwrap_err();
    assert!(log.handle().failure().is_some());
    assert_eq!(*durable_end.borrow_and_update(), 5);
    assert!(
        durable_end.wait_for(|end| *end > 5).await.is_err(),
        "apply must not wait for ever"
    );
}

#[tokio::test]
async fn an_append_that_would_leave_a_hole_is_refused() {
    let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
    let mut log = open(&engine, dir.path()).unwrap();
    append(&mut log, rows(0..5)).await.unwrap();
    append(&mut log, rows(6..7)).await.unwrap_err();
    assert_eq!(read_all(&log).await, rows(0..5));
}

/// An engine whose writes wait until they are let through.
struct Gated {
    engine: MemoryEngine,
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gated {
    fn set_closed(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.opened.notify_all();
    }
}

impl Engine for Gated {
    fn write(&self, ops: &[Op], durability: Durability) -> storage::Result<()> {
        drop(
            self.opened
                .wait_while(self.closed.lock().unwrap(), |closed| *closed)
                .unwrap(),
        );
        self.engine.write(ops, durability)
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.engine.snapshot()
    }

    fn flush(&self) -> storage::Result<()> {
        self.engine.flush()
    }

    fn checkpoint(&self, dir: &Path) -> storage::Result<()> {
        self.engine.checkpoint(dir)
    }

    fn get(&self, key: &[u8]) -> storage::Result<Option<Vec<u8>>> {
        self.engine.get(key)
    }
}

#[tokio::test]
async fn entries_can_be_read_before_they_are_durable_and_share_an_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Arc::new(Gated {
        engine: MemoryEngine::new(),
        closed: Mutex::new(true),
        opened: Condvar::new(),
    });
    let mut log = LogStore::open(
        Arc::clone(&engine) as Arc<dyn Engine>,
        &dir.path().join("marker"),
    )
    .unwrap();
    let mut flushed = Vec::new();
    for index in 0..100 {
        let (tx, rx) = TypeConfig::oneshot();
        log.append(rows(index..index + 1), IOFlushed::signal(tx))
            .await
            .unwrap();
        flushed.push(rx);
    }
    assert_eq!(read_all(&log).await, rows(0..100));
    assert_eq!(*log.handle().durable_end().borrow(), 0);
    assert_eq!(engine.engine.get(&keys::entry(0)).unwrap(), None);

    engine.set_closed(false);
    for done in flushed {
        let result: io::Result<()> = done.await.unwrap();
        result.unwrap();
    }
    let counters = log.handle().counters();
    assert_eq!(counters.entries, 100);
    assert!(counters.writes <= 2, "{} writes", counters.writes);
    log.handle()
        .durable_end()
        .wait_for(|end| *end == 100)
        .await
        .unwrap();
}

#[tokio::test]
async fn reads_are_capped_and_find_what_left_memory() {
    let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
    let mut log = open(&engine, dir.path()).unwrap();
    let size = 512 * 1024;
    let count = (LOG_TAIL_MAX_BYTES / size + 10) as u64;
    for index in 0..count {
        append(&mut log, vec![large(index, size)]).await.unwrap();
    }
    // More than one, not more than the bound, from the engine and from memory.
    for start in [0, count - 5] {
        let read = log
            .reader()
            .limited_get_log_entries(start, count)
            .await
            .unwrap();
        assert_eq!(read.first().unwrap().log_id.index, start);
        assert!(!read.is_empty() && read.len() * size <= REPLICATION_READ_MAX_BYTES);
    }
    let indexes: Vec<u64> = read_all(&log)
        .await
        .iter()
        .map(|entry| entry.log_id.index)
        .collect();
    assert_eq!(indexes, (0..count).collect::<Vec<_>>());
    let after_half = log.handle().bytes_after(Some(count / 2 - 1));
    let expected = (count - count / 2) * size as u64;
    assert!(
        (expected..expected + 2 * 1024 * 1024).contains(&after_half),
        "{after_half} of {expected}"
    );
}
