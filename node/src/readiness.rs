//! Can this node serve? Yes once it knows a leader and has applied what was committed when it
//! started; no again while it stops, knows no leader, or does not keep up with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use raft::Raft;
use types::{Error, ErrorCode};

/// What readiness is judged by. Cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    raft: Raft,
    flags: Arc<Flags>,
}

#[derive(Default)]
struct Flags {
    recovered: tokio::sync::watch::Sender<bool>,
    caught_up: AtomicBool,
    left_behind: AtomicBool,
    stopping: tokio::sync::watch::Sender<bool>,
}

impl Readiness {
    /// Of a node that has just started.
    pub fn new(raft: Raft) -> Readiness {
        Readiness {
            raft,
            flags: Arc::default(),
        }
    }

    /// The node's state is no older than what it served before it was restarted.
    pub fn set_recovered(&self) {
        self.flags.recovered.send_replace(true);
    }

    /// Is it so?
    pub fn is_recovered(&self) -> bool {
        *self.flags.recovered.borrow()
    }

    /// Waits until then: before it nothing is served, not even a local read. CLUSTER_UNAVAILABLE if
    /// the deadline comes first.
    pub async fn recovered(&self, deadline: Instant) -> Result<(), Error> {
        let mut recovered = self.flags.recovered.subscribe();
        if *recovered.borrow() {
            return Ok(());
        }
        match tokio::time::timeout_at(deadline.into(), recovered.wait_for(|r| *r)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Error::new(
                ErrorCode::ClusterUnavailable,
                "this node is recovering what it had before it was restarted",
            )),
        }
    }

    /// The node has applied what was committed when it started.
    pub fn set_caught_up(&self) {
        self.flags.caught_up.store(true, Ordering::Release);
    }

    /// Does the node still apply what the leader commits? One that was removed never hears of it.
    pub fn set_keeps_up(&self, keeps_up: bool) {
        self.flags.left_behind.store(!keeps_up, Ordering::Release);
    }

    /// The node takes no new work.
    pub fn set_stopping(&self) {
        self.flags.stopping.send_replace(true);
    }

    /// Waits until then: what would go on for ever has to end.
    pub async fn stopping(&self) {
        let mut stopping = self.flags.stopping.subscribe();
        // The sender is here, so this ends in no other way.
        drop(stopping.wait_for(|stopping| *stopping).await);
    }

    /// Does the node take no new work?
    pub fn is_stopping(&self) -> bool {
        *self.flags.stopping.borrow()
    }

    /// Why it cannot serve; none if it can.
    pub fn missing(&self) -> Option<String> {
        if self.is_stopping() {
            return Some("the node is stopping".into());
        }
        if self.raft.is_draining() {
            return Some("the node was told to drain".into());
        }
        if !self.flags.caught_up.load(Ordering::Acquire) {
            return Some("the node is catching up with the cluster".into());
        }
        if self.flags.left_behind.load(Ordering::Acquire) {
            let reason = "the node does not keep up with the cluster's leader: it cannot reach it, \
                          or lags, or was removed from the cluster";
            return Some(reason.into());
        }
        if self.raft.leadership().leader.is_none() {
            return Some("the node knows no leader".into());
        }
        None
    }
}
