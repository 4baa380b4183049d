//! The leader's end: serves calls that other nodes pass on.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use api::headers::Consistency;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use raft::rpc::auth::Guard;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use types::limits;

use super::frames::{ForwardedCall, Request, RequestKind, Response};
use super::wire::forward_server::{Forward, ForwardServer};
use crate::http::OnUndelivered;
use crate::service::call::{Call, Caller, Failure, Operation, Reply};
use crate::service::dispatch::Dispatcher;

/// The leader's end of the stream. It is mounted before the node has a dispatcher, because other
/// nodes may ask who is there long before this one can serve; until then it is unavailable.
#[derive(Clone, Default)]
pub struct Forwarded(Arc<OnceLock<(Dispatcher, Handle)>>);

impl Forwarded {
    /// From now on calls are served by `dispatcher`, on `runtime`: not on the one that carries
    /// consensus.
    pub fn serve_with(&self, dispatcher: Dispatcher, runtime: Handle) {
        // Set once in the life of a process.
        drop(self.0.set((dispatcher, runtime)));
    }
}

/// The service to mount on the RPC listener, for callers that `guard` knows.
pub fn service(forwarded: Forwarded, guard: Guard) -> ForwardServer<Endpoint> {
    ForwardServer::new(Endpoint { forwarded, guard })
        .max_decoding_message_size(limits::RPC_MESSAGE_MAX_BYTES)
        .max_encoding_message_size(limits::RPC_MESSAGE_MAX_BYTES)
}

/// Implements the generated service.
pub struct Endpoint {
    forwarded: Forwarded,
    guard: Guard,
}

type Responses = Pin<Box<dyn Stream<Item = Result<Response, Status>> + Send>>;

#[tonic::async_trait]
impl Forward for Endpoint {
    type ExchangeStream = Responses;

    async fn exchange(
        &self,
        request: tonic::Request<Streaming<Request>>,
    ) -> Result<tonic::Response<Responses>, Status> {
        self.guard.check_member(request.metadata())?;
        let Some((dispatcher, runtime)) = self.forwarded.0.get() else {
            return Err(Status::unavailable("the node has not started yet"));
        };
        let (answers, stream) = mpsc::channel(limits::FORWARD_IN_FLIGHT_MAX);
        let session = Session {
            dispatcher: dispatcher.clone(),
            answers,
            running: Arc::default(),
        };
        runtime.spawn(session.run(request.into_inner()));
        let responses = ReceiverStream::new(stream).map(|answer: Answer| Ok(answer.leave()));
        Ok(tonic::Response::new(Box::pin(responses)))
    }
}

/// An answer on its way onto the stream. Dropped before it is on it, what it granted is given back:
/// the call was cancelled meanwhile, or the stream broke.
struct Answer {
    response: Response,
    undelivered: Option<OnUndelivered>,
}

impl Answer {
    /// From here on the other node answers for it.
    fn leave(self) -> Response {
        if let Some(undelivered) = self.undelivered {
            undelivered.disarm();
        }
        self.response
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Answer {
        Answer {
            response,
            undelivered: None,
        }
    }
}

/// One stream from one node.
struct Session {
    dispatcher: Dispatcher,
    answers: mpsc::Sender<Answer>,
    /// Calls that wait, so that a cancel can stop them.
    running: Arc<Mutex<HashMap<u64, AbortHandle>>>,
}

impl Session {
    async fn run(self, mut requests: Streaming<Request>) {
        while let Some(Ok(request)) = requests.next().await {
            match request.kind {
                Some(RequestKind::Call(call)) => self.start(call),
                Some(RequestKind::Cancel(id)) => self.cancel(id),
                None => break,
            }
        }
        // The stream has ended: nobody is left to answer. What was proposed may still happen,
        // which is what the other node tells its clients.
        for (_, task) in self.running.lock().drain() {
            task.abort();
        }
    }

