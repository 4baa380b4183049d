//! A member says where it is, and hears whether it still is a member.
//!
//! At its start a node tells the cluster its addresses and its build; where the membership says
//! otherwise, the leader changes that, once whoever is at the new address has proved to be the
//! node. Until then every node that hears it tries the new address too, so that a cluster whose
//! nodes have all moved finds itself again.
//!
//! From then on a follower asks now and then whether it is still a member: nobody sends it the
//! entry that removed it.

use std::time::Duration;

use storage::keys::catalog as keys;
use tokio::runtime::Handle;
use tonic::Status;
use types::ids::NodeId;

use crate::error::{MembershipError, Stopped};
use crate::handle::Raft;
use crate::join::hello;
use crate::metrics;
use crate::network::peers::Lane;
use crate::rpc::messages::{AnnounceRequest, AnnounceResponse, FarewellRequest};
use crate::rpc::path;
use crate::type_config::Member;

/// How often a node says where it is until the membership says the same.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(500);
/// How often a node that follows asks whether it is still a member.
const ASK_INTERVAL: Duration = Duration::from_secs(3);
/// How long the node asked may take: it may have to change the membership.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// How long saying farewell may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);
/// How many nodes are asked, one naming the next, to find the leader.
const HOPS_MAX: usize = 4;

/// The cluster has removed this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// It was a member after it started. Otherwise it had been removed before.
    pub while_running: bool,
}

impl Raft {
    /// Announces this node until the cluster knows it as it is, and then asks now and then whether
    /// it is still a member; returns when it is not. `seeds` are RPC addresses to try besides those
    /// of the members, which may all have moved.
    pub async fn stay_member(&self, seeds: &[String]) -> Result<Removed, Stopped> {
        let mut announced = false;
        let mut refused = String::new();
        loop {
            let member = (!announced).then(|| self.own_member());
            let answer = if self.leadership().is_leader {
                self.hear_announcement(self.node_id(), member).await
            } else {
                self.ask_members(member, seeds).await
            };
            if answer.removed {
                self.set_removed();
                return Ok(Removed {
                    while_running: announced,
                });
            }
            if !answer.refused.is_empty() && answer.refused != refused {
                tracing::warn!(
                    why = answer.refused,
                    "the cluster does not believe where this node says it is"
                );
                refused = answer.refused;
            }
            announced |= answer.known;
            let pause = match announced || !refused.is_empty() {
                true => ASK_INTERVAL,
                false => ANNOUNCE_INTERVAL,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.told_to_ask() => {}
                () = self.ended() => return Err(Stopped),
            }
        }
    }

    /// Asks the leader, or else all members and `seeds`. What nobody answered is no answer.
    async fn ask_members(&self, member: Option<Member>, seeds: &[String]) -> AnnounceResponse {
        let request = AnnounceRequest { member };
        let leader = self.leadership().leader;
        if let Some(rpc) = leader.and_then(|leader| self.peers().addresses().of(leader))
            && let Some(answer) = self.ask_from(rpc, &request).await
        {
            return answer;
        }
        let mut all: Vec<String> = metrics::look(self.core(), |metrics| {
            let members = metrics.membership_config.membership().nodes();
            let others = members.filter(|(node_id, _)| **node_id != metrics.id);
            others.map(|(_, member)| member.rpc.clone()).collect()
        });
        all.extend(seeds.iter().cloned());
        // All of them hear it: each may have to find this node before there is a leader.
        let asked = all.into_iter().map(|rpc| self.ask_from(rpc, &request));
        let answers = futures::future::join_all(asked).await;
        answers.into_iter().flatten().next().unwrap_or_default()
    }

    /// Asks at `rpc`, and whoever is named as the leader. None: no leader said anything.
    async fn ask_from(&self, rpc: String, request: &AnnounceRequest) -> Option<AnnounceResponse> {
        let mut next = rpc;
        for _ in 0..HOPS_MAX {
            // Whoever is there: the address may be one that a seed has.
            let ask = async {
                let peer = self.peers().peer(0, &next, Lane::Requests)?;
                peer.unary(path::ANNOUNCE, request.clone(), ANSWER_TIMEOUT)
                    .await
            };
            let answer: Result<AnnounceResponse, Status> = ask.await;
            match answer {
                Ok(answer) if !answer.leader_rpc.is_empty() && answer.leader_rpc != next => {
                    next = answer.leader_rpc;
                }
                Ok(answer) => {
                    let says = answer.known || answer.removed || !answer.refused.is_empty();
                    return says.then_some(answer);
                }
                Err(status) => {
                    tracing::debug!(rpc = next, %status, "a node did not hear this one");
                    return None;
                }
            }
        }
        None
    }

