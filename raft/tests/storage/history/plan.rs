//! Random logs. A step says what somebody wants; the plan makes an Envelope of it out of what the
//! state is before the entry, as a planner does, so that Envelopes of one entry meet.

use bytes::Bytes;
use proptest::prelude::*;
use storage::Read;
use storage::keys::{Kind, catalog, rows, topics as keys};
use types::command::{
    Ack, Audit, Change, Claim, ClearTopic, Command, CommandKind, CompareDigest, DeleteRange,
    Envelope, Expectation, Extend, Nack, Position, RegisterNode, Release, ResetGroup, Retain,
    RouteTarget, RowEvent, StartAt, Write,
};
use types::ids::Version;
use types::limits::{IDEMPOTENCY_KEEP_MS, LEASE_DONE_KEEP_MS};
use types::schema::{PayloadMode, RowOp};
use types::value::Value;

use super::model::Model;
use crate::support::{EnvelopeExt, envelope};

pub const PARTITIONS: u32 = 2;
/// As many as there are tables; a table's rows go to the topics below its own number.
const TABLES: u32 = 3;
const OWNERS: [Option<&str>; 3] = [None, Some("ann"), Some("bob")];

/// What one entry of the log is to hold.
#[derive(Clone, Debug)]
pub enum EntryPlan {
    /// Envelopes, so much later than the entry before.
    Envelopes {
        later_ms: u64,
        plans: Vec<EnvelopePlan>,
    },
    /// What a new leader writes.
    Blank,
    /// These nodes vote.
    Membership(u8),
}

#[derive(Clone, Debug)]
pub struct EnvelopePlan {
    steps: Vec<Step>,
    guards: Vec<Guard>,
    /// Key and request.
    once: Option<(u8, u8)>,
    actor: bool,
}

/// A condition; `off` makes one that does not hold.
#[derive(Clone, Debug)]
struct Guard {
    row: Row,
    kind: u8,
    off: bool,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    table: u32,
    owner: usize,
    number: i32,
}

#[derive(Clone, Debug)]
enum Step {
    Put(Row, u8),
    Delete(Row),
    /// Several rows in one command.
    PutMany(Row, u8),
    CreateTable(u32),
    DropTable(u32),
    CreateTopic(u32),
    DropTopic(u32),
    Claim {
        topic: u32,
        group: u8,
        partition: Option<u32>,
        by: u8,
        limit: u32,
        lease_ms: u64,
        start: u8,
    },
    AckLease {
        lease: usize,
        pick: u8,
        strict: bool,
    },
    AckUpto {
        topic: u32,
        group: u8,
        partition: u32,
        back: u64,
        by: u8,
        strict: bool,
    },
    Nack {
        lease: usize,
        pick: u8,
        delay_ms: u64,
    },
    Extend {
        lease: usize,
        lease_ms: u64,
    },
    Release {
        lease: usize,
        keep: u64,
    },
    Reset {
        topic: u32,
        group: u8,
        partition: Option<u32>,
        start: u8,
    },
    Retain {
        topic: u32,
        partition: u32,
        keep: u64,
        late: bool,
    },
    Clear(u32),
    Register {
        nonce: u8,
        id: u64,
    },
    Audit(u8),
    Digest,
}

/// Logs of up to `most` entries.
pub fn log(most: usize) -> impl Strategy<Value = Vec<EntryPlan>> {
    prop::collection::vec(entry(), 1..=most)
}

fn entry() -> impl Strategy<Value = EntryPlan> {
    let later = prop_oneof![
        8 => 0..40_u64,
        1 => Just(LEASE_DONE_KEEP_MS / 2),
        1 => Just(IDEMPOTENCY_KEEP_MS / 2),
    ];
    prop_oneof![
        20 => (later, prop::collection::vec(envelope_plan(), 1..5))
            .prop_map(|(later_ms, plans)| EntryPlan::Envelopes { later_ms, plans }),
        1 => Just(EntryPlan::Blank),
        1 => (1..16_u8).prop_map(EntryPlan::Membership),
    ]
}

fn envelope_plan() -> impl Strategy<Value = EnvelopePlan> {
    let steps = prop_oneof![
        5 => prop::collection::vec(step(), 1..2),
        2 => prop::collection::vec(step(), 0..5),
    ];
    let guard = (row(), 0..5_u8, prop::bool::weighted(0.1)).prop_map(|(row, kind, off)| Guard {
        row,
        kind,
        off,
    });
    let once = prop::option::weighted(0.3, (0..6_u8, 0..6_u8));
    let guards = prop::collection::vec(guard, 0..3);
    (steps, guards, once, any::<bool>()).prop_map(|(steps, guards, once, actor)| EnvelopePlan {
        steps,
        guards,
        once,
        actor,
    })
}