    fn start(&self, forwarded: ForwardedCall) {
        let id = forwarded.id;
        let (dispatcher, answers) = (self.dispatcher.clone(), self.answers.clone());
        let running = Arc::clone(&self.running);
        // Held while the task is entered, so that it cannot remove itself before it is there.
        let mut entries = self.running.lock();
        let task = tokio::spawn(async move {
            let answer = serve(&dispatcher, forwarded).await;
            // Whoever removes the entry answers: this task, or the cancel that aborts it.
            if running.lock().remove(&id).is_none() {
                return;
            }
            let Answer {
                response,
                mut undelivered,
            } = answer;
            for part in response.into_parts() {
                // Without a receiver the stream is gone, and with it whoever waited.
                let undelivered = if part.more { None } else { undelivered.take() };
                let answer = Answer {
                    response: part,
                    undelivered,
                };
                if answers.send(answer).await.is_err() {
                    return;
                }
            }
        });
        entries.insert(id, task.abort_handle());
    }

    /// Stops a call and says so; one that has just finished has answered already.
    fn cancel(&self, id: u64) {
        if let Some(task) = self.running.lock().remove(&id) {
            task.abort();
            let answers = self.answers.clone();
            // Without a receiver the stream is gone, and with it whoever waited.
            tokio::spawn(async move {
                drop(answers.send(Answer::from(nothing_done(id))).await);
            });
        }
    }
}

fn nothing_done(id: u64) -> Response {
    Response {
        id,
        ..Response::default()
    }
}

async fn serve(dispatcher: &Dispatcher, forwarded: ForwardedCall) -> Answer {
    let id = forwarded.id;
    let Some(call) = call_of(forwarded) else {
        // An operation this version does not know: it cannot serve it, so it does not lead it.
        return nothing_done(id).into();
    };
    let began = Instant::now();
    let reply = match dispatcher.serve_forwarded(&call).await {
        Ok(reply) => reply,
        Err(Failure::NotLeader) => return nothing_done(id).into(),
        Err(Failure::Lost(_)) => {
            let lost = Response {
                lost: true,
                ..nothing_done(id)
            };
            return lost.into();
        }
        Err(Failure::Error(error)) => {
            let took_ms = began.elapsed().as_secs_f64() * 1_000.0;
            Reply::error(&error, call.operation.error_shape(), took_ms)
        }
    };
    let response = Response {
        id,
        status: u32::from(reply.status),
        body: reply.body,
        index: reply.index,
        retry_after_seconds: reply.retry_after_seconds.unwrap_or(0),
        leases: reply.leases,
        ..Response::default()
    };
    Answer {
        response,
        undelivered: reply.undelivered,
    }
}

fn call_of(forwarded: ForwardedCall) -> Option<Call> {
    let operation = Operation::try_from(forwarded.operation).ok()?;
    let ip = (!forwarded.ip.is_empty()).then_some(forwarded.ip);
    let caller = (!forwarded.user.is_empty()).then_some(Caller {
        user: forwarded.user,
        issued_at: forwarded.issued_at,
        ip,
    });
    let remaining = forwarded.remaining_ms.min(limits::DEADLINE_MAX_MS);
    Some(Call {
        operation,
        caller,
        deadline: Instant::now() + Duration::from_millis(remaining),
        timeout_given: true,
        wait_until: forwarded.wait_ms.map(|wait_ms| {
            Instant::now() + Duration::from_millis(wait_ms.min(limits::DEADLINE_MAX_MS))
        }),
        consistency: Consistency::Linearizable,
        min_index: forwarded.min_index,
        idempotency_key: Some(forwarded.idempotency_key).filter(|key| !key.is_empty()),
        request: forwarded.request[..].try_into().ok()?,
        term: forwarded.term,
        lost_after: forwarded.lost_after,
        body: forwarded.body,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_an_answer_grants_is_given_back_unless_it_goes_onto_the_stream() {
        let given_back = Arc::new(AtomicUsize::new(0));
        let answer = || {
            let count = Arc::clone(&given_back);
            Answer {
                response: nothing_done(7),
                undelivered: Some(OnUndelivered::new(move || {
                    count.fetch_add(1, Ordering::SeqCst);
                })),
            }
        };
        assert_eq!(answer().leave().id, 7);
        assert_eq!(given_back.load(Ordering::SeqCst), 0);
        let (answers, queue) = mpsc::channel(2);
        assert!(answers.try_send(answer()).is_ok());
        drop(queue);
        assert_eq!(given_back.load(Ordering::SeqCst), 1, "the stream broke");
        drop(answer());
        assert_eq!(
            given_back.load(Ordering::SeqCst),
            2,
            "the call was cancelled"
        );
    }
}
