//! Who leads, as this node sees it.

use std::sync::Arc;

use openraft::async_runtime::WatchReceiver;
use openraft::{RaftMetrics, ServerState};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use types::ids::{LogIndex, NodeId, Term};

use crate::clock::{Clock, Stamps};
use crate::handle::Core;
use crate::network::peers::Peers;
use crate::observe::Events;
use crate::state_machine::StateStore;
use crate::type_config::{LeaderId, LogId, Member, TypeConfig};

/// Who leads, as this node sees it. A leader that was cut off may believe in itself for a while:
/// only a read index or a commit proves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, where known.
    pub leader: Option<NodeId>,
    /// Its addresses, where known.
    pub leader_member: Option<Member>,
    /// The leadership period.
    pub term: Term,
    /// Is it this node?
    pub is_leader: bool,
    /// Has this node applied the first entry of its own leadership, and with it all that was
    /// committed before? Only then may it plan.
    pub ready_to_plan: bool,
}

/// What of the metrics decides a [`Leadership`]; compared first, since metrics change with every
/// entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Facts {
    leader: Option<NodeId>,
    term: Term,
    is_leader: bool,
    ready_to_plan: bool,
    membership: Option<LogId>,
}

impl Facts {
    fn of(metrics: &RaftMetrics<TypeConfig>) -> Facts {
        let own = LeaderId {
            term: metrics.current_term,
            node_id: metrics.id,
        };
        let is_leader =
            metrics.state == ServerState::Leader && metrics.current_leader == Some(metrics.id);
        let applied = metrics.last_applied.as_ref();
        Facts {
            leader: metrics.current_leader,
            term: metrics.current_term,
            is_leader,
            ready_to_plan: is_leader && applied.is_some_and(|id| id.leader_id == own),
            membership: *metrics.membership_config.log_id(),
        }
    }
}

/// Follows the core's metrics: starts and stops the clock with this node's leadership, and tells
/// `peers` where the members are. Entries up to `recover_to` were in the log when the process
/// started. The channel closes when the core ends.
pub(crate) fn follow(
    core: &Core,
    peers: Peers,
    store: Arc<StateStore>,
    clock: Arc<Clock>,
    recover_to: Option<LogIndex>,
    events: Arc<Events>,
) -> (watch::Receiver<Leadership>, JoinHandle<()>) {
    let mut metrics = core.metrics();
    let (sender, receiver) = watch::channel(Leadership::default());
    let following = tokio::spawn(async move {
        let mut known = Facts::default();
        loop {
            let seen = {
                let metrics = metrics.borrow_and_update();
                let facts = Facts::of(&metrics);
                if facts.membership != known.membership {
                    follow_addresses(&metrics, &peers);
                }
                (facts != known).then(|| (facts, member(&metrics, facts.leader)))
            };
            let applied = store.applied();
            if applied.index() > recover_to.unwrap_or(0) {
                clock.heard(applied.wall_time);
            }
            if let Some((facts, leader_member)) = seen {
                count(&known, &facts, &events);
                known = facts;
                announce(facts, leader_member, &store, &clock, &sender);
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    });
    (receiver, following)
}

fn follow_addresses(metrics: &RaftMetrics<TypeConfig>, peers: &Peers) {
    let nodes = metrics.membership_config.membership().nodes();
    let addresses = nodes.map(|(node_id, member)| (*node_id, member.rpc.as_str()));
    peers.addresses().follow(addresses);
}

fn count(before: &Facts, now: &Facts, events: &Events) {
    if now.leader.is_some() && (now.leader, now.term) != (before.leader, before.term) {
        Events::count(&events.leader_changes);
    }
    if now.is_leader && (!before.is_leader || before.term != now.term) {
        Events::count(&events.elections_won);
    }
}

fn member(metrics: &RaftMetrics<TypeConfig>, node_id: Option<NodeId>) -> Option<Member> {
    metrics
        .membership_config
        .membership()
        .get_node(&node_id?)
        .cloned()
}

fn announce(
    facts: Facts,
    leader_member: Option<Member>,
    store: &StateStore,
    clock: &Clock,
    sender: &watch::Sender<Leadership>,
) {
    // The clock runs before anybody may plan, and stands before anybody sees that it is over.
    if facts.ready_to_plan {
        clock.lead(facts.term, applied_stamps(store));
    } else {
        clock.follow();
    }
    let Facts {
        leader,
        term,
        is_leader,
        ready_to_plan,
        ..
    } = facts;
    let now = Leadership {
        leader,
        leader_member,
        term,
        is_leader,
        ready_to_plan,
    };
    let was = sender.send_replace(now.clone());
    if (was.leader, was.term, was.ready_to_plan) != (leader, term, ready_to_plan) {
        tracing::info!(leader, term, is_leader, ready_to_plan, "leadership changed");
    }
}

/// The largest stamps of the entries applied here.
pub(crate) fn applied_stamps(store: &StateStore) -> Stamps {
    let applied = store.applied();
    Stamps {
        lease_time: applied.lease_time,
        wall_time: applied.wall_time,
    }
}
