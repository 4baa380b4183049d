//! The leader's part of a consume with a group: waiting clients in a queue per group and partition
//! asked for, and a claim proposed only when it would be granted something.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use topics::groups::Demand;
use types::command::{Claim, Command, CommandKind, Envelope, Expectation, Position, StartAt};
use types::ids::{LogIndex, PartitionId, TopicId};
use types::outcome::{CommandResult, Grant, Outcome, Rejection};
use types::schema::Topic;
use types::{Error, ErrorCode, limits};

use super::release::Held;
use super::wire::{ClaimReply, ClaimRequest, GrantWire, ReleaseRequest, Start};
use super::{TopicService, check_partition};
use crate::service::call::{Call, Failure, Reply};
use crate::service::consensus::{stopping, too_late};

/// One queue per group, and partition asked for, that somebody waits for. The head alone looks for
/// work and claims, so that a message does not wake a thousand consumers. Fair: first come, first
/// served. Who waits for one partition is in nobody's way who wants another, or any.
#[derive(Clone, Default)]
pub struct GroupQueues(Arc<Mutex<Queues>>);

type Queue = tokio::sync::Mutex<()>;
/// By topic, group and partition; none: any.
type Queues = HashMap<(TopicId, String, Option<PartitionId>), Weak<Queue>>;

/// Queues that nobody waits in are forgotten once there are this many entries.
const QUEUES_SWEPT_AT: usize = 1_024;

impl GroupQueues {
    fn of(&self, topic: TopicId, group: &str, partition: Option<PartitionId>) -> Arc<Queue> {
        let key = (topic, group.to_owned(), partition);
        let mut queues = self.0.lock();
        if let Some(queue) = queues.get(&key).and_then(Weak::upgrade) {
            return queue;
        }
        if queues.len() >= QUEUES_SWEPT_AT {
            queues.retain(|_, queue| queue.strong_count() > 0);
        }
        let queue = Arc::new(Queue::default());
        queues.insert(key, Arc::downgrade(&queue));
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

/// What a claim came to.
pub struct Claimed {
    /// For the node that holds the client.
    pub reply: ClaimReply,
    /// The lease, if something was granted.
    pub held: Option<Held>,
}

/// What looking for work once came to.
enum Look {
    Granted(Claimed),
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
        let wait_until = call.wait_until.unwrap_or_else(Instant::now);
        let claimed = self
            .claim_at_leader(&request, &call.caller()?.user, wait_until, call.deadline)
            .await?;
        let reply = Reply::json(&claimed.reply, claimed.reply.index)?;
        Ok(match claimed.held {
            None => reply,
            Some(Held { lease, undelivered }) => Reply {
                leases: vec![lease],
                undelivered: Some(undelivered),
                ..reply
            },
        })
    }

    /// Claims for a consumer as soon as there is work, or answers empty when the wait is over:
    /// then certainly nothing was there.
    pub async fn claim_at_leader(
        &self,
        request: &ClaimRequest,
        actor: &str,
        wait_until: Instant,
        deadline: Instant,
    ) -> Result<Claimed, Failure> {
        let wait_until = deadline.min(wait_until);
        let topic = self.leaders_topic(request, deadline).await?;
        let queue = self.queues.of(topic.id, &request.group, request.partition);
        let mut turn = None;
        let mut applied = self.consensus.applied_watch();
        let mut confirmed = false;
        loop {
            applied.borrow_and_update();
            // The first look is everybody's: only who has to wait stands in the queue.
            let (not_before, next_offset) = match self.look(request, actor, deadline).await? {
                Look::Granted(claimed) => return Ok(claimed),
                Look::Nothing {
                    not_before,
                    next_offset,
                } => (not_before, next_offset),
            };
            if Instant::now() < wait_until {
                confirmed = false;
                if turn.is_none() {
                    // Much may have happened until it comes, so that is looked at at once.
                    let mine = tokio::time::timeout_at(wait_until.into(), queue.lock());
                    turn = mine.await.ok();
                } else {
                    let again = not_before.unwrap_or(wait_until).min(wait_until);
                    wait_applied_change(&mut applied, again).await?;
                }
            } else if confirmed {
                let reply = ClaimReply {
                    index: *applied.borrow(),
                    grant: None,
                    next_offset,
                };
                return Ok(Claimed { reply, held: None });
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
                    let won = self.propose_claim(envelope, request, topic.id, deadline);
                    let Some(won) = won.await? else {
                        continue;
                    };
                    let lease_now = self.consensus.raft().now().lease_time;
                    let reply = ClaimReply {
                        index: won.index,
                        next_offset: won.grant.ranges.last().map_or(0, |range| range.end),
                        grant: Some(GrantWire::new(&won.grant, lease_now)),
                    };
                    let held = Some(won.held);
                    return Ok(Look::Granted(Claimed { reply, held }));
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

    /// Proposes in a task of its own, which waits for what becomes of the claim longer than any
    /// client: what is granted after its client stopped waiting is given back. It is on the way to
    /// the client for as long as nobody took it out of the channel.
    async fn propose_claim(
        &self,
        envelope: Envelope,
        request: &ClaimRequest,
        topic_id: TopicId,
        deadline: Instant,
    ) -> Result<Option<Won>, Failure> {
        let (sender, receiver) = oneshot::channel();
        let service = self.clone();
        let group = request.group.clone();
        tokio::spawn(async move {
            let patience = Instant::now() + Duration::from_millis(limits::DEADLINE_MAX_MS);
            let claimed = granted(service.consensus.propose(envelope, patience).await);
            let won = claimed.map(|granted| {
                granted.map(|(index, grant)| {
                    let held = service.held(ReleaseRequest {
                        topic_id,
                        group,
                        lease_id: grant.lease_id.clone(),
                        from_offset: 0,
                    });
                    Won { index, grant, held }
                })
            });
            // If nobody waits any more it comes back, and is dropped here.
            drop(sender.send(won));
        });
        match tokio::time::timeout_at(deadline.into(), receiver).await {
            Ok(won) => won.map_err(|_| stopping())?,
            Err(_) => Err(Failure::Error(
                too_late("the claim was not granted in time").maybe_applied(),
            )),
        }
    }
}

/// A claim that was granted something.
struct Won {
    index: LogIndex,
    grant: Grant,
    held: Held,
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
        (_, Outcome::Rejected(Rejection::Refused { error, .. })) => Err(error.into()),
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
