//! Where the other nodes are: as the membership says, or where one has proved to be since.
//!
//! The core keeps the connection it made for a node when the membership gives that node another
//! address, so connections ask here each time they are used.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use types::ids::NodeId;

/// How long an address counts that a node proved and the membership does not have yet. The node
/// proves it again as long as that is so; one that went back to its old address does not.
const PROVEN_FOR: Duration = Duration::from_secs(10);

/// The addresses of other nodes' RPC listeners, `host:port`.
#[derive(Default)]
pub(crate) struct Addresses {
    nodes: Mutex<BTreeMap<NodeId, Known>>,
}

#[derive(Default)]
struct Known {
    /// As the membership says; empty: it does not know the node.
    member: String,
    /// Where the node has proved to be, and when.
    proven: Option<(String, Instant)>,
}

impl Addresses {
    /// The membership in force. What was proved before it changed a node's address is over.
    pub(crate) fn follow<'a>(&self, members: impl Iterator<Item = (NodeId, &'a str)>) {
        let mut nodes = self.lock();
        for (node_id, rpc) in members {
            let known = nodes.entry(node_id).or_default();
            if known.member != rpc {
                *known = Known {
                    member: rpc.to_owned(),
                    proven: None,
                };
            }
        }
    }

    /// The node answered at this address, and proved that it is the one.
    pub(crate) fn proved(&self, node_id: NodeId, rpc: &str) {
        self.lock().entry(node_id).or_default().proven = Some((rpc.to_owned(), Instant::now()));
    }

    /// Where the node is; none: nobody knows it.
    pub(crate) fn of(&self, node_id: NodeId) -> Option<String> {
        let nodes = self.lock();
        let known = nodes.get(&node_id)?;
        let proven = known.proven.as_ref();
        let fresh = proven.filter(|(_, at)| at.elapsed() < PROVEN_FOR);
        let address = fresh.map_or(&known.member, |(rpc, _)| rpc);
        (!address.is_empty()).then(|| address.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Known>> {
        // Every change is one assignment, so a panic leaves it sound.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proven_address_counts_until_the_membership_has_another() {
        let addresses = Addresses::default();
        assert_eq!(addresses.of(2), None);
        addresses.follow([(2, "old:1")].into_iter());
        assert_eq!(addresses.of(2).unwrap(), "old:1");
        addresses.proved(2, "new:1");
        assert_eq!(addresses.of(2).unwrap(), "new:1");
        // The same membership again, because of another node.
        addresses.follow([(2, "old:1"), (3, "third:1")].into_iter());
        assert_eq!(addresses.of(2).unwrap(), "new:1");
        addresses.follow([(2, "newer:1")].into_iter());
        assert_eq!(addresses.of(2).unwrap(), "newer:1");
    }

    #[test]
    fn a_node_can_prove_itself_before_the_membership_is_known() {
        let addresses = Addresses::default();
        addresses.proved(2, "new:1");
        assert_eq!(addresses.of(2).unwrap(), "new:1");
    }
}
