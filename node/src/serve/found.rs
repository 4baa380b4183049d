//! The first entry of a cluster: its id and token key, the user `root`, the first node's number.

use std::time::{Duration, Instant};

use rand::RngExt;
use storage::keys;
use types::command::{CommandKind, Envelope, Expectation, RegisterNode};
use types::outcome::{Outcome, Rejection};
use types::schema::{ClusterRecord, Role, User};
use types::{Error, ErrorCode, Result};

use crate::auth::founding::{self, ROOT};
use crate::auth::passwords;
use crate::data_dir::Identity;
use crate::service::auth::{change, write};
use crate::service::call::Failure;
use crate::service::consensus::Consensus;

/// Makes sure the cluster is founded, as its founder: initializes the log if it is new, and
/// proposes the first entry unless it is there. Safe to repeat after a crash at any point.
pub async fn ensure(
    consensus: &Consensus,
    identity: &Identity,
    root_password: Option<String>,
) -> Result<()> {
    match consensus.raft().initialize().await {
        Ok(()) | Err(raft::InitializeError::AlreadyInitialized) => {}
        Err(error) => return Err(Error::new(ErrorCode::ClusterUnavailable, error.to_string())),
    }
    let password_hash = match root_password {
        Some(password) => tokio::task::spawn_blocking(move || passwords::hash(&password))
            .await
            .map_err(|e| Error::new(ErrorCode::InternalError, e.to_string()))??,
        None => String::new(),
    };
    loop {
        let deadline = Instant::now() + Duration::from_secs(10);
        if is_founded(consensus)? {
            return Ok(());
        }
        let failure = match propose(consensus, identity, &password_hash, deadline).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        match failure {
            // Leadership comes with the first election; and should another node lead, then the
            // cluster has grown, so it was founded.
            Failure::NotLeader => {
                let mut leadership = consensus.leadership_watch();
                let changed = tokio::time::timeout_at(deadline.into(), leadership.changed()).await;
                if matches!(changed, Ok(Err(_))) {
                    return Err(crate::service::consensus::stopping());
                }
            }
            // Whether it happened shows in the state.
            Failure::Lost(error) => tracing::info!(%error, "founding the cluster again"),
            Failure::Error(error) if error.retryable() => {
                tracing::info!(%error, "founding the cluster again");
            }
            Failure::Error(error) => return Err(error),
        }
    }
}

fn is_founded(consensus: &Consensus) -> Result<bool> {
    let view = consensus.local_view();
    Ok(consensus
        .checked(founding::cluster(&*view.state))?
        .is_some())
}

async fn propose(
    consensus: &Consensus,
    identity: &Identity,
    password_hash: &str,
    deadline: Instant,
) -> Result<(), Failure> {
    let (_, term) = consensus.planning_view(deadline).await?;
    let now = consensus.raft().now().wall_time;
    let record = ClusterRecord {
        cluster_id: identity.cluster_id.clone(),
        token_key: rand::rng().random::<[u8; 32]>().to_vec(),
        created_at: now,
    };
    let root = User {
        name: ROOT.into(),
        role: Role::System,
        email: None,
        password_hash: password_hash.to_owned(),
        tokens_valid_from: 0,
        created_at: now,
        updated_at: now,
    };
    let register = RegisterNode {
        nonce: identity.cluster_id.clone().into_bytes().into(),
        requested_id: identity.node_id,
    };
    let cluster_key = keys::meta::cluster();
    let changes = vec![
        change(cluster_key.clone(), &record)?,
        change(keys::catalog::user(ROOT), &root)?,
    ];
    let envelope = Envelope {
        term,
        expectations: vec![Expectation::absent(cluster_key)],
        commands: vec![CommandKind::RegisterNode(register).into(), write(changes)],
        ..Envelope::default()
    };
    match consensus.propose(envelope, deadline).await? {
        (_, Outcome::Applied(_) | Outcome::Rejected(Rejection::Stale { .. })) => Ok(()),
        (_, outcome) => Err(Failure::new(
            ErrorCode::InternalError,
            format!("founding a cluster cannot end as {outcome:?}"),
        )),
    }
}
