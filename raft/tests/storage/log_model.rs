//! The log store against a plain list, through appends, truncations, purges, restarts and power
//! losses, with entries large enough to leave memory.

use std::sync::Arc;

use crate::support::{append, entry, log_id, proposal, put, row_key};
use openraft::storage::{RaftLogReader, RaftLogStorage};
use proptest::prelude::*;
use raft::log_store::LogStore;
use raft::type_config::{LogEntry, LogId};
use storage::Engine;
use storage::memory::MemoryEngine;
use tempfile::TempDir;

#[derive(Clone, Debug)]
enum Step {
    /// This many entries, of this many KiB each.
    Append {
        count: u64,
        kib: usize,
    },
    /// Keep this many of a thousand of the entries.
    Truncate {
        keep: u64,
    },
    /// Purge this many of a thousand of the entries, or beyond the end.
    Purge {
        part: u64,
    },
    Restart,
    PowerLoss,
}

/// What the log should be.
#[derive(Default)]
struct Model {
    purged: Option<LogId>,
    entries: Vec<LogEntry>,
    term: u64,
}

impl Model {
    fn next(&self) -> u64 {
        self.last().map_or(0, |id| id.index + 1)
    }

    fn last(&self) -> Option<LogId> {
        self.entries
            .last()
            .map(|entry| entry.log_id)
            .or(self.purged)
    }
}

struct Subject {
    engine: Arc<MemoryEngine>,
    dir: TempDir,
    log: Option<LogStore>,
}

impl Subject {
    fn new() -> Subject {
        let (engine, dir) = (Arc::new(MemoryEngine::new()), tempfile::tempdir().unwrap());
        let mut subject = Subject {
            engine,
            dir,
            log: None,
        };
        subject.restart();
        subject
    }

    fn restart(&mut self) {
        self.log = None;
        let engine = Arc::clone(&self.engine) as Arc<dyn Engine>;
        self.log = Some(LogStore::open(engine, &self.dir.path().join("marker")).unwrap());
    }

    fn log(&mut self) -> &mut LogStore {
        self.log.as_mut().expect("it is open")
    }
}

async fn take(step: &Step, model: &mut Model, subject: &mut Subject) {
    match *step {
        Step::Append { count, kib } => {
            model.term += 1;
            let (term, first) = (model.term, model.next());
            let new = |index| {
                let row = put(&row_key(index), &vec![term as u8; kib * 1024]);
                proposal(term, index, entry(index, vec![row]))
            };
            let new: Vec<LogEntry> = (first..first + count).map(new).collect();
            append(subject.log(), new.clone()).await.unwrap();
            model.entries.extend(new);
        }
        Step::Truncate { keep } => {
            model
                .entries
                .truncate(model.entries.len() * keep as usize / 1000);
            subject.log().truncate_after(model.last()).await.unwrap();
        }
        Step::Purge { part } if part > 1000 => {
            model.term += 1;
            let upto = log_id(model.term, model.next() + part);
            subject.log().purge(upto).await.unwrap();
            (model.purged, model.entries) = (Some(upto), Vec::new());
        }
        Step::Purge { part } => {
            let purge = model.entries.len() * part as usize / 1000;
            if let Some(last) = model.entries.drain(..purge).next_back() {
                subject.log().purge(last.log_id).await.unwrap();
                model.purged = Some(last.log_id);
            }
        }
        Step::Restart => subject.restart(),
        Step::PowerLoss => {
            subject.engine.crash();
            subject.restart();
        }
    }
}

async fn compare(model: &Model, subject: &mut Subject) {
    let log = subject.log();
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, model.purged);
    assert_eq!(state.last_log_id, model.last());
    assert_eq!(*log.handle().durable_end().borrow(), model.next());
    let mut reader = log.reader();
    assert_eq!(reader.try_get_log_entries(..).await.unwrap(), model.entries);
    if let Some(middle) = model.entries.get(model.entries.len() / 2) {
        let start = middle.log_id.index;
        let read = reader
            .limited_get_log_entries(start, model.next())
            .await
            .unwrap();
        assert!(!read.is_empty());
        assert_eq!(read, model.entries[model.entries.len() / 2..][..read.len()]);
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1..12_u64, prop_oneof![Just(0_usize), Just(700)])
            .prop_map(|(count, kib)| Step::Append { count, kib }),
        2 => (0..=1000_u64).prop_map(|keep| Step::Truncate { keep }),
        2 => (0..=1100_u64).prop_map(|part| Step::Purge { part }),
        1 => Just(Step::Restart),
        1 => Just(Step::PowerLoss),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn the_log_is_what_was_asked_for(steps in prop::collection::vec(any_step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut model, mut subject) = (Model::default(), Subject::new());
            for step in &steps {
                take(step, &mut model, &mut subject).await;
                compare(&model, &mut subject).await;
            }
        });
    }
}
