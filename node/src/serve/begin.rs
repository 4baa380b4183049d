//! How a node with an empty data directory comes to a cluster: it founds one, or asks to be let in.

use std::time::Duration;

use raft::join::{Hello, JoinError, JoinOptions, Joined, hello_from, join};
use raft::rpc::{Invitation, RpcService};
use raft::{Member, Secret};
use rand::RngExt;
use tokio::runtime::Handle;
use tokio::sync::watch;
use types::ids::NodeId;

use super::ServeError;
use crate::config::{Begin, Config};
use crate::data_dir::{DataDir, Identity, Origin};

/// How long founding waits for the nodes it has to hear from, and joining for a cluster with a
/// leader: nodes started together need a moment to find each other.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long to ask before saying that nobody lets this node in.
const SAY_AFTER: Duration = Duration::from_secs(3);
/// Between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Who this node is: as its directory says, or, for an empty one, as it becomes now.
pub async fn identity(
    config: &Config,
    dir: &DataDir,
    member: &Member,
    rpc: &RpcService,
    runtime: &Handle,
) -> Result<Identity, ServeError> {
    if let Some(identity) = dir.identity()? {
        return match config.node_id {
            Some(asked) if asked != identity.node_id => Err(ServeError::new(format!(
                "data directory {} belongs to node {} of cluster {}, not to node {asked}",
                config.data_dir.display(),
                identity.node_id,
                identity.cluster_id
            ))),
            _ => Ok(identity),
        };
    }
    let secret = config.secret();
    let identity = match &config.begin {
        Begin::Refuse => {
            return Err(ServeError::new(format!(
                "data directory {} is empty: start the first node of a new cluster with \
                 --bootstrap, and every other one with --join HOST:PORT of a member",
                config.data_dir.display()
            )));
        }
        Begin::Bootstrap { unless_clustered } => {
            must_find_no_cluster(unless_clustered, &member.rpc, &secret, runtime).await?;
            let cluster_id = ulid::Ulid::generate().to_string();
            Identity::new(cluster_id, config.node_id.unwrap_or(1), Origin::Founder)
        }
        Begin::Join(members) => {
            let options = JoinOptions {
                seeds: members.clone(),
                secret: secret.clone(),
                nonce: dir.join_nonce(|| rand::rng().random())?,
                requested_id: config.node_id,
                member: member.clone(),
                runtime: runtime.clone(),
            };
            let invitations = rpc.wait_to_join(&member.rpc);
            let (joined, options) = join_patiently(options, invitations).await?;
            let origin = Origin::Joiner {
                members: options.seeds,
                voter: options.member.voter_wanted,
            };
            Identity::new(joined.cluster_id, joined.node_id, origin)
        }
    };
    dir.set_identity(&identity)?;
    Ok(identity)
}

/// Asks until a member lets this node in, one says why it never will, or patience is over; says now
/// and then whom it cannot reach. A cluster may invite the node meanwhile: then its members are
/// asked. Returns what it was let in with.
async fn join_patiently(
    mut options: JoinOptions,
    mut invitations: watch::Receiver<Option<Invitation>>,
) -> Result<(Joined, JoinOptions), ServeError> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let asked = tokio::select! {
            asked = join(options.clone(), SAY_AFTER) => asked,
            Ok(()) = invitations.changed() => {
                if let Some(invitation) = invitations.borrow_and_update().clone() {
                    accept(&mut options, invitation);
                }
                continue;
            }
        };
        let error = match asked {
            Ok(joined) => return Ok((joined, options)),
            Err(error) => error,
        };
        let refused = matches!(error, JoinError::Refused(_));
        if refused || tokio::time::Instant::now() >= until {
            let hint = match options.requested_id.filter(|_| refused) {
                Some(id) => format!("; {}", replace_hint(id, "without --node-id")),
                None => String::new(),
            };
            return Err(ServeError::new(format!(
                "could not join the cluster: {error}{hint}"
            )));
        }
        tracing::warn!(%error, "waiting to join the cluster");
    }
}

fn accept(options: &mut JoinOptions, invitation: Invitation) {
    tracing::info!(members = ?invitation.members, "a cluster invites this node");
    options.seeds = invitation.members;
    options.requested_id = options.requested_id.or(invitation.requested_id);
    options.member.voter_wanted &= !invitation.learner;
}

/// What to do where a node's data is gone. Numbers are never used again, so it comes as another.
fn replace_hint(node_id: NodeId, start: &str) -> String {
    format!(
        "if node {node_id} lost its data, start this one {start}, so that it joins as a new node, \
         and run `duet cluster replace {node_id}`"
    )
}

/// Hears from every node named. Refused if one belongs to a cluster, or cannot be heard: it may.
async fn must_find_no_cluster(
    nodes: &[String],
    own_rpc: &str,
    secret: &Secret,
    runtime: &Handle,
) -> Result<(), ServeError> {
    for address in nodes {
        let heard = async {
            loop {
                let from = own_rpc.to_owned();
                match hello_from(from, address, secret, runtime.clone()).await {
                    Ok(hello) => return Ok(hello),
                    Err(JoinError::Refused(reason)) => return Err(reason),
                    Err(error) => {
                        tracing::info!(address, %error, "waiting to hear from the node");
                        tokio::time::sleep(AGAIN_AFTER).await;
                    }
                }
            }
        };
        let reason = match tokio::time::timeout(PATIENCE, heard).await {
            Ok(Ok(hello)) => match belongs(address, &hello) {
                None => continue,
                Some(reason) => reason,
            },
            Ok(Err(reason)) => format!("{address}: {reason}"),
            Err(_) => format!("{address} did not answer, and it may belong to a cluster already"),
        };
        return Err(ServeError::new(format!(
            "--bootstrap was refused: {reason}"
        )));
    }
    Ok(())
}

/// Why there must be no second cluster; none if the node at `address` belongs to none.
fn belongs(address: &str, hello: &Hello) -> Option<String> {
    let (cluster_id, _) = hello.belongs_to.as_ref()?;
    let what_now = match hello.member_there {
        Some(node_id) => format!(
            "which knows node {node_id} at this node's address; {}",
            replace_hint(node_id, "without --bootstrap")
        ),
        None => "leave --bootstrap out to join it".to_owned(),
    };
    Some(format!(
        "{address} belongs to cluster {cluster_id}; {what_now}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(belongs: bool, member_there: Option<NodeId>) -> Hello {
        Hello {
            belongs_to: belongs.then(|| ("C".to_owned(), 2)),
            member_there,
        }
    }

    #[test]
    fn a_second_cluster_is_refused_with_the_command_that_helps() {
        assert_eq!(belongs("h:1", &hello(false, None)), None);
        let stranger = belongs("h:1", &hello(true, None)).unwrap();
        assert!(stranger.contains("leave --bootstrap out"), "{stranger}");
        let lost = belongs("h:1", &hello(true, Some(1))).unwrap();
        assert!(lost.contains("`duet cluster replace 1`"), "{lost}");
    }
}
