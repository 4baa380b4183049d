//! Who does not belong is not served.

use tokio::runtime::Handle;
use tonic::Code;

use super::harness::{CLUSTER, Node, PATIENCE, member, secret};
use crate::Secret;
use crate::join::{JoinError, JoinOptions, hello, join};
use crate::network::peers::{Lane, Peers};
use crate::rpc::auth::Identity;
use crate::rpc::messages::{ReadIndexRequest, ReadIndexResponse, StatusRequest, StatusResponse};
use crate::rpc::path;

async fn status_as(node: &Node, identity: Identity, target: u64) -> Result<u64, Code> {
    let peers = Peers::new(identity, Handle::current());
    let peer = peers
        .peer(target, &node.address.to_string(), Lane::Requests)
        .unwrap();
    let answer: Result<StatusResponse, _> = peer
        .unary(path::STATUS, StatusRequest::default(), PATIENCE)
        .await;
    answer
        .map(|answer| answer.leader)
        .map_err(|status| status.code())
}

fn identity(cluster_id: &str, node_id: u64, secret: Secret) -> Identity {
    Identity {
        cluster_id: cluster_id.into(),
        node_id,
        secret,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_another_node_and_another_secret_are_refused() {
    let node = Node::first().await;
    assert_eq!(
        status_as(&node, identity(CLUSTER, 2, secret()), 1).await,
        Ok(1)
    );
    let refused = [
        (identity("other", 2, secret()), 1),
        (identity(CLUSTER, 2, secret()), 3),
        (identity(CLUSTER, 1, secret()), 1),
        (identity(CLUSTER, 2, Secret::new("wrong")), 1),
        (identity(CLUSTER, 2, Secret::default()), 1),
    ];
    for (identity, target) in refused {
        let asked = format!("{identity:?} asking {target}");
        let answer = status_as(&node, identity, target).await;
        assert_eq!(answer, Err(Code::FailedPrecondition), "{asked}");
    }
    // Who has no number yet may ask to join, and nothing else.
    let stranger = status_as(&node, identity("", 0, secret()), 0).await;
    assert_eq!(stranger, Err(Code::PermissionDenied));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_know_the_secret_cannot_join() {
    let node = Node::first().await;
    let options = |secret: Secret, requested_id| JoinOptions {
        seeds: vec![node.address.to_string()],
        secret,
        nonce: [7; 16],
        requested_id,
        member: member("127.0.0.1:1".parse().unwrap()),
        runtime: Handle::current(),
    };
    let wrong = Secret::new("wrong");
    assert!(matches!(
        join(options(wrong, None), PATIENCE).await,
        Err(JoinError::Refused(_))
    ));
    let address = node.address.to_string();
    let asked = hello(&address, &Secret::default(), Handle::current()).await;
    assert!(matches!(asked, Err(JoinError::Refused(_))), "{asked:?}");
    // A number that was given out is refused, and says so.
    let taken = join(options(secret(), Some(5)), PATIENCE).await.unwrap();
    assert_eq!(taken.node_id, 5);
    let again = JoinOptions {
        nonce: [8; 16],
        ..options(secret(), Some(5))
    };
    let Err(JoinError::Refused(why)) = join(again, PATIENCE).await else {
        panic!("let in")
    };
    assert!(why.contains("given out"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_is_known_again_without_a_failed_call() {
    let node = Node::first().await;
    let peers = Peers::new(identity(CLUSTER, 2, secret()), Handle::current());
    let peer = peers
        .peer(1, &node.address.to_string(), Lane::Requests)
        .unwrap();
    let ask = || async {
        let answer: Result<ReadIndexResponse, _> = peer
            .unary(path::READ_INDEX, ReadIndexRequest {}, PATIENCE)
            .await;
        answer
    };
    assert!(ask().await.unwrap().index > 0);
    let (id, address, dir) = node.kill();
    assert_eq!(ask().await.unwrap_err().code(), Code::Unavailable);
    let node = Node::restarted(id, address, dir).await;
    node.wait_ready().await;
    assert!(ask().await.unwrap().index > 0);
}
