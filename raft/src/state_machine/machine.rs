//! The one thread that changes the state.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::storage::ApplyResponder;
use storage::Batch;
use storage::keys::meta;
use tokio::sync::{mpsc, oneshot};
use types::command::{CommandKind, CompareDigest, Entry};
use types::histogram::{COUNTS, DURATIONS_NS, Distribution, Histogram};
use types::ids::{LogIndex, NodeId};
use types::outcome::Outcome;

use super::recent::RequestId;
use super::{AppliedState, Digests, Mark, StateMachineError, StateStore};
use crate::apply::{self, ApplyFailure};
use crate::snapshot::SnapshotDir;
use crate::type_config::{
    LogEntry, LogId, Outcomes, Payload, Proposal, SnapshotMeta, StoredMembership, TypeConfig,
};

/// An entry with who waits for its outcome on this node.
pub(super) type Item = (LogEntry, Option<ApplyResponder<TypeConfig>>);

/// What the thread is asked to do, and where to say that it is done.
pub(super) enum Job {
    /// Apply a run of entries in one batch.
    Apply { run: Vec<Item>, done: Done },
    /// Replace the state.
    Install {
        meta: SnapshotMeta,
        snapshot: SnapshotDir,
        done: Done,
    },
}

/// Where to say how it went.
pub(super) type Done = oneshot::Sender<Result<(), StateMachineError>>;

/// What apply has done since the process started.
#[derive(Debug)]
pub(super) struct Counters {
    run_times: Histogram,
    run_entries: Histogram,
    /// Snapshots made of this node's own state.
    snapshots_built: AtomicU64,
    /// Snapshots of other nodes that became this node's state.
    snapshots_installed: AtomicU64,
}

/// What apply has done since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyCounters {
    /// Runs: batches written.
    pub runs: u64,
    /// Entries in them.
    pub entries: u64,
    /// How long each run took, its write included, in ns.
    pub run_times: Distribution,
    /// How many entries each run held.
    pub run_entries: Distribution,
    /// Snapshots made of this node's own state.
    pub snapshots_built: u64,
    /// Snapshots of other nodes that became this node's state.
    pub snapshots_installed: u64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            run_times: Histogram::new(DURATIONS_NS),
            run_entries: Histogram::new(COUNTS),
            snapshots_built: AtomicU64::new(0),
            snapshots_installed: AtomicU64::new(0),
        }
    }
}

impl Counters {
    fn add(&self, entries: usize, took: Duration) {
        self.run_entries.observe(entries as u64);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.run_times.observe(nanos);
    }

    pub(super) fn count_snapshot_built(&self) {
        self.snapshots_built.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> ApplyCounters {
        let (run_times, run_entries) = (self.run_times.read(), self.run_entries.read());
        ApplyCounters {
            runs: run_times.count(),
            entries: run_entries.sum,
            run_times,
            run_entries,
            snapshots_built: self.snapshots_built.load(Ordering::Relaxed),
            snapshots_installed: self.snapshots_installed.load(Ordering::Relaxed),
        }
    }
}

/// The thread's own state.
pub(super) struct Machine {
    store: Arc<StateStore>,
    counters: Arc<Counters>,
    applied: AppliedState,
    members: BTreeSet<NodeId>,
    /// Of the run that is being applied.
    marks: Vec<Mark>,
}

impl Machine {
    pub(super) fn new(store: Arc<StateStore>, counters: Arc<Counters>) -> Machine {
        let applied = AppliedState::clone(&store.applied());
        let members = applied.members();
        Machine {
            store,
            counters,
            applied,
            members,
            marks: Vec::new(),
        }
    }

