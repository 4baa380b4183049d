//! Turns lines of a script into commands and their results into lines.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::str::FromStr;

use storage::memory::MemoryEngine;
use storage::{Batch, Durability, Engine};
use topics::groups::{self, Demand};
use topics::{ApplyContext, append, fetch, retention};
use types::command::{
    Ack, Claim, ClearTopic, Extend, Nack, Position, Release, ResetGroup, Retain, RouteTarget,
    RowEvent, StartAt,
};
use types::ids::Version;
use types::outcome::{CommandResult, Grant};
use types::schema::{PayloadMode, RowOp};

const TOPIC: u32 = 1;

pub struct Driver {
    engine: MemoryEngine,
    partitions: u32,
    index: u64,
    now_ms: u64,
    messages: u64,
    grants: Vec<Grant>,
}

/// A command's words: what has no `=`, and what has.
struct Words<'a> {
    plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn parse(line: &'a str) -> Words<'a> {
        let mut words = Words {
            plain: vec![],
            named: BTreeMap::new(),
        };
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) => {
                    words.named.insert(name, value);
                }
                None => words.plain.push(word),
            }
        }
        words
    }

    fn get<T: FromStr>(&self, name: &str, default: T) -> T {
        self.find(name).unwrap_or(default)
    }

    fn find<T: FromStr>(&self, name: &str) -> Option<T> {
        let parse = |text: &&str| text.parse().ok().expect("a value of the right type");
        self.named.get(name).map(parse)
    }

    fn text(&self, name: &str, default: &str) -> String {
        self.get(name, default.to_owned())
    }

    fn has(&self, word: &str) -> bool {
        self.plain.contains(&word)
    }

    fn offsets(&self) -> Vec<u64> {
        let list = self.text("offsets", "");
        list.split(',')
            .filter(|s| !s.is_empty())
            .map(|s| s.parse().unwrap())
            .collect()
    }

    fn position(&self, name: &str) -> Option<StartAt> {
        let position = match *self.named.get(name)? {
            "latest" => Position::Latest(true),
            "earliest" => Position::Earliest(true),
            text => match text.strip_prefix("time:") {
                Some(ms) => Position::Timestamp(ms.parse::<i64>().unwrap() * 1_000),
                None => Position::Offset(text.parse().unwrap()),
            },
        };
        Some(position.into())
    }
}

impl Driver {
    pub fn new() -> Driver {
        Driver {
            engine: MemoryEngine::new(),
            partitions: 1,
            index: 0,
            now_ms: 0,
            messages: 0,
            grants: vec![],
        }
    }

    pub fn run(&mut self, line: &str) -> String {
        let words = Words::parse(line);
        match words.plain[0] {
            "at" => {
                self.now_ms = words.plain[1].parse().unwrap();
                String::new()
            }
            "partitions" => {
                self.partitions = words.plain[1].parse().unwrap();
                String::new()
            }
            "append" => self.append(&words),
            "read" => self.read(&words),
            "read-granted" => self.read_granted(&words),
            "tail" => self.tail(&words),
            "time" => self.offset_at(&words),
            "show" => self.show(&words),
            "clear" => {
                let command = ClearTopic {
                    topic_id: TOPIC,
                    partitions: self.partitions,
                };
                self.apply(|batch, _| retention::clear(batch, &command).map(Ok))
                    .unwrap();
                String::new()
            }
            "retain" => {
                let earliest = words.plain[1].parse().unwrap();
                let partition = words.get("p", 0);
                let from = words.find("from");
                self.retain(partition, earliest, from);
                String::new()
            }
            "due" => self.due(&words),
            _ => self.group_command(&words),
        }
    }

    /// What the leader does for an offset to become the first one kept; or did, when the first one
    /// kept was still `from`.
    fn retain(&mut self, partition: u32, earliest: u64, from: Option<u64>) {
        let snapshot = self.engine.snapshot();
        let tail = fetch::tail(&*snapshot, TOPIC, partition).unwrap();
        let messages = fetch::fetch(&*snapshot, TOPIC, partition, 0, u32::MAX, usize::MAX).unwrap();
        let gone = messages.iter().filter(|message| message.offset < earliest);
        let command = Retain {
            topic_id: TOPIC,
            partition,
            earliest,
            from: from.unwrap_or(tail.earliest),
            bytes: gone.map(|message| message.raw().len() as u64).sum(),
        };
        self.apply(|batch, _| retention::retain(batch, &command).map(Ok))
            .unwrap();
    }

    fn due(&mut self, words: &Words<'_>) -> String {
        let bounds = retention::Bounds {
            oldest: words.find("older").map(|ms: i64| ms * 1_000),
            max_bytes: words.find("bytes"),
        };
        let mut scan_left = words.get("scan", usize::MAX);
        let snapshot = self.engine.snapshot();
        let partition = words.get("p", 0);
        let due = retention::due(&*snapshot, TOPIC, partition, bounds, &mut scan_left).unwrap();
        let Some(command) = due else {
            return "nothing\n".to_owned();
        };
        self.apply(|batch, _| retention::retain(batch, &command).map(Ok))
            .unwrap();
        format!("{}..{}\n", command.from, command.earliest)
    }

