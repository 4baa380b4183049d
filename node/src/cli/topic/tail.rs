//! `duet topic tail`: the last messages, or all from a point, or those that come.

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat};
use clap::{Args, ValueEnum};
use client::api::topics::{ConsumeRequest, Message, Op, StartPosition};
use client::{Client, Record};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{ends, partition_count};
use crate::cli::error::CliError;

/// How long one request of `--follow` waits for a message, in seconds.
const FOLLOW_WAIT_SECONDS: u64 = 5;
/// Messages that may wait to be printed before reading pauses.
const PRINT_QUEUE: usize = 256;

/// Arguments of `duet topic tail`.
#[derive(Args, Debug)]
pub struct TailArgs {
    /// The topic
    topic: String,
    /// Only this partition
    #[arg(long)]
    partition: Option<u32>,
    /// Begin here instead of near the end: earliest, latest, or an offset
    #[arg(long, value_name = "POSITION")]
    from: Option<Position>,
    /// How many of the last messages of each partition, without --from
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: u64,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// How messages are printed
    #[arg(long, value_enum, default_value_t)]
    format: TailFormat,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Earliest,
    Latest,
    Offset(u64),
}

impl std::str::FromStr for Position {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Position, &'static str> {
        if word.eq_ignore_ascii_case("earliest") {
            Ok(Position::Earliest)
        } else if word.eq_ignore_ascii_case("latest") {
            Ok(Position::Latest)
        } else {
            word.parse()
                .map(Position::Offset)
                .map_err(|_| "earliest, latest, or an offset")
        }
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum TailFormat {
    /// One line a message
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Prints messages.
pub async fn run(client: &Client, args: &TailArgs) -> Result<(), CliError> {
    let count = partition_count(client, &args.topic).await?;
    let ends = ends(client, &args.topic, count).await?;
    let mut readers = Vec::new();
    for end in ends
        .iter()
        .filter(|end| args.partition.is_none_or(|id| id == end.partition_id))
    {
        let start = match args.from {
            Some(Position::Earliest) => StartPosition::Earliest,
            Some(Position::Latest) => StartPosition::Offset(end.next_offset),
            Some(Position::Offset(offset)) => StartPosition::Offset(offset),
            None if args.lines >= end.next_offset => StartPosition::Earliest,
            None => StartPosition::Offset(end.next_offset - args.lines),
        };
        readers.push(Reader {
            client: client.clone(),
            topic: args.topic.clone(),
            partition_id: end.partition_id,
            start,
            end: (!args.follow).then_some(end.next_offset),
        });
    }
    if readers.is_empty() {
        let name = args.partition.map_or_else(String::new, |id| id.to_string());
        return Err(CliError::NotFound {
            kind: "partition",
            name,
        });
    }
    let (sender, mut messages) = mpsc::channel(PRINT_QUEUE);
    for reader in readers {
        tokio::spawn(reader.run(sender.clone()));
    }
    drop(sender);
    while let Some(message) = messages.recv().await {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", line(&message?, args.format))?;
        out.flush()?;
    }
    Ok(())
}

/// Reads one partition, to its end or for ever.
struct Reader {
    client: Client,
    topic: String,
    partition_id: u32,
    start: StartPosition,
    end: Option<u64>,
}

impl Reader {
    /// Ends when the partition does, on an error, and when nobody prints any more.
    async fn run(mut self, out: mpsc::Sender<Result<Message, CliError>>) {
        loop {
            if let (StartPosition::Offset(at), Some(end)) = (&self.start, self.end)
                && *at >= end
            {
                return;
            }
            let request = ConsumeRequest {
                topic_id: self.topic.clone(),
                start: Some(self.start.clone()),
                partition_id: Some(self.partition_id),
                timeout_seconds: Some(if self.end.is_some() {
                    0
                } else {
                    FOLLOW_WAIT_SECONDS
                }),
                ..ConsumeRequest::default()
            };
            let answer = match self.client.consume(&request).await {
                Ok(answer) => answer.body,
                Err(error) => {
                    // Nobody listening means that printing failed, which is reported there.
                    let _ = out.send(Err(error.into())).await;
                    return;
                }
            };
            let empty = answer.messages.is_empty();
            for message in answer.messages {
                if self.end.is_some_and(|end| message.offset >= end) {
                    return;
                }
                if out.send(Ok(message)).await.is_err() {
                    return;
                }
            }
            if empty && self.end.is_some() {
                return;
            }
            self.start = StartPosition::Offset(answer.next_offset);
        }
    }
}

fn line(message: &Message, format: TailFormat) -> String {
    let payload = match Record::try_from(message) {
        Ok(record) => record.payload,
        Err(_) => message.payload.clone().into_bytes(),
    };
    match format {
        TailFormat::Text => format!(
            "{}:{}  {}  {}  {}  {}",
            message.partition_id,
            message.offset,
            time(message.timestamp_ms),
            op(message.op),
            message.user.as_deref().unwrap_or("-"),
            // JSON text has no control characters of its own; a terminal must not see others.
            String::from_utf8_lossy(&payload).replace(char::is_control, "\u{fffd}"),
        ),
        TailFormat::Json => json!({
            "topic_id": message.topic_id,
            "partition_id": message.partition_id,
            "offset": message.offset,
            "timestamp_ms": message.timestamp_ms,
            "op": message.op,
            "key": message.key,
            "user": message.user,
            "payload": serde_json::from_slice(&payload)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&payload))),
        })
        .to_string(),
    }
}

fn time(timestamp_ms: i64) -> String {
    match DateTime::from_timestamp_millis(timestamp_ms) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
        None => timestamp_ms.to_string(),
    }
}

fn op(op: Op) -> &'static str {
    match op {
        Op::Insert => "insert",
        Op::Update => "update",
        Op::Delete => "delete",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_message_whatever_is_in_it() {
        let message = Message {
            topic_id: "demo.events".into(),
            partition_id: 0,
            offset: 7,
            // {"m":"ü"} and a line break, which must not break the line.
            payload: "eyJtIjoiw7wifQo=".into(),
            key: Some("k".into()),
            timestamp_ms: 1_776_513_600_123,
            user: None,
            op: Op::Insert,
            deliveries: None,
            index: None,
        };
        assert_eq!(
            line(&message, TailFormat::Text),
            "0:7  2026-04-18T12:00:00.123Z  insert  -  {\"m\":\"ü\"}\u{fffd}"
        );
        let value: Value = serde_json::from_str(&line(&message, TailFormat::Json)).unwrap();
        assert_eq!(value["payload"], json!({"m": "ü"}));
        assert_eq!(value["op"], "Insert");
    }

    #[test]
    fn positions() {
        assert_eq!("EARLIEST".parse(), Ok(Position::Earliest));
        assert_eq!("12".parse(), Ok(Position::Offset(12)));
        assert!("-1".parse::<Position>().is_err());
    }
}
