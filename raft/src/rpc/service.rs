//! Takes the calls of other nodes.

use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use openraft::raft::{TransferLeaderRequest, VoteRequest};
use prost::Message;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use types::ids::NodeId;
use types::limits::RPC_MESSAGE_MAX_BYTES;

use super::auth::{Guard, HANDSHAKE_MAX_BYTES, HandshakeRequest};
use super::messages::{
    self, AnnounceRequest, AnnounceResponse, FarewellRequest, FarewellResponse, HelloRequest,
    HelloResponse, InviteRequest, InviteResponse, JoinRequest, ReadIndexRequest, ReadIndexResponse,
    StatusRequest, TransferRequest, TransferResponse,
};
use super::{append, path, snapshot};
use crate::handle::Raft;
use crate::options::Secret;

/// The service other nodes call. Cheap to clone.
#[derive(Clone)]
pub struct RpcService {
    guard: Guard,
    node: Arc<OnceLock<Raft>>,
    joining: Arc<OnceLock<Joining>>,
}

/// A node that waits until a cluster takes it in.
struct Joining {
    /// The RPC address it joins with.
    rpc: String,
    invitations: watch::Sender<Option<Invitation>>,
}

/// What a cluster tells a node that waits to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// RPC addresses of the members.
    pub members: Vec<String>,
    /// The number to ask for; none: any.
    pub requested_id: Option<NodeId>,
    /// To stay without a vote.
    pub learner: bool,
}

impl RpcService {
    /// The service of a node that belongs to no cluster yet: it says so, and nothing else.
    pub fn new(secret: Secret) -> RpcService {
        RpcService {
            guard: Guard::new(secret),
            node: Arc::default(),
            joining: Arc::default(),
        }
    }

    /// The node waits to join a cluster, with this RPC address, and takes invitations from now on.
    pub fn wait_to_join(&self, rpc: &str) -> watch::Receiver<Option<Invitation>> {
        let joining = self.joining.get_or_init(|| Joining {
            rpc: rpc.to_owned(),
            invitations: watch::Sender::new(None),
        });
        joining.invitations.subscribe()
    }

    /// The node belongs to a cluster from now on, and takes part. Once only.
    pub fn attach(&self, node: &Raft) {
        self.guard.belong(node.cluster_id(), node.node_id());
        if self.node.set(node.clone()).is_err() {
            tracing::error!("a second node was attached to one service");
        }
    }

    /// Checks who calls, for services of the node's own on the same listener.
    pub fn guard(&self) -> Guard {
        self.guard.clone()
    }

    /// The node, for a caller that is one of the cluster.
    fn for_member(&self, metadata: &MetadataMap) -> Result<&Raft, Status> {
        self.guard.check_member(metadata)?;
        self.started()
    }

    fn started(&self) -> Result<&Raft, Status> {
        let not_yet = || Status::unavailable("this node does not belong to a cluster yet");
        self.node.get().ok_or_else(not_yet)
    }

    async fn hello(self, request: Request<HelloRequest>) -> Result<HelloResponse, Status> {
        self.guard.check(request.metadata())?;
        let (cluster_id, node_id) = self.guard.own().unwrap_or_default();
        let asks_from = request.into_inner().rpc;
        let member_there = self.node.get().and_then(|node| node.member_at(&asks_from));
        Ok(HelloResponse {
            cluster_id,
            node_id,
            member_there: member_there.unwrap_or(0),
        })
    }

    async fn announce(self, request: Request<AnnounceRequest>) -> Result<AnnounceResponse, Status> {
        let caller = self.guard.check_neighbour(request.metadata())?;
        let member = request.into_inner().member;
        let node = self.started()?;
        Ok(node.hear_announcement(caller.node_id, member).await)
    }

    async fn farewell(self, request: Request<FarewellRequest>) -> Result<FarewellResponse, Status> {
        self.for_member(request.metadata())?.ask_if_member_now();
        Ok(FarewellResponse {})
    }

    async fn invite(self, request: Request<InviteRequest>) -> Result<InviteResponse, Status> {
        self.guard.check(request.metadata())?;
        let waits = self.joining.get().filter(|_| self.guard.own().is_none());
        let joining = waits.ok_or_else(|| {
            Status::failed_precondition("the node there was not started with --join")
        })?;
        let invite = request.into_inner();
        joining.invitations.send_replace(Some(Invitation {
            members: invite.members,
            requested_id: Some(invite.requested_id).filter(|id| *id != 0),
            learner: invite.learner,
        }));
        Ok(InviteResponse {
            rpc: joining.rpc.clone(),
        })
    }

    async fn join(self, request: Request<JoinRequest>) -> Result<messages::JoinResponse, Status> {
        self.guard.check(request.metadata())?;
        Ok(self.started()?.admit(request.into_inner()).await)
    }

