//! The leader's part of a consume with a group: waiting clients in a queue per group, and a claim
//! proposed only when it would be granted something.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use topics::groups::Demand;
use types::command::{
    Claim, Command, CommandKind, Envelope, Expectation, Position, Release, StartAt,
};
use types::ids::{LogIndex, TopicId};
use types::outcome::{CommandResult, Grant, Outcome, Rejection};
use types::schema::Topic;
use types::{Error, ErrorCode};

use super::wire::{ClaimReply, ClaimRequest, GrantWire, Start};
use super::{TopicService, check_partition};
use crate::service::call::{Call, Failure, Reply};
use crate::service::consensus::stopping;

/// One queue per group that somebody waits for. The head alone looks for work and claims, so that
/// a message does not wake a thousand consumers. Fair: first come, first served.
#[derive(Clone, Default)]
pub struct GroupQueues(Arc<Mutex<Queues>>);

type Queue = tokio::sync::Mutex<()>;
/// By topic and group.
type Queues = HashMap<(TopicId, String), Weak<Queue>>;

/// Queues that nobody waits in are forgotten once there are this many entries.
const QUEUES_SWEPT_AT: usize = 1_024;

impl GroupQueues {
    fn of(&self, topic: TopicId, group: &str) -> Arc<Queue> {
        let mut queues = self.0.lock();
        if let Some(queue) = queues
            .get(&(topic, group.to_owned()))
            .and_then(Weak::upgrade)
        {
            return queue;
        }
        if queues.len() >= QUEUES_SWEPT_AT {
            queues.retain(|_, queue| queue.strong_count() > 0);
        }
        let queue = Arc::new(Queue::default());
        queues.insert((topic, group.to_owned()), Arc::downgrade(&queue));
        queue
    }
}

impl Start {
    pub(super) fn position(self) -> Position {
        match self {
            Start::Latest => Position::Latest(true),
            Start::Earliest => Position::Earliest(true),
            Start::Offset(offset) => Position::Offset(offset),
            Start::Timestamp(micros) => Position::Timestamp(micros),
        }
    }
}

/// What looking for work once came to.
enum Look {
    Granted(ClaimReply),
    /// Nothing, before this moment at least; with where the partition ends.
    Nothing {
        not_before: Option<Instant>,
        next_offset: u64,
    },
}

impl TopicService {
    /// Serves [`crate::service::call::Operation::Claim`].
    pub async fn claim(&self, call: &Call) -> Result<Reply, Failure> {
        let request: ClaimRequest = call.json()?;
        let reply = self
            .claim_at_leader(&request, &call.caller()?.user, call.deadline)
            .await?;
        Ok(Reply::json(&reply, reply.index)?)
    }

    /// Claims for a consumer as soon as there is work, or answers empty when the wait is over:
    /// then certainly nothing was there.
    pub async fn claim_at_leader(
        &self,
        request: &ClaimRequest,
        actor: &str,
        deadline: Instant,
    ) -> Result<ClaimReply, Failure> {
        let wait_until = deadline.min(Instant::now() + Duration::from_millis(request.wait_ms));
        let topic = self.leaders_topic(request, deadline).await?;
        let queue = self.queues.of(topic.id, &request.group);
        // Who gets no turn in time still looks once: an empty answer has to be true.
        let _turn = tokio::time::timeout_at(wait_until.into(), queue.lock())
            .await
            .ok();
        let mut applied = self.consensus.applied_watch();
        let mut confirmed = false;
        loop {
            applied.borrow_and_update();
            let (not_before, next_offset) = match self.look(request, actor, deadline).await? {
                Look::Granted(reply) => return Ok(reply),
                Look::Nothing {
                    not_before,
                    next_offset,
                } => (not_before, next_offset),
            };
            if Instant::now() < wait_until {
                confirmed = false;
                let again = not_before.unwrap_or(wait_until).min(wait_until);
                wait_applied_change(&mut applied, again).await?;
            } else if confirmed {
                let index = *applied.borrow();
                return Ok(ClaimReply {
                    index,
                    grant: None,
                    next_offset,
                });
            } else {
                self.consensus.linearizable_view(deadline).await?;
                confirmed = true;
            }
        }
    }

    /// The topic as the leader knows it; NOT_FOUND is certain.
    async fn leaders_topic(
        &self,
        request: &ClaimRequest,
        deadline: Instant,
    ) -> Result<Arc<Topic>, Failure> {
        self.consensus.planning_view(deadline).await?;
        let topic = self.topic(&request.topic, deadline).await?;
        if let Some(partition) = request.partition {
            check_partition(&topic, partition)?;
        }
        Ok(topic)
    }

