//! Engines and entries for the tests of log, state and snapshots.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::type_config::TypeConfigExt;
use raft::log_store::LogStore;
use raft::snapshot::{Manifest, SnapshotDir, SnapshotReceiver, SnapshotStore};
use raft::state_machine::{OpenEngine, StateMachine, StateStore};
use raft::type_config::{LeaderId, LogEntry, LogId, Payload, Proposal, TypeConfig};
use storage::keys::Kind;
use storage::memory::MemoryEngine;
use storage::rocks::RocksEngine;
use storage::{Direction, Engine, KeyRange, Pair, Read};
use tokio::sync::watch;
use types::command::{
    APPLY_VERSION, Change, Command, CommandKind, Entry, Envelope, Expectation, Idempotency, Write,
};

/// Which engine a test runs on.
#[derive(Clone)]
pub enum Disk {
    /// Files.
    Rocks,
    /// Memory, by directory, so that a state can be opened again.
    Memory(Arc<Mutex<BTreeMap<PathBuf, Arc<MemoryEngine>>>>),
}

impl Disk {
    pub fn memory() -> Disk {
        Disk::Memory(Arc::default())
    }

    pub fn both() -> [Disk; 2] {
        [Disk::Rocks, Disk::memory()]
    }

    /// Opens states.
    pub fn open_state(&self) -> OpenEngine {
        let disk = self.clone();
        Arc::new(move |dir| match &disk {
            Disk::Rocks => Ok(Arc::new(RocksEngine::open_state(dir)?)),
            Disk::Memory(_) => disk.open_memory(dir),
        })
    }

    /// Opens the log.
    pub fn open_log(&self, dir: &Path) -> Arc<dyn Engine> {
        match self {
            Disk::Rocks => Arc::new(RocksEngine::open_log(&dir.join("log")).unwrap()),
            Disk::Memory(_) => self.open_memory(&dir.join("log")).unwrap(),
        }
    }

    /// A directory that holds a checkpoint gives it to the engine; one that is open already is
    /// opened again.
    fn open_memory(&self, dir: &Path) -> storage::Result<Arc<dyn Engine>> {
        let Disk::Memory(engines) = self else {
            unreachable!("only for memory")
        };
        let has_files = dir.is_dir() && fs::read_dir(dir).unwrap().next().is_some();
        if has_files {
            let engine = Arc::new(MemoryEngine::open_checkpoint(dir)?);
            let is_state = dir.parent().is_some_and(|parent| parent.ends_with("state"));
            if is_state {
                for file in fs::read_dir(dir).unwrap() {
                    fs::remove_file(file.unwrap().path()).unwrap();
                }
                engines
                    .lock()
                    .unwrap()
                    .insert(dir.to_owned(), Arc::clone(&engine));
            }
            return Ok(engine);
        }
        fs::create_dir_all(dir).unwrap();
        let mut engines = engines.lock().unwrap();
        Ok(Arc::clone(engines.entry(dir.to_owned()).or_default()) as Arc<dyn Engine>)
    }

    /// The power fails: all that was not synced or flushed is gone. Memory only.
    pub fn crash(&self) {
        let Disk::Memory(engines) = self else {
            panic!("this engine cannot lose its power")
        };
        engines
            .lock()
            .unwrap()
            .values()
            .for_each(|engine| engine.crash());
    }
}

/// A node's storage, without the consensus on top.
pub struct Node {
    pub log: LogStore,
    pub state: StateMachine,
}

impl Node {
    pub fn open(disk: &Disk, dir: &Path) -> Node {
        let log = LogStore::open(disk.open_log(dir), &dir.join("marker")).unwrap();
        let store = Arc::new(StateStore::open(dir, disk.open_state()).unwrap());
        let state = StateMachine::start(store, log.handle().durable_end()).unwrap();
        Node { log, state }
    }

    /// Appends entries and waits until they are durable.
    pub async fn append(&mut self, entries: Vec<LogEntry>) {
        append(&mut self.log, entries).await.unwrap();
    }

    pub async fn apply(&mut self, entries: Vec<LogEntry>) {
        apply(&mut self.state, entries).await.unwrap();
    }
}

/// A state machine over `dir` alone: no log that it would have to wait for.
pub fn state_machine(disk: &Disk, dir: &Path) -> StateMachine {
    let store = Arc::new(StateStore::open(dir, disk.open_state()).unwrap());
    StateMachine::start(store, always_durable()).unwrap()
}

/// A log of which everything is durable.
pub fn always_durable() -> watch::Receiver<u64> {
    watch::channel(u64::MAX).1
}

