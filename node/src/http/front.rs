//! What stands between a request and the services, from the moment the node listens: it may take a
//! while until the node belongs to a cluster and has recovered what it had.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use types::{Error, ErrorCode, limits};

use super::call::{Incoming, closing, discard, read_body, response};
use crate::auth::tokens::TokenType;
use crate::metrics::{self, Metrics, Scrape};
use crate::readiness::Readiness;
use crate::service::call::{Call, ErrorShape, Operation, Reply};
use crate::service::cluster;
use crate::service::dispatch::Dispatcher;
use crate::service::topics::{Asked, MessageStream, StreamRequest};

/// What serves requests, once the node has a place in a cluster.
#[derive(Clone)]
pub struct Edge {
    /// Serves calls.
    pub dispatcher: Dispatcher,
    /// Can the node serve?
    pub readiness: Readiness,
    /// What `/metrics` answers with.
    pub scrape: Scrape,
    /// This node.
    pub node_id: u64,
}

/// What handlers need. Cheap to clone.
#[derive(Clone)]
pub struct Front(Arc<Shared>);

struct Shared {
    edge: watch::Sender<Option<Edge>>,
    /// What is counted.
    metrics: Arc<Metrics>,
    /// Requests at once; beyond them OVERLOADED.
    requests: Arc<Semaphore>,
}

/// Where a call's body comes from.
pub enum Content {
    /// The request.
    Stream(Body),
    /// Something else about it.
    Whole(Bytes),
    /// Its query; what is wrong with it is said once it is known who asks.
    Query(Result<Asked, Error>),
}

impl Front {
    /// Of a node that is starting. `metrics` is what is counted, from the first request on.
    pub fn new(metrics: Arc<Metrics>) -> Front {
        Front(Arc::new(Shared {
            edge: watch::Sender::new(None),
            metrics,
            requests: Arc::new(Semaphore::new(limits::REQUESTS_IN_FLIGHT_MAX)),
        }))
    }

