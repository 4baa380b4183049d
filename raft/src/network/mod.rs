//! How this node calls others: what openraft asks of a network.
//!
//! Files: [`peers`] has the connections and the proof that goes with each call, [`addresses`] where
//! they go; [`append`] is the stream of log entries; [`snapshot`] the transfer of one. Log entries,
//! heartbeats with votes, and snapshots have a connection each, so none waits behind another's
//! bytes.

pub mod peers;

mod addresses;
mod append;
mod snapshot;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use openraft::StorageError;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RPCTypes, RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::TypeConfigExt;
use tonic::{Code, Status};
use types::ids::NodeId;

use self::peers::{Lane, Peer, Peers};
use self::snapshot::SendError;
use crate::observe::Events;
use crate::rpc::{convert, messages, path};
use crate::type_config::{Member, Snapshot, SnapshotData, TypeConfig, Vote};

/// Makes connections for the core.
pub(crate) struct Network {
    node_id: NodeId,
    peers: Peers,
    events: Arc<Events>,
}

impl Network {
    pub(crate) fn new(node_id: NodeId, peers: Peers, events: Arc<Events>) -> Network {
        Network {
            node_id,
            peers,
            events,
        }
    }

    fn connection(&self, target: NodeId, member: &Member, lane: Lane) -> Connection {
        Connection {
            node_id: self.node_id,
            target,
            rpc: member.rpc.clone(),
            lane,
            peers: self.peers.clone(),
            events: Arc::clone(&self.events),
            failed_opens: 0,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: NodeId, member: &Member) -> Connection {
        self.connection(target, member, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, member: &Member) -> Connection {
        self.connection(target, member, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, member: &Member) -> Connection {
        self.connection(target, member, Lane::Snapshot)
    }
}

/// One node, as the core calls it for one purpose.
pub(crate) struct Connection {
    node_id: NodeId,
    target: NodeId,
    /// Where the membership had it when this was made.
    rpc: String,
    lane: Lane,
    peers: Peers,
    events: Arc<Events>,
    /// Streams that could not be opened since the last one that could.
    failed_opens: u32,
}

/// First and longest pause before a stream is opened again after that failed.
const REOPEN_PAUSE_MIN: Duration = Duration::from_millis(25);
const REOPEN_PAUSE_MAX: Duration = Duration::from_millis(400);

impl Connection {
    /// How long to leave the node alone. The core's own backoff begins only when a stream takes its
    /// first request, which one that cannot be opened never does.
    ///
    /// Heartbeats come at their own interval, and the core gives each no longer than that: after a
    /// pause it would be over before it was sent, and so would all that follow.
    fn reopen_pause(&self) -> Duration {
        match self.failed_opens {
            _ if self.lane == Lane::Control => Duration::ZERO,
            0 => Duration::ZERO,
            failed => (REOPEN_PAUSE_MIN * 2_u32.pow(failed.min(8) - 1)).min(REOPEN_PAUSE_MAX),
        }
    }

    /// The node, where it is now. An error if its address cannot be one.
    fn peer(&self) -> Result<Peer, RPCError<TypeConfig>> {
        self.peer_on(self.lane)
    }

    /// The node on the connection of heartbeats, whatever this one is for.
    fn control(&self) -> Result<Peer, RPCError<TypeConfig>> {
        self.peer_on(Lane::Control)
    }

    fn peer_on(&self, lane: Lane) -> Result<Peer, RPCError<TypeConfig>> {
        let now = self.peers.addresses().of(self.target);
        let rpc = now.as_ref().unwrap_or(&self.rpc);
        let peer = self.peers.peer(self.target, rpc, lane);
        peer.map_err(|status| unreachable(&status))
    }

    /// What a status means to the core: a timeout, or a node to be left alone for a moment.
    fn error(&self, action: RPCTypes, timeout: Duration, status: &Status) -> RPCError<TypeConfig> {
        if status.code() == Code::DeadlineExceeded {
            let (id, target) = (self.node_id, self.target);
            return RPCError::Timeout(Timeout {
                action,
                id,
                target,
                timeout,
            });
        }
        unreachable(status)
    }

    async fn ask_vote(
        &self,
        request: &VoteRequest<TypeConfig>,
        pre_vote: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let timeout = option.soft_ttl();
        let message = convert::vote_message(request, pre_vote);
        let answer = self.control()?.unary(path::VOTE, message, timeout).await;
        answer
            .and_then(|answer: messages::VoteResponse| answer.try_into())
            .map_err(|status| self.error(RPCTypes::Vote, timeout, &status))
    }
}

fn unreachable(status: &Status) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(status))
}

impl NetBackoff<TypeConfig> for Connection {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetVote<TypeConfig> for Connection {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(&request, false, option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(&request, true, option).await
    }
}

impl NetTransferLeader<TypeConfig> for Connection {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let timeout = option.soft_ttl();
        let message = messages::TransferRequest::from(&request);
        let answer = self
            .control()?
            .unary(path::TRANSFER, message, timeout)
            .await;
        answer
            .map(|answer| convert::transfer_result(&request, &answer))
            .map_err(|status| self.error(RPCTypes::TransferLeader, timeout, &status))
    }
}

impl NetStreamAppend<TypeConfig> for Connection {
    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            tokio::time::sleep(self.reopen_pause()).await;
            let answers = append::open(&self.peer()?, requests, option.soft_ttl()).await;
            self.failed_opens = match &answers {
                Ok(_) => 0,
                Err(_) => self.failed_opens.saturating_add(1),
            };
            let timeout = append::ANSWER_TIMEOUT;
            let connection = &*self;
            let answers = answers
                .map_err(|status| connection.error(RPCTypes::AppendEntries, timeout, &status))?;
            let mapped = futures::StreamExt::map(answers, move |answer| {
                answer.map_err(|status| connection.error(RPCTypes::AppendEntries, timeout, &status))
            });
            Ok(Box::pin(mapped) as BoxStream<'s, _>)
        })
    }
}

impl NetSnapshot<TypeConfig> for Connection {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let peer = self.peer()?;
        let signature = snapshot.meta.signature();
        let send = tokio::time::timeout(option.soft_ttl(), snapshot::send(&peer, vote, snapshot));
        let answer = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answer = send => answer,
        };
        let timeout = option.soft_ttl();
        let too_long = || Err(Status::deadline_exceeded("snapshot").into());
        let answer = answer.unwrap_or_else(|_| too_long());
        Events::count(match &answer {
            Ok(_) => &self.events.snapshots_sent,
            Err(_) => &self.events.snapshots_not_sent,
        });
        match answer {
            Ok(vote) => Ok(SnapshotResponse::new(vote)),
            Err(SendError::Status(status)) => Err(self
                .error(RPCTypes::InstallSnapshot, timeout, &status)
                .into()),
            // Ends this node: whoever it tries to bring forward, it cannot.
            Err(SendError::Local(error)) => {
                tracing::error!(%error, "this node's snapshot is damaged; this node has to stop");
                let source = TypeConfig::err_from_string(error.to_string());
                Err(StorageError::read_snapshot(Some(signature), source).into())
            }
        }
    }
}