fn row() -> impl Strategy<Value = Row> {
    (0..TABLES, 0..OWNERS.len(), -2..3_i32).prop_map(|(table, owner, number)| Row {
        table,
        owner,
        number,
    })
}

fn step() -> BoxedStrategy<Step> {
    let (topic, partition, lease) = (0..TABLES, 0..PARTITIONS, 0..4_usize);
    let group = || 0..2_u8;
    let some = prop::option::of(0..PARTITIONS);
    let claim = (
        topic.clone(),
        group(),
        some.clone(),
        0..2_u8,
        1..6_u32,
        1..80_u64,
        0..5_u8,
    );
    let upto = (
        topic.clone(),
        group(),
        partition.clone(),
        0..6_u64,
        0..2_u8,
        any::<bool>(),
    );
    let rows = prop_oneof![
        12 => (row(), any::<u8>()).prop_map(|(row, value)| Step::Put(row, value)),
        4 => (row(), any::<u8>()).prop_map(|(row, value)| Step::PutMany(row, value)),
        5 => row().prop_map(Step::Delete),
        1 => (0..TABLES).prop_map(Step::CreateTable),
        1 => (0..TABLES).prop_map(Step::DropTable),
        1 => topic.clone().prop_map(Step::CreateTopic),
    ];
    let groups = prop_oneof![
        10 => claim.prop_map(|(topic, group, partition, by, limit, lease_ms, start)| {
            Step::Claim { topic, group, partition, by, limit, lease_ms, start }
        }),
        5 => (lease.clone(), any::<u8>(), prop::bool::weighted(0.3))
            .prop_map(|(lease, pick, strict)| Step::AckLease { lease, pick, strict }),
        3 => upto.prop_map(|(topic, group, partition, back, by, strict)| {
            Step::AckUpto { topic, group, partition, back, by, strict }
        }),
        3 => (lease.clone(), any::<u8>(), 0..60_u64)
            .prop_map(|(lease, pick, delay_ms)| Step::Nack { lease, pick, delay_ms }),
        2 => (lease.clone(), 1..80_u64)
            .prop_map(|(lease, lease_ms)| Step::Extend { lease, lease_ms }),
        3 => (lease, 0..4_u64).prop_map(|(lease, keep)| Step::Release { lease, keep }),
        1 => (topic.clone(), group(), some, 0..5_u8).prop_map(
            |(topic, group, partition, start)| Step::Reset { topic, group, partition, start }
        ),
    ];
    let others = prop_oneof![
        4 => (topic.clone(), partition, 0..6_u64, prop::bool::weighted(0.2)).prop_map(
            |(topic, partition, keep, late)| Step::Retain { topic, partition, keep, late }
        ),
        1 => topic.clone().prop_map(Step::Clear),
        1 => topic.prop_map(Step::DropTopic),
        2 => (0..6_u8, 0..6_u64).prop_map(|(nonce, id)| Step::Register { nonce, id }),
        1 => any::<u8>().prop_map(Step::Audit),
        1 => Just(Step::Digest),
    ];
    prop_oneof![10 => rows, 10 => groups, 3 => others].boxed()
}

/// Makes an Envelope of a plan. `state` is the state that `model` describes.
pub fn make(plan: &EnvelopePlan, model: &Model, state: &dyn Read) -> Envelope {
    let commands = plan.steps.iter().map(|step| command(step, model, state));
    let mut made = envelope(commands.collect());
    if plan.actor {
        made.actor = "bob".into();
    }
    for guard in &plan.guards {
        made = made.expecting(expectation(guard, model));
    }
    match plan.once {
        // Mostly the same request comes again.
        Some((key, request)) => made.once(&key.to_string(), &(request / 5).to_string()),
        None => made,
    }
}

fn expectation(guard: &Guard, model: &Model) -> Expectation {
    let key = guard.row.key();
    let found = model.value(&key).map(|(version, _)| version);
    let prefix = rows::table_prefix(guard.row.table);
    let versions: Vec<Version> = model
        .records
        .range(prefix.clone()..)
        .take_while(|(key, _)| key.starts_with(&prefix))
        .map(|(_, value)| Version::split(value).unwrap().0)
        .collect();
    let newest = versions
        .iter()
        .map(|version| version.index)
        .max()
        .unwrap_or(0);
    let count = versions.len() as u64;
    match (guard.kind, guard.off) {
        (0, off) if found.is_some() == off => Expectation::absent(key),
        (0, _) => Expectation::exists(key),
        (1, off) => {
            let mut version = found.unwrap_or(Version {
                index: 1,
                ordinal: 0,
            });
            version.ordinal += u32::from(off);
            Expectation::version(key, version)
        }
        (2, off) if (count == 0) == off => Expectation::exists(key),
        (2, _) => Expectation::prefix_empty(prefix),
        (3, off) => Expectation::prefix_unchanged(prefix, newest, count + u64::from(off)),
        (_, off) => {
            let newest = if off {
                newest.saturating_sub(1)
            } else {
                newest
            };
            Expectation::prefix_unchanged(prefix, newest, count)
        }
    }
}

