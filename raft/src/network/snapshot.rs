//! The leader's side of a snapshot's transfer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use types::limits::{
    SNAPSHOT_CHUNK_BYTES, SNAPSHOT_INSTALL_MAX_MS, SNAPSHOT_SEND_BYTES_PER_SECOND,
    SNAPSHOT_STALL_MAX_MS,
};

use super::peers::Peer;
use crate::rpc::messages::{
    SnapshotChunk, SnapshotHead, SnapshotOffer, SnapshotOfferResponse, SnapshotPart,
    SnapshotRequest, SnapshotResponse, VoteRecord,
};
use crate::rpc::path;
use crate::snapshot::{SnapshotDir, SnapshotError};
use crate::type_config::{Snapshot, Vote};

/// Chunks that are read and not yet taken by the connection.
const CHUNKS_READ_MAX: usize = 2;
/// How long the question what the follower has already may take.
const OFFER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a snapshot did not arrive.
#[derive(Debug)]
pub(super) enum SendError {
    /// The follower, or the way to it. It may be tried again.
    Status(Status),
    /// The snapshot is damaged on this node, or cannot be read. Trying again is no help.
    Local(SnapshotError),
}

impl From<Status> for SendError {
    fn from(status: Status) -> SendError {
        SendError::Status(status)
    }
}

/// Sends a snapshot and waits until it is installed or refused; the follower's vote says which.
/// What arrived in an earlier attempt is not sent again.
pub(super) async fn send(peer: &Peer, vote: Vote, snapshot: Snapshot) -> Result<Vote, SendError> {
    let dir = snapshot.snapshot;
    let offer = SnapshotOffer {
        manifest: dir.manifest().encode().into(),
    };
    let held: SnapshotOfferResponse = peer
        .unary(path::SNAPSHOT_OFFER, offer, OFFER_TIMEOUT)
        .await?;
    tracing::info!(
        to = peer.node_id(),
        bytes = dir.manifest().total_bytes(),
        files_there = held.files,
        meta = %snapshot.meta,
        "sending a snapshot"
    );
    let (chunks, queue) = mpsc::channel(CHUNKS_READ_MAX);
    let reading = {
        let dir = dir.clone();
        // Ends when nobody wants more; until then it may wait for a connection that stands still.
        tokio::task::spawn_blocking(move || read(&dir, vote, held.files, &chunks))
    };
    match watch(peer, ReceiverStream::new(queue)).await {
        Ok(answer) => {
            let vote = answer.vote.map(Vote::from);
            let none = || Status::invalid_argument("the answer to a snapshot has no vote");
            Ok(vote.ok_or_else(none)?)
        }
        Err(status) => {
            // The follower finds missing what could not be read here, and wrong what is damaged.
            let unread = reading.is_finished() && !matches!(reading.await, Ok(Ok(())));
            if unread || status.code() == Code::DataLoss {
                verify(dir).await?;
            }
            Err(status.into())
        }
    }
}

/// Is the snapshot as it was made? Only a whole reading tells whether it was this node's fault.
async fn verify(dir: SnapshotDir) -> Result<(), SendError> {
    let verifying = tokio::task::spawn_blocking(move || dir.verify_again());
    match verifying.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(SendError::Local(error)),
        Err(error) => Err(Status::internal(error.to_string()).into()),
    }
}

/// Sends what comes from `parts`, not faster than the bound, for as long as something moves.
async fn watch(
    peer: &Peer,
    parts: impl Stream<Item = SnapshotRequest> + Send + 'static,
) -> Result<SnapshotResponse, Status> {
    const ALL_TAKEN: u64 = u64::MAX;
    let taken = Arc::new(AtomicU64::new(0));
    let (counted, ended) = (Arc::clone(&taken), Arc::clone(&taken));
    // A call that is dropped does not end what it sends; this does, when it is dropped with it.
    let (_wanted, unwanted) = oneshot::channel::<()>();
    let end = futures::stream::poll_fn(move |_| {
        ended.store(ALL_TAKEN, Ordering::Relaxed);
        std::task::Poll::Ready(None)
    });
    let pace = Pace {
        bytes_per_second: SNAPSHOT_SEND_BYTES_PER_SECOND,
        due: Instant::now(),
    };
    let parts = paced(parts, pace)
        .inspect(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .chain(end)
        .take_until(unwanted);
    let mut call = std::pin::pin!(peer.client_streaming(path::SNAPSHOT, parts));
    loop {
        let before = taken.load(Ordering::Relaxed);
        let patience = match before {
            ALL_TAKEN => SNAPSHOT_INSTALL_MAX_MS,
            _ => SNAPSHOT_STALL_MAX_MS,
        };
        match tokio::time::timeout(Duration::from_millis(patience), &mut call).await {
            Ok(answer) => return answer,
            Err(_) if taken.load(Ordering::Relaxed) != before => {}
            Err(_) => {
                let what = format!("nothing of the snapshot moved for {patience} ms");
                return Err(Status::deadline_exceeded(what));
            }
        }
    }
}

/// Sends each part when its time has come.
fn paced(
    parts: impl Stream<Item = SnapshotRequest> + Send + 'static,
    mut pace: Pace,
) -> impl Stream<Item = SnapshotRequest> + Send + 'static {
    parts.then(move |part| {
        let bytes = match &part.part {
            Some(SnapshotPart::Chunk(chunk)) => chunk.bytes.len(),
            _ => 0,
        };
        let at = pace.take(Instant::now(), bytes);
        async move {
            tokio::time::sleep_until(at).await;
            part
        }
    })
}

/// Says when bytes may go. A pause is not made up for.
struct Pace {
    bytes_per_second: u64,
    /// When all that was taken would be sent.
    due: Instant,
}

impl Pace {
    /// Takes `bytes`; when to send them.
    fn take(&mut self, now: Instant, bytes: usize) -> Instant {
        let at = self.due.max(now);
        let took = bytes as f64 / self.bytes_per_second as f64;
        self.due = at + Duration::from_secs_f64(took);
        at
    }
}

/// Reads the snapshot's head and its chunks in order, but for the first `files_there` files, until
/// all is read or nobody wants more.
fn read(
    dir: &SnapshotDir,
    vote: Vote,
    files_there: u32,
    chunks: &mpsc::Sender<SnapshotRequest>,
) -> Result<(), SnapshotError> {
    let head = SnapshotHead {
        vote: Some(VoteRecord::from(&vote)),
        manifest: dir.manifest().encode().into(),
        files_there,
    };
    let send = |part| chunks.blocking_send(SnapshotRequest { part: Some(part) });
    if send(SnapshotPart::Head(head)).is_err() {
        return Ok(());
    }
    for (file, record) in (0_u32..).zip(&dir.manifest().files) {
        if file < files_there {
            continue;
        }
        let mut offset = 0;
        while offset < record.size {
            let bytes = dir
                .read_chunk(file as usize, offset, SNAPSHOT_CHUNK_BYTES)
                .inspect_err(|error| tracing::error!(%error, "a snapshot could not be read"))?;
            let chunk = SnapshotChunk {
                file,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_go_no_faster_than_the_bound_and_a_pause_is_not_made_up_for() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace {
            bytes_per_second: 1_000,
            due: start,
        };
        let sent: Vec<Instant> = (0..4).map(|_| pace.take(start, 500)).collect();
        assert_eq!(sent, [after(0), after(500), after(1_000), after(1_500)]);
        let resumed: Vec<Instant> = (0..2).map(|_| pace.take(after(60_000), 500)).collect();
        assert_eq!(resumed, [after(60_000), after(60_500)]);
    }
}
