//! What a log means, in maps: rows and records by key, messages by offset, answers by idempotency
//! key, positions of groups.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use raft::apply::idempotency;
use storage::keys::{Kind, catalog, topics as keys};
use storage::{Pair, Read};
use types::ErrorCode;
use types::command::{
    Change, CommandKind, Entry, Envelope, Expectation, ExpectationKind, Idempotency, Position,
    RegisterNode, RowEvent, Write,
};
use types::ids::Version;
use types::limits::{IDEMPOTENCY_KEEP_MS, NODE_ID_MAX};
use types::outcome::{AppendedRange, Applied, CommandResult, Outcome, Rejection, Replayed};
use types::schema::{PayloadMode, RowOp};

use super::groups::Groups;
use crate::support::dump;

/// A message, as far as it does not follow from where it stands.
#[derive(Clone, Debug, PartialEq)]
struct Message {
    op: i32,
    payload: i32,
    version: Version,
    wall_time: i64,
    table: u32,
    user: String,
    key: String,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

/// One partition: its floor, its end, what lies between.
#[derive(Clone, Debug, Default)]
struct Partition {
    earliest: u64,
    next: u64,
    messages: BTreeMap<u64, Message>,
}

/// All partitions of all topics.
#[derive(Clone, Debug, Default)]
pub struct Partitions(BTreeMap<(u32, u32), Partition>);

/// What happened under an idempotency key.
#[derive(Clone, Debug)]
struct Once {
    hash: Bytes,
    replayed: Replayed,
    wall_time: i64,
}

/// The state of a log's entries so far.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Everything that is stored as it was sent: rows, definitions, audit lines, node numbers.
    pub records: BTreeMap<Vec<u8>, Vec<u8>>,
    pub partitions: Partitions,
    pub groups: Groups,
    once: BTreeMap<(String, String, u32), Once>,
    pub members: BTreeSet<u64>,
    /// Topics that were dropped. Their numbers come again here, which no real one's does: a
    /// retention that was planned for the topic before has another's sizes.
    reborn: BTreeSet<u32>,
    pub now_ms: u64,
    wall_time: i64,
}

/// Where in the log something happens.
struct Place {
    index: u64,
    ordinal: u32,
}

impl Place {
    fn step(&mut self) -> Version {
        self.ordinal += 1;
        Version {
            index: self.index,
            ordinal: self.ordinal - 1,
        }
    }
}

impl Partitions {
    /// The offsets that are there.
    pub fn ends(&self, topic: u32, partition: u32) -> Range<u64> {
        let found = self.0.get(&(topic, partition));
        found.map_or(0..0, |partition| partition.earliest..partition.next)
    }

    pub fn is_start(&self, topic: u32, partition: u32, offset: u64) -> bool {
        let ends = self.ends(topic, partition);
        ends.contains(&offset) || ends.end == offset
    }

    pub fn resolve(&self, topic: u32, partition: u32, position: Position) -> u64 {
        let ends = self.ends(topic, partition);
        match position {
            Position::Latest(_) => ends.end,
            Position::Earliest(_) => ends.start,
            Position::Offset(offset) => offset,
            Position::Timestamp(time) => {
                let messages = self.0.get(&(topic, partition)).map(|found| &found.messages);
                let mut messages = messages.into_iter().flatten();
                let first = messages.find(|(_, message)| message.wall_time >= time);
                first.map_or(ends.end, |(offset, _)| *offset)
            }
        }
    }

    fn append(
        &mut self,
        at: Version,
        wall_time: i64,
        change: &Change,
        event: &RowEvent,
    ) -> Vec<(u32, u32, u64)> {
        let mut appended = Vec::new();
        for target in &event.targets {
            let partition = self
                .0
                .entry((target.topic_id, target.partition))
                .or_default();
            let is_delete = event.op == i32::from(RowOp::Delete);
            let is_diff = event.op == i32::from(RowOp::Update)
                && target.payload == i32::from(PayloadMode::Diff);
            let image = |image: &Option<Bytes>| image.as_ref().map(|bytes| bytes.to_vec());
            let message = Message {
                op: event.op,
                payload: target.payload,
                version: at,
                wall_time,
                table: event.table_id,
                user: event.user.clone(),
                key: event.message_key.clone(),
                before: image(&event.before).filter(|_| is_delete || is_diff),
                after: image(&change.after).filter(|_| !is_delete),
            };
            appended.push((target.topic_id, target.partition, partition.next));
            partition.messages.insert(partition.next, message);
            partition.next += 1;
        }
        appended
    }

