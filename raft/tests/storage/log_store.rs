//! The log store beyond openraft's suite: crashes, damage, a failing disk, memory and bounds.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use crate::support::{append, blank, entry, log_id, proposal, put, row_key, rows};
use futures::TryStreamExt;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use raft::log_store::LogStore;
use raft::type_config::{LogEntry, TypeConfig, Vote};
use storage::keys::log as keys;
use storage::memory::MemoryEngine;
use storage::rocks::RocksEngine;
use storage::{Durability, Engine, Op, Snapshot};
use types::limits::{LOG_TAIL_MAX_BYTES, LOG_WRITE_GROUP_MAX_BYTES, REPLICATION_READ_MAX_BYTES};

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
async fn the_committed_position_is_never_ahead_of_the_log_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Gated::new(false);
    let size = LOG_WRITE_GROUP_MAX_BYTES / 8;
    let mut log = engine.open(dir.path());
    append(&mut log, vec![large(0, size)]).await.unwrap();
    engine.set_closed(true);
    let gate = OpenAtTheEnd(Arc::clone(&engine));
    // The next write takes one entry or a few; what follows is more than three others can take.
    for index in 1..40 {
        let (tx, _flushed) = TypeConfig::oneshot();
        log.append([large(index, size)], IOFlushed::signal(tx))
            .await
            .unwrap();
        // As consensus does: committed by other nodes before it is durable here.
        log.save_committed(Some(log_id(1, index))).await.unwrap();
    }
    for writes in 1..5 {
        engine.wait_after(writes);
        // What a loss of power would leave now.
        let committed = engine.engine.get(&keys::committed()).unwrap();
        let committed = committed.map_or(0, |bytes| index_of_position(&bytes));
        let entry = engine.engine.get(&keys::entry(committed)).unwrap();
        assert!(entry.is_some(), "committed up to {committed}");
        engine.let_one_through();
    }
    drop((gate, log));
    let committed = engine.engine.get(&keys::committed()).unwrap().unwrap();
    assert_eq!(index_of_position(&committed), 39);
}

/// The record of a position in the log.
fn position(term: u64, node_id: u64, index: u64) -> Vec<u8> {
    let mut bytes = vec![1];
    for number in [term, node_id, index] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

fn index_of_position(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[17..25].try_into().unwrap())
}

