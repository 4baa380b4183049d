//! One node's state, made of a log as a node makes it: by the thread that applies, in runs, with
//! ends of the process and snapshots in between.

use std::sync::Arc;

use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use proptest::prelude::*;
use raft::state_machine::{StateMachine, StateStore};
use raft::type_config::LogEntry;
use storage::Pair;

use crate::support::{Disk, always_durable, apply, dump_of, store, transfer};

/// What happens to a state while it catches up with a log.
#[derive(Clone, Debug)]
pub enum Act {
    /// The next entries come, in one run.
    Apply(usize),
    /// What was applied is put on the disk.
    Flush,
    /// The process ends; in memory the power fails with it.
    Restart,
    /// A snapshot of it is installed on another node, which has applied so many entries less. That
    /// one goes on.
    MoveOn { behind: usize },
}

pub fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1..6_usize).prop_map(Act::Apply),
        2 => Just(Act::Flush),
        2 => Just(Act::Restart),
        1 => (0..8_usize).prop_map(|behind| Act::MoveOn { behind }),
    ]
}

pub struct Replica {
    on_files: bool,
    disk: Disk,
    dir: tempfile::TempDir,
    /// None only while it is opened again.
    state: Option<StateMachine>,
}

impl Replica {
    pub fn new(on_files: bool) -> Replica {
        let dir = tempfile::tempdir().unwrap();
        let disk = match on_files {
            true => Disk::Rocks,
            false => Disk::memory(),
        };
        let state = Some(open(&disk, &dir));
        Replica {
            on_files,
            disk,
            dir,
            state,
        }
    }

    fn state(&mut self) -> &mut StateMachine {
        self.state.as_mut().expect("it is open")
    }

    /// How many entries it has applied.
    pub fn applied(&self) -> usize {
        let state = self.state.as_ref().expect("it is open");
        let last = store(state).applied().last;
        last.map_or(0, |last| last.index as usize + 1)
    }

    pub fn dump(&self) -> Vec<Pair> {
        dump_of(self.state.as_ref().expect("it is open"))
    }

    /// Does one thing; `log` is all that there is to apply.
    pub async fn act(&mut self, act: &Act, log: &[LogEntry]) {
        match *act {
            Act::Apply(count) => self.apply(log, self.applied() + count).await,
            Act::Flush => store(self.state()).flush().unwrap(),
            Act::Restart => self.restart(),
            Act::MoveOn { behind } => self.move_on(behind, log).await,
        }
    }

    /// Applies what comes before entry `end`, in one run.
    pub async fn apply(&mut self, log: &[LogEntry], end: usize) {
        let from = self.applied();
        let run = log[from..end.clamp(from, log.len())].to_vec();
        apply(self.state(), run).await.unwrap();
    }

    pub fn restart(&mut self) {
        self.state = None;
        if !self.on_files {
            self.disk.crash();
        }
        self.state = Some(open(&self.disk, &self.dir));
    }

    async fn move_on(&mut self, behind: usize, log: &[LogEntry]) {
        let applied = self.applied();
        if applied == 0 {
            return;
        }
        let mut builder = self.state().get_snapshot_builder().await;
        let snapshot = builder.build_snapshot().await.unwrap();
        let mut other = Replica::new(self.on_files);
        other.apply(log, applied.saturating_sub(behind)).await;
        let other_store = store(other.state());
        let received = transfer(&snapshot.snapshot, other_store.snapshots(), 4096);
        drop(other_store);
        let received = received.finish().unwrap();
        let state = other.state();
        state
            .install_snapshot(&snapshot.meta, received)
            .await
            .unwrap();
        *self = other;
    }
}

fn open(disk: &Disk, dir: &tempfile::TempDir) -> StateMachine {
    let store = Arc::new(StateStore::open(dir.path(), disk.open_state()).unwrap());
    StateMachine::start(store, always_durable()).unwrap()
}
