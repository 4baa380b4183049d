//! The follower's side of a snapshot's transfer.

use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::messages::{SnapshotPart, SnapshotRequest, SnapshotResponse, VoteRecord};
use crate::handle::Core;
use crate::snapshot::{Manifest, SnapshotDir, SnapshotError, SnapshotReceiver};
use crate::state_machine::StateStore;
use crate::type_config::{Snapshot, Vote};

/// Chunks that wait for the disk.
const CHUNKS_WAITING_MAX: usize = 4;

/// Writes the chunks as they come, and installs the snapshot once it is whole.
pub(super) async fn serve(
    core: &Core,
    store: Arc<StateStore>,
    mut incoming: Streaming<SnapshotRequest>,
) -> Result<SnapshotResponse, Status> {
    let first = incoming.message().await?.and_then(|message| message.part);
    let Some(SnapshotPart::Head(head)) = first else {
        return Err(Status::invalid_argument("a snapshot starts with its head"));
    };
    let vote = head.vote.map(Vote::from);
    let vote = vote.ok_or_else(|| Status::invalid_argument("a snapshot comes under a vote"))?;
    let manifest = Manifest::decode(&head.manifest).map_err(damaged)?;
    tracing::info!(bytes = manifest.total_bytes(), "receiving a snapshot");

    let (chunks, queue) = mpsc::channel(CHUNKS_WAITING_MAX);
    let writing = tokio::task::spawn_blocking(move || write(&store, manifest, queue));
    while let Some(message) = incoming.next().await {
        // When the disk fails, the writer ends and says why below.
        if chunks.send(message?).await.is_err() {
            break;
        }
    }
    drop(chunks);
    let snapshot = writing
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(damaged)?;
    let meta = snapshot.meta().map_err(damaged)?;
    tracing::info!(%meta, "received a snapshot");
    let response = core
        .install_full_snapshot(vote, Snapshot { meta, snapshot })
        .await
        .map_err(|fatal| Status::unavailable(fatal.to_string()))?;
    Ok(SnapshotResponse {
        vote: Some(VoteRecord::from(&response.vote)),
    })
}

fn write(
    store: &StateStore,
    manifest: Manifest,
    mut queue: mpsc::Receiver<SnapshotRequest>,
) -> Result<SnapshotDir, SnapshotError> {
    let mut receiver = SnapshotReceiver::new(store.snapshots(), manifest)?;
    while let Some(message) = queue.blocking_recv() {
        let Some(SnapshotPart::Chunk(chunk)) = message.part else {
            return Err(SnapshotError::Damaged("a chunk was expected".into()));
        };
        receiver.write_chunk(chunk.file as usize, chunk.offset, &chunk.bytes)?;
    }
    receiver.finish()
}

fn damaged(error: SnapshotError) -> Status {
    tracing::warn!(%error, "a snapshot could not be received");
    Status::data_loss(error.to_string())
}