    /// A permit for each request that may still be served at once.
    pub fn requests(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.requests)
    }

    /// From now on requests are served by `edge`; those that wait, too.
    pub fn open(&self, edge: Edge) {
        self.0.edge.send_replace(Some(edge));
    }

    fn edge(&self) -> Option<Edge> {
        self.0.edge.borrow().clone()
    }

    fn node_id(&self) -> u64 {
        self.0.edge.borrow().as_ref().map_or(0, |edge| edge.node_id)
    }

    /// Waits for what serves requests. CLUSTER_UNAVAILABLE if the deadline comes first.
    async fn opened(&self, deadline: Instant) -> Result<Edge, Error> {
        if let Some(edge) = self.edge() {
            return Ok(edge);
        }
        let mut edge = self.0.edge.subscribe();
        let opened = edge.wait_for(Option::is_some);
        let opened = tokio::time::timeout_at(deadline.into(), opened).await;
        let edge = opened.ok().and_then(Result::ok).and_then(|e| e.clone());
        edge.ok_or_else(|| Error::new(ErrorCode::ClusterUnavailable, STARTING))
    }

    /// Why the node cannot serve; none if it can.
    pub fn missing(&self) -> Option<String> {
        match self.edge() {
            Some(edge) => edge.readiness.missing(),
            None => Some(STARTING.into()),
        }
    }

    /// Does the node take no new work?
    pub fn is_stopping(&self) -> bool {
        self.edge().is_some_and(|edge| edge.readiness.is_stopping())
    }

    /// What is counted, and what the node looks like, as text; that of a node which has not started
    /// yet is short.
    ///
    /// # Errors
    /// INTERNAL_ERROR where the state cannot be read, which ends the node.
    pub async fn metrics(&self) -> Result<Arc<str>, Error> {
        match self.edge() {
            Some(edge) => edge.scrape.render().await,
            None => Ok(metrics::before_start(&self.0.metrics, &self.0.requests).into()),
        }
    }

    /// Serves a request: who, what, and the answer.
    pub async fn answer(&self, incoming: &Incoming, mut content: Content) -> Response {
        let operation = incoming.operation;
        let began = Instant::now();
        let mut all_read = true;
        let reply = match self.call(incoming, &mut content).await {
            Ok(Admitted::Call { edge, call, _slot }) => {
                let stopping = edge.readiness.stopping();
                edge.dispatcher.serve(*call, stopping).await
            }
            Ok(Admitted::Answered(reply)) => reply,
            Err(error) => {
                if let Content::Stream(body) = content {
                    all_read = discard(&incoming.headers, body).await;
                }
                let took_ms = began.elapsed().as_secs_f64() * 1_000.0;
                Reply::error(&error, operation.error_shape(), took_ms)
            }
        };
        self.0
            .metrics
            .request(operation, reply.status, began.elapsed());
        let response = response(reply, self.node_id());
        if all_read {
            response
        } else {
            closing(response)
        }
    }

    /// The call of a request, and its place among those served at once.
    async fn call(&self, incoming: &Incoming, content: &mut Content) -> Result<Admitted, Error> {
        let operation = incoming.operation;
        let slot = Arc::clone(&self.0.requests)
            .try_acquire_owned()
            .map_err(|_| {
                Error::new(
                    ErrorCode::Overloaded,
                    "this node serves as many requests as it can",
                )
            })?;
        let deadline = incoming.deadline()?;
        // Asked by those who want to know whether to wait.
        let at_once = operation == Operation::ClusterHealth;
        if at_once && self.edge().is_none() {
            return Ok(Admitted::Answered(cluster::health_before_start()?));
        }
        let edge = self.opened(deadline).await?;
        if !at_once {
            edge.readiness.recovered(deadline).await?;
        }
        let caller = if operation.needs_caller() {
            let token_type = match operation {
                Operation::Refresh => TokenType::Refresh,
                _ => TokenType::Access,
            };
            let auth = edge.dispatcher.auth();
            let (token, ip) = (incoming.bearer()?, incoming.peer.ip());
            Some(auth.caller(token, token_type, ip, deadline).await?)
        } else {
            None
        };
        let body = match content {
            Content::Stream(body) => {
                incoming.check_content_type()?;
                read_body(incoming, body, deadline).await?
            }
            Content::Whole(body) => body.clone(),
            Content::Query(Ok(asked)) => asked.body.clone().into(),
            Content::Query(Err(error)) => return Err(error.clone()),
        };
        let wait_until = match content {
            Content::Query(Ok(asked)) => {
                let wait_ms = asked.wait_ms.min(limits::DEADLINE_MAX_MS);
                Some(Instant::now() + Duration::from_millis(wait_ms))
            }
            _ => None,
        };
        let call = Box::new(Call {
            caller,
            wait_until,
            ..incoming.call(body, deadline)?
        });
        Ok(Admitted::Call {
            edge,
            call,
            _slot: slot,
        })
    }

    /// Opens a stream of messages. Its place among the requests is free again once it stands:
    /// streams are counted apart. Who asks is known before what is wrong with `request` is said.
    pub async fn open_stream(
        &self,
        incoming: &Incoming,
        request: Result<StreamRequest, Error>,
    ) -> Result<(MessageStream, Edge), Response> {
        let began = Instant::now();
        let mut content = Content::Whole(Bytes::new());
        let opened = async {
            match self.call(incoming, &mut content).await? {
                Admitted::Call { edge, call, .. } => {
                    let topics = edge.dispatcher.topics();
                    Ok((topics.open_stream(*call, request?).await?, edge))
                }
                Admitted::Answered(_) => Err(Error::new(
                    ErrorCode::InternalError,
                    "a stream is not answered at once",
                )),
            }
        };
        let opened: Result<_, Error> = opened.await;
        let status = opened
            .as_ref()
            .map_or_else(|error| error.code.http_status(), |_| 200);
        let operation = incoming.operation;
        self.0.metrics.request(operation, status, began.elapsed());
        opened.map_err(|error| self.refuse(&error, operation.error_shape()))
    }

    /// Refuses a request that no handler took, body and all.
    pub async fn refuse_whole(
        &self,
        error: &Error,
        shape: ErrorShape,
        request: Request,
    ) -> Response {
        let (parts, body) = request.into_parts();
        let all_read = discard(&parts.headers, body).await;
        let response = self.refuse(error, shape);
        if all_read {
            response
        } else {
            closing(response)
        }
    }

    /// Refuses a request.
    pub fn refuse(&self, error: &Error, shape: ErrorShape) -> Response {
        response(Reply::error(error, shape, 0.0), self.node_id())
    }
}

/// What a request became.
enum Admitted {
    /// A call, and its place, which it keeps until it is answered.
    Call {
        edge: Edge,
        call: Box<Call>,
        _slot: OwnedSemaphorePermit,
    },
    /// Something that needs no service.
    Answered(Reply),
}

const STARTING: &str = "this node is starting: it is not in a cluster yet, or opens what it had";

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use api::headers;
    use axum::http::{HeaderMap, HeaderValue};
    use http_body_util::BodyExt;

    use super::*;

    async fn answer(front: &Front, operation: Operation) -> (u16, serde_json::Value) {
        let mut headers = HeaderMap::new();
        headers.insert(headers::TIMEOUT_MS, HeaderValue::from_static("20"));
        let incoming = Incoming {
            operation,
            headers,
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
        };
        let answer = front.answer(&incoming, Content::Stream(Body::from("{}")));
        let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
        let (parts, body) = answer.expect("is answered").into_parts();
        let body = body.collect().await.expect("reads").to_bytes();
        let json = serde_json::from_slice(&body).expect("is JSON");
        (parts.status.as_u16(), json)
    }

    #[tokio::test]
    async fn a_node_that_is_starting_says_so() {
        let front = Front::new(Arc::default());
        assert!(
            front
                .missing()
                .is_some_and(|reason| reason.contains("starting"))
        );
        let (status, health) = answer(&front, Operation::ClusterHealth).await;
        assert_eq!((status, &health["status"]), (200, &"unhealthy".into()));
        let (status, error) = answer(&front, Operation::Login).await;
        assert_eq!(
            (status, &error["code"]),
            (503, &"CLUSTER_UNAVAILABLE".into())
        );
        let metrics = front.metrics().await.expect("nothing is read");
        for line in [
            "duet_ready 0",
            "duet_http_request_duration_seconds_count{operation=\"login\",status=\"503\"} 1",
        ] {
            assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
        }
    }
}
