//! The follower's side of a snapshot's transfer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use types::limits::SNAPSHOT_STALL_MAX_MS;

use super::messages::{
    SnapshotChunk, SnapshotOffer, SnapshotOfferResponse, SnapshotPart, SnapshotRequest,
    SnapshotResponse, VoteRecord,
};
use crate::handle::Core;
use crate::snapshot::{Manifest, SnapshotDir, SnapshotError, SnapshotReceiver};
use crate::state_machine::StateStore;
use crate::type_config::{Snapshot, Vote};

/// Chunks that wait for the disk.
const CHUNKS_WAITING_MAX: usize = 4;

/// Says what of a snapshot is here from an attempt that was broken off.
pub(super) fn offered(
    store: &StateStore,
    offer: &SnapshotOffer,
) -> Result<SnapshotOfferResponse, Status> {
    let manifest = Manifest::decode(&offer.manifest).map_err(refused)?;
    let files = store.snapshots().files_there(&manifest);
    Ok(SnapshotOfferResponse {
        files: u32::try_from(files).unwrap_or(u32::MAX),
    })
}

/// Writes the chunks as they come, and installs the snapshot once it is whole.
pub(super) async fn serve(
    core: &Core,
    store: Arc<StateStore>,
    mut incoming: Streaming<SnapshotRequest>,
) -> Result<SnapshotResponse, Status> {
    let first = next(&mut incoming).await?;
    let Some(SnapshotPart::Head(head)) = first else {
        return Err(Status::invalid_argument("a snapshot starts with its head"));
    };
    let vote = head.vote.map(Vote::from);
    let vote = vote.ok_or_else(|| Status::invalid_argument("a snapshot comes under a vote"))?;
    let manifest = Manifest::decode(&head.manifest).map_err(refused)?;

    let (chunks, queue) = mpsc::channel(CHUNKS_WAITING_MAX);
    let (files_there, writer) = (head.files_there as usize, Arc::clone(&store));
    let writing = tokio::task::spawn_blocking(move || write(&writer, manifest, files_there, queue));
    let came = forward(&mut incoming, chunks).await;
    let written = writing
        .await
        .map_err(|error| Status::internal(error.to_string()))?;
    // What broke off is not to be called damaged for lacking its end.
    came?;
    let snapshot = written.map_err(refused)?;
    let meta = snapshot.meta().map_err(refused)?;
    tracing::info!(%meta, "received a snapshot");
    let response = core
        .install_full_snapshot(vote, Snapshot { meta, snapshot })
        .await
        .map_err(|fatal| Status::unavailable(fatal.to_string()))?;
    Ok(SnapshotResponse {
        vote: Some(VoteRecord::from(&response.vote)),
    })
}

/// The next part; none at the end. An error if nothing comes.
async fn next(incoming: &mut Streaming<SnapshotRequest>) -> Result<Option<SnapshotPart>, Status> {
    let patience = Duration::from_millis(SNAPSHOT_STALL_MAX_MS);
    let message = tokio::time::timeout(patience, incoming.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the rest of the snapshot does not come"))??;
    Ok(message.and_then(|message| message.part))
}

/// What the writer is given.
enum Step {
    Chunk(SnapshotChunk),
    /// All chunks were given. Without it the stream broke off.
    Finish,
}

/// Gives the chunks to the writer. When the disk fails, the writer ends and says why.
async fn forward(
    incoming: &mut Streaming<SnapshotRequest>,
    steps: mpsc::Sender<Step>,
) -> Result<(), Status> {
    loop {
        let step = match next(incoming).await? {
            Some(SnapshotPart::Chunk(chunk)) => Step::Chunk(chunk),
            Some(SnapshotPart::Head(_)) => {
                return Err(Status::invalid_argument("a chunk was expected"));
            }
            None => Step::Finish,
        };
        let last = matches!(step, Step::Finish);
        if steps.send(step).await.is_err() || last {
            return Ok(());
        }
    }
}

fn write(
    store: &StateStore,
    manifest: Manifest,
    files_there: usize,
    mut queue: mpsc::Receiver<Step>,
) -> Result<SnapshotDir, SnapshotError> {
    let bytes = manifest.total_bytes();
    let mut receiver = SnapshotReceiver::resume(store.snapshots(), manifest, files_there)?;
    let directory = receiver.path().display();
    tracing::info!(bytes, files_there, %directory, "receiving a snapshot");
    while let Some(step) = queue.blocking_recv() {
        match step {
            Step::Chunk(chunk) => {
                receiver.write_chunk(chunk.file as usize, chunk.offset, &chunk.bytes)?;
            }
            Step::Finish => return receiver.finish(),
        }
    }
    Err(SnapshotError::BrokenOff)
}

/// `DATA_LOSS` says that what came is not what the manifest promised; the leader then looks whether
/// its snapshot is damaged.
fn refused(error: SnapshotError) -> Status {
    tracing::warn!(%error, "a snapshot could not be received");
    match error {
        SnapshotError::Damaged(_) => Status::data_loss(error.to_string()),
        SnapshotError::Io { .. } | SnapshotError::Storage(_) => {
            Status::unavailable(error.to_string())
        }
        SnapshotError::BrokenOff => Status::aborted(error.to_string()),
    }
}
