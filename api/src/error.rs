//! Error bodies: one error, three shapes, because the three families of routes were fixed apart.
//!
//! Going out, one function per shape makes the body from a [`types::Error`]. Coming in, any of the
//! three is read into a [`ReceivedError`].

use serde::{Deserialize, Serialize};
use types::{Error, ErrorCode};

use crate::sql::{SqlResponse, Status};

/// What is wrong, inside the answer of a SQL route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlError {
    /// See [`ErrorCode`].
    pub code: String,
    /// For a person.
    pub message: String,
    /// Facts a program may act on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<SqlErrorDetails>,
    /// May the same request be sent again?
    #[serde(default)]
    pub retryable: bool,
    /// Can it have happened nevertheless?
    #[serde(default)]
    pub maybe_applied: bool,
}

/// Facts about a failed statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlErrorDetails {
    /// The statement's number in the request, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<u32>,
    /// Line in the text, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Column in that line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// With OFFSET_OUT_OF_RANGE: the first offset that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest: Option<u64>,
    /// With OFFSET_OUT_OF_RANGE: the offset the next message will get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<u64>,
}

impl SqlErrorDetails {
    fn of(error: &Error) -> Option<SqlErrorDetails> {
        let details = SqlErrorDetails {
            statement: error.details.statement,
            line: error.details.position.map(|(line, _)| line),
            column: error.details.position.map(|(_, column)| column),
            earliest: error.details.offset_range.map(|(earliest, _)| earliest),
            latest: error.details.offset_range.map(|(_, latest)| latest),
        };
        (details != SqlErrorDetails::default()).then_some(details)
    }
}

/// The error body of all routes that are neither SQL nor auth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicErrorBody {
    /// For a person.
    pub error: String,
    /// See [`ErrorCode`].
    pub code: String,
    /// May the same request be sent again?
    #[serde(default)]
    pub retryable: bool,
    /// Can it have happened nevertheless?
    #[serde(default)]
    pub maybe_applied: bool,
    /// With OFFSET_OUT_OF_RANGE: the first offset that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest: Option<u64>,
    /// With OFFSET_OUT_OF_RANGE: the offset the next message will get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<u64>,
}

/// The error body of auth routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthErrorBody {
    /// The HTTP status as a word.
    pub error: String,
    /// For a person.
    pub message: String,
    /// See [`ErrorCode`].
    pub code: String,
    /// May the same request be sent again?
    #[serde(default)]
    pub retryable: bool,
    /// Can it have happened nevertheless?
    #[serde(default)]
    pub maybe_applied: bool,
}

/// The body of a failed SQL request.
pub fn sql_error(error: &Error, took_ms: f64) -> SqlResponse {
    SqlResponse {
        status: Status::Error,
        results: Vec::new(),
        took: took_ms,
        error: Some(SqlError {
            code: error.code.as_str().to_owned(),
            message: error.message.clone(),
            details: SqlErrorDetails::of(error),
            retryable: error.retryable(),
            maybe_applied: error.maybe_applied,
        }),
    }
}

/// The body of a failed request to any route that is neither SQL nor auth.
pub fn topic_error(error: &Error) -> TopicErrorBody {
    TopicErrorBody {
        error: error.message.clone(),
        code: error.code.as_str().to_owned(),
        retryable: error.retryable(),
        maybe_applied: error.maybe_applied,
        earliest: error.details.offset_range.map(|(earliest, _)| earliest),
        latest: error.details.offset_range.map(|(_, latest)| latest),
    }
}

/// The body of a failed request to an auth route.
pub fn auth_error(error: &Error) -> AuthErrorBody {
    AuthErrorBody {
        error: status_word(error.code.http_status()).to_owned(),
        message: error.message.clone(),
        code: error.code.as_str().to_owned(),
        retryable: error.retryable(),
        maybe_applied: error.maybe_applied,
    }
}

fn status_word(http_status: u16) -> &'static str {
    match http_status {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        409 => "conflict",
        413 => "body_too_large",
        429 => "rate_limited",
        400..=499 => "invalid_request",
        503 => "unavailable",
        504 => "timeout",
        _ => "internal_error",
    }
}

/// An error as a client received it, whichever of the three shapes it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedError {
    /// The HTTP status it came with.
    pub status: u16,
    /// The code's spelling, also one that this version does not know.
    pub code: String,
    /// For a person.
    pub message: String,
    /// May the same request be sent again?
    pub retryable: bool,
    /// Can it have happened nevertheless?
    pub maybe_applied: bool,
    /// Facts a program may act on.
    pub details: SqlErrorDetails,
}

impl ReceivedError {
    /// Reads an error body. What cannot be read did not come from us (a proxy, say), so nothing is
    /// known about the request: a 5xx or no status at all may have been applied.
    pub fn read(status: u16, body: &[u8]) -> ReceivedError {
        if let Ok(SqlResponse {
            error: Some(error), ..
        }) = serde_json::from_slice(body)
        {
            return ReceivedError {
                status,
                code: error.code,
                message: error.message,
                retryable: error.retryable,
                maybe_applied: error.maybe_applied,
                details: error.details.unwrap_or_default(),
            };
        }
        if let Ok(error) = serde_json::from_slice::<AuthErrorBody>(body) {
            return ReceivedError {
                status,
                code: error.code,
                message: error.message,
                retryable: error.retryable,
                maybe_applied: error.maybe_applied,
                details: SqlErrorDetails::default(),
            };
        }
        if let Ok(error) = serde_json::from_slice::<TopicErrorBody>(body) {
            return ReceivedError {
                status,
                code: error.code,
                message: error.error,
                retryable: error.retryable,
                maybe_applied: error.maybe_applied,
                details: SqlErrorDetails {
                    earliest: error.earliest,
                    latest: error.latest,
                    ..SqlErrorDetails::default()
                },
            };
        }
        ReceivedError {
            status,
            code: String::new(),
            message: excerpt(body),
            retryable: false,
            maybe_applied: !(400..500).contains(&status),
            details: SqlErrorDetails::default(),
        }
    }

    /// The code, if this version knows it.
    pub fn known_code(&self) -> Option<ErrorCode> {
        ErrorCode::from_str_opt(&self.code)
    }
}

/// Enough of a foreign body to recognise what sent it.
fn excerpt(body: &[u8]) -> String {
    const CHARACTERS_MAX: usize = 200;
    String::from_utf8_lossy(body)
        .chars()
        .take(CHARACTERS_MAX)
        .collect()
}

impl std::fmt::Display for ReceivedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.code.is_empty() {
            write!(f, "HTTP {}: {}", self.status, self.message)?;
        } else {
            write!(f, "{}: {}", self.code, self.message)?;
        }
        if let Some(statement) = self.details.statement {
            write!(f, " (statement {statement})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ReceivedError {}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
