//! What services need of the raft crate, in their own terms: views of the state that are fresh
//! enough, and proposals with an answer that says whether they may have happened.

use std::sync::Arc;
use std::time::Instant;

use raft::{ProposeError, Raft, ReadIndexError};
use storage::Snapshot;
use types::command::Envelope;
use types::ids::{LogIndex, Term};
use types::outcome::Outcome;
use types::planted::{self, Bug};
use types::{Error, ErrorCode};

use super::call::{Call, Failure};
use crate::fatal::{Fatal, FatalReporter};

/// The applied state at a log index.
#[derive(Clone)]
pub struct View {
    /// What had been applied.
    pub index: LogIndex,
    /// The state then.
    pub state: Arc<dyn Snapshot>,
}

/// Access to the log and the state. Cheap to clone.
#[derive(Clone)]
pub struct Consensus {
    raft: Raft,
    fatal: FatalReporter,
}

impl Consensus {
    /// Over this node's raft.
    pub fn new(raft: Raft, fatal: FatalReporter) -> Consensus {
        Consensus { raft, fatal }
    }

    /// The raft handle, for membership and status.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// What this node has applied, at once.
    pub fn local_view(&self) -> View {
        let view = self.raft.snapshot();
        View {
            index: view.applied,
            state: view.state,
        }
    }

    /// A view that shows everything answered before the call began.
    pub async fn linearizable_view(&self, deadline: Instant) -> Result<View, Error> {
        let index = self.read_index(deadline).await?;
        self.view_at(index, deadline).await
    }

    /// A view as fresh as the call asks for.
    pub async fn view_for(&self, call: &Call) -> Result<View, Error> {
        let index = match call.consistency {
            api::headers::Consistency::Linearizable => self.read_index(call.deadline).await?,
            api::headers::Consistency::Local => 0,
        };
        self.view_at(index.max(call.min_index), call.deadline).await
    }

    /// A view with at least this applied.
    pub async fn view_at(&self, index: LogIndex, deadline: Instant) -> Result<View, Error> {
        if self.raft.applied() < index {
            match tokio::time::timeout_at(deadline.into(), self.raft.wait_applied(index)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(stopping()),
                Err(_) => return Err(too_late("this node has not applied what was asked for")),
            }
        }
        Ok(self.local_view())
    }

    /// Everything answered before the call began is at or below the returned index.
    pub async fn read_index(&self, deadline: Instant) -> Result<LogIndex, Error> {
        let remaining = deadline.saturating_duration_since(Instant::now());
        match self.raft.read_index(remaining).await {
            Ok(index) => Ok(index),
            Err(ReadIndexError::Stopped(_)) => Err(stopping()),
            Err(ReadIndexError::Unavailable) => Err(no_leader()),
            Err(ReadIndexError::TimedOut) => Err(too_late("the leader did not answer in time")),
        }
    }

    /// A view to plan a write on, and the leadership it belongs to.
    pub async fn planning_view(&self, deadline: Instant) -> Result<(View, Term), Failure> {
        let mut leadership = self.raft.leadership_watch();
        loop {
            let now = leadership.borrow_and_update().clone();
            if !now.is_leader {
                return Err(Failure::NotLeader);
            }
            if now.ready_to_plan {
                return Ok((self.local_view(), now.term));
            }
            match tokio::time::timeout_at(deadline.into(), leadership.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(stopping().into()),
                Err(_) => return Err(no_leader().into()),
            }
        }
    }

    /// The same for a call: only under the leadership it must be served in.
    pub async fn planning_view_for(&self, call: &Call) -> Result<(View, Term), Failure> {
        let (view, term) = self.planning_view(call.deadline).await?;
        match call.term {
            Some(wanted) if wanted != term => Err(Failure::NotLeader),
            _ => Ok((view, term)),
        }
    }

