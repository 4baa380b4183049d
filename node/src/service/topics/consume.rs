//! Reading messages on this node, for consumers of this node.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use api::headers::Consistency;
use api::topics::{
    ConsumeRequest, ConsumeResponse, LatestOffsetsRequest, LatestOffsetsResponse, Message, Op,
    PartitionEnd, StartPosition,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use topics::fetch::{self, Fetched};
use topics::render::Renderer;
use types::limits::{
    CONSUME_LIMIT_DEFAULT, CONSUME_LIMIT_MAX, CONSUME_MAX_BYTES, LATEST_OFFSETS_MAX,
    LEASE_DEFAULT_MS, LEASE_MAX_MS, LONG_POLL_DEFAULT_MS, LONG_POLL_MARGIN_MS,
};
use types::schema::RowOp;
use types::{Error, ErrorCode, Result};

use super::read::{ReadRequest, Reading};
use super::wire::{ClaimReply, ClaimRequest, ReleaseRequest, Start};
use super::{TopicService, bad_input, check_name, check_partition};
use crate::service::call::{Call, Reply};
use crate::service::dispatch::Release;

/// How long before its deadline a wait ends, so that the answer is there in time.
const ANSWERING: Duration = Duration::from_millis(100);

impl TopicService {
    /// A consume, admitted and read, with its call: when its wait ends, and a deadline that leaves
    /// room for it if the client named none.
    pub async fn asked(&self, mut call: Call) -> Result<(Call, ConsumeRequest)> {
        self.admit(&call).await?;
        let request: ConsumeRequest = call.json()?;
        settle_wait(&mut call, &request, self.long_poll_max, Instant::now());
        Ok((call, request))
    }

    /// The claim that a consume with a group makes at the leader; none without a group.
    pub fn claim_wanted(&self, request: &ConsumeRequest) -> Result<Option<Bytes>> {
        let Some(group) = &request.group_id else {
            return Ok(None);
        };
        check_name("group_id", group)?;
        let consumer_id = request.consumer_id.clone().unwrap_or_default();
        if !consumer_id.is_empty() {
            check_name("consumer_id", &consumer_id)?;
        }
        let claim = ClaimRequest {
            topic: request.topic_id.clone(),
            group: group.clone(),
            partition: request.partition_id,
            start: start(request.start.as_ref())?,
            consumer_id,
            limit: limit(request.limit)?,
            lease_ms: lease_ms(request.lease_seconds)?,
        };
        let body = serde_json::to_vec(&claim)
            .map_err(|e| Error::new(ErrorCode::InternalError, format!("no claim: {e}")))?;
        Ok(Some(body.into()))
    }

    /// A consume without a group.
    pub async fn consume_alone(&self, call: &Call, request: ConsumeRequest) -> Result<Reply> {
        if call.min_index > 0 {
            self.consensus
                .view_at(call.min_index, call.deadline)
                .await?;
        }
        let read = ReadRequest {
            local: is_local_read(call, &request),
            partition: request.partition_id.unwrap_or(0),
            start: start(request.start.as_ref())?,
            limit: limit(request.limit)?,
            max_bytes: max_bytes(request.max_bytes),
            wait_until: call.wait_until.unwrap_or_else(Instant::now),
            topic: request.topic_id,
        };
        let reading = self.read(&read, call.deadline).await?;
        let messages = self.render(&reading)?;
        self.metrics.delivered(messages.len());
        let body = ConsumeResponse {
            messages,
            next_offset: reading.next_offset,
            has_more: reading.has_more,
            lease_id: None,
            lease_expires_ms: None,
        };
        Reply::json(&body, reading.view.index)
    }

    /// Reads what the leader granted and answers with it. What does not fit is given back before
    /// the answer goes out, so that the next consume finds it in its place; all of it is given back
    /// if the client does not get the answer.
    pub async fn deliver(
        &self,
        call: &Call,
        request: &ConsumeRequest,
        granted: Reply,
        release: Release,
    ) -> Result<Reply> {
        let reply: ClaimReply = serde_json::from_slice(&granted.body).map_err(|e| odd(&e))?;
        let Some(grant) = reply.grant else {
            let body = ConsumeResponse {
                next_offset: reply.next_offset,
                ..ConsumeResponse::default()
            };
            return Reply::json(&body, reply.index);
        };
        let lease = granted.leases.first().ok_or_else(|| odd(&"no lease"))?;
        let view = self.consensus.view_at(reply.index, call.deadline).await?;
        let topic = self.topic_by_id(&view, lease.topic_id, &request.topic_id)?;
        let (messages, left) = self.consensus.stored(fetch::fetch_granted(
            &*view.state,
            topic.id,
            &grant.grant(),
            max_bytes(request.max_bytes),
        ))?;
        let mut has_more = grant.has_more;
        if let Some(from_offset) = left {
            let rest = ReleaseRequest {
                from_offset,
                ..lease.clone()
            };
            // A task that failed gave nothing back.
            has_more |= release.give_back(rest).await.unwrap_or(false);
        }
        let next_offset = messages.last().map_or(reply.next_offset, |m| m.offset + 1);
        let reading = Reading {
            topic,
            partition: grant.partition,
            messages,
            next_offset,
            has_more,
            view,
        };
        let messages = self.render(&reading)?;
        self.metrics.delivered(messages.len());
        let body = ConsumeResponse {
            messages,
            next_offset,
            has_more,
            lease_id: Some(grant.lease_id),
            lease_expires_ms: Some(unix_ms() + grant.remaining_ms),
        };
        Ok(Reply {
            undelivered: granted.undelivered,
            ..Reply::json(&body, reading.view.index)?
        })
    }

    pub(super) fn render(&self, reading: &Reading) -> Result<Vec<Message>> {
        let mut renderer = Renderer::new(&*reading.view.state);
        let topic_id = reading.topic.qualified_name();
        let messages = reading.messages.iter();
        messages
            .map(|fetched| self.rendered(&mut renderer, &topic_id, reading.partition, fetched))
            .collect()
    }

    /// A message as consumers see it.
    pub(super) fn rendered(
        &self,
        renderer: &mut Renderer<'_>,
        topic_id: &str,
        partition_id: u32,
        fetched: &Fetched,
    ) -> Result<Message> {
        let message = self.consensus.stored(fetched.message())?;
        let payload = self.consensus.stored(renderer.payload(&message))?;
        Ok(Message {
            topic_id: topic_id.to_owned(),
            partition_id,
            offset: fetched.offset,
            payload: STANDARD.encode(payload),
            key: Some(message.key.to_owned()),
            timestamp_ms: message.timestamp_ms(),
            user: Some(message.user.to_owned()).filter(|user| !user.is_empty()),
            op: match message.op {
                RowOp::Insert => Op::Insert,
                RowOp::Update => Op::Update,
                RowOp::Delete => Op::Delete,
            },
            deliveries: Some(fetched.deliveries).filter(|n| *n > 0),
            index: Some(message.version.index),
        })
    }

    /// `POST /v1/api/topics/latest-offsets`.
    pub async fn latest_offsets(&self, call: &Call) -> Result<Reply> {
        self.admit(call).await?;
        let request: LatestOffsetsRequest = call.json()?;
        if request.partitions.len() > LATEST_OFFSETS_MAX {
            return Err(bad_input(format!(
                "at most {LATEST_OFFSETS_MAX} partitions at once"
            )));
        }
        let view = self.consensus.view_for(call).await?;
        let mut offsets = Vec::with_capacity(request.partitions.len());
        for wanted in request.partitions {
            let topic = self.topic_in(&view, &wanted.topic_id)?;
            check_partition(&topic, wanted.partition_id)?;
            let tail =
                self.consensus
                    .stored(fetch::tail(&*view.state, topic.id, wanted.partition_id))?;
            offsets.push(PartitionEnd {
                topic_id: wanted.topic_id,
                partition_id: wanted.partition_id,
                next_offset: tail.next,
                last_offset: tail.next.checked_sub(1),
            });
        }
        Reply::json(&LatestOffsetsResponse { offsets }, view.index)
    }
}

/// Gives a consume the end of its wait: as it asks, within the server's bound and its deadline. A
/// deadline that the client did not name comes later than that.
fn settle_wait(call: &mut Call, request: &ConsumeRequest, most: Duration, now: Instant) {
    let asked = match (call.wait_until, request.timeout_seconds) {
        (Some(until), _) => until.saturating_duration_since(now),
        (None, Some(seconds)) => Duration::from_secs(seconds),
        // What this node has is had at once; only who says so waits for more.
        (None, None) if is_local_read(call, request) => Duration::ZERO,
        (None, None) => Duration::from_millis(LONG_POLL_DEFAULT_MS),
    };
    let wait = asked.min(most);
    if !call.timeout_given {
        let margin = Duration::from_millis(LONG_POLL_MARGIN_MS);
        call.deadline = call.deadline.max(now + wait + margin);
    }
    let until_deadline = call.deadline.saturating_duration_since(now);
    let wait = wait.min(until_deadline.saturating_sub(ANSWERING));
    call.wait_until = Some(now + wait);
}

/// May this node answer from its own state, whatever that is?
fn is_local_read(call: &Call, request: &ConsumeRequest) -> bool {
    call.consistency == Consistency::Local && request.group_id.is_none()
}

fn odd(what: &impl std::fmt::Display) -> Error {
    let message = format!("the leader's answer is odd: {what}");
    Error::new(ErrorCode::InternalError, message)
}

fn start(given: Option<&StartPosition>) -> Result<Start> {
    Ok(match given {
        None | Some(StartPosition::Latest) => Start::Latest,
        Some(StartPosition::Earliest) => Start::Earliest,
        Some(StartPosition::Offset(offset)) => Start::Offset(*offset),
        Some(StartPosition::Timestamp(text)) => {
            let time = chrono::DateTime::parse_from_rfc3339(text)
                .map_err(|e| bad_input(format!("start is not an RFC 3339 time: {e}")))?;
            Start::Timestamp(time.timestamp_micros())
        }
    })
}

fn limit(given: Option<u32>) -> Result<u32> {
    let limit = given.unwrap_or(CONSUME_LIMIT_DEFAULT);
    if (1..=CONSUME_LIMIT_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(bad_input(format!("limit must be 1 to {CONSUME_LIMIT_MAX}")))
}

fn max_bytes(given: Option<u64>) -> usize {
    given
        .map_or(CONSUME_MAX_BYTES, |n| {
            usize::try_from(n).unwrap_or(usize::MAX)
        })
        .min(CONSUME_MAX_BYTES)
}

/// A lease's length in ms from one in seconds. INVALID_INPUT out of bounds.
pub(super) fn lease_ms(seconds: Option<u64>) -> Result<u64> {
    let Some(seconds) = seconds else {
        return Ok(LEASE_DEFAULT_MS);
    };
    match seconds.checked_mul(1_000) {
        Some(ms) if (1..=LEASE_MAX_MS).contains(&ms) => Ok(ms),
        _ => Err(bad_input(format!(
            "lease_seconds must be 1 to {}",
            LEASE_MAX_MS / 1_000
        ))),
    }
}

/// This machine's clock, in ms since 1970: for telling clients when a lease ends, nothing else.
pub(super) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use types::limits::DEADLINE_DEFAULT_MS;

    use super::*;
    use crate::service::call::Operation;

    /// How long a consume waits, and how long it has, in ms.
    fn settled(
        most_seconds: u64,
        timeout_seconds: Option<u64>,
        change: impl FnOnce(&mut Call, Instant),
    ) -> (u128, u128) {
        let now = Instant::now();
        let mut call = Call::new(Operation::Consume, Bytes::new());
        call.deadline = now + Duration::from_millis(DEADLINE_DEFAULT_MS);
        change(&mut call, now);
        let request = ConsumeRequest {
            timeout_seconds,
            ..ConsumeRequest::default()
        };
        settle_wait(&mut call, &request, Duration::from_secs(most_seconds), now);
        let wait = call.wait_until.expect("it is set") - now;
        (wait.as_millis(), (call.deadline - now).as_millis())
    }

    #[test]
    fn a_wait_is_what_was_asked_for_within_the_bounds() {
        let same = |_: &mut Call, _| {};
        assert_eq!(settled(5, None, same), (5_000, 30_000));
        assert_eq!(settled(60, None, same), (5_000, 30_000), "not the bound");
        assert_eq!(settled(2, None, same), (2_000, 30_000));
        assert_eq!(settled(5, Some(0), same), (0, 30_000));
        assert_eq!(settled(5, Some(u64::MAX), same), (5_000, 30_000));
        assert_eq!(settled(60, Some(45), same), (45_000, 55_000), "not cut");
    }

    #[test]
    fn a_deadline_that_was_named_holds() {
        let named = |call: &mut Call, now| {
            call.deadline = now + Duration::from_secs(3);
            call.timeout_given = true;
        };
        assert_eq!(settled(60, Some(45), named), (2_900, 3_000));
    }

    #[test]
    fn a_query_waits_in_milliseconds_and_a_local_read_not_at_all() {
        let by_query = |call: &mut Call, now| {
            call.wait_until = Some(now + Duration::from_millis(300));
        };
        assert_eq!(settled(5, None, by_query), (300, 30_000));
        let local = |call: &mut Call, _| call.consistency = Consistency::Local;
        assert_eq!(settled(5, None, local), (0, 30_000));
        assert_eq!(settled(5, Some(2), local), (2_000, 30_000));
    }
}
