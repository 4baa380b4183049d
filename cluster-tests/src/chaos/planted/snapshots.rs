//! F12: a node was away for so long that it gets a snapshot. What is in it is all there is.

use std::time::Duration;

use client::RequestOptions;
use client::api::SqlRequest;
use serde_json::{Value, json};

use super::{Scene, examine};
use crate::{Cluster, User, wait};

/// So few entries are kept that a node which misses [`WRITES`] needs a snapshot.
const KEEP: (&str, &str) = ("DUET_LOG_KEEP_ENTRIES", "100");
const WRITES: u32 = 300;
/// Who was away.
const AWAY: usize = 2;
/// Keys that are used twice.
const KEYS: u32 = 10;
const INSTALLED: &str = "duet_raft_snapshots_installed_total";
const LAST: &str = "duet_raft_last_log_index";
const PURGED: &str = "duet_raft_purged_index";
/// How long a step of the cluster's may take.
const STEP_MAX: Duration = Duration::from_secs(60);

/// The position of a group is the same on every node.
pub(super) async fn positions(scene: Scene) -> Vec<String> {
    let mut cluster = scene.plain(&[KEEP]).await;
    let root = prepared(&cluster).await;
    for number in 0..KEYS {
        root.ok(&insert(&format!("job-{number}"))).await;
    }
    let body = json!({
        "topic_id": "planted.tokens", "group_id": "workers", "start": "Earliest", "limit": KEYS,
        "timeout_seconds": 5, "lease_seconds": 60,
    });
    let lease = root.consume(body).await.lease();
    let ack = json!({"topic_id": "planted.tokens", "group_id": "workers", "lease_id": lease});
    assert_eq!(root.ack(ack).await.status, 200);
    let index = away(&mut cluster, &root).await;
    let sql = "SELECT group_id, partition_id, last_acked_offset FROM system.topic_offsets";
    let mut held: Vec<Option<Value>> = Vec::new();
    for url in cluster.urls() {
        let body = json!({"sql": sql});
        let answer = examine::ask(&root, &url, index, "/v1/api/sql", &body).await;
        held.push(answer.map(|answer| answer["results"][0]["rows"].clone()));
    }
    let mut wrong = installed(&cluster).await;
    if held.iter().any(|rows| rows != &held[0]) || held[0] == Some(json!([])) {
        wrong.push(format!("positions: the nodes hold {held:?}"));
    }
    examine::end(cluster, wrong)
}

/// A request that is sent again gets the same answer from a leader that was made by a snapshot.
pub(super) async fn answers(scene: Scene) -> Vec<String> {
    let mut cluster = scene.plain(&[KEEP]).await;
    let root = prepared(&cluster).await;
    let mut first = Vec::new();
    for number in 0..KEYS {
        first.push(keyed(&cluster, number).await);
    }
    away(&mut cluster, &root).await;
    let mut wrong = installed(&cluster).await;
    let id = cluster.ids().await[AWAY];
    wait::until("the node leads that was away", STEP_MAX, async || {
        cluster.client().transfer_leader(id).await.ok()
    })
    .await;
    for (number, first) in (0..).zip(first) {
        let again = keyed(&cluster, number).await;
        if again != first {
            wrong.push(format!(
                "once: key {number} was answered {first:?}, then {again:?}"
            ));
        }
    }
    let sql = "SELECT token, COUNT(*) FROM planted.once WHERE token LIKE 'key-%' GROUP BY token \
               HAVING COUNT(*) <> 1";
    let twice = root.cells(sql).await;
    if twice != json!([]) {
        wrong.push(format!("once: these happened so often: {twice}"));
    }
    examine::end(cluster, wrong)
}

async fn prepared(cluster: &Cluster) -> User {
    let root = cluster.root().await;
    for sql in [
        "CREATE NAMESPACE planted",
        "CREATE TABLE planted.once (id TEXT PRIMARY KEY DEFAULT ULID(), token TEXT NOT NULL)",
        "CREATE TOPIC planted.tokens PARTITIONS 1",
        "ALTER TOPIC planted.tokens ADD SOURCE planted.once ON INSERT",
    ] {
        root.ok(sql).await;
    }
    root
}

fn insert(token: &str) -> String {
    format!("INSERT INTO planted.once (token) VALUES ('{token}')")
}

/// An insert under the key of that number; its place in the log.
async fn keyed(cluster: &Cluster, number: u32) -> Option<u64> {
    let request = SqlRequest::new(insert(&format!("key-{number}")));
    let options = RequestOptions::idempotent(format!("key-{number}")).timeout(STEP_MAX);
    let answer = cluster.client().execute(&request, &options).await.ok()?;
    let receipt = answer.results.first()?.receipt.as_ref()?;
    Some(receipt.index)
}

/// A node is away until its next entry is gone from the others' logs, and comes back. The index
/// that it has then.
async fn away(cluster: &mut Cluster, root: &User) -> u64 {
    let had = cluster.metrics(AWAY).await.get(LAST);
    cluster.nodes_mut()[AWAY].kill9();
    let client = cluster.client();
    for number in 0..WRITES {
        let request = SqlRequest::new(insert(&format!("later-{number}")));
        let options = RequestOptions::default().timeout(STEP_MAX);
        client.execute(&request, &options).await.ok();
    }
    for node in 0..AWAY {
        // A leader keeps what it is just sending to a follower, there or not: what it could not let
        // go with one snapshot it lets go with a later one.
        wait::until("the log lacks what the node lacks", STEP_MAX, async || {
            let request = SqlRequest::new(insert("more"));
            client
                .execute(&request, &RequestOptions::default())
                .await
                .ok()?;
            client.pinned_to(node).snapshot().await.ok()?;
            let purged = cluster.metrics(node).await.find(PURGED)?;
            // What it was sent in its last moment counts as well.
            (purged > had + 20.0).then_some(())
        })
        .await;
    }
    cluster.restart(&[AWAY]).await;
    let reply = root.sql_on(&cluster.urls()[0], &insert("last"), &[]).await;
    reply.index()
}

/// Has the node that was away got a snapshot? A scene in which it has not shows nothing.
async fn installed(cluster: &Cluster) -> Vec<String> {
    match cluster.metrics(AWAY).await.find(INSTALLED) {
        Some(1.0..) => Vec::new(),
        _ => vec!["invalid: the node that was away got no snapshot".into()],
    }
}