    fn apply<T>(
        &mut self,
        command: impl FnOnce(&mut Batch, ApplyContext) -> storage::Result<types::Result<T>>,
    ) -> types::Result<T> {
        self.index += 1;
        let at = ApplyContext {
            version: Version {
                index: self.index,
                ordinal: 0,
            },
            lease_time: self.now_ms,
            wall_time: i64::try_from(self.now_ms).unwrap() * 1_000,
        };
        let mut batch = Batch::new(self.engine.snapshot());
        let result = command(&mut batch, at).expect("storage works");
        assert!(
            result.is_ok() || batch.is_empty(),
            "a refusal changes nothing"
        );
        self.engine
            .write(&batch.into_ops(), Durability::Flushed)
            .unwrap();
        result
    }

    fn append(&mut self, words: &Words<'_>) -> String {
        let count: u64 = words.plain[1].parse().unwrap();
        let targets: Vec<RouteTarget> = words
            .text("p", "0")
            .split(',')
            .map(|p| RouteTarget {
                topic_id: TOPIC,
                partition: p.parse().unwrap(),
                payload: PayloadMode::Full.into(),
            })
            .collect();
        let row = vec![b'.'; words.get("bytes", 8)];
        let first = self.messages;
        self.messages += count;
        let appended = self.apply(|batch, at| {
            let mut appended = Vec::new();
            for number in first..first + count {
                let event = RowEvent {
                    table_id: 1,
                    op: RowOp::Insert.into(),
                    user: String::new(),
                    message_key: format!("k{number}"),
                    before: None,
                    targets: targets.clone(),
                };
                append::append(batch, at, &event, Some(&row), &mut appended)?;
            }
            Ok(Ok(appended))
        });
        let ranges = appended.unwrap().into_iter().map(|r| {
            let end = r.first_offset + r.count;
            format!("p{}: {}..{end}\n", r.partition, r.first_offset)
        });
        ranges.collect()
    }

    fn read(&self, words: &Words<'_>) -> String {
        let snapshot = self.engine.snapshot();
        let (partition, from) = (words.get("p", 0), words.get("from", 0));
        let tail = fetch::tail(&*snapshot, TOPIC, partition).unwrap();
        if let Err(refusal) = fetch::check_start(tail, from) {
            return format!("{refusal}\n");
        }
        let (limit, bytes) = (words.get("limit", 100), words.get("bytes", usize::MAX));
        let messages =
            fetch::fetch(&*snapshot, TOPIC, partition, from, limit, bytes).expect("storage works");
        listed(&messages)
    }

    fn read_granted(&self, words: &Words<'_>) -> String {
        let snapshot = self.engine.snapshot();
        let grant = &self.grants[self.lease_number(words) - 1];
        let bytes = words.get("bytes", usize::MAX);
        let (messages, left) =
            fetch::fetch_granted(&*snapshot, TOPIC, grant, bytes).expect("storage works");
        let mut out = listed(&messages);
        if let Some(offset) = left {
            writeln!(out, "no room from {offset}").unwrap();
        }
        out
    }

    fn tail(&self, words: &Words<'_>) -> String {
        let tail = fetch::tail(&*self.engine.snapshot(), TOPIC, words.get("p", 0)).unwrap();
        let bytes = if words.has("bytes") {
            format!(", {} bytes", tail.bytes)
        } else {
            String::new()
        };
        format!("{}..{}{bytes}\n", tail.earliest, tail.next)
    }

    fn offset_at(&self, words: &Words<'_>) -> String {
        let micros: i64 = words.plain[1].parse::<i64>().unwrap() * 1_000;
        let snapshot = self.engine.snapshot();
        let offset = fetch::offset_at(&*snapshot, TOPIC, words.get("p", 0), micros).unwrap();
        format!("{offset}\n")
    }

    fn show(&self, words: &Words<'_>) -> String {
        let snapshot = self.engine.snapshot();
        let group = words.text("g", "g");
        let mut out = String::new();
        for position in groups::positions(&*snapshot, Some(TOPIC)) {
            let position = position.unwrap();
            if position.group != group {
                continue;
            }
            let tail = fetch::tail(&*snapshot, TOPIC, position.partition).unwrap();
            writeln!(
                out,
                "p{}: committed {}, next {}, in flight {}, lag {}, moved at {}",
                position.partition,
                position.committed,
                position.next,
                position.in_flight,
                position.lag(tail),
                position.updated_at / 1_000,
            )
            .unwrap();
        }
        let partition = words.find("p");
        let demand = groups::demand(
            &*snapshot,
            TOPIC,
            self.partitions,
            &group,
            partition,
            self.now_ms,
        );
        let demand = match demand.unwrap() {
            Demand::NoPosition => "no position".to_owned(),
            Demand::Ready => "ready".to_owned(),
            Demand::NotBefore(at) => format!("not before {at}"),
            Demand::Nothing => "nothing".to_owned(),
        };
        writeln!(out, "demand: {demand}").unwrap();
        out
    }