    async fn look(
        &self,
        request: &ClaimRequest,
        actor: &str,
        deadline: Instant,
    ) -> Result<Look, Failure> {
        loop {
            let (view, term) = self.consensus.planning_view(deadline).await?;
            let topic = self.topic_in(&view, &request.topic)?;
            let lease_now = self.consensus.raft().now().lease_time;
            let demand = self.consensus.stored(topics::groups::demand(
                &*view.state,
                topic.id,
                topic.partitions,
                &request.group,
                request.partition,
                lease_now,
            ))?;
            let not_before = match demand {
                Demand::NoPosition | Demand::Ready => {
                    let envelope = claim_envelope(request, &topic, term, actor);
                    if let Some((index, grant)) = self
                        .propose_claim(envelope, request, topic.id, deadline)
                        .await?
                    {
                        let lease_now = self.consensus.raft().now().lease_time;
                        let next_offset = grant.ranges.last().map_or(0, |range| range.end);
                        let grant = Some(GrantWire::new(&grant, lease_now));
                        return Ok(Look::Granted(ClaimReply {
                            index,
                            grant,
                            next_offset,
                        }));
                    }
                    continue;
                }
                Demand::NotBefore(at) => {
                    let wait = Duration::from_millis(at.saturating_sub(lease_now).max(1));
                    Some(Instant::now() + wait)
                }
                Demand::Nothing => None,
            };
            let partition = request.partition.unwrap_or(0);
            let tail =
                self.consensus
                    .stored(topics::fetch::tail(&*view.state, topic.id, partition))?;
            return Ok(Look::Nothing {
                not_before,
                next_offset: tail.next,
            });
        }
    }

    /// Proposes in a task of its own: if the client goes away meanwhile, what it would have been
    /// granted is given back.
    async fn propose_claim(
        &self,
        envelope: Envelope,
        request: &ClaimRequest,
        topic: TopicId,
        deadline: Instant,
    ) -> Result<Option<(LogIndex, Grant)>, Failure> {
        let (sender, receiver) = oneshot::channel();
        let service = self.clone();
        let group = request.group.clone();
        tokio::spawn(async move {
            let claimed = granted(service.consensus.propose(envelope, deadline).await);
            if let Err(Ok(Some((_, grant)))) = sender.send(claimed) {
                service.give_back(topic, group, grant.lease_id).await;
            }
        });
        receiver.await.map_err(|_| stopping())?
    }

    /// Gives a whole lease back whose client is gone. If that fails the lease runs out by itself.
    async fn give_back(&self, topic_id: TopicId, group: String, lease_id: String) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let Ok((_, term)) = self.consensus.planning_view(deadline).await else {
            return;
        };
        let release = Release {
            topic_id,
            group,
            lease_id,
            from_offset: 0,
        };
        let envelope = Envelope {
            term,
            commands: vec![Command::from(CommandKind::Release(release))],
            ..Envelope::default()
        };
        if let Err(failure) = self.consensus.propose(envelope, deadline).await {
            tracing::debug!(?failure, "a lease was not given back; it will run out");
        }
    }
}

/// What a proposed claim came to; none: there was nothing to grant after all.
fn granted(
    proposed: Result<(LogIndex, Outcome), Failure>,
) -> Result<Option<(LogIndex, Grant)>, Failure> {
    match proposed? {
        (index, Outcome::Applied(applied)) => match applied.results.into_iter().next() {
            Some(CommandResult::Granted(grant)) => Ok(Some((index, grant))),
            Some(CommandResult::NothingToClaim) => Ok(None),
            other => Err(unexpected(&other)),
        },
        (_, Outcome::Rejected(Rejection::Refused(error))) => Err(error.into()),
        // The topic went meanwhile; the next look finds out.
        (_, Outcome::Rejected(Rejection::Stale { .. })) => Ok(None),
        (_, outcome) => Err(unexpected(&outcome)),
    }
}

fn unexpected(what: &impl std::fmt::Debug) -> Failure {
    Failure::new(
        ErrorCode::InternalError,
        format!("a claim cannot end as {what:?}"),
    )
}

fn claim_envelope(request: &ClaimRequest, topic: &Topic, term: u64, actor: &str) -> Envelope {
    let claim = Claim {
        topic_id: topic.id,
        group: request.group.clone(),
        partition: request.partition,
        partitions: topic.partitions,
        start: Some(StartAt::from(request.start.position())),
        consumer_id: request.consumer_id.clone(),
        limit: request.limit,
        lease_ms: request.lease_ms,
    };
    Envelope {
        request_id: Bytes::new(),
        term,
        actor: actor.to_owned(),
        expectations: vec![Expectation::exists(storage::keys::catalog::topic(topic.id))],
        commands: vec![Command::from(CommandKind::Claim(claim))],
        idempotency: None,
    }
}

/// Waits until something more is applied, or until `again`.
pub(super) async fn wait_applied_change(
    applied: &mut watch::Receiver<LogIndex>,
    again: Instant,
) -> Result<(), Error> {
    match tokio::time::timeout_at(again.into(), applied.changed()).await {
        Ok(Ok(())) | Err(_) => Ok(()),
        Ok(Err(_)) => Err(stopping()),
    }
}
