//! Messages as server-sent events, in the form of the HTML standard (§9.2).
//!
//! A stream reads this node's own state, so it ends with the node; its client goes on at another
//! one with the id of the last event it saw.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use api::headers;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use futures::Stream;
use types::{Error, ErrorCode, limits};

use super::call::Incoming;
use super::front::{Edge, Front};
use super::routes::{Named, Parameters, topic_query};
use crate::readiness::Readiness;
use crate::service::call::Operation;
use crate::service::topics::{MessageStream, stream_query};

/// `GET …/stream`.
pub async fn stream(
    State(front): State<Front>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    topic: Named,
    query: Parameters,
    headers: HeaderMap,
) -> Response {
    let last_event = headers.get(headers::LAST_EVENT_ID).cloned();
    let incoming = Incoming {
        operation: Operation::Stream,
        headers,
        peer,
    };
    let request = topic_query(topic, query).and_then(|(topic, query)| {
        let last_event = last_event.as_ref().map(text).transpose()?;
        stream_query(topic, &query, last_event)
    });
    match front.open_stream(&incoming, request).await {
        Ok((messages, edge)) => events(messages, &edge),
        Err(refused) => refused,
    }
}

fn text(value: &HeaderValue) -> Result<&str, Error> {
    let not_text = |_| Error::new(ErrorCode::InvalidInput, "Last-Event-ID is not ASCII text");
    value.to_str().map_err(not_text)
}

fn events(messages: MessageStream, edge: &Edge) -> Response {
    let index = messages.opened_at();
    let every = Duration::from_millis(limits::STREAM_KEEP_ALIVE_MS);
    let mut response = Sse::new(unfolded(messages, edge.readiness.clone()))
        .keep_alive(KeepAlive::new().interval(every))
        .into_response();
    let map = response.headers_mut();
    map.insert(headers::NODE, HeaderValue::from(edge.node_id));
    map.insert(headers::INDEX, HeaderValue::from(index));
    response
}

/// One event a message; an error is the last event. Ends without one when the node stops.
fn unfolded(
    messages: MessageStream,
    readiness: Readiness,
) -> impl Stream<Item = Result<Event, Infallible>> {
    futures::stream::unfold(Some((messages, readiness)), |state| async move {
        let (mut messages, readiness) = state?;
        let next = tokio::select! {
            biased;
            () = readiness.stopping() => return None,
            next = messages.next() => next,
        };
        let (event, state) = match next.and_then(|message| message_event(&message)) {
            Ok(event) => (event, Some((messages, readiness))),
            Err(error) => (error_event(&error), None),
        };
        Some((Ok(event), state))
    })
}

fn message_event(message: &api::topics::Message) -> Result<Event, Error> {
    let data = serde_json::to_string(message).map_err(|e| {
        Error::new(
            ErrorCode::InternalError,
            format!("the message cannot be written: {e}"),
        )
    })?;
    let id = format!("{}:{}", message.partition_id, message.offset);
    Ok(Event::default().id(id).data(data))
}

fn error_event(error: &Error) -> Event {
    let body = api::error::topic_error(error);
    // The type has string keys and plain fields only; serializing it cannot fail.
    let data = serde_json::to_string(&body).unwrap_or_default();
    Event::default().event("error").data(data)
}
