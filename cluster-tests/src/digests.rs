//! Digests of all nodes, compared.

use std::collections::BTreeSet;
use std::time::Duration;

use client::Client;
use client::api::cluster::{DigestQuery, DigestResponse};

use crate::{Cluster, wait};

/// How long nodes may take to have applied the same once nothing is written any more, and to read
/// all of their states, which may be large.
const SETTLE_MAX: Duration = Duration::from_secs(300);
/// How long one of them may take for that.
const SCAN_MAX: Duration = Duration::from_secs(120);

/// A client for each node.
pub fn clients(cluster: &Cluster) -> Vec<Client> {
    let client = cluster.patient_client(SCAN_MAX);
    let nodes = 0..cluster.nodes().len();
    nodes.map(|node| client.pinned_to(node)).collect()
}

/// Asserts that all nodes hold the same at the same applied index, by their chains and by a scan of
/// their whole states. Nothing may be written meanwhile.
pub async fn assert_same_state(cluster: &Cluster) {
    let clients = clients(cluster);
    let chain = same(&clients, &DigestQuery::default()).await;
    let scan = DigestQuery {
        scan: true,
        ..DigestQuery::default()
    };
    let scanned = same(&clients, &scan).await;
    assert_ne!(chain.digest, scanned.digest, "two different hashes");
}

/// The answer of all nodes to one query, once they have applied the same; asserts that it is one.
pub async fn same(clients: &[Client], query: &DigestQuery) -> DigestResponse {
    let answers = wait::until("all nodes have applied the same", SETTLE_MAX, async || {
        let mut answers: Vec<DigestResponse> = Vec::new();
        for client in clients {
            answers.push(client.digest(query).await.ok()?.body);
        }
        let same = answers
            .iter()
            .all(|answer| answer.index == answers[0].index);
        same.then_some(answers)
    })
    .await;
    let nodes: BTreeSet<u64> = answers.iter().map(|answer| answer.node_id).collect();
    assert_eq!(nodes.len(), clients.len(), "each node answers for itself");
    for answer in &answers {
        let is = (&answer.digest, answer.offset);
        let first = (&answers[0].digest, answers[0].offset);
        assert_eq!(is, first, "{query:?}: {answers:?}");
    }
    answers.into_iter().next().expect("a cluster has nodes")
}
