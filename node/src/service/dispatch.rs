//! Where a call is served: here, or at the leader, one hop away.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use types::ids::{LogIndex, NodeId, Term};
use types::{Error, ErrorCode};

use super::auth::AuthService;
use super::call::{Call, Failure, Operation, Reply};
use super::cluster::ClusterService;
use super::consensus::{Consensus, lost, no_leader, stopping};
use super::sql::SqlService;
use super::topics::ReleaseRequest;
use super::topics::TopicService;
use crate::forward::{ForwardError, Forwarder, IfOrphaned};

/// How a call came to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// From a client.
    First,
    /// From another node, which took this one for the leader. It is never passed on again.
    Second,
}

/// Serves calls, whichever interface they came through.
#[derive(Clone)]
pub struct Dispatcher {
    consensus: Consensus,
    forwarder: Forwarder,
    services: Arc<Services>,
}

/// The services, each with what it needs and no more.
pub struct Services {
    /// Statements.
    pub sql: SqlService,
    /// Messages and groups.
    pub topics: TopicService,
    /// Accounts and tokens.
    pub auth: AuthService,
    /// Members.
    pub cluster: ClusterService,
}

impl Dispatcher {
    /// Over these services.
    pub fn new(consensus: Consensus, forwarder: Forwarder, services: Arc<Services>) -> Dispatcher {
        Dispatcher {
            consensus,
            forwarder,
            services,
        }
    }

    /// Accounts and tokens, for the edge to authenticate with.
    pub fn auth(&self) -> &AuthService {
        &self.services.auth
    }

    /// Calls that were passed on and are not answered.
    pub fn forwarded_in_flight(&self) -> usize {
        self.forwarder.in_flight()
    }

    /// Serves a client's call. Always an answer; an error has the operation's shape.
    pub async fn serve(&self, call: Call) -> Reply {
        let began = Instant::now();
        let shape = call.operation.error_shape();
        match self.place(call).await {
            Ok(reply) => reply,
            Err(error) => Reply::error(&error, shape, began.elapsed().as_secs_f64() * 1_000.0),
        }
    }

    /// Serves a call that another node passed on. [`Failure::NotLeader`] sends it back untouched.
    pub async fn serve_forwarded(&self, call: &Call) -> Result<Reply, Failure> {
        self.run(call, Hop::Second).await
    }

    /// Here if possible; at the leader if that is needed.
    async fn place(&self, call: Call) -> Result<Reply, Error> {
        if let Operation::Consume = call.operation {
            return self.consume(&call).await;
        }
        self.here_or_at_leader(call, None).await
    }

    /// Tries here first, which is all that a read needs, and what a leader's own clients need.
    async fn here_or_at_leader(
        &self,
        mut call: Call,
        release: Option<&Release>,
    ) -> Result<Reply, Error> {
        let leadership = self.consensus.raft().leadership();
        call.term = leadership.is_leader.then_some(leadership.term);
        let tried_at = self.consensus.raft().applied();
        match self.run(&call, Hop::First).await {
            Ok(reply) => Ok(reply),
            Err(Failure::Error(error)) => Err(error),
            Err(failure) => self.at_leader(call, failure, tried_at, release).await,
        }
    }

    /// A consume with a group claims at the leader and reads here.
    async fn consume(&self, call: &Call) -> Result<Reply, Error> {
        let topics = &self.services.topics;
        match topics.claim_wanted(call).await? {
            None => topics.consume_alone(call).await,
            Some(claim) => {
                let release = Release {
                    dispatcher: self.clone(),
                    call: call.clone(),
                };
                let claim = Call {
                    operation: Operation::Claim,
                    body: claim,
                    ..call.clone()
                };
                let granted = self.here_or_at_leader(claim, Some(&release)).await?;
                if granted.status != 200 {
                    return Ok(granted);
                }
                topics.deliver(call, granted, release).await
            }
        }
    }

    /// Passes the call to the leader, whoever that is by then, until the deadline. `failure` is how
    /// the last try ended, and `tried_at` what this node had applied when it began. `release` gives
    /// back what a claim is granted after its client went away.
    ///
    /// Each try is bound to one term. If an answer is lost, the call goes on only to the leader of
    /// a later term, which can tell whether it happened.
    async fn at_leader(
        &self,
        mut call: Call,
        mut failure: Failure,
        mut tried_at: LogIndex,
        release: Option<&Release>,
    ) -> Result<Reply, Error> {
        let mut leadership = self.consensus.leadership_watch();
        let mut lost_in = None;
        loop {
            let now = leadership.borrow_and_update().clone();
            match &failure {
                Failure::Error(error) => return Err(error.clone()),
                Failure::NotLeader => {}
                Failure::Lost(_) if call.is_repeatable() => lost_in = None,
                Failure::Lost(_) => {
                    lost_in = lost_in.max(call.term);
                    call.lost_after = Some(call.lost_after.unwrap_or(tried_at));
                }
            }
            let later = lost_in.is_none_or(|term| now.term > term);
            let leader = now.leader.zip(now.leader_member);
            if let Some((leader, member)) = leader.filter(|_| later) {
                call.term = Some(now.term);
                tried_at = self.consensus.raft().applied();
                let outcome = if now.is_leader {
                    self.run(&call, Hop::First).await
                } else {
                    tokio::select! {
                        outcome = self.forward(leader, &member.rpc, &call, release) => outcome,
                        // A leader that was paused or cut off may never answer; its successor can.
                        () = self.superseded(now.term) => Err(Failure::Lost(lost())),
                    }
                };
                match outcome {
                    Ok(reply) => return Ok(reply),
                    Err(ended) => failure = ended,
                }
                if let Failure::Error(_) = failure {
                    continue;
                }
            }
            if !wait_for_change(&mut leadership, call.deadline).await? {
                // Whoever waited this long is told the truth about what was lost.
                return Err(if call.lost_after.is_some() {
                    lost()
                } else {
                    no_leader()
                });
            }
        }
    }

