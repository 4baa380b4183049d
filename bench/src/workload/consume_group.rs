//! Consumers of one group that claim and ack until the topic is drained.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::paths;
use api::topics::{AckRequest, ConsumeRequest, ConsumeResponse, StartPosition};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Bench, TOPIC, connect};
use crate::args::ConsumeGroupArgs;
use crate::connection::{Connection, Reply};
use crate::cpu::Sample;
use crate::error::BenchError;
use crate::recorder::{Failure, Recorder};
use crate::report::{Amount, Report};
use crate::step::Endpoint;

/// How long all consumers together may get nothing acked before the run is given up.
const STALL_MAX: Duration = Duration::from_secs(90);
/// How long a claim waits for a message: the last ones end soon after the topic is drained.
const WAIT_SECONDS: u64 = 1;
/// Pause after a refusal, so that it does not count as thousands.
const PAUSE: Duration = Duration::from_millis(50);

/// Drains the topic with a new group for each number of consumers.
pub async fn run(bench: &Bench, args: &ConsumeGroupArgs) -> Result<(), BenchError> {
    for &consumers in &args.consumers {
        let total = bench.retained().await?;
        let group = new_group(consumers);
        let before = Sample::take(&bench.processes);
        let drained = drain(bench, &group, consumers, args.limit, total).await?;
        let after = Sample::take(&bench.processes);
        let report = Report {
            workload: "consume-group",
            settings: vec![
                ("consumers", json!(consumers)),
                ("limit", json!(args.limit)),
            ],
            elapsed: drained.elapsed,
            amounts: vec![Amount {
                unit: "messages",
                amount: drained.acked as f64,
            }],
            recorder: drained.recorder,
            cores: after.cores_since(&before, drained.elapsed, &bench.processes),
            verified: Some(format!(
                "{} acked of {total}, {} delivered again",
                drained.acked, drained.again
            )),
        };
        bench.printer.report(&report);
        if drained.acked < total {
            return Err(BenchError::NotDrained {
                acked: drained.acked,
                total,
                seconds: STALL_MAX.as_secs(),
            });
        }
    }
    Ok(())
}

impl Bench {
    /// Messages that the topic holds now.
    async fn retained(&self) -> Result<u64, BenchError> {
        let end = self.next_offset().await?;
        let request = ConsumeRequest {
            topic_id: TOPIC.into(),
            start: Some(StartPosition::Earliest),
            limit: Some(1),
            timeout_seconds: Some(0),
            ..ConsumeRequest::default()
        };
        let first = self.client.consume(&request).await?.body;
        match first.messages.first() {
            Some(first) => Ok(end - first.offset),
            None => Err(BenchError::Empty(TOPIC.into())),
        }
    }
}

/// A name that no earlier run used.
fn new_group(consumers: u32) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis();
    format!("bench-{ms}-{consumers}")
}

/// What all consumers did together.
struct Drained {
    /// Until the last ack's answer.
    elapsed: Duration,
    acked: u64,
    /// Messages that were given out more than once.
    again: u64,
    recorder: Recorder,
}

async fn drain(
    bench: &Bench,
    group: &str,
    consumers: u32,
    limit: u32,
    total: u64,
) -> Result<Drained, BenchError> {
    let claims = bench.endpoints(paths::TOPICS_CONSUME)?;
    let acks = bench.endpoints(paths::TOPICS_ACK)?;
    let acked = Arc::new(AtomicU64::new(0));
    let mut members = Vec::new();
    let nodes = claims.iter().zip(&acks).cycle();
    for (number, (claim, ack)) in (0..consumers).zip(nodes) {
        members.push(Member {
            connection: Some(connect(claim).await?),
            claim: claim.clone(),
            ack: ack.clone(),
            claim_body: claim_body(group, number, limit),
            group: group.to_owned(),
            number,
            total,
            acked: Arc::clone(&acked),
            again: 0,
            recorder: Recorder::default(),
            last_ack: None,
        });
    }
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for member in members {
        running.spawn(member.run(begin));
    }
    let mut drained = Drained {
        elapsed: Duration::ZERO,
        acked: 0,
        again: 0,
        recorder: Recorder::default(),
    };
    let mut last_ack = begin;
    while let Some(member) = running.join_next().await {
        let member = member?;
        drained.recorder.merge(&member.recorder);
        drained.again += member.again;
        last_ack = last_ack.max(member.last_ack.unwrap_or(begin));
    }
    drained.acked = acked.load(Ordering::Relaxed);
    drained.elapsed = last_ack - begin;
    Ok(drained)
}

fn claim_body(group: &str, number: u32, limit: u32) -> Bytes {
    let request = ConsumeRequest {
        topic_id: TOPIC.into(),
        group_id: Some(group.to_owned()),
        start: Some(StartPosition::Earliest),
        limit: Some(limit),
        timeout_seconds: Some(WAIT_SECONDS),
        consumer_id: Some(consumer_id(number)),
        ..ConsumeRequest::default()
    };
    let text = serde_json::to_vec(&request).expect("strings and numbers are JSON");
    text.into()
}

