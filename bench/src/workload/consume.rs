//! Reading the whole topic without a group, once from each node.

use std::time::Duration;

use api::paths;
use api::topics::{ConsumeRequest, ConsumeResponse, Message, StartPosition};
use serde_json::json;
use tokio::time::Instant;

use super::{Bench, TOPIC, connect, connection_error};
use crate::args::ConsumeArgs;
use crate::connection::Reply;
use crate::cpu::Sample;
use crate::error::BenchError;
use crate::recorder::{Failure, Recorder};
use crate::report::{Amount, Report};
use crate::step::Endpoint;

const MEGABYTE: f64 = 1_000_000.0;

/// Reads up to where the topic ends now, from one node after another.
pub async fn run(bench: &Bench, args: &ConsumeArgs) -> Result<(), BenchError> {
    let end = bench.next_offset().await?;
    for endpoint in bench.endpoints(paths::TOPICS_CONSUME)? {
        let before = Sample::take(&bench.processes);
        let read = read_all(&endpoint, args.limit, end).await?;
        let after = Sample::take(&bench.processes);
        let megabytes = |bytes: usize| bytes as f64 / MEGABYTE;
        let report = Report {
            workload: "consume",
            settings: vec![
                ("node", json!(endpoint.address)),
                ("limit", json!(args.limit)),
            ],
            elapsed: read.elapsed,
            amounts: vec![
                Amount {
                    unit: "messages",
                    amount: read.messages as f64,
                },
                Amount {
                    unit: "payload_MB",
                    amount: megabytes(read.payload_bytes),
                },
                Amount {
                    unit: "http_MB",
                    amount: megabytes(read.body_bytes),
                },
            ],
            recorder: read.recorder,
            cores: after.cores_since(&before, read.elapsed, &bench.processes),
            verified: Some(format!("{} messages, dense", read.messages)),
        };
        bench.printer.report(&report);
    }
    Ok(())
}

/// What one pass over the topic gave.
#[derive(Default)]
struct Read {
    elapsed: Duration,
    messages: u64,
    /// Bytes of payloads as they were before base64.
    payload_bytes: usize,
    /// Bytes of answers, without their headers.
    body_bytes: usize,
    recorder: Recorder,
}

async fn read_all(endpoint: &Endpoint, limit: u32, end: u64) -> Result<Read, BenchError> {
    let mut connection = connect(endpoint).await?;
    let mut read = Read::default();
    let mut start = StartPosition::Earliest;
    let mut expected = None;
    let begin = Instant::now();
    loop {
        let sent = Instant::now();
        let request = endpoint.template.with(request(start, limit).into());
        let reply = connection
            .send(request)
            .await
            .map_err(|source| connection_error(endpoint, source))?;
        read.recorder.success(sent.elapsed());
        let answer = messages(&reply)?;
        expected = Some(dense(&answer.messages, expected)?);
        read.body_bytes += reply.body.len();
        read.messages += answer.messages.len() as u64;
        read.payload_bytes += answer.messages.iter().map(payload_bytes).sum::<usize>();
        // An empty answer stands for an empty topic: below `end` there is always a message.
        if answer.messages.is_empty() || answer.next_offset >= end {
            break;
        }
        start = StartPosition::Offset(answer.next_offset);
    }
    read.elapsed = begin.elapsed();
    if read.messages == 0 {
        return Err(BenchError::Empty(TOPIC.into()));
    }
    Ok(read)
}

fn request(start: StartPosition, limit: u32) -> Vec<u8> {
    let request = ConsumeRequest {
        topic_id: TOPIC.into(),
        start: Some(start),
        limit: Some(limit),
        partition_id: Some(0),
        timeout_seconds: Some(0),
        ..ConsumeRequest::default()
    };
    serde_json::to_vec(&request).expect("strings and numbers are JSON")
}

/// The body of a consume's answer.
fn messages(reply: &Reply) -> Result<ConsumeResponse, BenchError> {
    const REQUEST: &str = paths::TOPICS_CONSUME;
    if reply.status != 200 {
        return Err(BenchError::Refused {
            request: REQUEST,
            code: Failure::received(reply).code.into_owned(),
        });
    }
    serde_json::from_slice(&reply.body).map_err(|source| BenchError::Unreadable {
        request: REQUEST,
        source,
    })
}

/// Checks that offsets follow one another, from `expected` on if it is known. Gives the offset
/// that must come next.
fn dense(messages: &[Message], expected: Option<u64>) -> Result<u64, BenchError> {
    let first = messages.first().map(|message| message.offset);
    let mut expected = expected.or(first).unwrap_or_default();
    for message in messages {
        if message.offset != expected {
            return Err(BenchError::Gap {
                expected,
                found: message.offset,
            });
        }
        expected += 1;
    }
    Ok(expected)
}

/// Bytes of the payload, from the length of its base64 with padding.
fn payload_bytes(message: &Message) -> usize {
    let text = message.payload.as_bytes();
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    text.len() / 4 * 3 - padding
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::StatusCode;

    use super::*;

    fn message(offset: u64, payload: &str) -> Message {
        serde_json::from_value(json!({
            "topic_id": TOPIC, "partition_id": 0, "offset": offset, "payload": payload,
            "timestamp_ms": 1, "op": "Insert",
        }))
        .unwrap()
    }

    #[test]
    fn a_gap_within_or_between_answers_is_found() {
        let run = |offsets: &[u64], expected| {
            let messages: Vec<_> = offsets.iter().map(|&offset| message(offset, "")).collect();
            dense(&messages, expected)
        };
        assert_eq!(run(&[5, 6, 7], None).unwrap(), 8);
        assert_eq!(run(&[8, 9], Some(8)).unwrap(), 10);
        assert_eq!(run(&[], Some(8)).unwrap(), 8);
        for (offsets, expected) in [(&[5, 7][..], None), (&[9], Some(8)), (&[8, 8], Some(8))] {
            assert!(run(offsets, expected).is_err(), "{offsets:?}");
        }
    }

    #[test]
    fn payloads_are_measured_without_their_base64() {
        for (text, bytes) in [
            ("", 0),
            ("YQ==", 1),
            ("YWI=", 2),
            ("YWJj", 3),
            ("YWJjZA==", 4),
        ] {
            assert_eq!(payload_bytes(&message(0, text)), bytes, "{text}");
        }
    }

    #[test]
    fn a_refusal_is_no_answer() {
        let reply = Reply {
            status: StatusCode::NOT_FOUND,
            body: Bytes::from_static(br#"{"error":"no topic","code":"NOT_FOUND"}"#),
        };
        let error = messages(&reply).unwrap_err().to_string();
        assert_eq!(error, "/v1/api/topics/consume: NOT_FOUND");
    }
}
