//! One stream to one node: a task that owns it, and callers that hold a queue's end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raft::network::peers::Peer;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use types::limits;

use super::ForwardError;
use super::frames::{ForwardedCall, Request, RequestKind, Response};

/// Path of the stream.
const EXCHANGE: &str = "/duet.node.v1.Forward/Exchange";
/// How long opening the stream may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);

/// What to do with an answer that comes after its caller stopped waiting.
pub type IfOrphaned = Box<dyn FnOnce(Response) + Send>;

/// Calls without an answer yet.
type Waiting = Arc<Mutex<HashMap<u64, Waiter>>>;

enum Waiter {
    /// Somebody waits.
    Live(
        oneshot::Sender<Result<Response, ForwardError>>,
        Option<IfOrphaned>,
    ),
    /// Nobody waits any more; the other node has been told, and answers in any case.
    Cancelled(Option<IfOrphaned>),
}

/// A stream, open or being opened.
pub struct Stream {
    outbound: mpsc::Sender<Request>,
    waiting: Waiting,
    next_id: AtomicU64,
    broken: Arc<AtomicBool>,
}

impl Stream {
    /// Opens a stream in the background; calls queue until it stands.
    pub fn open(peer: Peer) -> Stream {
        let (outbound, queue) = mpsc::channel(limits::FORWARD_IN_FLIGHT_MAX);
        let waiting = Waiting::default();
        let broken = Arc::new(AtomicBool::new(false));
        let task = Task {
            peer,
            waiting: Arc::clone(&waiting),
            broken: Arc::clone(&broken),
        };
        tokio::spawn(task.run(queue));
        Stream {
            outbound,
            waiting,
            next_id: AtomicU64::new(1),
            broken,
        }
    }

    /// Has the stream ended? Then a new one is needed.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Calls that somebody waits for.
    pub fn in_flight(&self) -> usize {
        let waiting = self.waiting.lock();
        let live = |waiter: &&Waiter| matches!(waiter, Waiter::Live(..));
        waiting.values().filter(live).count()
    }

    /// Sends a call and waits for its answer.
    pub async fn call(
        &self,
        mut call: ForwardedCall,
        deadline: Instant,
        if_orphaned: Option<IfOrphaned>,
    ) -> Result<Response, ForwardError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        call.id = id;
        let (sender, receiver) = oneshot::channel();
        self.waiting
            .lock()
            .insert(id, Waiter::Live(sender, if_orphaned));
        let guard = CancelOnDrop { stream: self, id };
        // Looked at after entering: either this sees the end, or the end sees the entry.
        if self.is_broken() {
            return Err(ForwardError::NotSent);
        }
        let request = Request {
            kind: Some(RequestKind::Call(call)),
        };
        match self.outbound.try_send(request) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(ForwardError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(ForwardError::NotSent),
        }
        let answer = tokio::time::timeout_at(deadline.into(), receiver).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ForwardError::Lost),
            Err(_) => Err(ForwardError::Late),
        };
        drop(guard);
        answer
    }
}

/// Tells the other node when nobody waits for a call any more.
struct CancelOnDrop<'a> {
    stream: &'a Stream,
    id: u64,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        {
            let mut waiting = self.stream.waiting.lock();
            let Some(waiter) = waiting.remove(&self.id) else {
                return;
            };
            if let Waiter::Live(_, if_orphaned) = waiter {
                waiting.insert(self.id, Waiter::Cancelled(if_orphaned));
            }
        }
        let cancel = Request {
            kind: Some(RequestKind::Cancel(self.id)),
        };
        // If it cannot be queued, the other node goes on and its answer finds nobody.
        if self.stream.outbound.try_send(cancel).is_err() && self.stream.is_broken() {
            self.stream.waiting.lock().remove(&self.id);
        }
    }
}

/// Owns the stream for as long as it stands.
struct Task {
    peer: Peer,
    waiting: Waiting,
    broken: Arc<AtomicBool>,
}

impl Task {
    async fn run(self, queue: mpsc::Receiver<Request>) {
        let requests = ReceiverStream::new(queue);
        let opened = self.peer.streaming(EXCHANGE, requests, OPEN_TIMEOUT).await;
        let mut responses: Streaming<Response> = match opened {
            Ok(responses) => responses,
            // The server answers the opening before it reads, so nothing was served yet.
            Err(status) => {
                tracing::debug!(node = self.peer.node_id(), %status, "no stream to the leader");
                return self.end(ForwardError::NotSent);
            }
        };
        loop {
            match responses.message().await {
                Ok(Some(response)) => self.answer(response),
                Ok(None) => break,
                Err(status) => {
                    self.peer.judge(&status);
                    break;
                }
            }
        }
        self.end(ForwardError::Lost);
    }

    fn answer(&self, response: Response) {
        let waiter = self.waiting.lock().remove(&response.id);
        match waiter {
            Some(Waiter::Live(sender, if_orphaned)) => {
                // It may stop waiting at this very moment.
                if let Err(Ok(response)) = sender.send(Ok(response))
                    && let Some(if_orphaned) = if_orphaned
                {
                    if_orphaned(response);
                }
            }
            Some(Waiter::Cancelled(Some(if_orphaned))) => if_orphaned(response),
            Some(Waiter::Cancelled(None)) | None => {}
        }
    }

    /// Marks the stream broken first, so that no call can be queued on it unseen, then answers all.
    fn end(self, error: ForwardError) {
        self.broken.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for (_, waiter) in waiting {
            if let Waiter::Live(sender, _) = waiter {
                // Who stopped waiting needs no answer.
                drop(sender.send(Err(error)));
            }
        }
    }
}
