//! The last resort, for when a quorum is lost for good: a stopped node goes on alone, with what it
//! has, as the first one of a new cluster.
//!
//! One entry is put at the end of its log: a membership of this node alone, in a term of its own.
//! When the node starts, that is the membership in force, so it elects itself, and all that its log
//! holds is committed, also what the old leader may never have committed. What only the lost nodes
//! had is gone. The node must have another cluster's name before this, or it could be elected
//! beside the old members.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use types::ids::{LogIndex, NodeId};

use crate::error::{Fatal, StartError};
use crate::handle::open_storage;
use crate::log_store::LogStore;
use crate::options::Engines;
use crate::state_machine::StateStore;
use crate::type_config::{LeaderId, LogEntry, LogId, Member, Membership, Payload, Vote};

/// Entries read at once.
const READ_ENTRIES: LogIndex = 256;

/// What a stopped node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// The last entry in its log.
    pub last: LogIndex,
    /// The last entry it knows to be committed. There may have been later ones that it never saw.
    pub committed: LogIndex,
    /// The members it knew.
    pub members: Vec<(NodeId, Member)>,
}

/// The log of a node that does not run.
pub struct StoppedNode {
    log: LogStore,
    node_id: NodeId,
    end: Option<LogId>,
    members: BTreeMap<NodeId, Member>,
    remains: Remains,
}

impl StoppedNode {
    /// Opens the files of a node that does not run and is not started meanwhile.
    pub async fn open(data_dir: &Path, node_id: NodeId) -> Result<StoppedNode, StartError> {
        let path = data_dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || open_storage(&path, Engines::Disk));
        let (mut log, store) = opened.await.map_err(core)??;
        let state = log.get_log_state().await.map_err(core)?;
        let applied = store.applied();
        if state.last_log_id < applied.last
            && let Some(last) = applied.last
        {
            // The state came with a snapshot, and the log was not cleared any more.
            log.purge(last).await.map_err(core)?;
        }
        let end = state.last_log_id.max(applied.last);
        let committed = log.read_committed().await.map_err(core)?;
        let committed = committed.max(applied.last);
        let members = last_members(&mut log, &store, end).await?;
        let index = |log_id: Option<LogId>| log_id.map_or(0, |log_id| log_id.index);
        Ok(StoppedNode {
            node_id,
            end,
            remains: Remains {
                last: index(end),
                committed: index(committed),
                members: members.clone().into_iter().collect(),
            },
            members,
            log,
        })
    }

    /// What it has.
    pub fn remains(&self) -> &Remains {
        &self.remains
    }

    /// Makes the node the only voter of its cluster from its next start on. Durable when this
    /// returns; doing it again harms nothing.
    ///
    /// # Errors
    /// [`StartError::Options`] for a node that never belonged to a cluster.
    pub async fn go_on_alone(mut self) -> Result<(), StartError> {
        let nothing = || StartError::Options("its log is empty: there is nothing to save".into());
        let end = self.end.ok_or_else(nothing)?;
        let own = self.members.get(&self.node_id).ok_or_else(nothing)?;
        let own = Member {
            voter_wanted: true,
            ..own.clone()
        };
        let mut reader = self.log.get_log_reader().await;
        let vote = reader.read_vote().await.map_err(core)?;
        let seen = vote.map_or(0, |vote| vote.leader_id.term);
        let leader_id = LeaderId {
            term: seen.max(end.leader_id.term) + 1,
            node_id: self.node_id,
        };
        let alone = Membership::new(
            vec![BTreeSet::from([self.node_id])],
            BTreeMap::from([(self.node_id, own)]),
        );
        let entry = LogEntry {
            log_id: LogId {
                leader_id,
                index: end.index + 1,
            },
            payload: Payload::Membership(alone.map_err(core)?),
        };
        let vote = Vote {
            leader_id,
            committed: false,
        };
        self.log.save_vote(&vote).await.map_err(core)?;
        self.log.blocking_append([entry]).await.map_err(core)
    }
}

/// The nodes of the last membership in the log, or of the state if the log has none.
async fn last_members(
    log: &mut LogStore,
    store: &StateStore,
    end: Option<LogId>,
) -> Result<BTreeMap<NodeId, Member>, StartError> {
    let applied = store.applied();
    let mut last = applied.membership.membership().clone();
    let mut reader = log.get_log_reader().await;
    let mut next = applied.last.map_or(0, |log_id| log_id.index + 1);
    while end.is_some_and(|end| next <= end.index) {
        let entries = reader.try_get_log_entries(next..next + READ_ENTRIES).await;
        let entries = entries.map_err(core)?;
        let Some(newest) = entries.last() else { break };
        next = newest.log_id.index + 1;
        for entry in entries {
            if let Payload::Membership(membership) = entry.payload {
                last = membership;
            }
        }
    }
    let nodes = last.nodes();
    Ok(nodes.map(|(id, member)| (*id, member.clone())).collect())
}

fn core(error: impl std::fmt::Display) -> StartError {
    Fatal::Core(error.to_string()).into()
}
