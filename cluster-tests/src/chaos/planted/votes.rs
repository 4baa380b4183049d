//! F2 after an election: a node that gives its vote, and then loses its power before anything else
//! is written, has given it all the same. In the same term it must not give another.

use std::time::Duration;

use super::{Scene, examine, points};
use crate::{Cluster, Metrics, User, wait};

/// A leader ends before it has written anything, so that all there is of its election is votes.
const CRASH: (&str, &str) = ("DUET_CRASH", "before-append:1");
/// How long a node may take to say its term after its start.
const START_MAX: Duration = Duration::from_secs(30);

pub(super) async fn forgotten(scene: Scene) -> Vec<String> {
    let mut cluster = scene.lab().await;
    let root = cluster.root().await;
    for node in cluster.nodes() {
        // What made the cluster is to survive.
        node.disk().sync();
    }
    let first = terms(&cluster, &root, &[0, 1, 2]).await;
    let leader = cluster.leader().await;
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    for other in &others {
        let node = &mut cluster.nodes_mut()[*other];
        node.kill9();
        node.set_variable(CRASH.0, Some(CRASH.1));
        node.spawn(&[]);
        node.ready().await;
    }
    cluster.nodes_mut()[leader].kill9();
    let mut wrong = Vec::new();
    if !points::ends(&mut cluster, &others).await {
        wrong.push("invalid: nobody was elected".into());
    }
    let voter = others
        .into_iter()
        .find(|node| cluster.nodes_mut()[*node].is_running());
    let voter = voter.expect("one of two is elected");
    let before = terms(&cluster, &root, &[voter]).await[0];
    if before == first[voter] {
        wrong.push(format!("invalid: nobody voted after term {before}"));
    }
    for host in 0..3 {
        // So that it is asked before it votes again.
        cluster.network().isolate(host);
    }
    cluster.lose_power(&[voter]).await;
    for node in cluster.nodes_mut() {
        node.kill9();
        node.set_variable(CRASH.0, None);
        node.spawn(&[]);
    }
    let after = terms(&cluster, &root, &[voter]).await[0];
    wrong.extend(violation(voter, before, after));
    cluster.network().heal();
    for node in cluster.nodes_mut() {
        node.ready().await;
    }
    examine::end(cluster, wrong)
}

/// The terms that nodes are in.
async fn terms(cluster: &Cluster, root: &User, nodes: &[usize]) -> Vec<u64> {
    let (urls, mut terms) = (cluster.urls(), Vec::new());
    for node in nodes {
        let ask = async || term(root, &urls[*node]).await;
        terms.push(wait::until("a node says its term", START_MAX, ask).await);
    }
    terms
}

async fn term(root: &User, url: &str) -> Option<u64> {
    let term = Metrics::of(root.api(), url).await?.find("duet_raft_term")?;
    // A node that has just started has not looked yet.
    (term > 0.0).then_some(term as u64)
}

/// A node is in no earlier term than before.
fn violation(node: usize, before: u64, after: u64) -> Option<String> {
    let node = node + 1;
    let forgotten = after < before;
    forgotten.then(|| format!("votes: node {node} voted in term {before}, and now is in {after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_that_comes_again_is_seen() {
        assert_eq!(violation(0, 3, 3), None);
        assert_eq!(violation(0, 3, 5), None);
        assert!(violation(0, 4, 3).is_some());
    }
}