    /// Runs until there is nobody left to ask for anything. A failure ends it: what is in memory
    /// and what is in the state may differ from then on.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            let (result, done) = match job {
                Job::Apply { run, done } => (self.apply(run), done),
                Job::Install {
                    meta,
                    snapshot,
                    done,
                } => (self.install(&meta, &snapshot), done),
            };
            let failed = result.is_err();
            if let Err(StateMachineError::Apply(diverged @ ApplyFailure::Diverged { .. })) = &result
                && let Err(error) = self.store.condemn(&diverged.to_string())
            {
                tracing::error!(%error, "it could not be written down that this state is wrong");
            }
            // Consensus waits for every job; where it does not, it has ended.
            drop(done.send(result));
            if failed {
                return;
            }
        }
    }

    /// Applies a run in one batch. Only when that is written do answers go out.
    fn apply(&mut self, run: Vec<Item>) -> Result<(), StateMachineError> {
        let started = Instant::now();
        let entries = run.len();
        let (_, state) = self.store.snapshot();
        #[cfg(test)]
        self.corrupt();
        self.marks.clear();
        let mut batch = Batch::with_digest(state, self.applied.digest);
        let mut answers = Vec::with_capacity(run.len());
        let mut requests = Vec::new();
        for (entry, responder) in run {
            let index = entry.log_id.index;
            let outcomes = self.apply_entry(&mut batch, entry, &mut requests)?;
            if Digests::is_marked(index) {
                self.marks.push((index, batch.digest()));
            }
            answers.extend(responder.map(|responder| (responder, outcomes)));
        }
        self.applied.digest = batch.digest();
        batch.put(meta::applied(), self.applied.encode());
        // Before the state shows the run: who sees it applied must find its requests here.
        self.store.recent().add(requests);
        self.store.commit(&batch.into_ops(), self.applied.clone())?;
        self.store.digests().add(self.marks.drain(..));
        for (responder, outcomes) in answers {
            responder.send(outcomes);
        }
        self.counters.add(entries, started.elapsed());
        Ok(())
    }

    fn apply_entry(
        &mut self,
        batch: &mut Batch,
        entry: LogEntry,
        requests: &mut Vec<(LogIndex, RequestId)>,
    ) -> Result<Outcomes, ApplyFailure> {
        let LogEntry { log_id, payload } = entry;
        // An empty state takes any first entry: openraft starts at 0, its conformance suite
        // elsewhere.
        if let Some(LogId { index: last, .. }) = self.applied.last
            && log_id.index != last + 1
        {
            let index = log_id.index;
            return Err(ApplyFailure::OutOfOrder { index, last });
        }
        let outcomes = match payload {
            Payload::Blank => Outcomes::default(),
            Payload::Normal(proposal) => {
                let outcomes = self.apply_proposal(batch, log_id, &proposal)?;
                requests.extend(applied_requests(&proposal, log_id.index, &outcomes));
                outcomes
            }
            Payload::Membership(membership) => {
                self.applied.membership = StoredMembership::new(Some(log_id), membership);
                self.members = self.applied.members();
                Outcomes::default()
            }
        };
        self.applied.last = Some(log_id);
        Ok(outcomes)
    }

    fn apply_proposal(
        &mut self,
        batch: &mut Batch,
        log_id: LogId,
        proposal: &Proposal,
    ) -> Result<Outcomes, ApplyFailure> {
        let index = log_id.index;
        let entry = proposal
            .decoded()
            .map_err(|source| ApplyFailure::Undecodable { index, source })?;
        let outcomes = apply::apply_entry(batch, index, entry, &self.members)?;
        self.check_digests(entry)?;
        self.applied.lease_time = self.applied.lease_time.max(entry.lease_time);
        self.applied.wall_time = self.applied.wall_time.max(entry.wall_time);
        Ok(Outcomes(outcomes))
    }

    /// Is this node's state what a majority holds, where the entry says what that is? Decides
    /// nothing but whether this node goes on; one that does not remember cannot tell.
    fn check_digests(&self, entry: &Entry) -> Result<(), ApplyFailure> {
        let commands = entry
            .envelopes
            .iter()
            .flat_map(|envelope| &envelope.commands);
        for command in commands {
            let Some(CommandKind::CompareDigest(compare)) = &command.kind else {
                continue;
            };
            let CompareDigest { index, digest } = *compare;
            let in_run = self.marks.iter().find(|(marked, _)| *marked == index);
            let own = in_run.map(|(_, digest)| *digest);
            let own = own.or_else(|| self.store.digests().at(index));
            if let Some(own) = own.filter(|own| *own != digest) {
                return Err(ApplyFailure::Diverged { index, own, digest });
            }
        }
        Ok(())
    }

    /// Takes a wrong turn, where a test asks for one.
    #[cfg(test)]
    fn corrupt(&mut self) {
        self.applied.digest ^= self.store.corruption.swap(0, Ordering::SeqCst);
    }

    fn install(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: &SnapshotDir,
    ) -> Result<(), StateMachineError> {
        self.store.install(meta, snapshot)?;
        self.applied = AppliedState::clone(&self.store.applied());
        self.members = self.applied.members();
        self.store.recent().reset(self.applied.index());
        self.store.digests().reset();
        self.counters
            .snapshots_installed
            .fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The requests of a proposal whose Envelopes changed the state.
fn applied_requests<'a>(
    proposal: &'a Proposal,
    index: LogIndex,
    outcomes: &'a Outcomes,
) -> impl Iterator<Item = (LogIndex, RequestId)> + 'a {
    let envelopes = proposal
        .decoded()
        .map(|entry| &entry.envelopes[..])
        .unwrap_or_default();
    envelopes
        .iter()
        .zip(&outcomes.0)
        .filter_map(move |(envelope, outcome)| {
            let request = RequestId::try_from(&envelope.request_id[..]).ok()?;
            matches!(outcome, Outcome::Applied(_)).then_some((index, request))
        })
}
