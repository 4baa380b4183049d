//! Leases whose messages did not reach their client: given back, so that others need not wait for
//! them to run out.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use types::command::{Command, CommandKind, Envelope, Expectation, Release};
use types::ids::{LogIndex, Term};
use types::outcome::{Outcome, Rejection};
use types::{ErrorCode, Result};

use super::TopicService;
use super::wire::ReleaseRequest;
use crate::http::OnUndelivered;
use crate::service::call::{Call, Failure, Reply};

/// How long giving a lease back may take. After that it runs out by itself.
pub const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(5);

/// A lease that was granted and is not in its client's hands yet. Dropped, it is given back.
pub struct Held {
    /// What to give back.
    pub lease: ReleaseRequest,
    /// Does it.
    pub undelivered: OnUndelivered,
}

impl TopicService {
    /// Serves [`crate::service::call::Operation::Release`].
    pub async fn release(&self, call: &Call) -> Result<Reply, Failure> {
        let lease: ReleaseRequest = call.json()?;
        let (_, term) = self.consensus.planning_view_for(call).await?;
        self.admit(call).await?;
        let actor = &call.caller()?.user;
        let index = self
            .propose_release(lease, term, actor, call.deadline)
            .await?;
        Ok(Reply::ok(&b"{}"[..], index))
    }

    /// Watches over a lease from its grant on.
    pub(super) fn held(&self, lease: ReleaseRequest) -> Held {
        let (service, runtime, copy) = (self.clone(), Handle::current(), lease.clone());
        let undelivered = OnUndelivered::new(move || {
            runtime.spawn(async move { service.give_back(copy).await });
        });
        Held { lease, undelivered }
    }

    /// As the leader, gives a lease back. False: it was not, and runs out by itself.
    pub async fn give_back(&self, lease: ReleaseRequest) -> bool {
        let deadline = Instant::now() + GIVE_BACK_TIMEOUT;
        let given_back = async {
            let (_, term) = self.consensus.planning_view(deadline).await?;
            self.propose_release(lease, term, "", deadline).await
        };
        match given_back.await {
            Ok(_) => true,
            Err(failure) => {
                tracing::debug!(?failure, "a lease was not given back; it will run out");
                false
            }
        }
    }

    async fn propose_release(
        &self,
        lease: ReleaseRequest,
        term: Term,
        actor: &str,
        deadline: Instant,
    ) -> Result<LogIndex, Failure> {
        let topic_key = storage::keys::catalog::topic(lease.topic_id);
        let release = Release {
            topic_id: lease.topic_id,
            group: lease.group,
            lease_id: lease.lease_id,
            from_offset: lease.from_offset,
        };
        let envelope = Envelope {
            term,
            actor: actor.to_owned(),
            expectations: vec![Expectation::exists(topic_key)],
            commands: vec![Command::from(CommandKind::Release(release))],
            ..Envelope::default()
        };
        match self.consensus.propose(envelope, deadline).await? {
            // The topic is gone, and its leases with it.
            (index, Outcome::Applied(_) | Outcome::Rejected(Rejection::Stale { .. })) => Ok(index),
            (_, Outcome::Rejected(Rejection::Refused { error, .. })) => Err(error.into()),
            (_, outcome) => Err(Failure::new(
                ErrorCode::InternalError,
                format!("a release cannot end as {outcome:?}"),
            )),
        }
    }
}
