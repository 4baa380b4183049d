//! How a node with an empty data directory comes to a cluster: it founds one, or asks to be let in.

use std::time::Duration;

use raft::join::{Hello, JoinError, JoinOptions, Joined, hello, join};
use raft::{Member, Secret};
use rand::RngExt;
use tokio::runtime::Handle;
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
            must_find_no_cluster(unless_clustered, &secret, runtime).await?;
            let cluster_id = ulid::Ulid::generate().to_string();
            Identity::new(cluster_id, config.node_id.unwrap_or(1), Origin::Founder)
        }
        Begin::Join(members) => {
            let options = || -> Result<JoinOptions, ServeError> {
                Ok(JoinOptions {
                    seeds: members.clone(),
                    secret: secret.clone(),
                    nonce: dir.join_nonce(|| rand::rng().random())?,
                    requested_id: config.node_id,
                    member: member.clone(),
                    runtime: runtime.clone(),
                })
            };
            let joined = join_patiently(options, config.node_id).await?;
            let origin = Origin::Joiner {
                members: members.clone(),
                voter: member.voter_wanted,
            };
            Identity::new(joined.cluster_id, joined.node_id, origin)
        }
    };
    dir.set_identity(&identity)?;
    Ok(identity)
}

/// Asks until a member lets this node in, one says why it never will, or patience is over; says now
/// and then whom it cannot reach.
async fn join_patiently(
    options: impl Fn() -> Result<JoinOptions, ServeError>,
    asked_for: Option<NodeId>,
) -> Result<Joined, ServeError> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let error = match join(options()?, SAY_AFTER).await {
            Ok(joined) => return Ok(joined),
            Err(error) => error,
        };
        let refused = matches!(error, JoinError::Refused(_));
        if refused || tokio::time::Instant::now() >= until {
            let hint = match asked_for.filter(|_| refused) {
                Some(id) => format!(
                    "; numbers are never used again: to replace a dead node {id}, run `duet \
                     cluster remove {id}` and start this one without --node-id"
                ),
                None => String::new(),
            };
            return Err(ServeError::new(format!(
                "could not join the cluster: {error}{hint}"
            )));
        }
        tracing::warn!(%error, "waiting to join the cluster");
    }
}

/// Hears from every node named. Refused if one belongs to a cluster, or cannot be heard: it may.
async fn must_find_no_cluster(
    nodes: &[String],
    secret: &Secret,
    runtime: &Handle,
) -> Result<(), ServeError> {
    for address in nodes {
        let heard = async {
            loop {
                match hello(address, secret, runtime.clone()).await {
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
            Ok(Ok(Hello { belongs_to: None })) => continue,
            Ok(Ok(Hello {
                belongs_to: Some((cluster_id, _)),
            })) => {
                format!(
                    "{address} belongs to cluster {cluster_id}; leave --bootstrap out to join it"
                )
            }
            Ok(Err(reason)) => format!("{address}: {reason}"),
            Err(_) => format!("{address} did not answer, and it may belong to a cluster already"),
        };
        return Err(ServeError::new(format!(
            "--bootstrap was refused: {reason}"
        )));
    }
    Ok(())
}
