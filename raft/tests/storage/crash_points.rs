//! A node whose process ends at any one operation of its engines, before it or after it, and whose
//! power goes with it: what it was told is kept, it opens again, and the log brings its state to
//! where it would have been.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{Disk, append, apply, dump_of, log_id, rows};
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine};
use raft::log_store::LogStore;
use raft::state_machine::{OpenEngine, StateMachine, StateStore};
use raft::type_config::{LogEntry, Vote};
use storage::keys::Kind;
use storage::{Durability, Engine, Op, Result, Snapshot};

/// Operations of the script below, and a few more.
const OPERATIONS: u32 = 24;
/// Where the script's log ends, how much of it is cut off and replaced, and how much is purged.
const END: u64 = 12;
const CUT: u64 = 9;
const PURGED: u64 = 3;

/// When the process ends.
struct Fate {
    /// Operations that are left, the last one included; 0: it has ended.
    left: AtomicU32,
    /// Is the last operation still done?
    done: bool,
}

impl Fate {
    fn take<T>(&self, operation: impl FnOnce() -> Result<T>) -> Result<T> {
        let left = self.left.load(Ordering::SeqCst);
        self.left.store(left.saturating_sub(1), Ordering::SeqCst);
        if left > 1 {
            return operation();
        }
        if left == 1 && self.done {
            // Nobody hears of it any more.
            operation()?;
        }
        Err(storage::Error::Io {
            operation: "write",
            message: "the process has ended".into(),
        })
    }

    fn has_come(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }
}

struct Mortal {
    engine: Arc<dyn Engine>,
    fate: Arc<Fate>,
}

impl Engine for Mortal {
    fn write(&self, ops: &[Op], durability: Durability) -> Result<()> {
        self.fate.take(|| self.engine.write(ops, durability))
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.engine.snapshot()
    }

    fn flush(&self) -> Result<()> {
        self.fate.take(|| self.engine.flush())
    }

    fn checkpoint(&self, dir: &Path) -> Result<()> {
        self.fate.take(|| self.engine.checkpoint(dir))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.engine.get(key)
    }
}

/// What the node was told is done.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// Entries before this one are on the disk.
    end: u64,
    vote: u64,
    /// Entries from [`CUT`] on are those of term 2.
    replaced: bool,
}

#[tokio::test]
async fn what_was_told_survives_an_end_at_any_operation() {
    let mut ends = 0;
    for operation in 1..=OPERATIONS {
        for done in [false, true] {
            let (disk, dir) = (Disk::memory(), tempfile::tempdir().unwrap());
            let fate = Arc::new(Fate {
                left: AtomicU32::new(operation),
                done,
            });
            let mut told = Told::default();
            live(&disk, dir.path(), &fate, &mut told).await;
            ends += u32::from(fate.has_come());
            disk.crash();
            let what = format!("operation {operation}, done {done}, {told:?}");
            come_back(&disk, dir.path(), told, &what).await;
        }
    }
    assert!(
        ends > OPERATIONS,
        "most of the operations were reached: {ends}"
    );
}

/// A vote, entries, a truncation, entries in their place, apply, a snapshot, a purge: until the end
/// comes.
async fn live(disk: &Disk, dir: &Path, fate: &Arc<Fate>, told: &mut Told) -> Option<()> {
    let mortal = |engine| {
        Arc::new(Mortal {
            engine,
            fate: Arc::clone(fate),
        }) as Arc<dyn Engine>
    };
    let mut log = LogStore::open(mortal(disk.open_log(dir)), &dir.join("marker")).ok()?;
    let open: OpenEngine = {
        let (open, fate) = (disk.open_state(), Arc::clone(fate));
        Arc::new(move |dir| {
            let (engine, fate) = (open(dir)?, Arc::clone(&fate));
            Ok(Arc::new(Mortal { engine, fate }))
        })
    };
    let store = Arc::new(StateStore::open(dir, open).ok()?);
    let mut state = StateMachine::start(store, log.handle().durable_end()).ok()?;
    vote(&mut log, 1, told).await?;
    for first in (0..END).step_by(4) {
        append(&mut log, rows(first..first + 4)).await.ok()?;
        told.end = first + 4;
    }
    vote(&mut log, 2, told).await?;
    // What is cut off was never committed, so it was never told of either.
    told.end = CUT;
    log.truncate_after(Some(log_id(1, CUT - 1))).await.ok()?;
    append(&mut log, of_term_2(CUT..END)).await.ok()?;
    (told.end, told.replaced) = (END, true);
    let committed = Some(log_id(2, END - 1));
    log.save_committed(committed).await.ok()?;
    apply(&mut state, all()).await.ok()?;
    let mut builder = state.get_snapshot_builder().await;
    builder.build_snapshot().await.ok()?;
    log.purge(log_id(1, PURGED - 1)).await.ok()?;
    append(&mut log, of_term_2(END..END + 2)).await.ok()?;
    told.end = END + 2;
    apply(&mut state, of_term_2(END..END + 2)).await.ok()
}

async fn vote(log: &mut LogStore, term: u64, told: &mut Told) -> Option<()> {
    log.save_vote(&Vote::new(term, 1)).await.ok()?;
    told.vote = term;
    Some(())
}

fn of_term_2(range: std::ops::Range<u64>) -> Vec<LogEntry> {
    let mut entries = rows(range);
    for entry in &mut entries {
        entry.log_id = log_id(2, entry.log_id.index);
    }
    entries
}

/// The log as it is in the end.
fn all() -> Vec<LogEntry> {
    [rows(0..CUT), of_term_2(CUT..END)].concat()
}

async fn come_back(disk: &Disk, dir: &Path, told: Told, what: &str) {
    let log = LogStore::open(disk.open_log(dir), &dir.join("marker"));
    let log = log.unwrap_or_else(|error| panic!("{what}: {error}"));
    let state = StateStore::open(dir, disk.open_state());
    let state = Arc::new(state.unwrap_or_else(|error| panic!("{what}: {error}")));
    let reaches = state.check_reaches(&log.handle());
    reaches.unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut reader = log.reader();
    let vote = reader.read_vote().await.unwrap();
    assert!(
        vote.map_or(0, |vote| vote.leader_id.term) >= told.vote,
        "{what}"
    );
    let purged = log.handle().purged().map_or(0, |id| id.index + 1);
    let entries = reader.try_get_log_entries(purged..).await.unwrap();
    let end = purged + entries.len() as u64;
    assert!(end >= told.end, "{what}: the log ends before {end}");
    for entry in &entries {
        let id = entry.log_id;
        let replaced = told.replaced && id.index >= CUT;
        assert!(!replaced || id.leader_id.term == 2, "{what}: {id}");
    }
    let mut machine = StateMachine::start(Arc::clone(&state), log.handle().durable_end()).unwrap();
    let applied = state.applied().last.map_or(0, |id| id.index + 1);
    let rest = entries.iter().filter(|entry| entry.log_id.index >= applied);
    apply(&mut machine, rest.cloned().collect::<Vec<_>>())
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let held = dump_of(&machine);
    let held = held
        .iter()
        .filter(|(key, _)| Kind::of(key) == Some(Kind::Row));
    assert_eq!(held.count() as u64, end, "{what}: rows");
}
