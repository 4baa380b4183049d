//! Who leads next, where a leader is to be stopped, drained or removed.

use types::ids::{LogIndex, NodeId};

use crate::membership::{Changes, PROMOTE_LAG_MAX, Result, lag_of};
use crate::metrics;
use crate::rpc::messages::StatusRequest;
use crate::status;

/// A voter that may lead next. Ordered by how suitable it is, the most suitable first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Heir {
    pub draining: bool,
    /// It did not say whether it drains.
    pub silent: bool,
    pub lag: LogIndex,
    pub node_id: NodeId,
}

impl Changes {
    /// The voter to hand the leadership to, of those that answer; none without another one. One
    /// that drains only where there is no other: it would hand it on at once.
    pub(crate) async fn successor(&self) -> Option<NodeId> {
        self.heirs().await.first().map(|heir| heir.node_id)
    }

    /// The other voters that answer, the most suitable first. Each is asked whether it drains, now:
    /// what was heard a second ago may be from before it was told to. Who is too busy to say so
    /// comes after those that want to lead.
    pub(crate) async fn heirs(&self) -> Vec<Heir> {
        let others: Vec<(NodeId, String, LogIndex)> = metrics::look(&self.core, |metrics| {
            let stored = &metrics.membership_config;
            let voters = stored.voter_ids();
            let others = voters.filter(|id| *id != metrics.id && self.answers(metrics, *id));
            let known = others.filter_map(|id| {
                let member = stored.membership().get_node(&id)?;
                Some((id, member.rpc.clone(), lag_of(metrics, id)))
            });
            known.collect()
        });
        let asked = others.iter().map(|(node_id, rpc, lag)| async {
            let said = status::ask(&self.peers, *node_id, rpc, StatusRequest::default()).await;
            Heir {
                draining: said.as_ref().is_some_and(|said| said.draining),
                silent: said.is_none(),
                lag: *lag,
                node_id: *node_id,
            }
        });
        let mut heirs = futures::future::join_all(asked).await;
        heirs.sort_unstable();
        heirs
    }

    /// A draining node leads: it hands that on, if somebody wants it.
    pub(crate) async fn hand_on(&self) -> Result<()> {
        let heirs = self.heirs().await;
        let wants = |heir: &&Heir| !heir.draining && heir.lag <= PROMOTE_LAG_MAX;
        match heirs.iter().find(wants) {
            Some(heir) => self.transfer(heir.node_id).await,
            None => Ok(()),
        }
    }
}