    /// Proposes an Envelope and waits for what became of it.
    pub async fn propose(
        &self,
        envelope: Envelope,
        deadline: Instant,
    ) -> Result<(LogIndex, Outcome), Failure> {
        let proposed = self.raft.propose(envelope);
        match tokio::time::timeout_at(deadline.into(), proposed).await {
            Ok(Ok(proposed)) => Ok((proposed.index, proposed.outcome)),
            Ok(Err(ProposeError::NotLeader { .. })) => Err(Failure::NotLeader),
            Ok(Err(ProposeError::Overloaded)) => Err(Failure::new(
                ErrorCode::Overloaded,
                "this node has too much work waiting",
            )),
            Ok(Err(ProposeError::DiskFull)) => Err(Failure::Error(disk_full())),
            Ok(Err(error @ ProposeError::NotAllCanApply { .. })) => {
                Err(Failure::new(ErrorCode::Conflict, error.to_string()))
            }
            Ok(Err(ProposeError::Unknown)) => Err(Failure::Lost(lost())),
            Ok(Err(ProposeError::Stopped(_))) => Err(stopping().into()),
            // It may still be committed, and must not be called a failure.
            Err(_) if planted::has(Bug::TimeoutIsFailure) => {
                Err(Failure::Error(self.outcome_too_late()))
            }
            Err(_) => Err(Failure::Error(self.outcome_too_late().maybe_applied())),
        }
    }

    /// Why a write has no outcome at its deadline. A leader that no quorum answers is none.
    fn outcome_too_late(&self) -> Error {
        if self.raft.quorum_answers() {
            too_late("the outcome of the write was not known in time")
        } else {
            let message = "the leader has no quorum at the moment, so it did not learn the outcome";
            Error::new(ErrorCode::ClusterUnavailable, message)
        }
    }

    /// Makes sure that a call whose answer was lost did not happen; only then may it be served, by
    /// the leader of a later term. CLUSTER_UNAVAILABLE, maybe applied, if it happened or this node
    /// cannot tell.
    pub async fn must_not_have_happened(&self, call: &Call) -> Result<(), Failure> {
        let Some(after) = call.lost_after else {
            return Ok(());
        };
        // What happened already happens once more.
        if planted::has(Bug::BlindRetry) {
            return Ok(());
        }
        // Ready to plan: all that an earlier leader proposed and that will ever count is applied.
        self.planning_view_for(call)
            .await
            .map_err(Failure::maybe_applied)?;
        match self.raft.was_applied(&call.request, after) {
            Some(false) => Ok(()),
            Some(true) | None => Err(Failure::Error(lost())),
        }
    }

    /// The current leadership and its changes.
    pub fn leadership_watch(&self) -> tokio::sync::watch::Receiver<raft::Leadership> {
        self.raft.leadership_watch()
    }

    /// What this node has applied, and its changes.
    pub fn applied_watch(&self) -> tokio::sync::watch::Receiver<LogIndex> {
        self.raft.applied_watch()
    }

    /// Turns a failure of the storage into the end of the process.
    pub fn checked<T>(&self, result: Result<T, Fatal>) -> Result<T, Error> {
        result.map_err(|fatal| self.fatal.report(fatal))
    }

    /// The same, of the storage crate's own results.
    pub fn stored<T>(&self, result: storage::Result<T>) -> Result<T, Error> {
        self.checked(result.map_err(Fatal::from))
    }
}

/// CLUSTER_UNAVAILABLE of a request that changed nothing.
pub fn no_leader() -> Error {
    Error::new(
        ErrorCode::ClusterUnavailable,
        "the cluster has no leader at the moment",
    )
}

/// CLUSTER_UNAVAILABLE of a request that may have happened.
pub fn lost() -> Error {
    let message = "the leader was lost before its answer came; the request may have happened";
    Error::new(ErrorCode::ClusterUnavailable, message).maybe_applied()
}

/// DISK_FULL.
pub fn disk_full() -> Error {
    Error::new(
        ErrorCode::DiskFull,
        "the cluster's disks are nearly full, so nothing that grows is taken on; reads, DELETE, \
         DROP, CLEAR TOPIC and acknowledgements are. Make room, and writes go on by themselves",
    )
}

/// CLUSTER_UNAVAILABLE of a node on its way out.
pub fn stopping() -> Error {
    Error::new(ErrorCode::ClusterUnavailable, "this node is stopping")
}

/// DEADLINE_EXCEEDED.
pub fn too_late(message: &str) -> Error {
    Error::new(ErrorCode::DeadlineExceeded, message)
}
