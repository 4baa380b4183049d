//! What this node can say of itself without asking anybody: for metrics, nothing is decided by it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::RaftMetrics;
use storage::Usage;
use types::ids::{LogIndex, NodeId, Term};

use crate::handle::Raft;
use crate::log_store::LogCounters;
use crate::metrics::look;
use crate::state_machine::ApplyCounters;
use crate::status::committed;
use crate::type_config::TypeConfig;

/// Events of this process that nothing else counts.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pub leader_changes: AtomicU64,
    pub elections_won: AtomicU64,
    pub snapshots_sent: AtomicU64,
    pub snapshots_not_sent: AtomicU64,
}

impl Events {
    pub(crate) fn count(event: &AtomicU64) {
        event.fetch_add(1, Ordering::Relaxed);
    }
}

/// This node's part in the cluster, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The node.
    pub node_id: NodeId,
    /// The leadership period it is in.
    pub term: Term,
    /// Who leads, where known.
    pub leader: Option<NodeId>,
    /// Does it lead?
    pub is_leader: bool,
    /// Members that vote, itself included.
    pub voters: u64,
    /// Members that do not.
    pub learners: u64,
    /// Is the membership being changed, so that those before and those after have to agree?
    pub membership_changing: bool,
    /// The last entry in its log.
    pub last_log_index: LogIndex,
    /// The last entry it knows to be committed.
    pub committed: LogIndex,
    /// The last entry it has applied.
    pub applied: LogIndex,
    /// The last entry that its newest snapshot covers; 0: it has none.
    pub snapshot_index: LogIndex,
    /// The last entry that its log has dropped from its front; 0: none.
    pub purged_index: LogIndex,
    /// How many entries each other member is behind this log; only a leader knows.
    pub peer_lag: BTreeMap<NodeId, u64>,
    /// Bytes of the entries in its log, up to 64 KiB too many.
    pub log_bytes: u64,
    /// What the log has written since the process started.
    pub log: LogCounters,
    /// What was applied since the process started.
    pub apply: ApplyCounters,
    /// How often another leader was seen since the process started.
    pub leader_changes: u64,
    /// How often this node became the leader since the process started.
    pub elections_won: u64,
    /// Snapshots sent to other nodes and installed there.
    pub snapshots_sent: u64,
    /// Snapshots whose sending failed.
    pub snapshots_not_sent: u64,
    /// Envelopes that wait to be packed into an entry.
    pub batcher_queue: u64,
    /// Their bytes.
    pub batcher_queue_bytes: u64,
    /// Entries of the batcher that are proposed and not yet answered.
    pub entries_in_flight: u64,
}

/// What the engines hold in memory, and where their files are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageObserved {
    /// The log's engine.
    pub log: Usage,
    /// The state's engine.
    pub state: Usage,
    /// Directory of the log, the state and the snapshots: `log`, `state`, `snapshots` in it.
    pub data_dir: PathBuf,
}

impl Raft {
    /// What this node can say of itself. Takes no lock that a write waits for longer than a moment.
    pub fn observe(&self) -> Observed {
        let applied = self.applied();
        let log = self.log();
        let (events, batcher) = (self.events(), self.batcher());
        let count = |event: &AtomicU64| event.load(Ordering::Relaxed);
        let observed = look(self.core(), |metrics| of_core(metrics, applied));
        Observed {
            purged_index: log.purged().map_or(0, |id| id.index),
            log_bytes: log.bytes_after(None),
            log: log.counters(),
            apply: self.apply_counters(),
            leader_changes: count(&events.leader_changes),
            elections_won: count(&events.elections_won),
            snapshots_sent: count(&events.snapshots_sent),
            snapshots_not_sent: count(&events.snapshots_not_sent),
            batcher_queue: batcher.queued(),
            batcher_queue_bytes: batcher.queued_bytes(),
            entries_in_flight: batcher.entries_in_flight(),
            ..observed
        }
    }

    /// What the engines say of themselves.
    ///
    /// # Errors
    /// [`storage::Error`] where an engine cannot say; nothing is wrong with its data then.
    pub fn observe_storage(&self) -> storage::Result<StorageObserved> {
        Ok(StorageObserved {
            log: self.log().usage()?,
            state: self.store().usage()?,
            data_dir: self.store().data_dir().to_owned(),
        })
    }
}

fn of_core(metrics: &RaftMetrics<TypeConfig>, applied: LogIndex) -> Observed {
    let membership = metrics.membership_config.membership();
    let last_log_index = metrics.last_log_index.unwrap_or(0);
    let is_leader = metrics.state.is_leader();
    let replication = metrics.replication.iter().flatten();
    let peer_lag = replication
        .filter(|(node_id, _)| is_leader && **node_id != metrics.id)
        .map(|(node_id, matching)| {
            let has = matching.as_ref().map_or(0, |log_id| log_id.index);
            (*node_id, last_log_index.saturating_sub(has))
        });
    Observed {
        node_id: metrics.id,
        term: metrics.current_term,
        leader: metrics.current_leader,
        is_leader,
        voters: membership.voter_ids().count() as u64,
        learners: membership.learner_ids().count() as u64,
        membership_changing: membership.get_joint_config().len() > 1,
        last_log_index,
        committed: committed(metrics).max(applied),
        applied,
        snapshot_index: metrics.snapshot.map_or(0, |log_id| log_id.index),
        peer_lag: peer_lag.collect(),
        ..Observed::default()
    }
}
