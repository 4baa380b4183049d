//! F4 with F2: nodes that nobody answers ask for votes again and again, each time in a new term,
//! and then all lose their power. A term that a node has voted in must not come again for it.

use std::time::Duration;

use super::{Scene, examine, reads};
use crate::{Cluster, Metrics, User, wait};

/// How long nobody answers anybody: several elections.
const HOLD: Duration = Duration::from_secs(8);
/// How long a node may take to say its term after its start.
const START_MAX: Duration = Duration::from_secs(30);

pub(super) async fn forgotten(scene: Scene) -> Vec<String> {
    let mut cluster = scene.lab().await;
    let root = cluster.root().await;
    for host in 0..3 {
        // What made the cluster is to survive.
        cluster.nodes()[usize::from(host)].disk().sync();
        cluster.network().isolate(host);
    }
    reads::hold(HOLD).await;
    let before = terms(&cluster, &root).await;
    cluster.lose_power(&[0, 1, 2]).await;
    for node in cluster.nodes_mut() {
        node.spawn(&[]);
    }
    let after = terms(&cluster, &root).await;
    cluster.network().heal();
    for node in cluster.nodes_mut() {
        node.ready().await;
    }
    examine::end(cluster, violations(&before, &after))
}

/// The term each node is in.
async fn terms(cluster: &Cluster, root: &User) -> Vec<u64> {
    let mut terms = Vec::new();
    for url in cluster.urls() {
        terms.push(
            wait::until("a node says its term", START_MAX, async || {
                term(root, &url).await
            })
            .await,
        );
    }
    terms
}

async fn term(root: &User, url: &str) -> Option<u64> {
    let reply = root.api().text(url, "/metrics").await?;
    let term = Metrics::parse(&reply).ok()?.find("duet_raft_term")?;
    // A node that has just started has not looked yet.
    (term > 0.0).then_some(term as u64)
}

/// No node is in an earlier term than before.
fn violations(before: &[u64], after: &[u64]) -> Vec<String> {
    let terms = (1..).zip(before.iter().zip(after));
    let wrong = terms.filter(|(_, (before, after))| after < before);
    wrong
        .map(|(node, (before, after))| {
            format!("votes: node {node} was in term {before} and is in {after} after a restart")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_that_comes_again_is_seen() {
        assert_eq!(violations(&[3, 4], &[3, 5]), [""; 0]);
        assert_eq!(violations(&[3, 4], &[4, 3]).len(), 1);
    }
}
