//! A request as a [`Call`], and a [`Reply`] as a response.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use api::headers;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use types::{Error, ErrorCode, Result, limits};

use crate::service::call::{Call, Operation, Reply, new_request};

/// The parts of a request that make a call.
pub struct Incoming {
    /// What is to be done.
    pub operation: Operation,
    /// All headers.
    pub headers: HeaderMap,
    /// Where it came from.
    pub peer: SocketAddr,
}

impl Incoming {
    /// The bearer token. MISSING_AUTHORIZATION without one, INVALID_CREDENTIALS for another scheme.
    pub fn bearer(&self) -> Result<&str> {
        let value = self.headers.get(header::AUTHORIZATION).ok_or_else(|| {
            Error::new(
                ErrorCode::MissingAuthorization,
                "send Authorization: Bearer <token>",
            )
        })?;
        let text = value.to_str().unwrap_or_default();
        let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            return Err(crate::auth::tokens::invalid(
                "the authorization is not a bearer token",
            ));
        }
        Ok(token.trim())
    }

    /// When the client stops waiting. INVALID_INPUT for a header that is not a number.
    pub fn deadline(&self) -> Result<Instant> {
        let timeout_ms = self.number(headers::TIMEOUT_MS)?;
        let timeout_ms = timeout_ms
            .unwrap_or(limits::DEADLINE_DEFAULT_MS)
            .min(limits::DEADLINE_MAX_MS);
        Ok(Instant::now() + Duration::from_millis(timeout_ms))
    }

    /// The call without its caller. INVALID_INPUT for a header that cannot be read.
    pub fn call(&self, body: Bytes, deadline: Instant) -> Result<Call> {
        let consistency = match self.text(headers::CONSISTENCY)? {
            Some(text) => text
                .parse()
                .map_err(|e: headers::UnknownConsistency| input(headers::CONSISTENCY, e))?,
            None => headers::Consistency::default(),
        };
        let idempotency_key = self.text(headers::IDEMPOTENCY_KEY)?.map(str::to_owned);
        if let Some(key) = &idempotency_key
            && !(1..=limits::IDEMPOTENCY_KEY_MAX_BYTES).contains(&key.len())
        {
            let most = limits::IDEMPOTENCY_KEY_MAX_BYTES;
            return Err(input(
                headers::IDEMPOTENCY_KEY,
                format!("1 to {most} bytes"),
            ));
        }
        Ok(Call {
            operation: self.operation,
            caller: None,
            deadline,
            timeout_given: self.headers.contains_key(headers::TIMEOUT_MS),
            wait_until: None,
            consistency,
            min_index: self.number(headers::MIN_INDEX)?.unwrap_or(0),
            idempotency_key,
            request: new_request(),
            term: None,
            lost_after: None,
            body,
        })
    }

    fn text(&self, name: &'static str) -> Result<Option<&str>> {
        self.headers
            .get(name)
            .map(|value| value.to_str().map_err(|_| input(name, "not ASCII text")))
            .transpose()
    }

    fn number(&self, name: &'static str) -> Result<Option<u64>> {
        self.text(name)?
            .map(|text| {
                text.trim()
                    .parse()
                    .map_err(|_| input(name, "not a whole number"))
            })
            .transpose()
    }
}

fn input(header: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorCode::InvalidInput,
        format!("header {header}: {reason}"),
    )
}

/// The whole body. BODY_TOO_LARGE beyond the limit, before any of it is read where the length is
/// announced; INVALID_INPUT if it breaks off.
pub async fn read_body(headers: &HeaderMap, body: &mut Body) -> Result<Bytes> {
    let too_large = || {
        let most = limits::BODY_MAX_BYTES;
        Error::new(
            ErrorCode::BodyTooLarge,
            format!("a request body has at most {most} bytes"),
        )
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok());
    if announced
        .and_then(|v| v.parse().ok())
        .is_some_and(|n: usize| n > limits::BODY_MAX_BYTES)
    {
        return Err(too_large());
    }
    match Limited::new(body, limits::BODY_MAX_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(e) if e.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Error::new(
            ErrorCode::InvalidInput,
            "the request body broke off",
        )),
    }
}

/// Reads what a refused request still sends and drops it, within bounds. A connection that is closed
/// while its client writes is reset, and the answer is lost with it (RFC 9112 §9.6).
pub async fn discard(headers: &HeaderMap, mut body: Body) {
    // Such a client sends nothing before it is told to go on, and reading would tell it so.
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let read = async {
        let mut left = limits::BODY_DISCARD_MAX_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(bytes) else {
                break;
            };
            left = rest;
        }
    };
    let most = Duration::from_millis(limits::BODY_DISCARD_MAX_MS);
    if tokio::time::timeout(most, read).await.is_err() {
        tracing::debug!("a refused request was still being sent; its connection is closed");
    }
}

/// The response to a reply, as this node's.
pub fn response(reply: Reply, node_id: u64) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let map = response.headers_mut();
    map.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    map.insert(headers::NODE, HeaderValue::from(node_id));
    if reply.index > 0 {
        map.insert(headers::INDEX, HeaderValue::from(reply.index));
    }
    if let Some(seconds) = reply.retry_after_seconds {
        map.insert(headers::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(undelivered) = reply.undelivered {
        return response.map(|body| undelivered.watch(body));
    }
    response
}