    fn raise(&mut self, topic: u32, partition: u32, floor: u64) {
        if let Some(found) = self.0.get_mut(&(topic, partition)) {
            found.earliest = found.earliest.max(floor.min(found.next));
            found.messages = found.messages.split_off(&found.earliest);
        }
    }
}

impl Model {
    /// The value under a key, without the version in front, and that version.
    pub fn value(&self, key: &[u8]) -> Option<(Version, &[u8])> {
        Version::split(self.records.get(key)?)
    }

    /// Takes an entry over, and checks that its outcomes are those it should have had.
    pub fn apply(&mut self, index: u64, entry: &Entry, outcomes: &[Outcome]) {
        assert_eq!(entry.envelopes.len(), outcomes.len());
        self.now_ms = entry.lease_time;
        self.wall_time = entry.wall_time;
        let mut place = Place { index, ordinal: 0 };
        for (envelope, outcome) in entry.envelopes.iter().zip(outcomes) {
            self.apply_envelope(&mut place, envelope, outcome);
        }
    }

    fn apply_envelope(&mut self, place: &mut Place, envelope: &Envelope, outcome: &Outcome) {
        if let Some(known) = self.recall(envelope) {
            assert_eq!(*outcome, known);
            return;
        }
        let miss = envelope.expectations.iter().find(|e| !self.holds(e));
        if let Some(miss) = miss {
            let key = miss.key.clone();
            assert_eq!(*outcome, Outcome::Rejected(Rejection::Stale { key }));
            return;
        }
        match outcome {
            Outcome::Applied(Applied { index, results }) => {
                assert_eq!(
                    (*index, results.len()),
                    (place.index, envelope.commands.len())
                );
                for (command, result) in envelope.commands.iter().zip(results) {
                    self.run(place, command.kind.as_ref().unwrap(), result);
                }
                self.remember(place.index, envelope, results);
            }
            Outcome::Rejected(Rejection::Refused { command, error }) => {
                let kind = envelope.commands[*command].kind.as_ref().unwrap();
                if let CommandKind::RegisterNode(register) = kind {
                    // What the commands before it took is not in the model, and may be in its way.
                    let alone = *command == 0;
                    assert!(!alone || self.node_number(register).is_none());
                    assert_eq!(error.code, ErrorCode::Conflict);
                } else {
                    let sure = self.groups.cannot_be_refused(&self.partitions, kind);
                    assert!(*command > 0 || !sure, "{kind:?} was refused: {error}");
                }
                for refused in &envelope.commands[..=*command] {
                    skip(place, refused.kind.as_ref().unwrap());
                }
            }
            other => panic!("{other:?} for {envelope:?}"),
        }
    }

    fn recall(&self, envelope: &Envelope) -> Option<Outcome> {
        let asked = envelope.idempotency.as_ref()?;
        let once = self.once.get(&scope(envelope, asked))?;
        let keep_us = i64::try_from(IDEMPOTENCY_KEEP_MS).unwrap() * 1000;
        if self.wall_time - once.wall_time >= keep_us {
            return None;
        }
        Some(match once.hash == asked.request_hash {
            true => Outcome::Replayed(once.replayed.clone()),
            false => Outcome::Rejected(Rejection::KeyReused),
        })
    }

    fn remember(&mut self, index: u64, envelope: &Envelope, results: &[CommandResult]) {
        let Some(asked) = &envelope.idempotency else {
            return;
        };
        let written = results.iter().filter_map(|result| match result {
            CommandResult::Written(ranges) => Some(ranges.clone()),
            _ => None,
        });
        let once = Once {
            hash: asked.request_hash.clone(),
            replayed: Replayed {
                index,
                answer: asked.answer.clone(),
                messages: written.flatten().collect(),
            },
            wall_time: self.wall_time,
        };
        self.once.insert(scope(envelope, asked), once);
    }

