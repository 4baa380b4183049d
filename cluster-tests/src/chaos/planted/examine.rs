//! Reads everything from each node that runs, and lets every check object. Never panics for what a
//! node holds: with a bug in it, a node may hold anything.

use std::collections::BTreeSet;
use std::time::Duration;

use client::api::cluster::DigestQuery;
use reqwest::Method;
use serde_json::{Value, json};

use crate::check::{Fate, Op, Topic, violations};
use crate::http::objects;
use crate::load::{Table, first_write};
use crate::{Cluster, User, digests, logs};

/// In how long a write must succeed once a quorum is back.
const BACK_MAX: Duration = Duration::from_secs(30);
/// Messages that one read asks for.
const PAGE: u64 = 1_000;
/// How often nodes are asked for their digests until all answer for the same entry.
const DIGEST_TRIES: u32 = 40;

/// What one node holds.
struct Held {
    node: usize,
    rows: Vec<Value>,
    topics: Vec<Topic>,
}

/// Ends the cluster; what was objected to, and what the nodes' logs say that they must not.
pub(super) fn end(cluster: Cluster, mut wrong: Vec<String>) -> Vec<String> {
    for line in cluster.end(false) {
        // A node that finds its own state to be another one than the majority's ends itself.
        let check = if line.contains("diverged") {
            "sameness"
        } else {
            "log"
        };
        wrong.push(format!("{check}: {line}"));
    }
    wrong
}

/// Compares what each node holds with what the writers were told, and with the other nodes.
pub(super) async fn all(
    cluster: &mut Cluster,
    root: &User,
    table: &Table,
    mut ops: Vec<Op>,
) -> Vec<String> {
    let mut wrong = ended(cluster);
    let index = first_write(&cluster.client(), table, "the-end", BACK_MAX).await;
    ops.push(Op {
        ids: vec!["the-end".into()],
        fate: Fate::Present,
    });
    let mut held: Vec<Held> = Vec::new();
    for node in running(cluster) {
        match read(cluster, root, table, node, index).await {
            Some(found) => held.push(found),
            None => wrong.push(format!(
                "read: node {} does not give all it holds",
                node + 1
            )),
        }
    }
    let mut objections = BTreeSet::new();
    for (place, found) in held.iter().enumerate() {
        let same = |other: &Held| other.rows == found.rows && other.topics == found.topics;
        if !held[..place].iter().any(same) {
            objections.extend(violations(&ops, &found.rows, &found.topics));
        }
        wrong.extend(difference(&held[0], found));
    }
    wrong.extend(objections);
    wrong.extend(same_digests(cluster).await);
    wrong
}

/// The nodes that have ended by themselves.
fn ended(cluster: &mut Cluster) -> Vec<String> {
    let gone = (0..cluster.nodes().len()).filter(|node| !cluster.nodes_mut()[*node].is_running());
    let gone: Vec<usize> = gone.collect();
    let tell = |node: usize| {
        let last = logs::tail(&cluster.nodes()[node].log(), 3);
        let check = if last.contains("diverged") {
            "sameness"
        } else {
            "ended"
        };
        format!("{check}: node {} has ended: {last}", node + 1)
    };
    gone.into_iter().map(tell).collect()
}

fn running(cluster: &mut Cluster) -> Vec<usize> {
    let all = 0..cluster.nodes().len();
    all.filter(|node| cluster.nodes_mut()[*node].is_running())
        .collect()
}

fn difference(first: &Held, other: &Held) -> Vec<String> {
    let nodes = format!("nodes {} and {}", first.node + 1, other.node + 1);
    let mut wrong = Vec::new();
    if first.rows != other.rows {
        wrong.push(format!("sameness: {nodes} hold other rows"));
    }
    for (number, (one, two)) in first.topics.iter().zip(&other.topics).enumerate() {
        for (partition, (one, two)) in one.iter().zip(two).enumerate() {
            let at = one.iter().zip(two).position(|(one, two)| one != two);
            let at = at.or((one.len() != two.len()).then_some(one.len().min(two.len())));
            if let Some(at) = at {
                wrong.push(format!(
                    "sameness: {nodes} differ in topic {number}[{partition}] from offset {at} on"
                ));
            }
        }
    }
    wrong
}

async fn read(
    cluster: &Cluster,
    root: &User,
    table: &Table,
    node: usize,
    index: u64,
) -> Option<Held> {
    let namespace = &table.namespace;
    let url = cluster.urls()[node].clone();
    let sql = format!("SELECT id, writer, seq, note FROM {namespace}.events ORDER BY id");
    let answer = ask(root, &url, index, "/v1/api/sql", &json!({"sql": sql})).await?;
    let rows = objects(answer["results"].get(0)?);
    let mut topics = Vec::new();
    for (topic, partitions) in table.topics() {
        let mut all = Vec::new();
        for partition in 0..partitions {
            all.push(messages(root, &url, index, &topic, partition).await?);
        }
        topics.push(all);
    }
    Some(Held { node, rows, topics })
}

async fn messages(
    root: &User,
    url: &str,
    index: u64,
    topic: &str,
    partition: u32,
) -> Option<Vec<Value>> {
    let mut all: Vec<Value> = Vec::new();
    let mut start = json!("Earliest");
    loop {
        let body = json!({
            "topic_id": topic, "partition_id": partition, "start": start, "limit": PAGE,
            "timeout_seconds": 0,
        });
        let answer = ask(root, url, index, "/v1/api/topics/consume", &body).await?;
        let page = answer["messages"].as_array()?;
        if page.is_empty() {
            return Some(all);
        }
        all.extend_from_slice(page);
        start = json!({"Offset": answer["next_offset"]});
    }
}

/// A node's answer from what it holds, once it has applied the log up to `index`; none: an error.
pub(super) async fn ask(
    root: &User,
    url: &str,
    index: u64,
    path: &str,
    body: &Value,
) -> Option<Value> {
    let (bearer, index) = (root.bearer(), index.to_string());
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Duet-Consistency", "local"),
        ("Duet-Min-Index", index.as_str()),
    ];
    let body = Some(body.to_string().into_bytes());
    let reply = root
        .api()
        .send(Method::POST, url, path, body, &headers)
        .await
        .ok()?;
    (reply.status == 200).then_some(reply.body)
}

/// Do all nodes that run have the same digests, of what they applied and of what they hold?
pub(super) async fn same_digests(cluster: &mut Cluster) -> Vec<String> {
    let clients = digests::clients(cluster);
    let clients: Vec<_> = running(cluster)
        .into_iter()
        .map(|node| clients[node].clone())
        .collect();
    let mut wrong = Vec::new();
    for scan in [false, true] {
        let query = DigestQuery {
            scan,
            ..DigestQuery::default()
        };
        let mut answers = Vec::new();
        for _ in 0..DIGEST_TRIES {
            answers.clear();
            for client in &clients {
                answers.extend(client.digest(&query).await.ok().map(|answer| answer.body));
            }
            let at: BTreeSet<u64> = answers.iter().map(|answer| answer.index).collect();
            if at.len() == 1 && answers.len() == clients.len() {
                break;
            }
            // sleep: between two questions, for what happens in other processes
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let values: BTreeSet<_> = answers.iter().map(|a| (a.index, &a.digest)).collect();
        if values.len() != 1 {
            wrong.push(format!("sameness: digests, scan {scan}: {answers:?}"));
        }
    }
    wrong
}