    /// Waits until another term has a leader.
    async fn superseded(&self, term: Term) {
        let mut leadership = self.consensus.leadership_watch();
        let later = |now: &raft::Leadership| now.term > term && now.leader.is_some();
        let stopped = leadership.wait_for(later).await.is_err();
        if stopped {
            // The node is stopping, and its requests with it.
            std::future::pending::<()>().await;
        }
    }

    async fn forward(
        &self,
        leader: NodeId,
        rpc: &str,
        call: &Call,
        release: Option<&Release>,
    ) -> Result<Reply, Failure> {
        let if_orphaned = release.map(|release| {
            let release = release.clone();
            let act: IfOrphaned = Box::new(move |reply| release.give_back_claim(&reply));
            act
        });
        match self.forwarder.call(leader, rpc, call, if_orphaned).await {
            Ok(reply) => Ok(reply),
            // It did not leave this node, or came back untouched.
            Err(ForwardError::NotSent | ForwardError::NotLeader) => Err(Failure::NotLeader),
            Err(ForwardError::Overloaded) => Err(Failure::new(
                ErrorCode::Overloaded,
                "too many requests wait for the leader",
            )),
            Err(ForwardError::Late) => Err(Failure::Error(
                Error::new(
                    ErrorCode::DeadlineExceeded,
                    "the leader did not answer in time",
                )
                .maybe_applied(),
            )),
            Err(ForwardError::Lost) => Err(Failure::Lost(lost())),
        }
    }

    /// Serves the call on this node.
    async fn run(&self, call: &Call, hop: Hop) -> Result<Reply, Failure> {
        use Operation::*;
        self.consensus.must_not_have_happened(call).await?;
        let Services {
            sql,
            topics,
            auth,
            cluster,
        } = &*self.services;
        match call.operation {
            Sql => sql.execute(call, hop).await,
            Consume => Err(Failure::new(
                ErrorCode::InternalError,
                "a consume is never passed on",
            )),
            Claim => topics.claim(call).await,
            Release => topics.release(call).await,
            Ack => topics.ack(call).await,
            Nack => topics.nack(call).await,
            Extend => topics.extend(call).await,
            LatestOffsets => Ok(topics.latest_offsets(call).await?),
            Login => Ok(auth.login(call).await?),
            Refresh => Ok(auth.refresh(call).await?),
            Logout => Ok(auth.logout()?),
            Me => Ok(auth.me(call).await?),
            AuthStatus => Ok(auth.status(call).await?),
            Setup => auth.setup(call).await,
            ClusterStatus => Ok(cluster.status(call).await?),
            ClusterHealth => Ok(cluster.health().await?),
            AddMember => cluster.add_member(call).await,
            Promote => cluster.promote(call).await,
            RemoveMember => cluster.remove(call).await,
            TransferLeader => cluster.transfer_leader(call).await,
            Snapshot => Ok(cluster.snapshot(call).await?),
        }
    }
}

/// Gives leases back whose messages did not reach their client.
#[derive(Clone)]
pub struct Release {
    dispatcher: Dispatcher,
    call: Call,
}

impl Release {
    /// Gives back what a lease holds, in a task of its own. Best effort by nature: what cannot be
    /// given back now comes back when the lease ends.
    pub fn give_back_later(&self, lease: &ReleaseRequest) {
        let Ok(body) = serde_json::to_vec(lease) else {
            return;
        };
        let caller = self.call.caller.clone();
        let call = Call {
            caller,
            ..Call::new(Operation::Release, body.into())
        };
        let dispatcher = self.dispatcher.clone();
        tokio::spawn(async move {
            let reply = dispatcher.serve(call).await;
            if reply.status != 200 {
                let status = reply.status;
                tracing::debug!(status, "a lease was not given back; it will run out");
            }
        });
    }

    /// Gives back what a claim was granted, if it was granted anything.
    fn give_back_claim(&self, reply: &Reply) {
        if let Some(lease) = ReleaseRequest::of_claim(&self.call.body, &reply.body) {
            self.give_back_later(&lease);
        }
    }
}

/// Waits until who leads changes, or a moment has passed: the leader may come back under the same
/// name, and a connection to it may work again without any change here. False: the deadline came.
async fn wait_for_change(
    leadership: &mut watch::Receiver<raft::Leadership>,
    deadline: Instant,
) -> Result<bool, Error> {
    const AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(50);
    let again = Instant::now() + AGAIN_AFTER;
    match tokio::time::timeout_at(again.min(deadline).into(), leadership.changed()).await {
        Ok(Ok(())) => Ok(true),
        Ok(Err(_)) => Err(stopping()),
        Err(_) => Ok(Instant::now() < deadline),
    }
}
