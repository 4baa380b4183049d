//! A request as a [`Call`], and a [`Reply`] as a response.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use api::headers;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use types::{Error, ErrorCode, Result, limits};

use crate::service::call::{Call, ErrorShape, Operation, Reply, new_request};

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

    /// INVALID_INPUT for a body of a kind that may not be one of this operation's.
    pub fn check_content_type(&self) -> Result<()> {
        let kind = self.headers.get(header::CONTENT_TYPE);
        let multipart = kind.is_some_and(|kind| {
            let kind = kind.as_bytes();
            kind.len() >= 10 && kind[..10].eq_ignore_ascii_case(b"multipart/")
        });
        if multipart {
            let message = "files are not supported yet, so the body must be application/json, not \
                           multipart/form-data";
            return Err(Error::new(ErrorCode::InvalidInput, message));
        }
        Ok(())
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

/// The whole body. BODY_TOO_LARGE beyond the operation's limit, before any of it is read where the
/// length is announced; INVALID_INPUT if it breaks off, DEADLINE_EXCEEDED if it takes too long.
pub async fn read_body(incoming: &Incoming, body: &mut Body, deadline: Instant) -> Result<Bytes> {
    let most = match incoming.operation.error_shape() {
        ErrorShape::Auth => limits::AUTH_BODY_MAX_BYTES,
        ErrorShape::Sql | ErrorShape::Plain => limits::BODY_MAX_BYTES,
    };
    let too_large = || {
        Error::new(
            ErrorCode::BodyTooLarge,
            format!("the body of this request has at most {most} bytes"),
        )
    };
    let announced = incoming.headers.get(header::CONTENT_LENGTH);
    if announced
        .and_then(|v| v.to_str().ok()?.parse().ok())
        .is_some_and(|n: usize| n > most)
    {
        return Err(too_large());
    }
    let until = deadline.min(Instant::now() + Duration::from_millis(limits::BODY_READ_MAX_MS));
    let read = Limited::new(body, most).collect();
    match tokio::time::timeout_at(until.into(), read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Error::new(
            ErrorCode::InvalidInput,
            "the request body broke off",
        )),
        Err(_) => Err(Error::new(
            ErrorCode::DeadlineExceeded,
            "the request body did not arrive in time",
        )),
    }
}

/// Reads what a refused request still sends and drops it, within bounds. A connection that is
/// closed while its client writes is reset, and the answer is lost with it (RFC 9112 §9.6). False:
/// there may be more.
pub async fn discard(headers: &HeaderMap, mut body: Body) -> bool {
    // Such a client sends nothing before it is told to go on, and reading would tell it so.
    if headers.contains_key(header::EXPECT) {
        return false;
    }
    let idle = Duration::from_millis(limits::BODY_DISCARD_IDLE_MS);
    let read = async {
        let mut left = limits::BODY_DISCARD_MAX_BYTES;
        loop {
            let bytes = match tokio::time::timeout(idle, body.frame()).await {
                Ok(None) => return true,
                Ok(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
                Ok(Some(Err(_))) | Err(_) => return false,
            };
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
    };
    let most = Duration::from_millis(limits::BODY_DISCARD_MAX_MS);
    let all = tokio::time::timeout(most, read).await.unwrap_or(false);
    if !all {
        tracing::debug!("a refused request was still being sent; its connection is closed");
    }
    all
}

/// Says that the connection ends with this response, on which the rest of a request may follow.
pub fn closing(mut response: Response) -> Response {
    // HTTP/2 knows no such header, and hyper leaves it out there.
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// The response to a reply, as this node's; 0: it has no number yet.
pub fn response(reply: Reply, node_id: u64) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let map = response.headers_mut();
    map.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if node_id > 0 {
        map.insert(headers::NODE, HeaderValue::from(node_id));
    }
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

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    fn incoming(operation: Operation) -> Incoming {
        Incoming {
            operation,
            headers: HeaderMap::new(),
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    /// A body of these bytes that does not end.
    fn endless(bytes: &'static str) -> Body {
        let first = futures::stream::iter([Ok::<_, axum::Error>(bytes)]);
        Body::from_stream(first.chain(futures::stream::pending()))
    }

    fn code(result: Result<Bytes>) -> Option<ErrorCode> {
        result.err().map(|error| error.code)
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_is_waited_for_until_the_deadline() {
        let read = read_body(&incoming(Operation::Sql), &mut endless("{"), soon()).await;
        assert_eq!(code(read), Some(ErrorCode::DeadlineExceeded));
    }

    #[tokio::test]
    async fn who_has_no_token_may_send_little() {
        let body = || Body::from(vec![b' '; limits::AUTH_BODY_MAX_BYTES + 1]);
        let late = Instant::now() + Duration::from_secs(60);
        let login = read_body(&incoming(Operation::Login), &mut body(), late).await;
        assert_eq!(code(login), Some(ErrorCode::BodyTooLarge));
        let sql = read_body(&incoming(Operation::Sql), &mut body(), late).await;
        assert_eq!(code(sql), None);
    }

    #[tokio::test]
    async fn a_refused_body_is_dropped_as_long_as_it_comes() {
        let headers = HeaderMap::new();
        assert!(discard(&headers, Body::from("all of it")).await);
        assert!(!discard(&headers, endless("some of it")).await);
    }

    #[test]
    fn files_are_refused_by_the_kind_of_the_body() {
        let mut request = incoming(Operation::Sql);
        assert!(request.check_content_type().is_ok());
        let kinds = [
            ("application/json", true),
            ("Multipart/Form-Data; boundary=x", false),
        ];
        for (kind, ok) in kinds {
            request
                .headers
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(request.check_content_type().is_ok(), ok, "{kind}");
        }
    }
}
