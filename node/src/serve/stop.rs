//! A planned end: leadership goes first, then requests under way are answered, then the rest ends.

use std::io;
use std::time::Duration;

use raft::{Raft, Role};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::readiness::Readiness;

/// How long requests under way may take to end.
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
pub async fn drain(
    raft: &Raft,
    readiness: &Readiness,
    stop_http: oneshot::Sender<()>,
    http: JoinHandle<()>,
) {
    readiness.set_stopping();
    hand_over(raft).await;
    if stop_http.send(()).is_err() {
        tracing::debug!("the HTTP server has ended by itself");
    }
    match tokio::time::timeout(DRAIN_TIMEOUT, http).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the HTTP server failed"),
        Err(_) => tracing::warn!("some requests did not end in time"),
    }
}

/// Transfers leadership to the voter with the longest log, if this node leads.
async fn hand_over(raft: &Raft) {
    if !raft.leadership().is_leader {
        return;
    }
    let status = raft.status().await;
    let best = status
        .members
        .iter()
        .filter(|m| m.voter && m.node_id != status.node_id && m.role != Role::Unreachable)
        .max_by_key(|m| m.last_log_index);
    let Some(best) = best else { return };
    match raft.transfer_leader(best.node_id).await {
        Ok(()) => tracing::info!(to = best.node_id, "handed leadership over"),
        Err(error) => tracing::warn!(%error, "leadership was not handed over"),
    }
}