impl Row {
    fn key(self) -> Vec<u8> {
        rows::row(self.table, OWNERS[self.owner], [&Value::Int(self.number)])
    }

    /// The change that gives this row a value or takes it, with the messages it causes. What was
    /// there before is as the plan sees it.
    fn change(self, value: Option<u8>, model: &Model) -> Option<Change> {
        let key = self.key();
        let before = model
            .value(&key)
            .map(|(_, value)| Bytes::copy_from_slice(value));
        let after: Option<Bytes> = value.map(|value| {
            let fields = [(1, &Value::Int(i32::from(value)))];
            types::row::encode(1, fields).into()
        });
        let op = match (&before, &after) {
            (None, Some(_)) => RowOp::Insert,
            (Some(_), Some(_)) => RowOp::Update,
            (Some(_), None) => RowOp::Delete,
            (None, None) => return None,
        };
        let modes = [PayloadMode::Full, PayloadMode::Key, PayloadMode::Diff];
        let target = |topic: u32| RouteTarget {
            topic_id: topic,
            partition: self.number.unsigned_abs() % PARTITIONS,
            payload: modes[((topic + self.table) % 3) as usize].into(),
        };
        let event = RowEvent {
            table_id: self.table,
            op: op.into(),
            user: OWNERS[self.owner].unwrap_or_default().into(),
            message_key: self.number.to_string(),
            before,
            targets: (0..self.table).map(target).collect(),
        };
        Some(Change {
            key: key.into(),
            after,
            event: (self.table > 0).then_some(event),
        })
    }
}

fn command(step: &Step, model: &Model, state: &dyn Read) -> Command {
    let kind = match *step {
        Step::Put(row, value) => write(vec![], row.change(Some(value), model)),
        Step::Delete(row) => write(vec![], row.change(None, model)),
        Step::PutMany(row, value) => {
            let numbers = [row.number, row.number + 1, row.number];
            let rows = numbers.map(|number| Row { number, ..row });
            write(
                vec![],
                rows.iter().filter_map(|row| row.change(Some(value), model)),
            )
        }
        Step::CreateTable(table) => write(vec![], define(catalog::table(table), b"{}")),
        Step::DropTable(table) => {
            let gone = define(catalog::table(table), b"").map(|change| Change {
                after: None,
                ..change
            });
            write(vec![rows::table_prefix(table)], gone)
        }
        Step::CreateTopic(topic) => write(vec![], define(catalog::topic(topic), b"{}")),
        Step::DropTopic(topic) => {
            let gone = define(catalog::topic(topic), b"").map(|change| Change {
                after: None,
                ..change
            });
            write(keys::all_prefixes(topic).to_vec(), gone)
        }
        Step::Retain {
            topic,
            partition,
            keep,
            late,
        } => CommandKind::Retain(retain(model, state, topic, partition, keep, late)),
        Step::Clear(topic_id) => CommandKind::ClearTopic(ClearTopic {
            topic_id,
            partitions: PARTITIONS,
        }),
        Step::Register {
            nonce,
            id: requested_id,
        } => CommandKind::RegisterNode(RegisterNode {
            nonce: Bytes::copy_from_slice(&[nonce; 16]),
            requested_id,
        }),
        Step::Audit(line) => CommandKind::Audit(Audit {
            record: Bytes::copy_from_slice(&[line]),
        }),
        // One that nobody remembers: whoever does would have to agree with it.
        Step::Digest => CommandKind::CompareDigest(CompareDigest {
            index: u64::MAX,
            digest: 1,
        }),
        _ => group_command(step, model),
    };
    kind.into()
}