    fn group_command(&mut self, words: &Words<'_>) -> String {
        let group = words.text("g", "g");
        let lease_id = self.lease_id(words);
        let result = match words.plain[0] {
            "claim" => self.claim(words, group),
            "ack" => {
                let command = Ack {
                    topic_id: TOPIC,
                    group,
                    partition: words.get("p", 0),
                    upto_offset: words.find("upto"),
                    lease_id,
                    offsets: words.offsets(),
                    consumer_id: words.text("by", ""),
                    strict: words.has("strict"),
                };
                self.apply(|batch, at| groups::ack(batch, at, &command))
            }
            "nack" => {
                let command = Nack {
                    topic_id: TOPIC,
                    group,
                    lease_id,
                    offsets: words.offsets(),
                    delay_ms: words.get("delay", 0),
                    strict: words.has("strict"),
                };
                self.apply(|batch, at| groups::nack(batch, at, &command))
            }
            "extend" => {
                let lease_ms = words.get("lease_ms", 60_000);
                let command = Extend {
                    topic_id: TOPIC,
                    group,
                    lease_id,
                    lease_ms,
                };
                self.apply(|batch, at| groups::extend(batch, at, &command))
            }
            "release" => {
                let from_offset = words.get("from", 0);
                let command = Release {
                    topic_id: TOPIC,
                    group,
                    lease_id,
                    from_offset,
                };
                self.apply(|batch, at| groups::release(batch, at, &command))
            }
            "reset" => {
                let command = ResetGroup {
                    topic_id: TOPIC,
                    group,
                    partition: words.find("p"),
                    partitions: self.partitions,
                    to: words.position("to"),
                };
                self.apply(|batch, at| groups::reset(batch, at, &command))
            }
            other => panic!("no such command: {other}"),
        };
        self.describe(result)
    }

    fn claim(&mut self, words: &Words<'_>, group: String) -> types::Result<CommandResult> {
        let command = Claim {
            topic_id: TOPIC,
            group,
            partition: words.find("p"),
            partitions: self.partitions,
            start: words.position("from"),
            consumer_id: words.text("by", ""),
            limit: words.get("limit", 100),
            lease_ms: words.get("lease_ms", 60_000),
        };
        self.apply(|batch, at| groups::claim(batch, at, &command))
    }

    fn lease_number(&self, words: &Words<'_>) -> usize {
        let lease = words
            .plain
            .iter()
            .find_map(|word| word.strip_prefix('L')?.parse().ok());
        lease.unwrap_or(0)
    }

    /// The id behind `L1`, or what stands after `lease=`.
    fn lease_id(&self, words: &Words<'_>) -> String {
        match self.lease_number(words) {
            0 => words.text("lease", ""),
            number => self.grants[number - 1].lease_id.clone(),
        }
    }

    fn describe(&mut self, result: types::Result<CommandResult>) -> String {
        match result {
            Err(refusal) => format!("{refusal}\n"),
            Ok(CommandResult::Granted(grant)) => {
                let ranges: Vec<String> = grant
                    .ranges
                    .iter()
                    .map(|r| format!("{}..{} (delivery {})", r.start, r.end, r.deliveries))
                    .collect();
                let more = if grant.has_more { ", more" } else { "" };
                let (number, ranges) = (self.grants.len() + 1, ranges.join(" "));
                let text = format!(
                    "L{number} p{}: {ranges} until {}{more}\n",
                    grant.partition, grant.expires
                );
                self.grants.push(grant);
                text
            }
            Ok(CommandResult::NothingToClaim) => "nothing to claim\n".to_owned(),
            Ok(CommandResult::Acknowledged { committed }) => format!("committed {committed}\n"),
            Ok(CommandResult::Extended { expires, .. }) => format!("until {expires}\n"),
            Ok(CommandResult::Done) => "done\n".to_owned(),
            Ok(other) => panic!("not an answer of these commands: {other:?}"),
        }
    }
}

fn listed(messages: &[fetch::Fetched]) -> String {
    let mut out = String::new();
    for fetched in messages {
        let message = fetched.message().expect("the message is what was written");
        let again = match fetched.deliveries {
            0 => String::new(),
            count => format!(", delivery {count}"),
        };
        writeln!(
            out,
            "{}: {} {} at {}{again}",
            fetched.offset,
            message.op.as_str(),
            message.key,
            message.timestamp_ms()
        )
        .unwrap();
    }
    out
}
