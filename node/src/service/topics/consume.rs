//! Reading messages on this node, for consumers of this node.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use api::topics::{
    ConsumeRequest, ConsumeResponse, LatestOffsetsRequest, LatestOffsetsResponse, Message, Op,
    PartitionEnd, StartPosition,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use topics::fetch::{self, Fetched, Tail};
use topics::render::Renderer;
use types::limits::{
    CONSUME_LIMIT_DEFAULT, CONSUME_LIMIT_MAX, CONSUME_MAX_BYTES, LEASE_DEFAULT_MS, LEASE_MAX_MS,
    STATEMENTS_MAX,
};
use types::schema::{RowOp, Topic};
use types::{Error, ErrorCode, Result};

use super::claim::wait_applied_change;
use super::wire::{ClaimReply, ClaimRequest, ReleaseRequest, Start};
use super::{TopicService, bad_input, check_name, check_partition};
use crate::http::OnUndelivered;
use crate::service::call::{Call, Reply};
use crate::service::consensus::View;
use crate::service::dispatch::Release;

/// A read without a group, checked, with all defaults filled in.
pub struct ReadRequest {
    /// `namespace.name`.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Where to begin.
    pub start: Start,
    /// Most messages.
    pub limit: u32,
    /// Bytes after which no more are added.
    pub max_bytes: usize,
    /// How long to wait for the first.
    pub wait: Duration,
}

/// What a read found.
pub struct Reading {
    /// The topic.
    pub topic: Arc<Topic>,
    /// The partition.
    pub partition: u32,
    /// The messages, in offset order.
    pub messages: Vec<Fetched>,
    /// Where the next read goes on.
    pub next_offset: u64,
    /// Is there more already?
    pub has_more: bool,
    /// What they were read from, for rendering them.
    pub view: View,
}

