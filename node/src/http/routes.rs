//! The routes of CONTRACT §2.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tokio::sync::Semaphore;
use types::{Error, ErrorCode};

use super::call::{Incoming, discard, read_body, response};
use crate::auth::tokens::TokenType;
use crate::metrics::{self, Metrics, Scrape};
use crate::readiness::Readiness;
use crate::service::call::{Call, ErrorShape, Operation, Reply};
use crate::service::dispatch::Dispatcher;

/// What handlers need.
#[derive(Clone)]
pub struct Edge {
    /// Serves calls.
    pub dispatcher: Dispatcher,
    /// Can the node serve?
    pub readiness: Readiness,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What `/metrics` answers with.
    pub scrape: Scrape,
    /// Requests at once; beyond them OVERLOADED.
    pub requests: Arc<Semaphore>,
    /// This node.
    pub node_id: u64,
}

/// All routes.
pub fn router(edge: Edge) -> Router {
    use Operation::*;
    use api::paths;
    let routes = Router::new()
        .route(paths::SQL, post(with_body(Sql)))
        .route(paths::TOPICS_CONSUME, post(with_body(Consume)))
        .route(paths::TOPICS_ACK, post(with_body(Ack)))
        .route(paths::TOPICS_NACK, post(with_body(Nack)))
        .route(paths::TOPICS_EXTEND, post(with_body(Extend)))
        .route(paths::TOPICS_LATEST_OFFSETS, post(with_body(LatestOffsets)))
        .route("/v1/api/topics/{topic}/messages", get(messages))
        .route(paths::AUTH_LOGIN, post(with_body(Login)))
        .route(paths::AUTH_REFRESH, post(with_body(Refresh)))
        .route(paths::AUTH_LOGOUT, post(with_body(Logout)))
        .route(paths::AUTH_ME, get(with_body(Me)))
        .route(paths::AUTH_STATUS, get(with_body(AuthStatus)))
        .route(paths::AUTH_SETUP, post(with_body(Setup)))
        .route(paths::CLUSTER, get(with_body(ClusterStatus)))
        .route(paths::CLUSTER_HEALTH, get(with_body(ClusterHealth)))
        .route(paths::CLUSTER_MEMBERS, post(with_body(AddMember)))
        .route(paths::CLUSTER_MEMBER, delete(with_member(RemoveMember)))
        .route(paths::CLUSTER_PROMOTE, post(with_member(Promote)))
        .route(paths::CLUSTER_LEADER, post(with_body(TransferLeader)))
        .route(paths::CLUSTER_SNAPSHOT, post(with_body(Snapshot)))
        .route(paths::HEALTH, get(health))
        .route(paths::READY, get(ready))
        .route(paths::METRICS, get(show_metrics))
        .route(paths::OPENAPI, get(openapi));
    routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .with_state(edge)
}

type Handled = std::pin::Pin<Box<dyn Future<Output = Response> + Send>>;

/// A handler whose request body is the call's body.
fn with_body(
    operation: Operation,
) -> impl Fn(State<Edge>, ConnectInfo<SocketAddr>, HeaderMap, Body) -> Handled + Clone {
    move |State(edge), ConnectInfo(peer), headers, body| {
        Box::pin(async move {
            let incoming = Incoming {
                operation,
                headers,
                peer,
            };
            edge.answer(&incoming, Content::Stream(body)).await
        })
    }
}

/// A handler whose path names a member; its number is the call's body.
fn with_member(
    operation: Operation,
) -> impl Fn(State<Edge>, ConnectInfo<SocketAddr>, Path<String>, HeaderMap) -> Handled + Clone {
    move |State(edge), ConnectInfo(peer), Path(id), headers| {
        Box::pin(async move {
            let incoming = Incoming {
                operation,
                headers,
                peer,
            };
            edge.answer(&incoming, Content::Whole(id.into())).await
        })
    }
}

