//! What every request becomes, whichever interface it came through, and what it gets back.

use std::time::{Duration, Instant};

use api::headers::Consistency;
use bytes::Bytes;
use raft::RequestId;
use types::ids::{LogIndex, Term};
use types::{Error, ErrorCode, limits};

use super::topics::ReleaseRequest;
use crate::http::OnUndelivered;

/// What is to be done. The numbers are on the wire between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Operation {
    /// `POST /v1/api/sql`.
    Sql = 1,
    /// `POST /v1/api/topics/consume`.
    Consume = 2,
    /// The leader's part of a consume with a group.
    Claim = 3,
    /// Messages of a claim that never reached its client.
    Release = 4,
    /// `POST /v1/api/topics/ack`.
    Ack = 5,
    /// `POST /v1/api/topics/nack`.
    Nack = 6,
    /// `POST /v1/api/topics/extend`.
    Extend = 7,
    /// `POST /v1/api/topics/latest-offsets`.
    LatestOffsets = 8,
    /// `POST /v1/api/auth/login`.
    Login = 9,
    /// `POST /v1/api/auth/refresh`.
    Refresh = 10,
    /// `POST /v1/api/auth/logout`.
    Logout = 11,
    /// `GET /v1/api/auth/me`.
    Me = 12,
    /// `GET /v1/api/auth/status`.
    AuthStatus = 13,
    /// `POST /v1/api/auth/setup`.
    Setup = 14,
    /// `GET /v1/api/cluster`.
    ClusterStatus = 15,
    /// `GET /v1/api/cluster/health`.
    ClusterHealth = 16,
    /// `POST /v1/api/cluster/members`.
    AddMember = 17,
    /// `POST /v1/api/cluster/members/{id}/promote`; the body is the number.
    Promote = 18,
    /// `DELETE /v1/api/cluster/members/{id}`; the body is the number.
    RemoveMember = 19,
    /// `POST /v1/api/cluster/leader`.
    TransferLeader = 20,
    /// `POST /v1/api/cluster/snapshot`.
    Snapshot = 21,
    /// `GET /v1/api/topics/{topic}/stream`.
    Stream = 30,
    /// `GET /v1/api/cluster/digest`; the body is the query as JSON.
    Digest = 31,
    /// `POST /v1/api/cluster/drain`.
    Drain = 32,
}

/// The three shapes of error bodies (CONTRACT §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"status":"error","error":{…}}`.
    Sql,
    /// `{"error":"text","code":"…"}`.
    Plain,
    /// `{"error":"unauthorized","message":"text"}`.
    Auth,
}

impl Operation {
    /// How its errors look.
    pub fn error_shape(self) -> ErrorShape {
        use Operation::*;
        match self {
            Sql => ErrorShape::Sql,
            Login | Refresh | Logout | Me | AuthStatus | Setup => ErrorShape::Auth,
            Consume | Stream | Claim | Release | Ack | Nack | Extend | LatestOffsets
            | ClusterStatus | ClusterHealth | AddMember | Promote | RemoveMember
            | TransferLeader | Snapshot | Digest | Drain => ErrorShape::Plain,
        }
    }

    /// As metrics spell it.
    pub fn as_str(self) -> &'static str {
        use Operation::*;
        match self {
            Sql => "sql",
            Consume => "consume",
            Claim => "claim",
            Release => "release",
            Ack => "ack",
            Nack => "nack",
            Extend => "extend",
            LatestOffsets => "latest_offsets",
            Login => "login",
            Refresh => "refresh",
            Logout => "logout",
            Me => "me",
            AuthStatus => "auth_status",
            Setup => "setup",
            ClusterStatus => "cluster_status",
            ClusterHealth => "cluster_health",
            AddMember => "add_member",
            Promote => "promote",
            RemoveMember => "remove_member",
            TransferLeader => "transfer_leader",
            Snapshot => "snapshot",
            Stream => "stream",
            Digest => "digest",
            Drain => "drain",
        }
    }

    /// Must a caller prove who it is?
    pub fn needs_caller(self) -> bool {
        use Operation::*;
        match self {
            Login | Logout | Setup | AuthStatus | ClusterHealth => false,
            Sql | Consume | Stream | Claim | Release | Ack | Nack | Extend | LatestOffsets
            | Refresh | Me | ClusterStatus | AddMember | Promote | RemoveMember
            | TransferLeader | Snapshot | Digest | Drain => true,
        }
    }
}

/// Who asks. The role is looked up in the state that answers, not carried along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: String,
    /// When its token was issued, in seconds since 1970.
    pub issued_at: i64,
    /// Where the request came from.
    pub ip: Option<String>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is to be done.
    pub operation: Operation,
    /// Who asks; none where nobody must be named.
    pub caller: Option<Caller>,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Did the caller say so, or is it the default?
    pub timeout_given: bool,
    /// Until when a consume waits for messages, wherever it is served; none: as its body says.
    pub wait_until: Option<Instant>,
    /// How fresh a read must be.
    pub consistency: Consistency,
    /// What the answering node must have applied first.
    pub min_index: LogIndex,
    /// Makes a write happen at most once.
    pub idempotency_key: Option<String>,
    /// Names the request in what is replicated.
    pub request: RequestId,
    /// The leadership it must be served in, where it must be served by a leader: what becomes of it
    /// can then be told by the next one.
    pub term: Option<Term>,
    /// Set if it was tried before and the answer was lost: it can have happened only in an entry
    /// above this index, under an earlier leadership.
    pub lost_after: Option<LogIndex>,
    /// The request body, as it came.
    pub body: Bytes,
}

