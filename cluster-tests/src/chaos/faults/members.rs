//! F13: members come and go under load. Afterwards as many vote as before, no change is left half
//! done, and who was removed takes no part.

use std::time::Duration;

use super::{Kind, Seen, hold, host, other_than};
use crate::chaos::Step;
use crate::{Cluster, Metrics, wait};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "F13-add",
        changes_leader: false,
        mending: Duration::from_secs(6),
        play: |cluster, step| Box::pin(add(cluster, step)),
    },
    Kind {
        name: "F13-remove-follower",
        changes_leader: false,
        mending: Duration::from_secs(8),
        play: |cluster, step| Box::pin(remove_follower(cluster, step)),
    },
    Kind {
        name: "F13-remove-leader",
        changes_leader: true,
        mending: Duration::from_secs(8),
        play: |cluster, step| Box::pin(remove_leader(cluster, step)),
    },
    Kind {
        name: "F13-replace",
        changes_leader: false,
        mending: Duration::from_secs(8),
        play: |cluster, step| Box::pin(replace(cluster, step)),
    },
    Kind {
        name: "F13-cut-off",
        changes_leader: false,
        mending: Duration::from_secs(12),
        play: |cluster, step| Box::pin(cut_off(cluster, step)),
    },
];

/// How long one change of the membership may take.
const CHANGE_MAX: Duration = Duration::from_secs(60);
/// Within how many ms after it was asked for a change is cut off.
const MOMENTS_MS: usize = 60;

/// One node more comes, without a vote at first, and goes again.
async fn add(cluster: &mut Cluster, step: &Step) -> Seen {
    let (voters, leader) = (cluster.nodes().len(), cluster.leader().await);
    let new = cluster.invite(leader, &["--learner"]);
    cluster.nodes_mut()[new].ready().await;
    let id = cluster.ids().await[new];
    let client = cluster.client();
    wait::until("the node gets a vote", CHANGE_MAX, async || {
        client.promote_member(id).await.ok()
    })
    .await;
    cluster.wait_for_voters(voters + 1).await;
    hold(step).await;
    remove(cluster, id).await;
    let ended = cluster.forget(new).ends(CHANGE_MAX).await;
    assert!(ended.success(), "a removed node ends by itself: {ended}");
    settle(cluster).await;
    changes(3)
}

/// A follower is removed, and a new node comes in its place.
async fn remove_follower(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    let id = cluster.ids().await[follower];
    remove(cluster, id).await;
    renew(cluster, step, follower).await;
    changes(3)
}

/// The leader is removed, and a new node comes in its place.
async fn remove_leader(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let id = cluster.ids().await[leader];
    remove(cluster, id).await;
    renew(cluster, step, leader).await;
    changes(3)
}

/// A node is killed and its data lost; one command puts a new one in its place.
async fn replace(cluster: &mut Cluster, step: &Step) -> Seen {
    let lost = step.pick(cluster.nodes().len());
    let old = cluster.ids().await[lost];
    cluster.nodes_mut()[lost].kill9();
    hold(step).await;
    rejoin(cluster, lost).await;
    let done = cluster
        .duet(&["cluster", "replace", &old.to_string(), "--yes"])
        .await;
    assert!(done.status.success(), "{done:?}");
    settle(cluster).await;
    changes(3)
}

/// The leader is cut off while it removes a follower, so that nobody knows whether the change
/// counts; it is asked for again afterwards.
async fn cut_off(cluster: &mut Cluster, step: &Step) -> Seen {
    let leader = cluster.leader().await;
    let follower = other_than(leader, cluster, step);
    let id = cluster.ids().await[follower];
    let client = cluster.client().pinned_to(leader);
    let asking = tokio::spawn(async move { client.remove_member(id).await.is_ok() });
    let ms = u64::try_from(step.pick(MOMENTS_MS)).unwrap_or_default();
    // sleep: when something breaks is part of the schedule
    tokio::time::sleep(Duration::from_millis(ms)).await;
    cluster.network().isolate(host(cluster, leader));
    hold(step).await;
    cluster.network().heal();
    asking.abort();
    remove(cluster, id).await;
    renew(cluster, step, follower).await;
    changes(3)
}

/// What the report counts: a node that joins, gets its vote, and is removed are a change each.
fn changes(count: u64) -> Seen {
    Seen {
        counted: vec![("changes of the membership", count)],
        ..Seen::default()
    }
}

/// Removes a member, whoever leads meanwhile; asked again it is no error.
async fn remove(cluster: &Cluster, id: u64) {
    let client = cluster.client();
    let status = wait::until("the node is removed", CHANGE_MAX, async || {
        client.remove_member(id).await.ok()
    })
    .await;
    let there = status.members.iter().any(|member| member.node_id == id);
    assert!(!there, "{:?}", *status);
}

/// A node that was removed ends, and cannot come back as what it was; empty it comes as another
/// one.
async fn renew(cluster: &mut Cluster, step: &Step, which: usize) {
    cluster.expect_errors("removed");
    let node = &mut cluster.nodes_mut()[which];
    let ended = node.ends(CHANGE_MAX).await;
    assert!(ended.success(), "a removed node ends by itself: {ended}");
    node.spawn(&[]);
    let ended = node.ends(CHANGE_MAX).await;
    assert_eq!(ended.code(), Some(1), "a removed node stays away");
    hold(step).await;
    rejoin(cluster, which).await;
    settle(cluster).await;
}

/// The node comes without what it had, as a new one.
async fn rejoin(cluster: &mut Cluster, which: usize) {
    let others = cluster.nodes().iter().enumerate();
    let members = others.filter(|(node, _)| *node != which);
    let members: Vec<String> = members.map(|(_, node)| node.rpc.to_string()).collect();
    let node = &mut cluster.nodes_mut()[which];
    node.lose_data();
    node.spawn(&["--join".to_owned(), members.join(",")]);
    node.ready().await;
}

/// Waits until all nodes vote, nobody else does, and every node knows that the change is over.
async fn settle(cluster: &Cluster) {
    let voters = cluster.nodes().len();
    cluster.wait_for_voters(voters).await;
    let api = cluster.api();
    wait::until(
        "the change of the membership is over",
        CHANGE_MAX,
        async || {
            for url in cluster.urls() {
                let metrics = Metrics::of(&api, &url).await?;
                let shows = |name: &str| metrics.find(&format!("duet_raft_{name}"));
                let members = (shows("voters")?, shows("learners")?);
                let over = shows("membership_changing")? == 0.0;
                if !over || members != (voters as f64, 0.0) {
                    return None;
                }
            }
            Some(())
        },
    )
    .await;
}
