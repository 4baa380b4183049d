//! The leader's side of a snapshot's transfer.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use types::limits::SNAPSHOT_CHUNK_BYTES;

use super::peers::Peer;
use crate::rpc::messages::{
    SnapshotChunk, SnapshotHead, SnapshotPart, SnapshotRequest, SnapshotResponse, VoteRecord,
};
use crate::rpc::path;
use crate::snapshot::{SnapshotDir, SnapshotError};
use crate::type_config::{Snapshot, Vote};

/// Chunks that are read and not yet taken by the connection.
const CHUNKS_READ_MAX: usize = 2;

/// Sends a snapshot and waits until it is installed or refused; the follower's vote says which.
pub(super) async fn send(peer: &Peer, vote: Vote, snapshot: Snapshot) -> Result<Vote, Status> {
    let (chunks, queue) = mpsc::channel(CHUNKS_READ_MAX);
    let dir = snapshot.snapshot;
    tracing::info!(
        to = peer.node_id(),
        bytes = dir.manifest().total_bytes(),
        meta = %snapshot.meta,
        "sending a snapshot"
    );
    // Ends with the queue, whoever drops it; what it could not read the follower finds missing.
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read(&dir, vote, &chunks) {
            tracing::error!(%error, "this node's snapshot could not be read");
        }
    });
    let answer: SnapshotResponse = peer
        .client_streaming(path::SNAPSHOT, ReceiverStream::new(queue))
        .await?;
    let vote = answer.vote.map(Vote::from);
    vote.ok_or_else(|| Status::invalid_argument("the answer to a snapshot has no vote"))
}

/// Reads the snapshot's head and chunks in order, until all is read or nobody wants more.
fn read(
    dir: &SnapshotDir,
    vote: Vote,
    chunks: &mpsc::Sender<SnapshotRequest>,
) -> Result<(), SnapshotError> {
    let head = SnapshotHead {
        vote: Some(VoteRecord::from(&vote)),
        manifest: dir.manifest().encode().into(),
    };
    let send = |part| chunks.blocking_send(SnapshotRequest { part: Some(part) });
    if send(SnapshotPart::Head(head)).is_err() {
        return Ok(());
    }
    for (file, record) in dir.manifest().files.iter().enumerate() {
        let mut offset = 0;
        while offset < record.size {
            let bytes = dir.read_chunk(file, offset, SNAPSHOT_CHUNK_BYTES)?;
            let place = u32::try_from(file).unwrap_or(u32::MAX);
            let chunk = SnapshotChunk {
                file: place,
                offset,
                bytes,
            };
            offset += chunk.bytes.len() as u64;
            if send(SnapshotPart::Chunk(chunk)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
