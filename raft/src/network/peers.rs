//! Connections to other nodes, with the proof that goes with every call.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::Stream;
use prost::Message;
use tokio::runtime::Handle;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::BinaryMetadataValue;
use tonic::transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use types::ids::NodeId;
use types::limits::RPC_MESSAGE_MAX_BYTES;

use super::addresses::Addresses;
use crate::rpc::auth::{HandshakeRequest, HandshakeResponse, Identity, SESSION_KEY};
use crate::rpc::path;
use crate::tls::Tls;

/// How long connecting to a node may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the handshake may take, on top of connecting.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection without traffic is tried, and how long the answer may take.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// Bytes that may be under way on one stream, and on one connection.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// What a connection is for. Each kind has connections of its own, so that none waits behind
/// another's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Log entries.
    Append,
    /// Heartbeats, votes, leadership transfer.
    Control,
    /// Snapshots.
    Snapshot,
    /// Read indexes, status, joining.
    Requests,
    /// What the node passes on for its clients.
    Forward,
}

/// The other nodes. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<PeersShared>,
}

struct PeersShared {
    identity: Identity,
    runtime: Handle,
    addresses: Addresses,
    channels: Mutex<BTreeMap<(NodeId, Lane), Link>>,
    sessions: Mutex<BTreeMap<NodeId, (String, Arc<SessionSlot>)>>,
}

#[derive(Clone)]
struct Link {
    address: String,
    /// What the connection is made with. Once it was replaced, another one is made.
    tls: Option<Arc<Tls>>,
    channel: Channel,
}

/// The proof for one node at one address; made when it is first needed.
#[derive(Default)]
struct SessionSlot {
    value: Mutex<Option<BinaryMetadataValue>>,
    /// Held while hands are shaken, so that it happens once for all who wait.
    shaking: tokio::sync::Mutex<()>,
    /// That there is no TLS with the node has been logged.
    warned: AtomicBool,
}

/// One other node at one address. Cheap to make and to clone; connects when it is first used.
#[derive(Clone)]
pub struct Peer {
    target: NodeId,
    /// Where it is asked; only for messages.
    address: Arc<str>,
    channel: Channel,
    session: Arc<SessionSlot>,
    peers: Arc<PeersShared>,
}

impl Peers {
    /// No connections yet. They will run on `runtime`.
    pub fn new(identity: Identity, runtime: Handle) -> Peers {
        let (channels, sessions) = (Mutex::default(), Mutex::default());
        Peers {
            shared: Arc::new(PeersShared {
                identity,
                runtime,
                addresses: Addresses::default(),
                channels,
                sessions,
            }),
        }
    }

    /// The node `target` at `address` (`host:port`). 0: whoever is there. An error if the address
    /// cannot be one.
    pub fn peer(&self, target: NodeId, address: &str, lane: Lane) -> Result<Peer, Status> {
        let channel = self.channel(target, address, lane)?;
        let mut sessions = lock(&self.shared.sessions);
        let slot = sessions
            .entry(target)
            .and_modify(|(known, slot)| {
                if known != address {
                    (*known, *slot) = (address.to_owned(), Arc::default());
                }
            })
            .or_insert_with(|| (address.to_owned(), Arc::default()));
        let session = slot.1.clone();
        Ok(Peer {
            target,
            address: address.into(),
            channel,
            session,
            peers: self.shared.clone(),
        })
    }

    /// Where the nodes are.
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.shared.addresses
    }

    fn channel(&self, target: NodeId, address: &str, lane: Lane) -> Result<Channel, Status> {
        let tls = self.shared.identity.secret.tls();
        let mut channels = lock(&self.shared.channels);
        if let Some(link) = channels.get(&(target, lane))
            && link.address == address
            && same(link.tls.as_ref(), tls.as_ref())
        {
            return Ok(link.channel.clone());
        }
        let scheme = tls.as_ref().map_or("http", |_| "https");
        let impossible = |error: tonic::transport::Error| {
            Status::invalid_argument(format!("address {address}: {}", chain(&error)))
        };
        let mut endpoint =
            Endpoint::from_shared(format!("{scheme}://{address}")).map_err(impossible)?;
        if let Some(tls) = &tls {
            endpoint = endpoint.tls_config(client_tls(tls)).map_err(impossible)?;
        }
        let endpoint = endpoint
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let _on_our_runtime = self.shared.runtime.enter();
        let channel = connect_lazily(&endpoint, self.shared.identity.node_id, address);
        let link = Link {
            address: address.to_owned(),
            tls,
            channel: channel.clone(),
        };
        channels.insert((target, lane), link);
        Ok(channel)
    }
}

impl Peer {
    /// The node's number.
    pub fn node_id(&self) -> NodeId {
        self.target
    }