/// Appends entries and waits until they are durable, or not.
pub async fn append(log: &mut LogStore, entries: Vec<LogEntry>) -> std::io::Result<()> {
    let (flushed, done) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(flushed)).await?;
    done.await.expect("the callback is always called")
}

/// Applies entries that nobody waits for.
pub async fn apply<I>(state: &mut StateMachine, entries: I) -> std::io::Result<()>
where
    I: IntoIterator<Item = LogEntry> + OptionalSend,
    I::IntoIter: OptionalSend,
{
    let items = entries.into_iter().map(|entry| Ok((entry, None)));
    state.apply(futures::stream::iter(items)).await
}

pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId { term, node_id: 1 }, index)
}

pub fn blank(term: u64, index: u64) -> LogEntry {
    LogEntry {
        log_id: log_id(term, index),
        payload: Payload::Blank,
    }
}

pub fn proposal(term: u64, index: u64, entry: Entry) -> LogEntry {
    LogEntry {
        log_id: log_id(term, index),
        payload: Payload::Normal(Proposal::new(entry)),
    }
}

/// Entries `range` of term 1, each of which puts one row of its own.
pub fn rows(range: std::ops::Range<u64>) -> Vec<LogEntry> {
    let row = |index: u64| entry(index, vec![put(&row_key(index), &index.to_be_bytes())]);
    range.map(|index| proposal(1, index, row(index))).collect()
}

pub fn entry(time: u64, envelopes: Vec<Envelope>) -> Entry {
    Entry {
        apply_version: APPLY_VERSION,
        lease_time: time,
        wall_time: time as i64 * 1000,
        envelopes,
    }
}

pub fn row_key(number: u64) -> Vec<u8> {
    let mut key = Kind::Row.prefix();
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// An Envelope that puts a key.
pub fn put(key: &[u8], value: &[u8]) -> Envelope {
    envelope(vec![change(key, Some(value))])
}

/// An Envelope that deletes a key.
pub fn delete(key: &[u8]) -> Envelope {
    envelope(vec![change(key, None)])
}

pub fn change(key: &[u8], after: Option<&[u8]>) -> Command {
    let change = Change {
        key: Bytes::copy_from_slice(key),
        after: after.map(Bytes::copy_from_slice),
        event: None,
    };
    CommandKind::Write(Write {
        delete_ranges: Vec::new(),
        changes: vec![change],
    })
    .into()
}

pub fn envelope(commands: Vec<Command>) -> Envelope {
    Envelope {
        actor: "ann".into(),
        commands,
        ..Envelope::default()
    }
}

pub trait EnvelopeExt {
    fn expecting(self, expectation: Expectation) -> Self;
    fn once(self, key: &str, request: &str) -> Self;
}

impl EnvelopeExt for Envelope {
    fn expecting(mut self, expectation: Expectation) -> Envelope {
        self.expectations.push(expectation);
        self
    }

    fn once(mut self, key: &str, request: &str) -> Envelope {
        self.idempotency = Some(Idempotency {
            key: key.into(),
            ordinal: 0,
            request_hash: Bytes::copy_from_slice(request.as_bytes()),
            answer: Bytes::from_static(b"the answer"),
        });
        self
    }
}

/// Everything a state holds.
pub fn dump(read: &dyn Read) -> Vec<Pair> {
    let all = Kind::ALL
        .into_iter()
        .map(|kind| KeyRange::prefix(&kind.prefix()));
    all.flat_map(|range| {
        read.scan(&range, Direction::Forward)
            .collect::<storage::Result<Vec<_>>>()
            .unwrap()
    })
    .collect()
}

/// Changes one byte of a file.
pub fn flip_byte(path: &Path, at: u64) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Streams a snapshot as another node would get it.
pub fn transfer(from: &SnapshotDir, to: &SnapshotStore, chunk: usize) -> SnapshotReceiver {
    let manifest = Manifest::decode(&from.manifest().encode()).unwrap();
    let mut receiver = SnapshotReceiver::new(to, manifest).unwrap();
    for (file, record) in from.manifest().files.iter().enumerate() {
        let mut offset = 0;
        while offset < record.size {
            let bytes = from.read_chunk(file, offset, chunk).unwrap();
            receiver.write_chunk(file, offset, &bytes).unwrap();
            offset += bytes.len() as u64;
        }
    }
    receiver
}

pub fn store(state: &StateMachine) -> Arc<StateStore> {
    Arc::clone(state.handle().store())
}

pub fn dump_of(state: &StateMachine) -> Vec<storage::Pair> {
    dump(store(state).snapshot().1.as_ref())
}

pub fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