    fn holds(&self, expectation: &Expectation) -> bool {
        let key = &expectation.key[..];
        let version = |key| self.value(key).map(|(version, _)| version);
        let under = || {
            let from = self.records.range(key.to_vec()..);
            from.take_while(|(found, _)| found.starts_with(key))
        };
        match ExpectationKind::try_from(expectation.kind).unwrap() {
            ExpectationKind::Version => version(key).is_some_and(|version| {
                (version.index, version.ordinal)
                    == (expectation.version_index, expectation.version_ordinal)
            }),
            ExpectationKind::Absent => !self.records.contains_key(key),
            ExpectationKind::Exists => self.records.contains_key(key),
            ExpectationKind::PrefixEmpty => under().next().is_none(),
            ExpectationKind::PrefixUnchanged => {
                under().count() as u64 == expectation.count
                    && under().all(|(found, _)| {
                        version(found).unwrap().index <= expectation.version_index
                    })
            }
        }
    }

    fn run(&mut self, place: &mut Place, kind: &CommandKind, result: &CommandResult) {
        match (kind, result) {
            (CommandKind::Write(write), CommandResult::Written(ranges)) => {
                let expected = self.write(place, write);
                assert_eq!(offsets_of(ranges), expected);
            }
            (CommandKind::Audit(audit), CommandResult::Done) => {
                let at = place.step();
                let key = catalog::audit(at.index, at.ordinal);
                self.records.insert(key, audit.record.to_vec());
            }
            (CommandKind::RegisterNode(register), CommandResult::NodeRegistered(id)) => {
                assert_eq!(self.node_number(register), Some(*id));
                let nonce = &register.nonce;
                self.records.insert(catalog::node(*id), nonce.to_vec());
                let number = id.to_be_bytes().to_vec();
                self.records.insert(catalog::node_nonce(nonce), number);
            }
            (CommandKind::ClearTopic(clear), CommandResult::Done) => {
                for partition in 0..clear.partitions {
                    self.partitions.raise(clear.topic_id, partition, u64::MAX);
                }
            }
            (CommandKind::Retain(retain), CommandResult::Done) => {
                let ends = self.partitions.ends(retain.topic_id, retain.partition);
                if ends.start == retain.from {
                    let floor = retain.earliest;
                    self.partitions
                        .raise(retain.topic_id, retain.partition, floor);
                }
            }
            (CommandKind::CompareDigest(_), CommandResult::Done) => {}
            (kind, result) => {
                let at = place.step();
                let lease_id = format!("{:016x}{:08x}", at.index, at.ordinal);
                let at = (self.now_ms, lease_id);
                self.groups.apply(&self.partitions, at, kind, result);
            }
        }
    }

    /// Topic, partition and offset of every message it causes, sorted.
    fn write(&mut self, place: &mut Place, write: &Write) -> Vec<(u32, u32, u64)> {
        for range in &write.delete_ranges {
            self.records
                .retain(|key, _| key[..] < range.start[..] || key[..] >= range.end[..]);
            let is_topic = |topic: u32| range.start[..] == keys::messages_prefix(topic)[..];
            let known: BTreeSet<u32> = (0..8).filter(|topic| is_topic(*topic)).collect();
            for topic in known {
                self.partitions.0.retain(|(of, _), _| *of != topic);
                self.groups.drop_topic(topic);
                self.reborn.insert(topic);
            }
        }
        let mut appended = Vec::new();
        for change in &write.changes {
            let at = place.step();
            let key = change.key.to_vec();
            match &change.after {
                Some(value) => self
                    .records
                    .insert(key, [&at.to_bytes()[..], value].concat()),
                None => self.records.remove(&key),
            };
            if let Some(event) = &change.event {
                let partitions = &mut self.partitions;
                appended.extend(partitions.append(at, self.wall_time, change, event));
            }
        }
        appended.sort_unstable();
        appended
    }

    /// The number a node gets; none if it is refused.
    fn node_number(&self, register: &RegisterNode) -> Option<u64> {
        let number = |bytes: &Vec<u8>| u64::from_be_bytes(bytes[..].try_into().unwrap());
        if let Some(given) = self.records.get(&catalog::node_nonce(&register.nonce)) {
            return Some(number(given));
        }
        let nonces = self.records.iter();
        let given: BTreeSet<u64> = nonces
            .filter(|(key, _)| Kind::of(key) == Some(Kind::NodeNonce))
            .map(|(_, value)| number(value))
            .collect();
        match register.requested_id {
            0 => {
                let highest = given.iter().chain(&self.members).max();
                let next = highest.map_or(1, |id| id + 1);
                (next <= NODE_ID_MAX).then_some(next)
            }
            id => {
                let is_member = !given.is_empty() && self.members.contains(&id);
                let is_free = !is_member && !given.contains(&id);
                (id <= NODE_ID_MAX && is_free).then_some(id)
            }
        }
    }

