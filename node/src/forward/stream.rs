//! One stream to one node: a task that owns it, and callers that hold a queue's end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use raft::network::peers::Peer;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use types::limits;

use super::ForwardError;
use super::frames::{ForwardedCall, Parts, Request, RequestKind, Response};

/// Path of the stream.
const EXCHANGE: &str = "/duet.node.v1.Forward/Exchange";
/// How long opening the stream may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);

/// What to do with an answer that comes after its caller stopped waiting.
pub type IfOrphaned = Box<dyn FnOnce(Response) + Send>;

/// Calls without an answer yet, and what has come of it.
type Waiting = Arc<Mutex<HashMap<u64, (Waiter, Parts)>>>;

/// An answer on its way to its caller. Dropped before that took it, it is orphaned.
struct Answered {
    response: Response,
    if_orphaned: Option<IfOrphaned>,
}

impl Answered {
    fn take(mut self) -> Response {
        self.if_orphaned = None;
        std::mem::take(&mut self.response)
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        if let Some(if_orphaned) = self.if_orphaned.take() {
            if_orphaned(std::mem::take(&mut self.response));
        }
    }
}

enum Waiter {
    /// Somebody waits.
    Live(
        oneshot::Sender<Result<Answered, ForwardError>>,
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
        let live = |waiting: &&(Waiter, Parts)| matches!(waiting.0, Waiter::Live(..));
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
            .insert(id, (Waiter::Live(sender, if_orphaned), Parts::default()));
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
            Ok(Ok(answer)) => answer.map(Answered::take),
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
            let Some((waiter, _)) = waiting.get_mut(&self.id) else {
                return;
            };
            if let Waiter::Live(_, if_orphaned) = waiter {
                *waiter = Waiter::Cancelled(if_orphaned.take());
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

/// What is queued, from when the stream stands; nothing if it does not come to that. The other node
/// serves what reaches it, whether or not this one has heard that the stream stands: only what was
/// held back certainly never left.
fn once_open(
    opened: oneshot::Receiver<()>,
    queue: mpsc::Receiver<Request>,
) -> impl futures::Stream<Item = Request> + Send + 'static {
    let requests = opened.map(|opened| match opened {
        Ok(()) => ReceiverStream::new(queue).left_stream(),
        Err(_) => futures::stream::empty().right_stream(),
    });
    requests.flatten_stream()
}

/// Owns the stream for as long as it stands.
struct Task {
    peer: Peer,
    waiting: Waiting,
    broken: Arc<AtomicBool>,
}

impl Task {
    async fn run(self, queue: mpsc::Receiver<Request>) {
        let (open, opened) = oneshot::channel();
        let requests = once_open(opened, queue);
        let answer = self.peer.streaming(EXCHANGE, requests, OPEN_TIMEOUT).await;
        let mut responses: Streaming<Response> = match answer {
            Ok(responses) => responses,
            Err(status) => {
                tracing::debug!(node = self.peer.node_id(), %status, "no stream to the leader");
                return self.end(ForwardError::NotSent);
            }
        };
        if open.send(()).is_err() {
            tracing::debug!(
                node = self.peer.node_id(),
                "the stream ended as it was opened"
            );
        }
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

    fn answer(&self, part: Response) {
        let id = part.id;
        let (waiter, response) = {
            let mut waiting = self.waiting.lock();
            let Some((_, parts)) = waiting.get_mut(&id) else {
                return;
            };
            let Some(response) = parts.add(part) else {
                return;
            };
            (waiting.remove(&id).map(|(waiter, _)| waiter), response)
        };
        match waiter {
            Some(Waiter::Live(sender, if_orphaned)) => {
                let answered = Answered {
                    response,
                    if_orphaned,
                };
                // It may stop waiting just now: then the answer is dropped here or there.
                drop(sender.send(Ok(answered)));
            }
            Some(Waiter::Cancelled(Some(if_orphaned))) => if_orphaned(response),
            Some(Waiter::Cancelled(None)) | None => {}
        }
    }

    /// Marks the stream broken first, so that no call can be queued on it unseen, then answers all.
    fn end(self, error: ForwardError) {
        self.broken.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for (_, (waiter, _)) in waiting {
            if let Waiter::Live(sender, _) = waiter {
                // Who stopped waiting needs no answer.
                drop(sender.send(Err(error)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cancel(id: u64) -> Request {
        Request {
            kind: Some(RequestKind::Cancel(id)),
        }
    }

    #[tokio::test]
    async fn nothing_leaves_before_the_stream_stands() {
        let (open, opened) = oneshot::channel();
        let (sender, queue) = mpsc::channel(8);
        sender.try_send(cancel(1)).expect("there is room");
        let mut requests = Box::pin(once_open(opened, queue));
        assert_eq!(requests.next().now_or_never(), None);
        open.send(()).expect("it is waited for");
        assert_eq!(requests.next().await, Some(cancel(1)));
        sender.try_send(cancel(2)).expect("there is room");
        drop(sender);
        assert_eq!(requests.next().await, Some(cancel(2)));
        assert_eq!(requests.next().await, None);
    }

    #[tokio::test]
    async fn nothing_leaves_if_it_never_does() {
        let (open, opened) = oneshot::channel();
        let (sender, queue) = mpsc::channel(8);
        sender.try_send(cancel(1)).expect("there is room");
        let mut requests = Box::pin(once_open(opened, queue));
        drop(open);
        assert_eq!(requests.next().await, None);
    }

    #[test]
    fn an_answer_that_nobody_takes_is_orphaned_wherever_it_is_dropped() {
        let (orphaned, orphans) = std::sync::mpsc::channel();
        let answered = |id| Answered {
            response: Response {
                id,
                ..Response::default()
            },
            if_orphaned: Some(Box::new({
                let orphaned = orphaned.clone();
                move |response: Response| orphaned.send(response.id).expect("the test listens")
            })),
        };
        let (sender, receiver) = oneshot::channel();
        drop(sender.send(Ok::<_, ForwardError>(answered(1))));
        drop(receiver);
        assert_eq!(orphans.try_recv(), Ok(1), "sent, and never received");
        let (sender, receiver) = oneshot::channel();
        drop(receiver);
        drop(sender.send(Ok::<_, ForwardError>(answered(2))));
        assert_eq!(orphans.try_recv(), Ok(2), "not even sent");
        assert_eq!(answered(3).take().id, 3);
        assert!(orphans.try_recv().is_err(), "it was taken");
    }
}
