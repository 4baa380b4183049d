//! F9: disks are full, and have room again.

use std::process::ExitStatus;
use std::time::Duration;

use serde_json::json;

use super::{Kind, Seen, hold};
use crate::chaos::Step;
use crate::{Cluster, User, wait};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "F9-full-one",
        changes_leader: false,
        mending: Duration::from_secs(5),
        play: |cluster, step| Box::pin(one(cluster, step)),
    },
    Kind {
        name: "F9-full-all",
        changes_leader: false,
        mending: Duration::from_secs(8),
        play: |cluster, step| Box::pin(all(cluster, step)),
    },
    Kind {
        name: "F9-no-room-at-all",
        changes_leader: false,
        mending: Duration::from_secs(6),
        play: |cluster, step| Box::pin(none_at_all(cluster, step)),
    },
];

/// Below the reserve of a disk of the lab, and more than is written while a fault lasts.
const LEFT_BYTES: u64 = 64 * 1024 * 1024;
/// In how long nodes must notice that disks are full, or have room again, and a node end that can
/// write nothing.
const NOTICE_MAX: Duration = Duration::from_secs(20);

/// One node has less room than its reserve: the others have, so everything goes on.
async fn one(cluster: &mut Cluster, step: &Step) -> Seen {
    let which = step.pick(cluster.nodes().len());
    let full = Checked::start(cluster, step).await;
    cluster.nodes()[which].disk().fill(LEFT_BYTES);
    until_full(cluster, 1).await;
    full.until_taken().await;
    hold(step).await;
    cluster.nodes()[which].disk().make_room();
    until_full(cluster, 0).await;
    counted("nearly full disks", 1, Vec::new())
}

/// All have: what grows is refused, what makes room is not, and it ends by itself.
async fn all(cluster: &mut Cluster, step: &Step) -> Seen {
    let full = Checked::start(cluster, step).await;
    for node in cluster.nodes() {
        node.disk().fill(LEFT_BYTES);
    }
    full.until_refused().await;
    let violations = full.what_makes_room().await;
    hold(step).await;
    for node in cluster.nodes() {
        node.disk().make_room();
    }
    full.until_taken().await;
    counted("nearly full disks", cluster.nodes().len(), violations)
}

/// No room at all: a node may go on in what was set aside for its log, or end; one that is started
/// finds no room for its files, and ends, if what it removes at its start leaves it none; with room
/// it comes back.
async fn none_at_all(cluster: &mut Cluster, step: &Step) -> Seen {
    const FULL: &str = "No space left on device";
    let which = step.pick(cluster.nodes().len());
    let node = &mut cluster.nodes_mut()[which];
    node.expect_failure(FULL);
    node.disk().fill_up();
    hold(step).await;
    if node.is_running() {
        node.kill9();
    } else {
        let status = node.ends(NOTICE_MAX).await;
        assert_is_full(status, &node.last_words(), "had to stop", FULL);
    }
    node.spawn(&[]);
    if let Some(status) = node.ready_or_ended().await {
        assert_is_full(status, &node.last_words(), "cannot start", FULL);
    }
    node.kill9();
    node.disk().make_room();
    cluster.restart(&[which]).await;
    counted("disks without any room", 1, Vec::new())
}

fn assert_is_full(status: ExitStatus, said: &str, what: &str, why: &str) {
    let full = status.code() == Some(1) && said.contains(what) && said.contains(why);
    assert!(full, "{status}: {said}");
}

fn counted(what: &'static str, count: usize, violations: Vec<String>) -> Seen {
    Seen {
        counted: vec![(what, count as u64)],
        violations,
    }
}

/// Waits until that many nodes say that their disks are full.
async fn until_full(cluster: &Cluster, count: usize) {
    let client = cluster.client();
    wait::until(&format!("{count} disks are full"), NOTICE_MAX, async || {
        let status = client.cluster_status().await.ok()?;
        let full = status.members.iter();
        let full = full.filter(|member| member.disk_full == Some(true));
        (full.count() == count).then_some(())
    })
    .await;
}

/// A table with a topic of its own, to see what is refused and what is not.
struct Checked {
    root: User,
    namespace: String,
}

impl Checked {
    async fn start(cluster: &Cluster, step: &Step) -> Checked {
        let root = cluster.root().await;
        let namespace = format!("chaos_full_{}", step.choice);
        for sql in [
            format!("CREATE NAMESPACE {namespace}"),
            format!("CREATE TABLE {namespace}.rows (id BIGINT PRIMARY KEY)"),
            format!("CREATE TOPIC {namespace}.events PARTITIONS 1"),
            format!("ALTER TOPIC {namespace}.events ADD SOURCE {namespace}.rows ON INSERT"),
            format!("INSERT INTO {namespace}.rows VALUES (-1), (-2)"),
        ] {
            root.ok(&sql).await;
        }
        Checked { root, namespace }
    }

    /// The status and code of an INSERT of a new row.
    async fn insert(&self) -> (u16, String) {
        let id: u32 = rand::random();
        let sql = format!("INSERT INTO {}.rows VALUES ({id})", self.namespace);
        let reply = self.root.sql(&sql).await;
        (reply.status, reply.code().to_owned())
    }

    async fn until_refused(&self) {
        wait::until("growth is refused", NOTICE_MAX, async || {
            let (status, code) = self.insert().await;
            (status == 503 && code == "DISK_FULL").then_some(())
        })
        .await;
    }

    async fn until_taken(&self) {
        wait::until("growth goes on", NOTICE_MAX, async || {
            (self.insert().await.0 == 200).then_some(())
        })
        .await;
    }

    /// Reads, consumes, acknowledges and deletes; what of it is refused.
    async fn what_makes_room(&self) -> Vec<String> {
        let namespace = &self.namespace;
        let mut refused = Vec::new();
        let mut must = |what: &str, reply: &crate::Reply| {
            if reply.status != 200 {
                refused.push(format!("disk full: {what} was refused: {reply:?}"));
            }
        };
        let read = format!("SELECT count(*) FROM {namespace}.rows");
        must("a read", &self.root.sql(&read).await);
        let delete = format!("DELETE FROM {namespace}.rows WHERE id = -1");
        must("a DELETE", &self.root.sql(&delete).await);
        let topic = format!("{namespace}.events");
        let ask = json!({"topic_id": topic, "group_id": "g", "start": "Earliest", "limit": 1});
        let claimed = self.root.consume(ask).await;
        must("a consume", &claimed);
        if let Some(lease) = claimed.body["lease_id"].as_str() {
            let ack = json!({"topic_id": topic, "group_id": "g", "lease_id": lease});
            must("an ack", &self.root.ack(ack).await);
        }
        refused
    }
}
