//! A planned end: leadership goes first, then requests under way are answered, then the rest ends.

use std::io;
use std::time::Duration;

use raft::{Raft, Role};
use tokio::signal::unix::{SignalKind, signal};

use crate::http::Serving;
use crate::readiness::Readiness;

/// How long clients get to use a connection once more, and hear that it is the last time. One of
/// HTTP/1.1 that is idle for longer is closed while its client may be about to use it, so this is
/// long; a node without connections does not wait for it.
const LINGER: Duration = Duration::from_secs(5);
/// How long requests under way may take to end after that.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits for SIGTERM or SIGINT.
pub async fn signalled() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping on SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopping on SIGINT"),
    }
    Ok(())
}

/// Hands leadership on, takes no new connections and lets requests end. Until then this node
/// passes what comes in on to the new leader.
pub async fn drain(raft: &Raft, readiness: &Readiness, http: Serving) {
    readiness.set_stopping();
    hand_over(raft).await;
    http.end(LINGER, DRAIN_TIMEOUT).await;
}

/// Transfers leadership to the voter with the longest log, if this node leads.
async fn hand_over(raft: &Raft) {
    if !raft.leadership().is_leader {
        return;
    }
    let status = raft.status().await;
    let others = status
        .members
        .iter()
        .filter(|m| m.voter && m.node_id != status.node_id && m.role != Role::Unreachable);
    let Some(best) = others.max_by_key(|m| (!m.draining, m.last_log_index)) else {
        return;
    };
    match raft.transfer_leader(best.node_id).await {
        Ok(()) => tracing::info!(to = best.node_id, "handed leadership over"),
        Err(error) => tracing::warn!(%error, "leadership was not handed over"),
    }
}
