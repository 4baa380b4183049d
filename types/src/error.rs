//! Error codes and the error every layer hands to the edge.
//!
//! A code answers three questions by exhaustive match: which HTTP status, may the same request be
//! sent again, and could it have happened. Only the last one also depends on where the error arose,
//! so [`Error`] carries it.

use std::fmt;

/// What went wrong, in the spelling clients see (CONTRACT §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The text is not a statement we know; the message gives the position.
    InvalidSql,
    /// There was no statement in the text.
    EmptySql,
    /// A parameter is missing, superfluous or of a type that cannot be bound.
    InvalidParameter,
    /// Parameters came with more than one statement.
    ParamsWithBatch,
    /// The request body, a field or a value in it is malformed.
    InvalidInput,
    /// The statement is well formed but failed while it ran.
    SqlExecutionError,
    /// A table, namespace or topic named in SQL does not exist.
    TableNotFound,
    /// A PRIMARY KEY or UNIQUE constraint would be broken.
    UniqueViolation,
    /// A NOT NULL column would be null.
    NotNullViolation,
    /// A value does not fit the column's type.
    TypeMismatch,
    /// A value, row or transaction is larger than its limit.
    ValueTooLarge,
    /// No `Authorization: Bearer` header.
    MissingAuthorization,
    /// The token was good once.
    TokenExpired,
    /// The token is forged, of another kind, or the user or password is wrong.
    InvalidCredentials,
    /// The caller's role may not do that (SQL routes).
    PermissionDenied,
    /// The caller's role may not do that (all other routes).
    Forbidden,
    /// What the path or body names does not exist.
    NotFound,
    /// The HTTP method does not exist on this path.
    MethodNotAllowed,
    /// It exists already, or the state of the cluster does not allow the step.
    Conflict,
    /// Concurrent writes kept this one from committing; it changed nothing.
    WriteConflict,
    /// The lease ran out and what it held was given to somebody else.
    LeaseLost,
    /// The offset is beyond the end or below what retention kept.
    OffsetOutOfRange,
    /// The body is larger than its limit.
    BodyTooLarge,
    /// The caller sends more than it may.
    RateLimitExceeded,
    /// No leader, or no quorum, before the deadline.
    ClusterUnavailable,
    /// The node has more work than it can queue.
    Overloaded,
    /// The disk is below its watermark: writes that grow are refused.
    DiskFull,
    /// The request's own deadline passed.
    DeadlineExceeded,
    /// A defect or a broken disk; never the caller's fault.
    InternalError,
}

impl ErrorCode {
    /// All codes, for the generated error table and for tests.
    pub const ALL: [ErrorCode; 29] = {
        use ErrorCode::*;
        [
            InvalidSql,
            EmptySql,
            InvalidParameter,
            ParamsWithBatch,
            InvalidInput,
            SqlExecutionError,
            TableNotFound,
            UniqueViolation,
            NotNullViolation,
            TypeMismatch,
            ValueTooLarge,
            MissingAuthorization,
            TokenExpired,
            InvalidCredentials,
            PermissionDenied,
            Forbidden,
            NotFound,
            MethodNotAllowed,
            Conflict,
            WriteConflict,
            LeaseLost,
            OffsetOutOfRange,
            BodyTooLarge,
            RateLimitExceeded,
            ClusterUnavailable,
            Overloaded,
            DiskFull,
            DeadlineExceeded,
            InternalError,
        ]
    };

