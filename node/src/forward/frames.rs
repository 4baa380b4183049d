//! What crosses the stream of forwarded calls.

use bytes::{Bytes, BytesMut};
use prost::{Message, Oneof};
use types::limits::FORWARD_PART_BYTES;

use crate::service::call::Operation;
use crate::service::topics::ReleaseRequest;

/// From the node that holds the client to the leader.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// What it is about.
    #[prost(oneof = "RequestKind", tags = "1, 2")]
    pub kind: Option<RequestKind>,
}

/// The kinds of [`Request`].
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are calls; an allocation for each would be for nothing"
)]
#[derive(Clone, PartialEq, Oneof)]
pub enum RequestKind {
    /// A client's call.
    #[prost(message, tag = "1")]
    Call(ForwardedCall),
    /// The client of this call is gone: stop waiting for it.
    #[prost(uint64, tag = "2")]
    Cancel(u64),
}

/// A client's call, as one node passes it to another.
#[derive(Clone, PartialEq, Message)]
pub struct ForwardedCall {
    /// Names the call on this stream.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is to be done.
    #[prost(enumeration = "Operation", tag = "2")]
    pub operation: i32,
    /// Who asks; empty: nobody.
    #[prost(string, tag = "3")]
    pub user: String,
    /// When its token was issued, in seconds since 1970.
    #[prost(int64, tag = "4")]
    pub issued_at: i64,
    /// Where the client is; empty: not known.
    #[prost(string, tag = "5")]
    pub ip: String,
    /// How long the client still waits.
    #[prost(uint64, tag = "6")]
    pub remaining_ms: u64,
    /// What the answer must reflect.
    #[prost(uint64, tag = "7")]
    pub min_index: u64,
    /// Empty: none.
    #[prost(string, tag = "8")]
    pub idempotency_key: String,
    /// The request body.
    #[prost(bytes = "bytes", tag = "9")]
    pub body: Bytes,
    /// The request's name, 16 bytes.
    #[prost(bytes = "bytes", tag = "10")]
    pub request: Bytes,
    /// The leadership it is to be served in.
    #[prost(uint64, optional, tag = "11")]
    pub term: Option<u64>,
    /// Set if an answer was lost before: where it can have happened.
    #[prost(uint64, optional, tag = "12")]
    pub lost_after: Option<u64>,
    /// How long a consume still waits for messages.
    #[prost(uint64, optional, tag = "13")]
    pub wait_ms: Option<u64>,
}

/// From the leader back.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// Which call.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// HTTP status; 0: the node does not lead and did nothing.
    #[prost(uint32, tag = "2")]
    pub status: u32,
    /// JSON.
    #[prost(bytes = "bytes", tag = "3")]
    pub body: Bytes,
    /// The log index the answer reflects.
    #[prost(uint64, tag = "4")]
    pub index: u64,
    /// Seconds after which to try again; 0: not said.
    #[prost(uint32, tag = "5")]
    pub retry_after_seconds: u32,
    /// With status 0: it may have been appended after all, and this node cannot know more.
    #[prost(bool, tag = "6")]
    pub lost: bool,
    /// More of the body follows; everything else comes with its last part.
    #[prost(bool, tag = "7")]
    pub more: bool,
    /// Leases on what is in the body.
    #[prost(message, repeated, tag = "8")]
    pub leases: Vec<ReleaseRequest>,
}

impl Response {
    /// The same answer in parts that fit a message; the last one has all but the body's beginning.
    pub fn into_parts(mut self) -> impl Iterator<Item = Response> {
        let whole = self.body.len().div_ceil(FORWARD_PART_BYTES).max(1);
        (1..=whole).map(move |part| {
            if part == whole {
                return std::mem::take(&mut self);
            }
            Response {
                id: self.id,
                body: self.body.split_to(FORWARD_PART_BYTES),
                more: true,
                ..Response::default()
            }
        })
    }
}

/// The parts of an answer that have come so far.
#[derive(Default)]
pub struct Parts(BytesMut);

impl Parts {
    /// Takes the next part; the whole answer with the last one.
    pub fn add(&mut self, mut part: Response) -> Option<Response> {
        if self.0.is_empty() && !part.more {
            return Some(part);
        }
        self.0.extend_from_slice(&part.body);
        if part.more {
            return None;
        }
        part.body = std::mem::take(&mut self.0).freeze();
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use types::limits::RPC_MESSAGE_MAX_BYTES;

    use super::*;

    fn answer(body: Bytes) -> Response {
        Response {
            id: 7,
            status: 200,
            body,
            index: 9,
            ..Response::default()
        }
    }

    #[test]
    fn an_answer_of_any_size_goes_in_parts_that_fit_a_message() {
        let bytes = |count: usize| -> Bytes { (0..count).map(|i| (i % 251) as u8).collect() };
        for size in [
            0,
            1,
            FORWARD_PART_BYTES,
            FORWARD_PART_BYTES + 1,
            RPC_MESSAGE_MAX_BYTES + 3,
        ] {
            let whole = answer(bytes(size));
            let mut parts = Parts::default();
            let mut joined = Vec::new();
            for part in whole.clone().into_parts() {
                assert!(part.id == 7 && part.encoded_len() < RPC_MESSAGE_MAX_BYTES / 2);
                joined.extend(parts.add(part));
            }
            assert!(joined == [whole], "{size} bytes");
        }
    }
}