    /// One question, one answer, within `timeout`. Shakes hands again if the node has restarted
    /// since.
    pub async fn unary<Q, A>(
        &self,
        path: &'static str,
        question: Q,
        timeout: Duration,
    ) -> Result<A, Status>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let first = self.unary_once(path, question.clone()).await;
            match first {
                Err(status) if status.code() == Code::Unauthenticated => {
                    self.unary_once(path, question).await
                }
                other => other,
            }
        };
        tokio::time::timeout(timeout, call)
            .await
            .unwrap_or_else(|_| Err(timed_out(timeout)))
    }

    async fn unary_once<Q, A>(&self, path: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = self.proven(question).await?;
        let mut grpc = self.grpc().await?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc
            .unary(request, PathAndQuery::from_static(path), codec)
            .await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| self.failed(status))
    }

    /// A stream of questions and one of answers, open within `timeout`.
    pub async fn streaming<Q, A>(
        &self,
        path: &'static str,
        questions: impl Stream<Item = Q> + Send + 'static,
        timeout: Duration,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let open = async {
            let request = self.proven(questions).await?;
            let mut grpc = self.grpc().await?;
            let codec = ProstCodec::<Q, A>::default();
            let answers = grpc
                .streaming(request, PathAndQuery::from_static(path), codec)
                .await;
            answers
                .map(tonic::Response::into_inner)
                .map_err(|status| self.failed(status))
        };
        tokio::time::timeout(timeout, open)
            .await
            .unwrap_or_else(|_| Err(timed_out(timeout)))
    }

    /// A stream of questions and one answer at its end.
    pub async fn client_streaming<Q, A>(
        &self,
        path: &'static str,
        questions: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = self.proven(questions).await?;
        let mut grpc = self.grpc().await?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc
            .client_streaming(request, PathAndQuery::from_static(path), codec)
            .await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| self.failed(status))
    }

    /// To be told of the status a call or stream ended with: where it says that the node has
    /// restarted, the next call shakes hands again.
    pub fn judge(&self, status: &Status) {
        if status.code() == Code::Unauthenticated {
            *lock(&self.session.value) = None;
        }
    }

    fn failed(&self, status: Status) -> Status {
        self.judge(&status);
        self.explained(status)
    }

    async fn proven<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert_bin(SESSION_KEY, self.session().await?);
        Ok(request)
    }

    async fn session(&self) -> Result<BinaryMetadataValue, Status> {
        if let Some(value) = lock(&self.session.value).clone() {
            return Ok(value);
        }
        // A task of its own: a heartbeat that gives up waiting must not undo what the next one
        // would have to do again.
        let peer = self.clone();
        self.peers
            .runtime
            .spawn(async move { peer.shake_hands().await })
            .await
            .unwrap_or_else(|error| Err(Status::internal(error.to_string())))
    }

    async fn shake_hands(&self) -> Result<BinaryMetadataValue, Status> {
        let _turn = self.session.shaking.lock().await;
        if let Some(value) = lock(&self.session.value).clone() {
            return Ok(value);
        }
        let identity = &self.peers.identity;
        let request = identity.handshake(self.target);
        let ask = async {
            let mut grpc = self.grpc().await?;
            let codec = ProstCodec::<HandshakeRequest, HandshakeResponse>::default();
            let path = PathAndQuery::from_static(path::HANDSHAKE);
            grpc.unary(Request::new(request.clone()), path, codec).await
        };
        let answer = tokio::time::timeout(HANDSHAKE_TIMEOUT, ask).await;
        let answer = answer.unwrap_or_else(|_| Err(timed_out(HANDSHAKE_TIMEOUT)));
        let response = answer
            .map_err(|status| self.explained(status))?
            .into_inner();
        self.session.warned.store(false, Ordering::Relaxed);
        let value = identity.session(request, response).map_err(|error| {
            tracing::warn!(target_node = self.target, %error, "handshake failed");
            Status::failed_precondition(error.to_string())
        })?;
        *lock(&self.session.value) = Some(value.clone());
        Ok(value)
    }

    /// A failure of the connection with its cause, which tonic leaves out of the message.
    fn explained(&self, status: Status) -> Status {
        match std::error::Error::source(&status) {
            Some(source) => self.caused(status.code(), chain(source)),
            // What the other node answered says it all.
            None => status,
        }
    }

    /// A failure of TLS is final: no later try mends a certificate. It is logged once for each time
    /// it begins.
    fn caused(&self, code: Code, cause: String) -> Status {
        if !is_tls_failure(&cause) {
            return Status::new(code, cause);
        }
        let (target, address) = (self.target, &self.address);
        if !self.session.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(target_node = target, %address, %cause, "no TLS with the node");
        }
        Status::failed_precondition(format!("no TLS with {address}: {cause}"))
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone())
            .max_decoding_message_size(RPC_MESSAGE_MAX_BYTES)
            .max_encoding_message_size(RPC_MESSAGE_MAX_BYTES);
        grpc.ready()
            .await
            .map_err(|error| self.caused(Code::Unavailable, chain(&error)))?;
        Ok(grpc)
    }
}

fn same(one: Option<&Arc<Tls>>, other: Option<&Arc<Tls>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(not(test))]
fn connect_lazily(endpoint: &Endpoint, _: NodeId, _: &str) -> Channel {
    endpoint.connect_lazy()
}

/// Nodes of a simulation have no sockets.
#[cfg(test)]
fn connect_lazily(endpoint: &Endpoint, from: NodeId, address: &str) -> Channel {
    match crate::simulation::connector(from, address) {
        Some(connector) => endpoint.connect_with_connector_lazy(connector),
        None => endpoint.connect_lazy(),
    }
}

/// How this node meets another with mutual TLS: it shows its certificate, and wants one that names
/// the host of the address, by the cluster's authorities.
fn client_tls(tls: &Tls) -> ClientTlsConfig {
    ClientTlsConfig::new()
        .identity(transport::Identity::from_pem(&tls.certificate, &tls.key))
        .ca_certificate(Certificate::from_pem(&tls.authorities))
        .timeout(HANDSHAKE_TIMEOUT)
}

/// An error with what caused it, outermost first, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

/// Is this how rustls says that the two ends do not trust each other, or that one of them speaks no
/// TLS? The error itself is out of reach behind those of HTTP/2.
fn is_tls_failure(cause: &str) -> bool {
    [
        "invalid peer certificate",
        "received fatal alert",
        "received corrupt message",
    ]
    .iter()
    .any(|words| cause.contains(words))
}

fn timed_out(timeout: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {timeout:?}"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What the locks of this module guard is replaced as a whole, so a panic leaves it sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