fn group_command(step: &Step, model: &Model) -> CommandKind {
    match *step {
        Step::Claim {
            topic,
            group,
            partition,
            by,
            limit,
            lease_ms,
            start,
        } => CommandKind::Claim(Claim {
            topic_id: topic,
            group: group_name(group),
            partition,
            partitions: PARTITIONS,
            start: Some(start_at(start, model)),
            consumer_id: consumer(by),
            limit,
            lease_ms,
        }),
        Step::AckLease { .. } | Step::AckUpto { .. } => CommandKind::Ack(ack(step, model)),
        Step::Nack {
            lease,
            pick,
            delay_ms,
        } => {
            let (topic_id, group, _, lease_id) = lease_of(model, lease);
            let offsets = picked(model, &lease_id, pick);
            CommandKind::Nack(Nack {
                topic_id,
                group,
                lease_id,
                offsets,
                delay_ms,
                strict: false,
            })
        }
        Step::Extend { lease, lease_ms } => {
            let (topic_id, group, _, lease_id) = lease_of(model, lease);
            CommandKind::Extend(Extend {
                topic_id,
                group,
                lease_id,
                lease_ms,
            })
        }
        Step::Release { lease, keep } => {
            let (topic_id, group, _, lease_id) = lease_of(model, lease);
            let held = model.groups.held(&lease_id);
            let from_offset = held.get(keep as usize).copied().unwrap_or(0);
            CommandKind::Release(Release {
                topic_id,
                group,
                lease_id,
                from_offset,
            })
        }
        Step::Reset {
            topic,
            group,
            partition,
            start,
        } => CommandKind::Reset(ResetGroup {
            topic_id: topic,
            group: group_name(group),
            partition,
            partitions: PARTITIONS,
            to: Some(start_at(start, model)),
        }),
        ref other => unreachable!("{other:?} is no group's"),
    }
}

fn ack(step: &Step, model: &Model) -> Ack {
    match *step {
        Step::AckLease {
            lease,
            pick,
            strict,
        } => {
            let (topic_id, group, partition, lease_id) = lease_of(model, lease);
            Ack {
                topic_id,
                group,
                partition,
                upto_offset: None,
                offsets: picked(model, &lease_id, pick),
                lease_id,
                consumer_id: String::new(),
                strict,
            }
        }
        Step::AckUpto {
            topic,
            group,
            partition,
            back,
            by,
            strict,
        } => {
            let place = (topic, group_name(group), partition);
            let next = model.groups.work.get(&place).map_or(3, |work| work.next);
            Ack {
                topic_id: topic,
                group: group_name(group),
                partition,
                upto_offset: Some(next.saturating_sub(back)),
                consumer_id: consumer(by),
                strict,
                ..Ack::default()
            }
        }
        ref other => unreachable!("{other:?} is no ack"),
    }
}

fn write(prefixes: Vec<Vec<u8>>, changes: impl IntoIterator<Item = Change>) -> CommandKind {
    let range = |prefix: Vec<u8>| {
        let range = storage::KeyRange::prefix(&prefix);
        DeleteRange {
            start: range.start.into(),
            end: range.end.expect("no prefix is all ones").into(),
        }
    };
    CommandKind::Write(Write {
        delete_ranges: prefixes.into_iter().map(range).collect(),
        changes: changes.into_iter().collect(),
    })
}

fn define(key: Vec<u8>, value: &'static [u8]) -> Option<Change> {
    assert!(matches!(Kind::of(&key), Some(Kind::Table | Kind::Topic)));
    Some(Change {
        key: key.into(),
        after: Some(Bytes::from_static(value)),
        event: None,
    })
}

/// The oldest messages of a partition go. `late`: the floor is not where it was looked for.
fn retain(
    model: &Model,
    state: &dyn Read,
    topic: u32,
    partition: u32,
    keep: u64,
    late: bool,
) -> Retain {
    let ends = model.partitions.ends(topic, partition);
    let earliest = ends.end.saturating_sub(keep).max(ends.start);
    let kept = topics::fetch::fetch(state, topic, partition, 0, u32::MAX, usize::MAX).unwrap();
    let gone = kept.iter().filter(|message| message.offset < earliest);
    Retain {
        topic_id: topic,
        partition,
        earliest,
        from: ends.start + u64::from(late),
        bytes: gone.map(|message| message.raw().len() as u64).sum(),
    }
}

/// Topic, group, partition and id of one of the last leases; made up while there is none.
fn lease_of(model: &Model, back: usize) -> (u32, String, u32, String) {
    match model.groups.leases.iter().rev().nth(back) {
        Some((id, lease)) => {
            let (topic, group, partition) = lease.place.clone();
            (topic, group, partition, id.clone())
        }
        None => (0, group_name(0), 0, "f".repeat(24)),
    }
}

/// Some of the offsets a lease holds; all are the same as none named.
fn picked(model: &Model, lease: &str, pick: u8) -> Vec<u64> {
    let held = model.groups.held(lease).into_iter().enumerate();
    held.filter(|(at, _)| pick & 1 == 1 && pick >> (1 + at % 7) & 1 == 1)
        .map(|(_, offset)| offset)
        .collect()
}

fn group_name(number: u8) -> String {
    format!("group {number}")
}

fn consumer(number: u8) -> String {
    match number {
        0 => String::new(),
        _ => format!("consumer {number}"),
    }
}

fn start_at(number: u8, model: &Model) -> StartAt {
    StartAt::from(match number {
        0 => Position::Latest(true),
        1 | 2 => Position::Earliest(true),
        3 => Position::Offset(2),
        _ => Position::Timestamp(i64::try_from(model.now_ms).unwrap() * 1000 - 20_000),
    })
}
