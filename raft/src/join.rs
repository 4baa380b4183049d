//! How a node comes to belong to a cluster: it asks any member, which passes the question on by
//! naming the leader; the leader gives it a number through the log and adds it as a learner.
//!
//! The nonce makes asking again harmless: a node that lost the answer gets the same number again.
//! It has to be on the joining node's disk before the first question.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use storage::keys::{Kind, catalog as keys};
use storage::{Direction, KeyRange};
use tokio::runtime::Handle;
use tonic::{Code, Status};
use types::command::{Command, CommandKind, Envelope, RegisterNode};
use types::ids::{NodeId, Term};
use types::outcome::{CommandResult, Outcome, Rejection};

use crate::error::{MembershipError, ProposeError};
use crate::handle::Raft;
use crate::metrics;
use crate::network::peers::{Lane, Peers};
use crate::options::Secret;
use crate::rpc::auth::Identity;
use crate::rpc::messages::{HelloRequest, HelloResponse, JoinRequest, JoinResponse, MemberRecord};
use crate::rpc::path;
use crate::type_config::Member;

/// How long one member may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a node may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause after all members were asked in vain.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// What [`join`] asks for.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// RPC addresses of any members, `host:port`.
    pub seeds: Vec<String>,
    /// What the node proves itself by.
    pub secret: Secret,
    /// The node's own secret name for this attempt, 16 random bytes, on its disk already.
    pub nonce: [u8; 16],
    /// The number it would like; none: any.
    pub requested_id: Option<NodeId>,
    /// Its addresses, and whether it is to vote.
    pub member: Member,
    /// The runtime connections run on.
    pub runtime: Handle,
}

/// The node belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its number.
    pub node_id: NodeId,
    /// The cluster.
    pub cluster_id: String,
    /// The members, itself among them.
    pub members: Vec<(NodeId, Member)>,
}

/// Why a node does not belong to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It never will under these options; says why.
    #[error("the cluster refused this node: {0}")]
    Refused(String),
    /// No member could let it in before the timeout; says what the last one answered.
    #[error("no member let this node in: {0}")]
    Unavailable(String),
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its cluster and its number in it; none: it belongs to no cluster yet.
    pub belongs_to: Option<(String, NodeId)>,
    /// The member that has the address of the one who asked, if one has.
    pub member_there: Option<NodeId>,
}

/// Asks whoever is at `address` who it is.
pub async fn hello(address: &str, secret: &Secret, runtime: Handle) -> Result<Hello, JoinError> {
    hello_from(String::new(), address, secret, runtime).await
}

/// The same from a node whose RPC address is `from`: the cluster may know another node there.
pub async fn hello_from(
    from: String,
    address: &str,
    secret: &Secret,
    runtime: Handle,
) -> Result<Hello, JoinError> {
    let peers = stranger(secret, runtime);
    let ask = async {
        let peer = peers.peer(0, address, Lane::Requests)?;
        peer.unary(path::HELLO, HelloRequest { rpc: from }, HELLO_TIMEOUT)
            .await
    };
    let answer: HelloResponse = ask.await.map_err(|status| match is_final(&status) {
        true => JoinError::Refused(status.message().to_owned()),
        false => JoinError::Unavailable(format!("{address}: {status}")),
    })?;
    let belongs = !answer.cluster_id.is_empty();
    Ok(Hello {
        belongs_to: belongs.then_some((answer.cluster_id, answer.node_id)),
        member_there: Some(answer.member_there).filter(|id| *id != 0),
    })
}

