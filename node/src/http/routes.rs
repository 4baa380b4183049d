//! The routes of CONTRACT §2.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use types::{Error, ErrorCode};

use super::call::{Incoming, closing};
use super::front::{Content, Front};
use crate::metrics;
use crate::service::call::{ErrorShape, Operation};
use crate::service::topics::Asked;

/// All routes.
pub fn router(front: Front) -> Router {
    use Operation::*;
    use api::paths;
    let routes = Router::new()
        .route(paths::SQL, post(with_body(Sql)))
        .route(paths::TOPICS_CONSUME, post(with_body(Consume)))
        .route(paths::TOPICS_ACK, post(with_body(Ack)))
        .route(paths::TOPICS_NACK, post(with_body(Nack)))
        .route(paths::TOPICS_EXTEND, post(with_body(Extend)))
        .route(paths::TOPICS_LATEST_OFFSETS, post(with_body(LatestOffsets)))
        .route(paths::TOPIC_MESSAGES, get(messages))
        .route(paths::TOPIC_STREAM, get(super::stream::stream))
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
        .route(paths::CLUSTER_DRAIN, post(with_body(Drain)))
        .route(paths::CLUSTER_SNAPSHOT, post(with_body(Snapshot)))
        .route(paths::CLUSTER_DIGEST, get(digest))
        .route(paths::HEALTH, get(health))
        .route(paths::READY, get(ready))
        .route(paths::METRICS, get(show_metrics))
        .route(paths::OPENAPI, get(openapi));
    routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(front.clone(), say_last_answer))
        .with_state(front)
}

/// Tells clients of a node that stops not to use their connection again: closed under a request
/// that has just been sent, it would leave them in doubt. HTTP/2 has a way of its own.
async fn say_last_answer(State(front): State<Front>, request: Request, next: Next) -> Response {
    let one_after_the_other = request.version() < Version::HTTP_2;
    let response = next.run(request).await;
    if one_after_the_other && front.is_stopping() {
        closing(response)
    } else {
        response
    }
}

type Handled = std::pin::Pin<Box<dyn Future<Output = Response> + Send>>;

/// A handler whose request body is the call's body.
fn with_body(
    operation: Operation,
) -> impl Fn(State<Front>, ConnectInfo<SocketAddr>, HeaderMap, Body) -> Handled + Clone {
    move |State(front), ConnectInfo(peer), headers, body| {
        Box::pin(async move {
            let incoming = Incoming {
                operation,
                headers,
                peer,
            };
            front.answer(&incoming, Content::Stream(body)).await
        })
    }
}

/// What the path names, if it can be read.
pub(super) type Named = Result<Path<String>, PathRejection>;

/// A handler whose path names a member; its number is the call's body.
fn with_member(
    operation: Operation,
) -> impl Fn(State<Front>, ConnectInfo<SocketAddr>, Named, HeaderMap) -> Handled + Clone {
    move |State(front), ConnectInfo(peer), id, headers| {
        Box::pin(async move {
            let Path(id) = match id {
                Ok(id) => id,
                Err(rejection) => {
                    return front.refuse(&bad_url(&rejection), operation.error_shape());
                }
            };
            let incoming = Incoming {
                operation,
                headers,
                peer,
            };
            front.answer(&incoming, Content::Whole(id.into())).await
        })
    }
}

/// The parameters of a query, if they can be read.
pub(super) type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// `GET …/messages`: a consume without a group, spelt as a query.
async fn messages(
    State(front): State<Front>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    topic: Named,
    query: Parameters,
    headers: HeaderMap,
) -> Response {
    let incoming = Incoming {
        operation: Operation::Consume,
        headers,
        peer,
    };
    let asked = topic_query(topic, query)
        .and_then(|(topic, query)| crate::service::topics::messages_query(topic, &query));
    front.answer(&incoming, Content::Query(asked)).await
}

/// Topic and parameters, or INVALID_INPUT for what is not UTF-8.
pub(super) fn topic_query(
    topic: Named,
    query: Parameters,
) -> Result<(String, Vec<(String, String)>), Error> {
    let Path(topic) = topic.map_err(|rejection| bad_url(&rejection))?;
    let Query(query) = query.map_err(|rejection| bad_url(&rejection))?;
    Ok((topic, query))
}

/// `GET /v1/api/cluster/digest`: its query is the call's body.
async fn digest(
    State(front): State<Front>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    query: Parameters,
    headers: HeaderMap,
) -> Response {
    let incoming = Incoming {
        operation: Operation::Digest,
        headers,
        peer,
    };
    let asked = query
        .map_err(|rejection| bad_url(&rejection))
        .and_then(|Query(query)| crate::service::digest::query(&query))
        .map(Asked::at_once);
    front.answer(&incoming, Content::Query(asked)).await
}

/// INVALID_INPUT for what is not even text.
fn bad_url(rejection: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorCode::InvalidInput, format!("the URL: {rejection}"))
}

async fn health() -> Response {
    let body = api::cluster::HealthResponse {
        status: "healthy".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        api_version: "v1".into(),
    };
    axum::Json(body).into_response()
}

async fn ready(State(front): State<Front>) -> Response {
    let reason = front.missing();
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

async fn show_metrics(State(front): State<Front>) -> Response {
    match front.metrics().await {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
            (kind, text.to_string()).into_response()
        }
        Err(error) => front.refuse(&error, ErrorShape::Plain),
    }
}

async fn openapi() -> Response {
    axum::Json(api::openapi::document()).into_response()
}

async fn unknown_path(State(front): State<Front>, request: Request) -> Response {
    let path = request.uri().path();
    let error = Error::new(ErrorCode::NotFound, format!("there is no route {path}"));
    let shape = shape_below(path);
    front.refuse_whole(&error, shape, request).await
}

async fn unknown_method(State(front): State<Front>, request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let error = Error::new(
        ErrorCode::MethodNotAllowed,
        format!("the route {path} does not take {method}"),
    );
    let shape = shape_below(path);
    front.refuse_whole(&error, shape, request).await
}

/// How errors look to a client that believes in this path.
fn shape_below(path: &str) -> ErrorShape {
    let below = |base: &str| {
        path.strip_prefix(base)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if below(api::paths::SQL) {
        ErrorShape::Sql
    } else if below("/v1/api/auth") {
        ErrorShape::Auth
    } else {
        ErrorShape::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_path_is_refused_in_the_shape_of_its_family() {
        let shapes = [
            ("/v1/api/sql", ErrorShape::Sql),
            ("/v1/api/sql/more", ErrorShape::Sql),
            ("/v1/api/sqlite", ErrorShape::Plain),
            ("/v1/api/auth/nope", ErrorShape::Auth),
            ("/v1/api/topics/nope", ErrorShape::Plain),
        ];
        for (path, shape) in shapes {
            assert_eq!(shape_below(path), shape, "{path}");
        }
    }
}