#[tokio::test]
async fn a_committed_position_ahead_of_the_log_is_cut_to_what_is_sure() {
    // Of the leadership that wrote the log's end, and of a later one that may have replaced it.
    for (term, sure) in [(1, Some(log_id(1, 4))), (2, None)] {
        let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
        append(&mut open(&engine, dir.path()).unwrap(), rows(0..5))
            .await
            .unwrap();
        let ahead = Op::Put {
            key: keys::committed(),
            value: position(term, 1, 100),
        };
        engine.write(&[ahead], Durability::Synced).unwrap();
        let mut log = open(&engine, dir.path()).unwrap();
        assert_eq!(log.read_committed().await.unwrap(), sure);
    }
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
async fn a_log_that_lost_its_vote_is_refused() {
    // What became of the vote of term 7.
    let older = Op::Put {
        key: keys::vote(),
        value: vote_record(5, 2),
    };
    let gone = Op::Delete { key: keys::vote() };
    for loss in [older, gone] {
        let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
        {
            let mut log = open(&engine, dir.path()).unwrap();
            append(&mut log, rows(0..5)).await.unwrap();
            log.save_vote(&Vote::new(7, 1)).await.unwrap();
        }
        drop(open(&engine, dir.path()).unwrap());
        engine.write(&[loss], Durability::Synced).unwrap();
        let error = open(&engine, dir.path()).err().unwrap().to_string();
        assert!(error.contains("vote was lost"), "{error}");
    }
}

#[tokio::test]
async fn entries_of_a_later_term_than_the_vote_are_refused() {
    let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
    {
        let mut log = open(&engine, dir.path()).unwrap();
        log.save_vote(&Vote::new_committed(2, 1)).await.unwrap();
        append(&mut log, vec![blank(3, 0)]).await.unwrap();
    }
    fs::remove_file(dir.path().join("marker")).unwrap();
    let error = open(&engine, dir.path()).err().unwrap().to_string();
    assert!(error.contains("vote was lost"), "{error}");
}

/// The record of a vote that is no leadership yet.
fn vote_record(term: u64, node_id: u64) -> Vec<u8> {
    let mut bytes = vec![1];
    for number in [term, node_id] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
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
async fn purged_entries_are_not_silently_left_out() {
    let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
    let mut log = open(&engine, dir.path()).unwrap();
    append(&mut log, rows(0..10)).await.unwrap();
    log.purge(log_id(1, 4)).await.unwrap();
    let mut reader = log.reader();
    assert_eq!(
        reader.limited_get_log_entries(5, 10).await.unwrap(),
        rows(5..10)
    );
    assert_eq!(reader.limited_get_log_entries(4, 10).await.unwrap(), []);
    assert_eq!(reader.limited_get_log_entries(0, 3).await.unwrap(), []);
    let streamed = |start| {
        let mut reader = reader.clone();
        async move {
            let entries = reader.entries_stream(start..10).await;
            entries.try_collect::<Vec<_>>().await
        }
    };
    assert_eq!(streamed(5).await.unwrap(), rows(5..10));
    let error = streamed(4).await.unwrap_err().to_string();
    assert!(error.contains("after their purge"), "{error}");
    // Nothing is asked for.
    assert_eq!(reader.limited_get_log_entries(2, 2).await.unwrap(), []);
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
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Default)]
struct Gate {
    closed: bool,
    /// So many writes may pass although it is closed.
    let_through: usize,
    /// So many writes have come, and so many are done.
    come: usize,
    done: usize,
}

impl Gated {
    fn new(closed: bool) -> Arc<Gated> {
        Arc::new(Gated {
            engine: MemoryEngine::new(),
            gate: Mutex::new(Gate {
                closed,
                ..Gate::default()
            }),
            changed: Condvar::new(),
        })
    }

    fn open(self: &Arc<Gated>, dir: &Path) -> LogStore {
        LogStore::open(Arc::clone(self) as Arc<dyn Engine>, &dir.join("marker")).unwrap()
    }

    fn set_closed(&self, closed: bool) {
        self.gate.lock().unwrap().closed = closed;
        self.changed.notify_all();
    }

    fn let_one_through(&self) {
        self.gate.lock().unwrap().let_through += 1;
        self.changed.notify_all();
    }

    /// Returns once `done` writes are done and the next one waits.
    fn wait_after(&self, done: usize) {
        let before = |gate: &mut Gate| gate.done < done || gate.come <= done;
        drop(
            self.changed
                .wait_while(self.gate.lock().unwrap(), before)
                .unwrap(),
        );
    }
}

/// Opens the gate when dropped, so that a test that fails comes to its end.
struct OpenAtTheEnd(Arc<Gated>);

impl Drop for OpenAtTheEnd {
    fn drop(&mut self) {
        self.0.set_closed(false);
    }
}

impl Engine for Gated {
    fn write(&self, ops: &[Op], durability: Durability) -> storage::Result<()> {
        let mut gate = self.gate.lock().unwrap();
        gate.come += 1;
        self.changed.notify_all();
        let waits = |gate: &mut Gate| gate.closed && gate.let_through == 0;
        let mut gate = self.changed.wait_while(gate, waits).unwrap();
        gate.let_through = gate.let_through.saturating_sub(1);
        let result = self.engine.write(ops, durability);
        gate.done += 1;
        self.changed.notify_all();
        result
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
    let engine = Gated::new(true);
    let mut log = engine.open(dir.path());
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
    // How far it may be purged so that so many bytes stay.
    let log = log.handle();
    let keep = 4 * size as u64;
    let last = log.last_before(keep).unwrap();
    let left = (count - 1 - last) * size as u64;
    assert!(
        (keep - 2 * 1024 * 1024..=keep).contains(&left),
        "{left} of {keep}"
    );
    assert_eq!(log.last_before(count * 2 * size as u64), None);
}