    /// Compares a state that stands where this model does.
    pub fn check(&self, state: &dyn Read) {
        let stored: BTreeMap<Vec<u8>, Vec<u8>> =
            dump(state).into_iter().filter(is_plain_record).collect();
        assert_eq!(stored, self.records);
        for (topic, partition) in self.partitions.0.keys() {
            self.check_partition(state, *topic, *partition);
        }
        let positions: Vec<_> = topics::groups::positions(state, None)
            .map(|found| found.unwrap())
            .map(|p| {
                (
                    (p.topic_id, p.group, p.partition),
                    (p.committed, p.next, p.in_flight),
                )
            })
            .collect();
        let groups = self.groups.work.iter();
        let expected: Vec<_> = groups
            .map(|(place, work)| (place.clone(), (work.committed, work.next, work.open())))
            .collect();
        assert_eq!(positions, expected);
        for ((actor, key, ordinal), once) in &self.once {
            let now = once.wall_time;
            let found = idempotency::lookup(state, actor, key, *ordinal, now).unwrap();
            let keep_us = i64::try_from(IDEMPOTENCY_KEEP_MS).unwrap() * 1000;
            if let Some(found) = found {
                let answer = found.answer_to(&once.hash);
                assert_eq!(answer, Outcome::Replayed(once.replayed.clone()));
            } else {
                assert!(
                    self.wall_time - once.wall_time >= keep_us,
                    "{key} was forgotten"
                );
            }
        }
    }

    fn check_partition(&self, state: &dyn Read, topic: u32, partition: u32) {
        let expected = &self.partitions.0[&(topic, partition)];
        let tail = topics::fetch::tail(state, topic, partition).unwrap();
        assert_eq!(
            (tail.earliest, tail.next),
            (expected.earliest, expected.next)
        );
        let all = topics::fetch::fetch(state, topic, partition, 0, u32::MAX, usize::MAX).unwrap();
        let bytes: usize = all.iter().map(|message| message.raw().len()).sum();
        assert!(tail.bytes == bytes as u64 || self.reborn.contains(&topic));
        let found: BTreeMap<u64, Message> = all
            .iter()
            .map(|fetched| {
                let message = fetched.message().unwrap();
                let message = Message {
                    op: message.op.into(),
                    payload: message.payload.into(),
                    version: message.version,
                    wall_time: message.wall_time,
                    table: message.table_id,
                    user: message.user.to_owned(),
                    key: message.key.to_owned(),
                    before: message.before.map(<[u8]>::to_vec),
                    after: message.after.map(<[u8]>::to_vec),
                };
                (fetched.offset, message)
            })
            .collect();
        assert_eq!(found, expected.messages);
    }
}

fn scope(envelope: &Envelope, asked: &Idempotency) -> (String, String, u32) {
    (envelope.actor.clone(), asked.key.clone(), asked.ordinal)
}

/// Rejected changes and commands count as well: their places are never given again.
fn skip(place: &mut Place, kind: &CommandKind) {
    match kind {
        CommandKind::Write(write) => place.ordinal += write.changes.len() as u32,
        CommandKind::RegisterNode(_)
        | CommandKind::ClearTopic(_)
        | CommandKind::Retain(_)
        | CommandKind::CompareDigest(_) => {}
        _ => place.ordinal += 1,
    }
}

fn offsets_of(ranges: &[AppendedRange]) -> Vec<(u32, u32, u64)> {
    let offsets = |range: &AppendedRange| {
        let AppendedRange {
            topic_id,
            partition,
            first_offset,
            count,
        } = *range;
        (first_offset..first_offset + count).map(move |offset| (topic_id, partition, offset))
    };
    let mut all: Vec<_> = ranges.iter().flat_map(offsets).collect();
    all.sort_unstable();
    all
}

/// Is it stored as it was sent?
fn is_plain_record((key, _): &Pair) -> bool {
    let kind = Kind::of(key).expect("a key of the state");
    (Kind::Counter..=Kind::UniqueIndex).contains(&kind)
}