    /// Answers a node of this cluster that says where it is, or asks whether it is a member.
    pub(crate) async fn hear_announcement(
        &self,
        from: NodeId,
        member: Option<Member>,
    ) -> AnnounceResponse {
        if let Some(member) = &member
            && let Err(refused) = self.must_be_there(from, &member.rpc).await
        {
            return AnnounceResponse {
                refused,
                ..AnnounceResponse::default()
            };
        }
        let leadership = self.leadership();
        if !leadership.is_leader {
            return AnnounceResponse {
                leader_rpc: leadership.leader_member.map_or(String::new(), |it| it.rpc),
                ..AnnounceResponse::default()
            };
        }
        let Some(known) = self.committed_member(from) else {
            return AnnounceResponse {
                removed: self.was_removed(from).await,
                ..AnnounceResponse::default()
            };
        };
        let said = member.map(|member| Member {
            // Whether it votes is the cluster's decision, once it has joined.
            voter_wanted: known.voter_wanted,
            ..member
        });
        let changed = match said {
            Some(said) if said != known => self.set_member(from, said).await,
            Some(_) | None => Ok(()),
        };
        match changed {
            Ok(()) => AnnounceResponse {
                known: true,
                ..AnnounceResponse::default()
            },
            Err(MembershipError::Refused(refused)) => AnnounceResponse {
                refused,
                ..AnnounceResponse::default()
            },
            Err(error) => {
                tracing::debug!(from, %error, "a node's announcement has to wait");
                AnnounceResponse::default()
            }
        }
    }

    /// Whoever answers at the address has to be node `node_id` of this cluster. Says who is there
    /// instead. An address that is known needs no proof: every call carries one.
    pub(crate) async fn must_be_there(&self, node_id: NodeId, rpc: &str) -> Result<(), String> {
        if self.peers().addresses().of(node_id).as_deref() == Some(rpc) {
            return Ok(());
        }
        let there = hello(rpc, self.secret(), Handle::current()).await;
        let there = there.map_err(|error| format!("nobody was heard at {rpc}: {error}"))?;
        match there.belongs_to {
            Some((cluster_id, id)) if id == node_id && cluster_id == self.cluster_id() => {
                self.peers().addresses().proved(node_id, rpc);
                Ok(())
            }
            Some((cluster_id, id)) => Err(format!("at {rpc} is node {id} of cluster {cluster_id}")),
            None => Err(format!("the node at {rpc} belongs to no cluster")),
        }
    }

    /// The number of the member whose RPC address this is.
    pub(crate) fn member_at(&self, rpc: &str) -> Option<NodeId> {
        metrics::look(self.core(), |metrics| {
            let members = metrics.membership_config.membership().nodes();
            let there = members.filter(|(_, member)| member.rpc == rpc);
            there.map(|(node_id, _)| *node_id).next()
        })
    }

    fn committed_member(&self, node_id: NodeId) -> Option<Member> {
        metrics::look(self.core(), |metrics| {
            let membership = metrics.committed_membership_config.membership();
            membership.get_node(&node_id).cloned()
        })
    }

    /// Was the number given out, and is it no member any more? Only what a leader that a quorum
    /// has just confirmed knows counts: an older one may not have heard of the node yet.
    async fn was_removed(&self, node_id: NodeId) -> bool {
        let Ok(index) = self.read_index_as_leader().await else {
            return false;
        };
        let seen = metrics::wait_for(self.core(), |metrics| {
            metrics.last_applied.filter(|log_id| log_id.index >= index)
        });
        let seen = tokio::time::timeout(ANSWER_TIMEOUT, seen).await;
        matches!(seen, Ok(Ok(_)))
            && self.is_registered(node_id)
            && self.committed_member(node_id).is_none()
    }

    /// Was this number ever given out?
    pub(crate) fn is_registered(&self, node_id: NodeId) -> bool {
        // A state that cannot be read ends the node by another way; here it knows nobody.
        matches!(self.snapshot().state.get(&keys::node(node_id)), Ok(Some(_)))
    }

    /// Tells a node that was removed to ask, so that it need not find out by itself.
    pub(crate) fn say_farewell(&self, node_id: NodeId, rpc: String) {
        let peers = self.peers().clone();
        tokio::spawn(async move {
            let say = async {
                let peer = peers.peer(node_id, &rpc, Lane::Requests)?;
                peer.unary::<_, crate::rpc::messages::FarewellResponse>(
                    path::FAREWELL,
                    FarewellRequest {},
                    FAREWELL_TIMEOUT,
                )
                .await
            };
            if let Err(status) = say.await {
                tracing::info!(node_id, %status, "the removed node was not told; it will ask");
            }
        });
    }
}