    /// The code as clients see it.
    pub const fn as_str(self) -> &'static str {
        use ErrorCode::*;
        match self {
            InvalidSql => "INVALID_SQL",
            EmptySql => "EMPTY_SQL",
            InvalidParameter => "INVALID_PARAMETER",
            ParamsWithBatch => "PARAMS_WITH_BATCH",
            InvalidInput => "INVALID_INPUT",
            SqlExecutionError => "SQL_EXECUTION_ERROR",
            TableNotFound => "TABLE_NOT_FOUND",
            UniqueViolation => "UNIQUE_VIOLATION",
            NotNullViolation => "NOT_NULL_VIOLATION",
            TypeMismatch => "TYPE_MISMATCH",
            ValueTooLarge => "VALUE_TOO_LARGE",
            MissingAuthorization => "MISSING_AUTHORIZATION",
            TokenExpired => "TOKEN_EXPIRED",
            InvalidCredentials => "INVALID_CREDENTIALS",
            PermissionDenied => "PERMISSION_DENIED",
            Forbidden => "FORBIDDEN",
            NotFound => "NOT_FOUND",
            MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Conflict => "CONFLICT",
            WriteConflict => "WRITE_CONFLICT",
            LeaseLost => "LEASE_LOST",
            OffsetOutOfRange => "OFFSET_OUT_OF_RANGE",
            BodyTooLarge => "BODY_TOO_LARGE",
            RateLimitExceeded => "RATE_LIMIT_EXCEEDED",
            ClusterUnavailable => "CLUSTER_UNAVAILABLE",
            Overloaded => "OVERLOADED",
            DiskFull => "DISK_FULL",
            DeadlineExceeded => "DEADLINE_EXCEEDED",
            InternalError => "INTERNAL_ERROR",
        }
    }

    /// The code behind a spelling; `None` for one this version does not know.
    pub fn from_str_opt(text: &str) -> Option<ErrorCode> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }

    /// The HTTP status the code travels with.
    pub const fn http_status(self) -> u16 {
        use ErrorCode::*;
        match self {
            InvalidSql | EmptySql | InvalidParameter | ParamsWithBatch | InvalidInput
            | SqlExecutionError | TableNotFound | UniqueViolation | NotNullViolation
            | TypeMismatch | ValueTooLarge => 400,
            MissingAuthorization | TokenExpired | InvalidCredentials => 401,
            PermissionDenied | Forbidden => 403,
            NotFound => 404,
            MethodNotAllowed => 405,
            Conflict | WriteConflict | LeaseLost => 409,
            BodyTooLarge => 413,
            OffsetOutOfRange => 416,
            RateLimitExceeded => 429,
            InternalError => 500,
            ClusterUnavailable | Overloaded | DiskFull => 503,
            DeadlineExceeded => 504,
        }
    }

    /// May the same request be sent again, unchanged, with a chance of success?
    pub const fn retryable(self) -> bool {
        use ErrorCode::*;
        match self {
            WriteConflict | RateLimitExceeded | ClusterUnavailable | Overloaded | DiskFull
            | DeadlineExceeded => true,
            InvalidSql | EmptySql | InvalidParameter | ParamsWithBatch | InvalidInput
            | SqlExecutionError | TableNotFound | UniqueViolation | NotNullViolation
            | TypeMismatch | ValueTooLarge | MissingAuthorization | TokenExpired
            | InvalidCredentials | PermissionDenied | Forbidden | NotFound | MethodNotAllowed
            | Conflict | LeaseLost | OffsetOutOfRange | BodyTooLarge | InternalError => false,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Facts beside the message that a client may act on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorDetails {
    /// Ordinal, from 0, of the failed statement in a batch.
    pub statement: Option<u32>,
    /// With [`ErrorCode::OffsetOutOfRange`]: earliest readable and next offset.
    pub offset_range: Option<(u64, u64)>,
    /// Byte position in the SQL text as 1-based line and column.
    pub position: Option<(u64, u64)>,
}

/// An error as it reaches a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of error.
    pub code: ErrorCode,
    /// One or two plain sentences for a person.
    pub message: String,
    /// May the request have taken effect although it is answered with an error?
    pub maybe_applied: bool,
    /// Machine-readable facts.
    pub details: ErrorDetails,
}

impl Error {
    /// An error of a request that certainly changed nothing.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Error {
        Error {
            code,
            message: message.into(),
            maybe_applied: false,
            details: ErrorDetails::default(),
        }
    }

    /// The same error, of a request that may have taken effect.
    #[must_use]
    pub fn maybe_applied(mut self) -> Error {
        self.maybe_applied = true;
        self
    }

    /// The same error with the ordinal of the statement it belongs to.
    #[must_use]
    pub fn at_statement(mut self, ordinal: u32) -> Error {
        self.details.statement = Some(ordinal);
        self
    }

    /// The same error with the 1-based line and column it points at.
    #[must_use]
    pub fn at_position(mut self, line: u64, column: u64) -> Error {
        self.details.position = Some((line, column));
        self
    }

    /// [`ErrorCode::OffsetOutOfRange`] with the range that can be read.
    pub fn offset_out_of_range(offset: u64, earliest: u64, next: u64) -> Error {
        let mut error = Error::new(
            ErrorCode::OffsetOutOfRange,
            format!("offset {offset} is outside the readable range {earliest}..={next}"),
        );
        error.details.offset_range = Some((earliest, next));
        error
    }

    /// May the same request be sent again?
    pub fn retryable(&self) -> bool {
        self.code.retryable()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}

/// Short form for the layers that answer clients.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_unique_and_comes_back() {
        for (i, code) in ErrorCode::ALL.into_iter().enumerate() {
            assert_eq!(ErrorCode::from_str_opt(code.as_str()), Some(code));
            let others = &ErrorCode::ALL[i + 1..];
            assert!(
                others.iter().all(|o| o.as_str() != code.as_str()),
                "{code} twice"
            );
        }
    }
}
