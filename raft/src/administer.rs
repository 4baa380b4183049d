//! The handle's part for whoever administers the cluster.

use types::ids::NodeId;

use crate::error::MembershipError;
use crate::handle::Raft;
use crate::metrics;
use crate::type_config::Member;

impl Raft {
    /// Adds a node that follows, and votes once it has caught up if `member.voter_wanted`. Leader
    /// only. Adding what is there already changes nothing.
    pub(crate) async fn add_learner(
        &self,
        node_id: NodeId,
        member: Member,
    ) -> Result<(), MembershipError> {
        self.changes().add_learner(node_id, member).await
    }

    /// Gives a member other addresses, or another wish for a vote. Leader only.
    pub(crate) async fn set_member(
        &self,
        node_id: NodeId,
        member: Member,
    ) -> Result<(), MembershipError> {
        self.changes().set_member(node_id, member).await
    }

    /// Gives a learner that has caught up a vote. Leader only; nothing changes if it has it.
    pub async fn promote(&self, node_id: NodeId) -> Result<(), MembershipError> {
        self.changes().promote(node_id).await
    }

    /// Takes a node out of the cluster for good; nothing changes if it was before. Leader only; to
    /// remove the leader itself, it hands its leadership on first and says who is to be asked
    /// again. Refused, with the reason, where the rest would have no quorum.
    pub async fn remove(&self, node_id: NodeId) -> Result<(), MembershipError> {
        match self.changes().remove(node_id).await {
            Ok(gone) => {
                self.say_farewell(node_id, gone.rpc);
                Ok(())
            }
            Err(MembershipError::UnknownNode(_)) if self.is_registered(node_id) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// From now on this node does not want to lead: it hands its leadership on, now and whenever it
    /// is elected again, and goes on with everything else. Until it is restarted. Refused where it
    /// is the only voter.
    pub async fn drain(&self) -> Result<(), MembershipError> {
        self.changes().drain().await
    }

    /// Was it told to [`Raft::drain`]?
    pub fn is_draining(&self) -> bool {
        self.changes().is_draining()
    }

    /// Hands the leadership to a voter: nothing new is proposed until it has it, for at most about
    /// a second for each step. Leader only.
    pub async fn transfer_leader(&self, node_id: NodeId) -> Result<(), MembershipError> {
        self.changes().transfer(node_id).await
    }

    /// Where the member's RPC listener is, `host:port`. None: no such member.
    pub fn member_rpc(&self, node_id: NodeId) -> Option<String> {
        metrics::look(self.core(), |metrics| {
            let membership = metrics.membership_config.membership();
            let member = membership.get_node(&node_id);
            member.map(|member| member.rpc.clone())
        })
    }

    /// Has this member answered lately? Only the leader knows.
    pub fn member_answers(&self, node_id: NodeId) -> bool {
        self.changes().reachable(node_id)
    }
}
