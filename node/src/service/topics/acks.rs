//! Acks, nacks, extensions and releases: one command each, proposed at the leader.

use api::topics::{
    AckRequest, AckResponse, ExtendRequest, ExtendResponse, NackRequest, NackResponse,
};
use bytes::Bytes;
use types::command::{Ack, Command, CommandKind, Envelope, Expectation, Extend, Nack, Release};
use types::ids::LogIndex;
use types::limits::{ACK_OFFSETS_MAX, NACK_DELAY_MAX_MS};
use types::outcome::{CommandResult, Outcome, Rejection};
use types::schema::Topic;
use types::{ErrorCode, Result};

use super::consume::{lease_ms, unix_ms};
use super::wire::ReleaseRequest;
use super::{TopicService, bad_input, check_name, check_partition};
use crate::service::call::{Call, Failure, Reply};

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
        let (index, _) = self
            .command(call, &request.topic_id, |topic| {
                check_partition(topic, partition)?;
                Ok(CommandKind::Ack(Ack {
                    topic_id: topic.id,
                    group: request.group_id.clone(),
                    partition,
                    upto_offset: request.upto_offset,
                    lease_id: request.lease_id.clone().unwrap_or_default(),
                    offsets: request.offsets.clone().unwrap_or_default(),
                    consumer_id: request.consumer_id.clone().unwrap_or_default(),
                    strict: false,
                }))
            })
            .await?;
        let acknowledged_offset = request
            .upto_offset
            .or(request.offsets.and_then(|o| o.into_iter().max()));
        Ok(Reply::json(
            &AckResponse {
                success: true,
                acknowledged_offset,
            },
            index,
        )?)
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
        let (index, _) = self
            .command(call, &request.topic_id, |topic| {
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
            .await?;
        Ok(Reply::json(&NackResponse { success: true }, index)?)
    }

    /// `POST /v1/api/topics/extend`.
    pub async fn extend(&self, call: &Call) -> Result<Reply, Failure> {
        let request: ExtendRequest = call.json()?;
        check_name("group_id", &request.group_id)?;
        let lease_ms = lease_ms(Some(request.lease_seconds))?;
        let (index, result) = self
            .command(call, &request.topic_id, |topic| {
                check_partition(topic, request.partition_id.unwrap_or(0))?;
                Ok(CommandKind::Extend(Extend {
                    topic_id: topic.id,
                    group: request.group_id.clone(),
                    lease_id: request.lease_id.clone(),
                    lease_ms,
                }))
            })
            .await?;
        let lease_expires_ms = match result {
            CommandResult::Extended { lease_ms, .. } => Some(unix_ms() + lease_ms),
            _ => None,
        };
        Ok(Reply::json(
            &ExtendResponse {
                success: true,
                lease_expires_ms,
            },
            index,
        )?)
    }

    /// Serves [`crate::service::call::Operation::Release`].
    pub async fn release(&self, call: &Call) -> Result<Reply, Failure> {
        let request: ReleaseRequest = call.json()?;
        let (index, _) = self
            .command(call, &request.topic, |topic| {
                Ok(CommandKind::Release(Release {
                    topic_id: topic.id,
                    group: request.group.clone(),
                    lease_id: request.lease_id.clone(),
                    from_offset: request.from_offset,
                }))
            })
            .await?;
        Ok(Reply::ok(&b"{}"[..], index))
    }

    /// Proposes what `build` makes for the topic, again if the topic changed meanwhile.
    async fn command(
        &self,
        call: &Call,
        topic: &str,
        build: impl Fn(&Topic) -> Result<CommandKind>,
    ) -> Result<(LogIndex, CommandResult), Failure> {
        loop {
            let (_, term) = self.consensus.planning_view_for(call).await?;
            self.admit(call).await?;
            let topic = self.topic(topic, call.deadline).await?;
            let envelope = Envelope {
                request_id: Bytes::copy_from_slice(&call.request),
                term,
                actor: call.caller()?.user.clone(),
                expectations: vec![Expectation::exists(storage::keys::catalog::topic(topic.id))],
                commands: vec![Command::from(build(&topic)?)],
                idempotency: None,
            };
            match self.consensus.propose(envelope, call.deadline).await? {
                (index, Outcome::Applied(applied)) => {
                    let result = applied.results.into_iter().next();
                    return Ok((index, result.unwrap_or(CommandResult::Done)));
                }
                (_, Outcome::Rejected(Rejection::Stale { .. })) => {}
                (_, Outcome::Rejected(Rejection::Refused(error))) => return Err(error.into()),
                (_, outcome) => {
                    let message = format!("a group command cannot end as {outcome:?}");
                    return Err(Failure::new(ErrorCode::InternalError, message));
                }
            }
        }
    }
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