    async fn vote(
        self,
        request: Request<messages::VoteRequest>,
    ) -> Result<messages::VoteResponse, Status> {
        let core = self.for_member(request.metadata())?.core();
        let message = request.into_inner();
        let pre_vote = message.pre_vote;
        let vote = VoteRequest::try_from(message)?;
        let answer = match pre_vote {
            true => core.pre_vote(vote).await,
            false => core.vote(vote).await,
        };
        let answer = answer.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(answer.into())
    }

    async fn transfer(self, request: Request<TransferRequest>) -> Result<TransferResponse, Status> {
        let core = self.for_member(request.metadata())?.core();
        let transfer = TransferLeaderRequest::try_from(request.into_inner())?;
        let answer = core.handle_transfer_leader(transfer).await;
        let answer = answer.map_err(|fatal| Status::unavailable(fatal.to_string()))?;
        Ok(answer.into())
    }

    async fn read_index(
        self,
        request: Request<ReadIndexRequest>,
    ) -> Result<ReadIndexResponse, Status> {
        let node = self.for_member(request.metadata())?;
        Ok(ReadIndexResponse {
            index: node.read_index_as_leader().await.unwrap_or(0),
        })
    }

    async fn status(
        self,
        request: Request<StatusRequest>,
    ) -> Result<messages::StatusResponse, Status> {
        let node = self.for_member(request.metadata())?;
        Ok(node.own_status(request.into_inner()))
    }

    async fn snapshot_offer(
        self,
        request: Request<messages::SnapshotOffer>,
    ) -> Result<messages::SnapshotOfferResponse, Status> {
        let node = self.for_member(request.metadata())?;
        snapshot::offered(node.store(), request.get_ref())
    }

    async fn call(self, request: http::Request<Body>) -> http::Response<Body> {
        let name = request.uri().path().to_owned();
        match name.as_str() {
            path::HANDSHAKE => {
                let guard = self.guard;
                let shake = |request: Request<HandshakeRequest>| async move {
                    guard.handshake(request.get_ref())
                };
                unary_within(HANDSHAKE_MAX_BYTES, request, shake).await
            }
            path::HELLO => unary(request, |request| self.hello(request)).await,
            path::ANNOUNCE => unary(request, |request| self.announce(request)).await,
            path::FAREWELL => unary(request, |request| self.farewell(request)).await,
            path::INVITE => unary(request, |request| self.invite(request)).await,
            path::JOIN => unary(request, |request| self.join(request)).await,
            path::VOTE => unary(request, |request| self.vote(request)).await,
            path::TRANSFER => unary(request, |request| self.transfer(request)).await,
            path::READ_INDEX => unary(request, |request| self.read_index(request)).await,
            path::STATUS => unary(request, |request| self.status(request)).await,
            path::SNAPSHOT_OFFER => unary(request, |request| self.snapshot_offer(request)).await,
            path::APPEND => self.append(request).await,
            path::SNAPSHOT => self.snapshot(request).await,
            _ => Status::unimplemented(format!("no call {name}")).into_http(),
        }
    }

    async fn append(self, request: http::Request<Body>) -> http::Response<Body> {
        let handler = tower::service_fn(|request: Request<_>| {
            let service = self.clone();
            async move {
                let core = service.for_member(request.metadata())?.core();
                Ok(Response::new(append::serve(core, request.into_inner())))
            }
        });
        grpc().streaming(handler, request).await
    }

    async fn snapshot(self, request: http::Request<Body>) -> http::Response<Body> {
        let handler = tower::service_fn(|request: Request<_>| {
            let service = self.clone();
            async move {
                let node = service.for_member(request.metadata())?;
                let store = node.store().clone();
                let answer = snapshot::serve(node.core(), store, request.into_inner()).await;
                answer.map(Response::new)
            }
        });
        grpc().client_streaming(handler, request).await
    }
}

fn grpc<Q, A>() -> Grpc<ProstCodec<A, Q>>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(RPC_MESSAGE_MAX_BYTES)
        .max_encoding_message_size(RPC_MESSAGE_MAX_BYTES)
}

async fn unary<Q, A, F>(
    request: http::Request<Body>,
    handler: impl FnOnce(Request<Q>) -> F,
) -> http::Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Future<Output = Result<A, Status>>,
{
    unary_within(RPC_MESSAGE_MAX_BYTES, request, handler).await
}

/// A question of at most `max_bytes`.
async fn unary_within<Q, A, F>(
    max_bytes: usize,
    request: http::Request<Body>,
    handler: impl FnOnce(Request<Q>) -> F,
) -> http::Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Future<Output = Result<A, Status>>,
{
    let mut handler = Some(handler);
    let once = tower::service_fn(|request| {
        let answer = handler.take().map(|handler| handler(request));
        async move {
            let answer = answer
                .ok_or_else(|| Status::internal("called twice"))?
                .await?;
            Ok(Response::new(answer))
        }
    });
    grpc()
        .max_decoding_message_size(max_bytes)
        .unary(once, request)
        .await
}

impl NamedService for RpcService {
    const NAME: &'static str = "duet.raft.v1.Raft";
}

impl Service<http::Request<Body>> for RpcService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.call(request).await) })
    }
}