impl TopicService {
    /// The claim that a consume with a group makes at the leader; none without a group.
    pub async fn claim_wanted(&self, call: &Call) -> Result<Option<Bytes>> {
        self.admit(call).await?;
        let request: ConsumeRequest = call.json()?;
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
            wait_ms: u64::try_from(self.wait(&request, call).as_millis()).unwrap_or(0),
        };
        let body = serde_json::to_vec(&claim)
            .map_err(|e| Error::new(ErrorCode::InternalError, format!("no claim: {e}")))?;
        Ok(Some(body.into()))
    }

    /// How long the consume may wait: as it asks, within the server's bound and its deadline.
    fn wait(&self, request: &ConsumeRequest, call: &Call) -> Duration {
        const ANSWERING: Duration = Duration::from_millis(100);
        let asked = request
            .timeout_seconds
            .map_or(self.long_poll_max, Duration::from_secs);
        let until_deadline = call.deadline.saturating_duration_since(Instant::now());
        asked
            .min(self.long_poll_max)
            .min(until_deadline.saturating_sub(ANSWERING))
    }

    /// A consume without a group.
    pub async fn consume_alone(&self, call: &Call) -> Result<Reply> {
        let request: ConsumeRequest = call.json()?;
        if call.min_index > 0 {
            self.consensus
                .view_at(call.min_index, call.deadline)
                .await?;
        }
        let read = ReadRequest {
            partition: request.partition_id.unwrap_or(0),
            start: start(request.start.as_ref())?,
            limit: limit(request.limit)?,
            max_bytes: max_bytes(request.max_bytes),
            wait: self.wait(&request, call),
            topic: request.topic_id,
        };
        let reading = self.read(&read, call.deadline).await?;
        let messages = self.render(&reading)?;
        let body = ConsumeResponse {
            messages,
            next_offset: reading.next_offset,
            has_more: reading.has_more,
            lease_id: None,
            lease_expires_ms: None,
        };
        Reply::json(&body, reading.view.index)
    }

    /// Reads messages as soon as there are any. That there are none, and that the start is out of
    /// range, is said only of a state as fresh as the request.
    pub async fn read(&self, request: &ReadRequest, deadline: Instant) -> Result<Reading> {
        let topic = self.topic(&request.topic, deadline).await?;
        check_partition(&topic, request.partition)?;
        let wait_until = deadline.min(Instant::now() + request.wait);
        let mut applied = self.consensus.applied_watch();
        let mut fresh = matches!(request.start, Start::Latest | Start::Timestamp(_));
        let mut view = match fresh {
            true => self.consensus.linearizable_view(deadline).await?,
            false => self.consensus.local_view(),
        };
        let mut fixed = None;
        loop {
            let tail =
                self.consensus
                    .stored(fetch::tail(&*view.state, topic.id, request.partition))?;
            let from = match fixed {
                Some(from) => from,
                None => self.resolve(request, &topic, &view, tail)?,
            };
            // The earliest message may change while we wait; everything else is fixed once known.
            fixed = Some(from).filter(|_| request.start != Start::Earliest);
            match fetch::check_start(tail, from) {
                Ok(()) if from < tail.next => {
                    return self.take(request, topic, from, tail, view);
                }
                Err(error) if fresh => return Err(error),
                Err(_) => {}
                Ok(()) if Instant::now() < wait_until => {
                    wait_applied_change(&mut applied, wait_until).await?;
                    applied.borrow_and_update();
                    (view, fresh) = (self.consensus.local_view(), false);
                    continue;
                }
                Ok(()) if fresh => return self.take(request, topic, from, tail, view),
                Ok(()) => {}
            }
            view = self.consensus.linearizable_view(deadline).await?;
            fresh = true;
        }
    }

    fn resolve(
        &self,
        request: &ReadRequest,
        topic: &Topic,
        view: &View,
        tail: Tail,
    ) -> Result<u64> {
        Ok(match request.start {
            Start::Latest => tail.next,
            Start::Earliest => tail.earliest,
            Start::Offset(offset) => offset,
            Start::Timestamp(micros) => self.consensus.stored(fetch::offset_at(
                &*view.state,
                topic.id,
                request.partition,
                micros,
            ))?,
        })
    }

    fn take(
        &self,
        request: &ReadRequest,
        topic: Arc<Topic>,
        from: u64,
        tail: Tail,
        view: View,
    ) -> Result<Reading> {
        let messages = self.consensus.stored(fetch::fetch(
            &*view.state,
            topic.id,
            request.partition,
            from,
            request.limit,
            request.max_bytes,
        ))?;
        let next_offset = messages.last().map_or(from, |m| m.offset + 1);
        let has_more = next_offset < tail.next;
        let partition = request.partition;
        Ok(Reading {
            topic,
            partition,
            messages,
            next_offset,
            has_more,
            view,
        })
    }

    /// Reads what the leader granted and answers with it. What does not fit, and all of it if the
    /// client is gone, is given back.
    pub async fn deliver(&self, call: &Call, granted: Reply, release: Release) -> Result<Reply> {
        let request: ConsumeRequest = call.json()?;
        let reply: ClaimReply = serde_json::from_slice(&granted.body).map_err(|e| {
            Error::new(
                ErrorCode::InternalError,
                format!("the leader's answer is odd: {e}"),
            )
        })?;
        let Some(grant) = reply.grant else {
            let body = ConsumeResponse {
                next_offset: reply.next_offset,
                ..ConsumeResponse::default()
            };
            return Reply::json(&body, reply.index);
        };
        let lease = ReleaseRequest {
            topic: request.topic_id.clone(),
            group: request.group_id.clone().unwrap_or_default(),
            lease_id: grant.lease_id.clone(),
            from_offset: 0,
        };
        let give_back = move |release: &Release, from_offset| {
            release.give_back_later(&ReleaseRequest {
                from_offset,
                ..lease.clone()
            });
        };
        let undelivered = {
            let (release, give_back) = (release.clone(), give_back.clone());
            OnUndelivered::new(move || give_back(&release, 0))
        };
        let view = self.consensus.view_at(reply.index, call.deadline).await?;
        let topic = self.topic_in(&view, &request.topic_id)?;
        let (messages, left) = self.consensus.stored(fetch::fetch_granted(
            &*view.state,
            topic.id,
            &grant.grant(),
            max_bytes(request.max_bytes),
        ))?;
        if let Some(from_offset) = left {
            give_back(&release, from_offset);
        }
        let next_offset = messages.last().map_or(reply.next_offset, |m| m.offset + 1);
        let partition = grant.partition;
        let has_more = grant.has_more || left.is_some();
        let reading = Reading {
            topic,
            partition,
            messages,
            next_offset,
            has_more,
            view,
        };
        let body = ConsumeResponse {
            messages: self.render(&reading)?,
            next_offset,
            has_more,
            lease_id: Some(grant.lease_id),
            lease_expires_ms: Some(unix_ms() + grant.remaining_ms),
        };
        Ok(Reply {
            undelivered: Some(undelivered),
            ..Reply::json(&body, reading.view.index)?
        })
    }

    fn render(&self, reading: &Reading) -> Result<Vec<Message>> {
        let mut renderer = Renderer::new(&*reading.view.state);
        let topic_id = reading.topic.qualified_name();
        let mut out = Vec::with_capacity(reading.messages.len());
        for fetched in &reading.messages {
            let message = self.consensus.stored(fetched.message())?;
            let payload = self.consensus.stored(renderer.payload(&message))?;
            out.push(Message {
                topic_id: topic_id.clone(),
                partition_id: reading.partition,
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
            });
        }
        self.metrics.delivered(out.len());
        Ok(out)
    }

    /// `POST /v1/api/topics/latest-offsets`.
    pub async fn latest_offsets(&self, call: &Call) -> Result<Reply> {
        self.admit(call).await?;
        let request: LatestOffsetsRequest = call.json()?;
        if request.partitions.len() > STATEMENTS_MAX {
            return Err(bad_input(format!(
                "at most {STATEMENTS_MAX} partitions at once"
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