fn consumer_id(number: u32) -> String {
    format!("consumer-{number}")
}

/// One consumer: claims a batch, acks it, and so on.
struct Member {
    connection: Option<Connection>,
    claim: Endpoint,
    ack: Endpoint,
    claim_body: Bytes,
    group: String,
    number: u32,
    total: u64,
    /// Messages acked by all members.
    acked: Arc<AtomicU64>,
    again: u64,
    /// Latencies are those of a claim and its ack together.
    recorder: Recorder,
    last_ack: Option<Instant>,
}

impl Member {
    async fn run(mut self, begin: Instant) -> Member {
        let mut progress = (0, begin);
        loop {
            let acked = self.acked.load(Ordering::Relaxed);
            if acked >= self.total {
                return self;
            }
            if acked > progress.0 {
                progress = (acked, Instant::now());
            } else if progress.1.elapsed() > STALL_MAX {
                return self;
            }
            let sent = Instant::now();
            match self.claim_and_ack().await {
                Ok(true) => self.recorder.success(sent.elapsed()),
                Ok(false) => {}
                Err(failure) => {
                    self.recorder.failure(&failure, true);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Whether there was something to claim.
    async fn claim_and_ack(&mut self) -> Result<bool, Failure> {
        let claim = self.claim.template.with(self.claim_body.clone());
        let claimed = claimed(&self.send(claim).await?)?;
        let Some((lease_id, partition_id)) = claimed.lease() else {
            return Ok(false);
        };
        let ack = self
            .ack
            .template
            .with(self.ack_body(lease_id, partition_id));
        let reply = self.send(ack).await?;
        if reply.status != 200 {
            return Err(Failure::received(&reply));
        }
        let messages = claimed.0.messages.len() as u64;
        self.acked.fetch_add(messages, Ordering::Relaxed);
        self.again += claimed.redelivered();
        self.last_ack = Some(Instant::now());
        Ok(true)
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.claim.address)
                .await
                .map_err(|_| Failure::CONNECT)?,
        };
        let reply = connection
            .send(request)
            .await
            .map_err(|_| Failure::BROKEN)?;
        self.connection = Some(connection);
        Ok(reply)
    }

    fn ack_body(&self, lease_id: String, partition_id: u32) -> Bytes {
        let request = AckRequest {
            topic_id: TOPIC.into(),
            group_id: self.group.clone(),
            partition_id: Some(partition_id),
            consumer_id: Some(consumer_id(self.number)),
            lease_id: Some(lease_id),
            ..AckRequest::default()
        };
        let text = serde_json::to_vec(&request).expect("strings and numbers are JSON");
        text.into()
    }
}

/// The answer to a claim.
#[derive(Debug)]
struct Claimed(ConsumeResponse);

fn claimed(reply: &Reply) -> Result<Claimed, Failure> {
    if reply.status != 200 {
        return Err(Failure::received(reply));
    }
    let answer: ConsumeResponse =
        serde_json::from_slice(&reply.body).map_err(|_| Failure::WRONG_ANSWER)?;
    if !answer.messages.is_empty() && answer.lease_id.is_none() {
        return Err(Failure::WRONG_ANSWER);
    }
    Ok(Claimed(answer))
}

impl Claimed {
    /// Lease and partition; none if there was nothing to claim.
    fn lease(&self) -> Option<(String, u32)> {
        let first = self.0.messages.first()?;
        Some((self.0.lease_id.clone()?, first.partition_id))
    }

    fn redelivered(&self) -> u64 {
        let again = |message: &&api::topics::Message| message.deliveries.is_some_and(|n| n > 1);
        self.0.messages.iter().filter(again).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    fn reply(status: u16, body: &serde_json::Value) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.to_string().into(),
        }
    }

    #[test]
    fn a_claim_without_a_lease_is_a_wrong_answer() {
        let message = |deliveries: u32| {
            json!({"topic_id": TOPIC, "partition_id": 2, "offset": 1, "payload": "",
                   "timestamp_ms": 1, "op": "Insert", "deliveries": deliveries})
        };
        let leased = reply(
            200,
            &json!({"messages": [message(1), message(2)], "lease_id": "l"}),
        );
        let leased = claimed(&leased).unwrap();
        assert_eq!(leased.lease(), Some(("l".into(), 2)));
        assert_eq!(leased.redelivered(), 1);
        let bare = reply(200, &json!({"messages": [message(1)]}));
        assert_eq!(claimed(&bare).unwrap_err(), Failure::WRONG_ANSWER);
        let empty = claimed(&reply(200, &json!({"messages": []}))).unwrap();
        assert_eq!(empty.lease(), None);
        let refused = reply(503, &json!({"error": "e", "code": "OVERLOADED"}));
        assert_eq!(claimed(&refused).unwrap_err().code, "OVERLOADED");
    }
}