impl Call {
    /// A call of `operation` with the default deadline and no wishes.
    pub fn new(operation: Operation, body: Bytes) -> Call {
        Call {
            operation,
            caller: None,
            deadline: Instant::now() + Duration::from_millis(limits::DEADLINE_DEFAULT_MS),
            timeout_given: false,
            wait_until: None,
            consistency: Consistency::Linearizable,
            min_index: 0,
            idempotency_key: None,
            request: new_request(),
            term: None,
            lost_after: None,
            body,
        }
    }

    /// The caller. INTERNAL_ERROR if the edge let an operation through that needs one.
    pub fn caller(&self) -> Result<&Caller, Error> {
        self.caller
            .as_ref()
            .ok_or_else(|| Error::new(ErrorCode::InternalError, "the request has no caller"))
    }

    /// May it be tried again although it may have happened? Yes where that is found out by its
    /// idempotency key, for claims, whose lost leases run out, and for steps of the membership,
    /// which change nothing when they are done already.
    pub fn is_repeatable(&self) -> bool {
        use Operation::*;
        match self.operation {
            Claim | Release | AddMember | Promote | RemoveMember | TransferLeader | Drain => true,
            Sql | Ack | Nack | Extend => self.idempotency_key.is_some(),
            _ => false,
        }
    }

    /// The error of a try that came to nothing: one before it may have happened.
    pub fn not_served(&self, error: Error) -> Error {
        if self.lost_after.is_some() {
            error.maybe_applied()
        } else {
            error
        }
    }

    /// The body, which is a JSON object. INVALID_INPUT that says where it is wrong.
    pub fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Error> {
        // A list of a struct's values in the order of its fields would do for serde.
        let first = self.body.iter().find(|byte| !byte.is_ascii_whitespace());
        if first.is_some_and(|first| *first != b'{') {
            return Err(Error::new(
                ErrorCode::InvalidInput,
                "the request body is not a JSON object",
            ));
        }
        serde_json::from_slice(&self.body).map_err(|e| {
            Error::new(
                ErrorCode::InvalidInput,
                format!("the request body is not valid: {e}"),
            )
        })
    }
}

/// A name for a new request.
pub fn new_request() -> RequestId {
    ulid::Ulid::generate().to_bytes()
}

/// A finished answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Bytes,
    /// The log index the answer reflects; 0 if it reflects none.
    pub index: LogIndex,
    /// Seconds after which to try again, where that makes sense.
    pub retry_after_seconds: Option<u32>,
    /// Leases on what is in it, for the node that holds the client.
    pub leases: Vec<ReleaseRequest>,
    /// What to do if the client does not get it.
    pub undelivered: Option<OnUndelivered>,
}

impl Reply {
    /// A 200 with this JSON text.
    pub fn ok(body: impl Into<Bytes>, index: LogIndex) -> Reply {
        Reply {
            status: 200,
            body: body.into(),
            index,
            retry_after_seconds: None,
            leases: Vec::new(),
            undelivered: None,
        }
    }

    /// A 200 with this value as JSON.
    pub fn json<T: serde::Serialize>(value: &T, index: LogIndex) -> Result<Reply, Error> {
        serde_json::to_vec(value)
            .map(|body| Reply::ok(body, index))
            .map_err(|e| {
                Error::new(
                    ErrorCode::InternalError,
                    format!("the answer cannot be written: {e}"),
                )
            })
    }

    /// The error's status and body in the operation's shape.
    pub fn error(error: &Error, shape: ErrorShape, took_ms: f64) -> Reply {
        let body = match shape {
            ErrorShape::Sql => serde_json::to_vec(&api::error::sql_error(error, took_ms)),
            ErrorShape::Plain => serde_json::to_vec(&api::error::topic_error(error)),
            ErrorShape::Auth => serde_json::to_vec(&api::error::auth_error(error)),
        };
        let retry = matches!(
            error.code,
            ErrorCode::ClusterUnavailable | ErrorCode::Overloaded | ErrorCode::RateLimitExceeded
        );
        Reply {
            status: error.code.http_status(),
            // These types have string keys and plain fields only; serializing them cannot fail.
            body: body.unwrap_or_default().into(),
            index: 0,
            retry_after_seconds: retry.then_some(1),
            leases: Vec::new(),
            undelivered: None,
        }
    }
}

/// Why a call has no answer of its own.
#[derive(Debug)]
pub enum Failure {
    /// The caller gets this error.
    Error(Error),
    /// This node does not lead, and certainly nothing was appended: the leader must do it.
    NotLeader,
    /// It may have been appended, and this node cannot know what becomes of it; the leader of the
    /// next term can. The error is for a caller who does not want to wait for that.
    Lost(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

impl Failure {
    /// Shorthand for an error with a code and a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure::Error(Error::new(code, message))
    }

    /// The same, of a call that may have happened before.
    #[must_use]
    pub fn maybe_applied(self) -> Failure {
        match self {
            Failure::Error(error) => Failure::Error(error.maybe_applied()),
            Failure::NotLeader | Failure::Lost(_) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_values_is_no_object() {
        let list = Call::new(Operation::Sql, Bytes::from_static(b" [\"DROP TABLE t\"]"));
        let error = list.json::<api::SqlRequest>().expect_err("refused");
        assert_eq!(error.code, ErrorCode::InvalidInput);
        let object = Call::new(
            Operation::Sql,
            Bytes::from_static(b"\n{\"sql\":\"SELECT 1\"}"),
        );
        let request = object.json::<api::SqlRequest>().expect("reads");
        assert_eq!(request.sql, "SELECT 1");
    }
}