/// `GET …/messages`: a consume without a group, spelt as a query.
async fn messages(
    State(edge): State<Edge>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(topic): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let incoming = Incoming {
        operation: Operation::Consume,
        headers,
        peer,
    };
    match crate::service::topics::messages_query(topic, &query) {
        Ok(body) => edge.answer(&incoming, Content::Whole(body.into())).await,
        Err(error) => edge.refuse(&error, ErrorShape::Plain),
    }
}

/// Where a call's body comes from.
enum Content {
    Stream(Body),
    Whole(Bytes),
}

impl Edge {
    /// Serves a request: who, what, and the answer.
    async fn answer(&self, incoming: &Incoming, mut content: Content) -> Response {
        let operation = incoming.operation;
        let began = std::time::Instant::now();
        let reply = match self.call(incoming, &mut content).await {
            Ok((call, _slot)) => self.dispatcher.serve(call).await,
            Err(error) => {
                if let Content::Stream(body) = content {
                    discard(&incoming.headers, body).await;
                }
                let took_ms = began.elapsed().as_secs_f64() * 1_000.0;
                Reply::error(&error, operation.error_shape(), took_ms)
            }
        };
        self.metrics
            .request(operation, reply.status, began.elapsed());
        response(reply, self.node_id)
    }

    /// The call of a request, and its place among those served at once.
    async fn call(
        &self,
        incoming: &Incoming,
        content: &mut Content,
    ) -> Result<(Call, tokio::sync::OwnedSemaphorePermit), Error> {
        let slot = Arc::clone(&self.requests)
            .try_acquire_owned()
            .map_err(|_| {
                Error::new(
                    ErrorCode::Overloaded,
                    "this node serves as many requests as it can",
                )
            })?;
        let deadline = incoming.deadline()?;
        self.readiness.recovered(deadline).await?;
        let caller = if incoming.operation.needs_caller() {
            let token_type = match incoming.operation {
                Operation::Refresh => TokenType::Refresh,
                _ => TokenType::Access,
            };
            let auth = self.dispatcher.auth();
            Some(
                auth.caller(incoming.bearer()?, token_type, incoming.peer.ip(), deadline)
                    .await?,
            )
        } else {
            None
        };
        let body = match content {
            Content::Stream(body) => read_body(&incoming.headers, body).await?,
            Content::Whole(body) => body.clone(),
        };
        let call = incoming.call(body, deadline)?;
        Ok((Call { caller, ..call }, slot))
    }

    /// Refuses a request that no handler took, body and all.
    async fn refuse_whole(&self, error: &Error, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        discard(&parts.headers, body).await;
        self.refuse(error, ErrorShape::Plain)
    }

    fn refuse(&self, error: &Error, shape: ErrorShape) -> Response {
        response(Reply::error(error, shape, 0.0), self.node_id)
    }
}

async fn health() -> Response {
    let body = api::cluster::HealthResponse {
        status: "healthy".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        api_version: "v1".into(),
    };
    axum::Json(body).into_response()
}

async fn ready(State(edge): State<Edge>) -> Response {
    let reason = edge.readiness.missing();
    let status = if reason.is_none() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = api::cluster::ReadyResponse {
        ready: reason.is_none(),
        reason,
    };
    (status, axum::Json(body)).into_response()
}

async fn show_metrics(State(edge): State<Edge>) -> Response {
    match edge.scrape.render().await {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
            (kind, text.to_string()).into_response()
        }
        Err(error) => edge.refuse(&error, ErrorShape::Plain),
    }
}

async fn openapi() -> Response {
    axum::Json(api::openapi::document()).into_response()
}

async fn unknown_path(State(edge): State<Edge>, request: Request) -> Response {
    let path = request.uri().path();
    let error = Error::new(ErrorCode::NotFound, format!("there is no route {path}"));
    edge.refuse_whole(&error, request).await
}

async fn unknown_method(State(edge): State<Edge>, request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let error = Error::new(
        ErrorCode::MethodNotAllowed,
        format!("the route {path} does not take {method}"),
    );
    edge.refuse_whole(&error, request).await
}
