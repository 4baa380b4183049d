//! What becomes of a wish to add the node at an address: it is heard first, so that the membership
//! never names a node that nobody has met.
//!
//! - A node that waits to join is invited, joins as it would by itself, and gets its number so.
//! - A member that answers at another address than the membership has moves there.
//! - Anything else is refused, with what is at the address.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::runtime::Handle;
use types::ids::NodeId;

use crate::error::MembershipError;
use crate::handle::Raft;
use crate::join::hello;
use crate::metrics;
use crate::network::peers::{Lane, Peers};
use crate::rpc::auth::Identity;
use crate::rpc::messages::{InviteRequest, InviteResponse};
use crate::rpc::path;

/// How long a node may take to answer an invitation.
const INVITE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a node may take to join after it was invited.
const JOIN_TIMEOUT: Duration = Duration::from_secs(15);

/// A node that is to be a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddMember {
    /// Its number; none: what it has, or one never used before.
    pub node_id: Option<NodeId>,
    /// Where it can be asked.
    pub rpc: String,
    /// Its URL for clients; none: what it says itself, or said before.
    pub http: Option<String>,
    /// Is it to vote?
    pub voter: bool,
}

impl Raft {
    /// Makes the node at an address a member that is as asked for, and returns its number. Leader
    /// only; nothing changes if it is one already.
    pub async fn add_member(&self, wish: AddMember) -> Result<NodeId, MembershipError> {
        let leadership = self.leadership();
        if !leadership.is_leader {
            return Err(MembershipError::NotLeader {
                leader: leadership.leader,
            });
        }
        if let Some(id) = wish.node_id
            && !self.is_member(id)
            && self.is_registered(id)
        {
            return Err(MembershipError::NumberTaken(id));
        }
        let rpc = &wish.rpc;
        let there = hello(rpc, self.secret(), Handle::current()).await;
        let there = there.map_err(|error| {
            MembershipError::Refused(format!(
                "no node could be heard at {rpc} ({error}); start it there first, with --join"
            ))
        })?;
        let Some((cluster_id, node_id)) = there.belongs_to else {
            return match wish.node_id.filter(|id| self.is_member(*id)) {
                // Under its number it would be taken for the one that had the old log.
                Some(id) => Err(MembershipError::NumberTaken(id)),
                None => self.invite(wish).await,
            };
        };
        let other = wish.node_id.is_some_and(|wished| wished != node_id);
        if cluster_id != self.cluster_id() || other {
            return Err(MembershipError::Refused(format!(
                "at {rpc} is node {node_id} of cluster {cluster_id}"
            )));
        }
        self.change_known(node_id, wish).await?;
        Ok(node_id)
    }

    /// The node is one of this cluster, and has just answered at the address.
    async fn change_known(&self, node_id: NodeId, wish: AddMember) -> Result<(), MembershipError> {
        let known = metrics::look(self.core(), |metrics| {
            let stored = &metrics.membership_config;
            let votes = stored.voter_ids().any(|voter| voter == node_id);
            let member = stored.membership().get_node(&node_id).cloned();
            member.map(|member| (member, votes))
        });
        let Some((mut member, votes)) = known else {
            return Err(MembershipError::NumberTaken(node_id));
        };
        if votes && !wish.voter {
            return Err(MembershipError::Refused(format!(
                "node {node_id} votes already; a vote is taken away by removing the node"
            )));
        }
        member.voter_wanted = wish.voter;
        member.http = wish.http.unwrap_or(member.http);
        member.rpc = wish.rpc;
        self.set_member(node_id, member).await
    }

    /// Tells a node that waits where the cluster is, and waits until it has joined.
    async fn invite(&self, wish: AddMember) -> Result<NodeId, MembershipError> {
        let (before, members) = metrics::look(self.core(), |metrics| {
            let nodes = metrics.membership_config.membership().nodes();
            let nodes = nodes.map(|(node_id, member)| (*node_id, member.rpc.clone()));
            nodes.unzip::<_, _, BTreeSet<NodeId>, Vec<String>>()
        });
        let stranger = Identity {
            cluster_id: String::new(),
            node_id: 0,
            secret: self.secret().clone(),
        };
        let invite = InviteRequest {
            members,
            requested_id: wish.node_id.unwrap_or(0),
            learner: !wish.voter,
        };
        let ask = async {
            let peers = Peers::new(stranger, Handle::current());
            let peer = peers.peer(0, &wish.rpc, Lane::Requests)?;
            peer.unary(path::INVITE, invite, INVITE_TIMEOUT).await
        };
        let invited: InviteResponse = ask
            .await
            .map_err(|status| MembershipError::Refused(status.message().to_owned()))?;
        let joined = metrics::wait_for(self.core(), |metrics| {
            let committed = metrics.committed_membership_config.membership();
            let mut nodes = committed.nodes();
            let new = nodes.find(|(id, member)| !before.contains(id) && member.rpc == invited.rpc);
            new.map(|(node_id, _)| *node_id)
        });
        let joined = tokio::time::timeout(JOIN_TIMEOUT, joined).await;
        Ok(joined.map_err(|_| MembershipError::Unknown)??)
    }

    fn is_member(&self, node_id: NodeId) -> bool {
        metrics::look(self.core(), |metrics| {
            let membership = metrics.membership_config.membership();
            membership.get_node(&node_id).is_some()
        })
    }
}
