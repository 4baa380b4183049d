//! The leader's side of the append stream: messages go out as the log grows, without waiting for
//! the answers, which come back in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::peers::Peer;
use crate::rpc::convert::append_result;
use crate::rpc::messages::{AppendRequest, AppendResponse};
use crate::rpc::path;
use crate::type_config::TypeConfig;

/// How long an answer may take before the stream counts as broken. It covers a slow fsync of a
/// large message; whether the node lives at all is the heartbeats' business.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Shortest time for opening a stream; the core's own is made for a heartbeat.
const OPEN_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// Messages that are encoded and not yet taken by the connection.
const ENCODED_MAX: usize = 4;

type Answer = Result<StreamAppendResult<TypeConfig>, Status>;

struct Open {
    answers: Streaming<AppendResponse>,
    peer: Peer,
    sent: Arc<AtomicU64>,
    answered: u64,
    /// Ends the sending of messages when the answers are dropped. The core waits for that before
    /// it opens the next stream, and the connection alone might not notice for a while.
    _sending: AbortOnDrop,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens a stream and sends `requests` on it as they come.
pub(super) async fn open<S>(
    peer: &Peer,
    mut requests: S,
    timeout: Duration,
) -> Result<impl Stream<Item = Answer> + Send + use<S>, Status>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let (encoded, queue) = mpsc::channel::<AppendRequest>(ENCODED_MAX);
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let sending = AbortOnDrop(tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            count.fetch_add(1, Ordering::Relaxed);
            if encoded.send(request.into()).await.is_err() {
                return;
            }
        }
    }));
    let timeout = timeout.max(OPEN_TIMEOUT_MIN);
    let answers = peer
        .streaming(path::APPEND, ReceiverStream::new(queue), timeout)
        .await?;
    let open = Open {
        answers,
        peer: peer.clone(),
        sent,
        answered: 0,
        _sending: sending,
    };
    Ok(stream::unfold(Some(open), |open| async move {
        let mut open = open?;
        match open.next().await {
            Some(Ok(Ok(matching))) => Some((Ok(Ok(matching)), Some(open))),
            // After a conflict, a higher vote or an error nothing follows.
            Some(last) => Some((last, None)),
            None => None,
        }
    }))
}

impl Open {
    async fn next(&mut self) -> Option<Answer> {
        loop {
            // What is owed for the whole of this wait is overdue after it.
            let owed = self.sent.load(Ordering::Relaxed) > self.answered;
            match tokio::time::timeout(ANSWER_TIMEOUT, self.answers.message()).await {
                Ok(Ok(Some(answer))) => {
                    self.answered += 1;
                    return Some(append_result(answer));
                }
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => {
                    self.peer.judge(&status);
                    return Some(Err(status));
                }
                Err(_) if owed => {
                    return Some(Err(Status::deadline_exceeded(
                        "no answer on the append stream",
                    )));
                }
                Err(_) => {}
            }
        }
    }
}
