//! Calls that only the leader can serve, passed to it over one long-lived stream per peer.
//!
//! A unary RPC a call would cost twice the CPU. On the stream, calls have numbers and are answered
//! in any order; when a client goes away its call is cancelled at the leader. A stream that breaks
//! leaves the calls on it [`ForwardError::Lost`]: they may have happened.

mod frames;
mod server;
mod stream;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use raft::network::peers::{Lane, Peers};
use types::ids::NodeId;

use self::frames::{ForwardedCall, Response};
use self::stream::Stream;
use crate::service::call::{Call, Reply};

pub use self::server::{Forwarded, service};

/// The generated server of the stream.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/duet.node.v1.Forward.rs"));
}

/// What to do with an answer that comes after its caller stopped waiting.
pub type IfOrphaned = Box<dyn FnOnce(Reply) + Send>;

/// Why a forwarded call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardError {
    /// It never left this node.
    NotSent,
    /// The other node does not lead; it did nothing.
    NotLeader,
    /// Too many calls wait already; it never left this node.
    Overloaded,
    /// The stream broke after it was sent.
    Lost,
    /// The deadline passed after it was sent.
    Late,
}

/// The stream to each node, with the address it goes to.
type Streams = HashMap<NodeId, (String, Arc<Stream>)>;

/// Passes calls on. Cheap to clone.
#[derive(Clone)]
pub struct Forwarder {
    peers: Peers,
    streams: Arc<Mutex<Streams>>,
}

impl Forwarder {
    /// Over connections to other nodes on which this one has proved who it is.
    pub fn new(peers: Peers) -> Forwarder {
        Forwarder {
            peers,
            streams: Arc::default(),
        }
    }

    /// Passes `call` to the node at `rpc`. If the returned future is dropped, the call is cancelled
    /// there; should it have been answered by then, `if_orphaned` gets the answer.
    pub async fn call(
        &self,
        node: NodeId,
        rpc: &str,
        call: &Call,
        if_orphaned: Option<IfOrphaned>,
    ) -> Result<Reply, ForwardError> {
        let stream = self.stream(node, rpc).ok_or(ForwardError::NotSent)?;
        let remaining = call.deadline.saturating_duration_since(Instant::now());
        let forwarded = ForwardedCall {
            id: 0,
            operation: call.operation.into(),
            user: call
                .caller
                .as_ref()
                .map(|c| c.user.clone())
                .unwrap_or_default(),
            issued_at: call.caller.as_ref().map_or(0, |c| c.issued_at),
            ip: call
                .caller
                .as_ref()
                .and_then(|c| c.ip.clone())
                .unwrap_or_default(),
            remaining_ms: u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX),
            min_index: call.min_index,
            idempotency_key: call.idempotency_key.clone().unwrap_or_default(),
            body: call.body.clone(),
            request: Bytes::copy_from_slice(&call.request),
            term: call.term,
            lost_after: call.lost_after,
            wait_ms: call.wait_until.map(|until| {
                let wait = until.saturating_duration_since(Instant::now());
                u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
            }),
        };
        let if_orphaned = if_orphaned.map(|act| {
            let act: stream::IfOrphaned = Box::new(move |response| {
                if let Ok(reply) = reply_of(response) {
                    act(reply);
                }
            });
            act
        });
        let response = stream.call(forwarded, call.deadline, if_orphaned).await?;
        reply_of(response)
    }

    /// Calls passed on and not answered, over all nodes.
    pub fn in_flight(&self) -> usize {
        let streams: Vec<_> = self.streams.lock().values().cloned().collect();
        streams.iter().map(|(_, stream)| stream.in_flight()).sum()
    }

    /// The stream to a node; a new one if its address changed or the old one broke. None if the
    /// address cannot be one.
    fn stream(&self, node: NodeId, rpc: &str) -> Option<Arc<Stream>> {
        let mut streams = self.streams.lock();
        if let Some((known, stream)) = streams.get(&node)
            && known == rpc
            && !stream.is_broken()
        {
            return Some(Arc::clone(stream));
        }
        let peer = self.peers.peer(node, rpc, Lane::Forward).ok()?;
        let stream = Arc::new(Stream::open(peer));
        streams.insert(node, (rpc.to_owned(), Arc::clone(&stream)));
        Some(stream)
    }
}

fn reply_of(response: Response) -> Result<Reply, ForwardError> {
    let status = u16::try_from(response.status).unwrap_or(500);
    if status == 0 {
        return Err(if response.lost {
            ForwardError::Lost
        } else {
            ForwardError::NotLeader
        });
    }
    Ok(Reply {
        status,
        body: response.body,
        index: response.index,
        retry_after_seconds: Some(response.retry_after_seconds).filter(|s| *s > 0),
        leases: response.leases,
        undelivered: None,
    })
}