/// Asks the members one after the other, and those they name, until one lets the node in or
/// `timeout` is over. May be asked again with the same nonce.
pub async fn join(options: JoinOptions, timeout: Duration) -> Result<Joined, JoinError> {
    let peers = stranger(&options.secret, options.runtime.clone());
    let mut last = "none was asked".to_owned();
    let asking = async {
        loop {
            let mut queue: VecDeque<String> = options.seeds.iter().cloned().collect();
            // Each question may name a leader; the bound ends a circle of old ones.
            for _ in 0..2 * options.seeds.len() + 2 {
                let Some(address) = queue.pop_front() else {
                    break;
                };
                match ask(&peers, &address, &options).await {
                    Ok(answer) if answer.node_id != 0 => return Ok(joined(answer)),
                    Ok(answer) if !answer.refused.is_empty() => {
                        return Err(JoinError::Refused(answer.refused));
                    }
                    Ok(answer) if !answer.leader_rpc.is_empty() => {
                        queue.push_front(answer.leader_rpc);
                    }
                    Ok(_) => last = format!("{address} knows no leader"),
                    Err(status) if is_final(&status) => {
                        return Err(JoinError::Refused(format!(
                            "{address}: {}",
                            status.message()
                        )));
                    }
                    Err(status) => last = format!("{address}: {status}"),
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    };
    let answer = tokio::time::timeout(timeout, asking).await;
    answer.unwrap_or(Err(JoinError::Unavailable(last)))
}

fn stranger(secret: &Secret, runtime: Handle) -> Peers {
    let identity = Identity {
        cluster_id: String::new(),
        node_id: 0,
        secret: secret.clone(),
    };
    Peers::new(identity, runtime)
}

async fn ask(peers: &Peers, address: &str, options: &JoinOptions) -> Result<JoinResponse, Status> {
    let request = JoinRequest {
        nonce: Bytes::copy_from_slice(&options.nonce),
        requested_id: options.requested_id.unwrap_or(0),
        member: Some(options.member.clone()),
    };
    let peer = peers.peer(0, address, Lane::Requests)?;
    peer.unary(path::JOIN, request, ANSWER_TIMEOUT).await
}

/// Will asking again never help?
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::Unimplemented
    )
}

fn joined(answer: JoinResponse) -> Joined {
    let members = answer.members.into_iter();
    Joined {
        node_id: answer.node_id,
        cluster_id: answer.cluster_id,
        members: members
            .filter_map(|record| Some((record.node_id, record.member?)))
            .collect(),
    }
}

/// What keeps a node from being let in.
enum NotNow {
    /// Another node leads, or none does.
    Elsewhere,
    /// Never under these options.
    Refused(String),
}

impl Raft {
    /// Answers a node that asks to belong to the cluster.
    pub(crate) async fn admit(&self, request: JoinRequest) -> JoinResponse {
        let elsewhere = || JoinResponse {
            leader_rpc: self
                .leadership()
                .leader_member
                .map_or(String::new(), |member| member.rpc),
            ..JoinResponse::default()
        };
        if !self.leadership().is_leader {
            return elsewhere();
        }
        match self.admit_as_leader(request).await {
            Ok(node_id) => JoinResponse {
                node_id,
                cluster_id: self.cluster_id().to_owned(),
                members: self.member_records(),
                ..JoinResponse::default()
            },
            Err(NotNow::Elsewhere) if self.leadership().is_leader => JoinResponse::default(),
            Err(NotNow::Elsewhere) => elsewhere(),
            Err(NotNow::Refused(refused)) => JoinResponse {
                refused,
                ..JoinResponse::default()
            },
        }
    }

    async fn admit_as_leader(&self, request: JoinRequest) -> Result<NodeId, NotNow> {
        let refused = |why: &str| NotNow::Refused(why.to_owned());
        let member = request
            .member
            .ok_or_else(|| refused("it did not say its addresses"))?;
        if request.nonce.len() != 16 {
            return Err(refused("its nonce is not 16 bytes"));
        }
        let leadership = self.leadership();
        if !leadership.ready_to_plan || !self.is_founded().await? {
            return Err(NotNow::Elsewhere);
        }
        self.must_know_the_log(&member)?;
        self.must_be_itself(&request.nonce, &member.rpc).await?;
        let node_id = self
            .register(request.nonce, request.requested_id, leadership.term)
            .await?;
        self.add_learner(node_id, member)
            .await
            .map_err(|error| match error {
                MembershipError::Refused(why) => NotNow::Refused(why),
                _ => NotNow::Elsewhere,
            })?;
        tracing::info!(node_id, "a node joined");
        Ok(node_id)
    }

    /// Has this cluster given out its first number, which is its founder's? Before that nobody
    /// joins, or the founder would find its own number taken.
    async fn is_founded(&self) -> Result<bool, NotNow> {
        let state = self.snapshot().state;
        let nodes = KeyRange::prefix(&Kind::Node.prefix());
        let first = state.scan(&nodes, Direction::Forward).next();
        // A state that cannot be read ends the node by another way; here it lets nobody in.
        Ok(matches!(first, Some(Ok(_))))
    }

    /// A build older than every member's may meet entries it does not know, and would have to stop
    /// there. While an upgrade is under way both the old and the new one may join.
    fn must_know_the_log(&self, joins: &Member) -> Result<(), NotNow> {
        let oldest = metrics::look(self.core(), |metrics| {
            let members = metrics.membership_config.membership().nodes();
            let oldest = members.min_by_key(|(_, member)| member.apply_version);
            oldest.map(|(_, member)| member.clone())
        });
        match oldest.filter(|oldest| joins.apply_version < oldest.apply_version) {
            None => Ok(()),
            Some(oldest) => Err(NotNow::Refused(format!(
                "its build ({}) is too old: it has version {} of apply, and all members have {} or \
                 newer, so the log may hold what it does not know; install the build that the \
                 members have ({}) and start it again",
                joins.version, joins.apply_version, oldest.apply_version, oldest.version
            ))),
        }
    }

    /// Whoever answers at the address has to be the node that asks, not another member.
    async fn must_be_itself(&self, nonce: &[u8], rpc: &str) -> Result<(), NotNow> {
        let runtime = Handle::current();
        let own = self.snapshot().state.get(&keys::node_nonce(nonce));
        let number = own
            .ok()
            .flatten()
            .and_then(|id| id.try_into().ok())
            .map(u64::from_be_bytes);
        match hello(rpc, self.secret(), runtime).await {
            Ok(Hello {
                belongs_to: None, ..
            }) => Ok(()),
            Ok(Hello {
                belongs_to: Some((_, id)),
                ..
            }) if Some(id) == number => Ok(()),
            Ok(Hello {
                belongs_to: Some((cluster, id)),
                ..
            }) => Err(NotNow::Refused(format!(
                "at {rpc}, which it says is its address, is node {id} of cluster {cluster}"
            ))),
            Err(error) => {
                // It may only be starting; as a learner that nobody reaches it harms nothing.
                tracing::warn!(rpc, %error, "a node that joins cannot be reached yet");
                Ok(())
            }
        }
    }

    /// Gives a nonce its number, through the log.
    async fn register(
        &self,
        nonce: Bytes,
        requested_id: NodeId,
        term: Term,
    ) -> Result<NodeId, NotNow> {
        let command = CommandKind::RegisterNode(RegisterNode {
            nonce: nonce.clone(),
            requested_id,
        });
        let envelope = Envelope {
            request_id: nonce,
            term,
            commands: vec![Command {
                kind: Some(command),
            }],
            ..Envelope::default()
        };
        let outcome = self.propose(envelope).await.map_err(|error| match error {
            // Asked again with the same nonce, it gets the same number: nothing is lost.
            ProposeError::NotLeader { .. }
            | ProposeError::Overloaded
            | ProposeError::DiskFull
            | ProposeError::NotAllCanApply { .. }
            | ProposeError::Unknown
            | ProposeError::Stopped(_) => NotNow::Elsewhere,
        })?;
        match outcome.outcome {
            Outcome::Applied(applied) => match applied.results.first() {
                Some(CommandResult::NodeRegistered(node_id)) => Ok(*node_id),
                _ => Err(NotNow::Refused("registering gave no number".into())),
            },
            Outcome::Rejected(Rejection::Refused { error, .. }) => {
                Err(NotNow::Refused(error.message))
            }
            Outcome::Rejected(_) | Outcome::Replayed(_) => Err(NotNow::Elsewhere),
        }
    }

    fn member_records(&self) -> Vec<MemberRecord> {
        metrics::look(self.core(), |metrics| {
            let nodes = metrics.membership_config.membership().nodes();
            let record = |(node_id, member): (&NodeId, &Member)| MemberRecord {
                node_id: *node_id,
                member: Some(member.clone()),
            };
            nodes.map(record).collect()
        })
    }
}
