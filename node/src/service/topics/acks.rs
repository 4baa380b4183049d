//! Acks, nacks and extensions: one command each, proposed at the leader.

use api::topics::{
    AckRequest, AckResponse, ExtendRequest, ExtendResponse, NackRequest, NackResponse,
};
use bytes::Bytes;
use raft::apply::idempotency;
use serde::Serialize;
use sha2::{Digest, Sha256};
use types::Result;
use types::command::{Ack, Command, CommandKind, Envelope, Expectation, Extend, Idempotency, Nack};
use types::limits::{ACK_OFFSETS_MAX, NACK_DELAY_MAX_MS};
use types::outcome::{Outcome, Rejection};
use types::schema::Topic;

use super::consume::{lease_ms, unix_ms};
use super::{TopicService, bad_input, check_name, check_partition};
use crate::service::call::{Call, Failure, Reply};
use crate::service::consensus::View;
use crate::service::sql::key_reused;

impl TopicService {
    /// `POST /v1/api/topics/ack`.
    pub async fn ack(&self, call: &Call) -> Result<Reply, Failure> {
        let request: AckRequest = call.json()?;
        check_name("group_id", &request.group_id)?;
        check_offsets(request.offsets.as_deref())?;
        if request.upto_offset.is_some() == request.lease_id.is_some() {
            return Err(bad_input("an ack names either upto_offset or lease_id").into());
        }
        if request.offsets.is_some() && request.lease_id.is_none() {
            return Err(bad_input("offsets go with lease_id").into());
        }
        let partition = request.partition_id.unwrap_or(0);
        let offsets = request.offsets.unwrap_or_default();
        let answer = AckResponse {
            success: true,
            acknowledged_offset: request.upto_offset.or(offsets.iter().max().copied()),
        };
        self.command(call, &request.topic_id, &answer, |topic| {
            check_partition(topic, partition)?;
            Ok(CommandKind::Ack(Ack {
                topic_id: topic.id,
                group: request.group_id.clone(),
                partition,
                upto_offset: request.upto_offset,
                lease_id: request.lease_id.clone().unwrap_or_default(),
                offsets: offsets.clone(),
                consumer_id: request.consumer_id.clone().unwrap_or_default(),
                strict: false,
            }))
        })
        .await
    }

    /// `POST /v1/api/topics/nack`.
    pub async fn nack(&self, call: &Call) -> Result<Reply, Failure> {
        let request: NackRequest = call.json()?;
        check_name("group_id", &request.group_id)?;
        check_offsets(request.offsets.as_deref())?;
        let delay_ms = request.delay_ms.unwrap_or(0);
        if delay_ms > NACK_DELAY_MAX_MS {
            return Err(bad_input(format!("delay_ms is at most {NACK_DELAY_MAX_MS}")).into());
        }
        let answer = NackResponse { success: true };
        self.command(call, &request.topic_id, &answer, |topic| {
            check_partition(topic, request.partition_id.unwrap_or(0))?;
            Ok(CommandKind::Nack(Nack {
                topic_id: topic.id,
                group: request.group_id.clone(),
                lease_id: request.lease_id.clone(),
                offsets: request.offsets.clone().unwrap_or_default(),
                delay_ms,
                strict: false,
            }))
        })
        .await
    }

    /// `POST /v1/api/topics/extend`.
    pub async fn extend(&self, call: &Call) -> Result<Reply, Failure> {
        let request: ExtendRequest = call.json()?;
        check_name("group_id", &request.group_id)?;
        let lease_ms = lease_ms(Some(request.lease_seconds))?;
        let answer = ExtendResponse {
            success: true,
            lease_expires_ms: Some(unix_ms() + lease_ms),
        };
        self.command(call, &request.topic_id, &answer, |topic| {
            check_partition(topic, request.partition_id.unwrap_or(0))?;
            Ok(CommandKind::Extend(Extend {
                topic_id: topic.id,
                group: request.group_id.clone(),
                lease_id: request.lease_id.clone(),
                lease_ms,
            }))
        })
        .await
    }

    /// Proposes what `build` makes for the topic, again if the topic changed meanwhile, and gives
    /// `answer`; or under an idempotency key that is known, what was answered the first time.
    async fn command(
        &self,
        call: &Call,
        topic: &str,
        answer: &impl Serialize,
        build: impl Fn(&Topic) -> Result<CommandKind>,
    ) -> Result<Reply, Failure> {
        let mut reply = Reply::json(answer, 0)?;
        loop {
            let (view, term) = self.consensus.planning_view_for(call).await?;
            self.admit(call).await?;
            if let Some(replayed) = self.replay(call, &view)? {
                return Ok(replayed);
            }
            let topic = self.topic(topic, call.deadline).await?;
            let envelope = Envelope {
                request_id: Bytes::copy_from_slice(&call.request),
                term,
                actor: call.caller()?.user.clone(),
                expectations: vec![Expectation::exists(storage::keys::catalog::topic(topic.id))],
                commands: vec![Command::from(build(&topic)?)],
                idempotency: idempotency_of(call, &reply.body),
            };
            match self.consensus.propose(envelope, call.deadline).await? {
                (index, Outcome::Applied(_)) => {
                    reply.index = index;
                    return Ok(reply);
                }
                (_, Outcome::Replayed(first)) => return Ok(Reply::ok(first.answer, first.index)),
                (_, Outcome::Rejected(Rejection::Stale { .. })) => {}
                (_, Outcome::Rejected(Rejection::KeyReused)) => return Err(key_reused().into()),
                (_, Outcome::Rejected(Rejection::Refused { error, .. })) => {
                    return Err(error.into());
                }
            }
        }
    }

    /// The first answer, if this very request was done before.
    fn replay(&self, call: &Call, view: &View) -> Result<Option<Reply>> {
        let Some(key) = &call.idempotency_key else {
            return Ok(None);
        };
        let now = self.consensus.raft().now().wall_time;
        let actor = &call.caller()?.user;
        let found = idempotency::lookup(&*view.state, actor, key, ORDINAL, now);
        let Some(record) = self.consensus.stored(found)? else {
            return Ok(None);
        };
        match record.answer_to(&request_hash(call)) {
            Outcome::Replayed(first) => Ok(Some(Reply::ok(first.answer, first.index))),
            Outcome::Applied(_) | Outcome::Rejected(_) => Err(key_reused()),
        }
    }
}

/// A request of these routes is one command.
const ORDINAL: u32 = 0;

/// What makes a repeat of the call a replay; the answers are far below their bound.
fn idempotency_of(call: &Call, answer: &Bytes) -> Option<Idempotency> {
    Some(Idempotency {
        key: call.idempotency_key.clone()?,
        ordinal: ORDINAL,
        request_hash: request_hash(call),
        answer: answer.clone(),
    })
}

/// Tells one request from another under the same key: an ack from a nack, too.
fn request_hash(call: &Call) -> Bytes {
    let mut hasher = Sha256::new();
    hasher.update(call.operation.as_str());
    hasher.update([0]);
    hasher.update(&call.body);
    Bytes::copy_from_slice(&hasher.finalize())
}

fn check_offsets(offsets: Option<&[u64]>) -> Result<()> {
    match offsets {
        Some([]) => Err(bad_input(
            "offsets is empty: leave it out to mean all of the lease",
        )),
        Some(offsets) if offsets.len() > ACK_OFFSETS_MAX => {
            Err(bad_input(format!("at most {ACK_OFFSETS_MAX} offsets")))
        }
        Some(_) | None => Ok(()),
    }
}
