//! Random commands, checked one by one against the model.

use std::collections::BTreeMap;

use proptest::prelude::*;
use storage::keys::{Kind, topics::group_prefix};
use storage::{Batch, Direction, KeyRange};
use types::ErrorCode;
use types::command::{
    Ack, Claim, ClearTopic, Extend, Nack, Position, Release, ResetGroup, Retain, StartAt,
};
use types::limits::LEASE_DONE_KEEP_MS;
use types::outcome::{CommandResult, Grant};

use super::model::{Lease, Model, Offset};
use super::{GROUP, TOPIC, World, invariants};
use crate::groups::{self, Demand};
use crate::{ApplyContext, fetch, retention};

const PARTITIONS: u32 = 2;

#[derive(Clone, Debug)]
enum Step {
    Append {
        partition: u32,
        count: u8,
    },
    Wait {
        ms: u64,
    },
    Claim {
        partition: Option<u32>,
        limit: u32,
        by: u8,
        lease_ms: u64,
        start: Start,
    },
    /// `back` offsets before the first that was never delivered.
    AckUpto {
        partition: u32,
        back: u64,
        by: u8,
        strict: bool,
    },
    AckLease {
        lease: usize,
        pick: u16,
        strict: bool,
    },
    Nack {
        lease: usize,
        pick: u16,
        delay_ms: u64,
        strict: bool,
    },
    Extend {
        lease: usize,
        lease_ms: u64,
    },
    /// All but the first `keep` offsets of the lease.
    Release {
        lease: usize,
        keep: u64,
    },
    Reset {
        partition: Option<u32>,
        to: Start,
    },
    /// All but the last `keep` messages go.
    Retain {
        partition: u32,
        keep: u64,
    },
    Clear,
}

#[derive(Clone, Copy, Debug)]
enum Start {
    Latest,
    Earliest,
    Offset(u64),
}

impl From<Start> for Position {
    fn from(start: Start) -> Position {
        match start {
            Start::Latest => Position::Latest(true),
            Start::Earliest => Position::Earliest(true),
            Start::Offset(offset) => Position::Offset(offset),
        }
    }
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        2 => Just(Start::Earliest),
        1 => Just(Start::Latest),
        1 => (0..30_u64).prop_map(Start::Offset),
    ]
}

/// Which of a lease's offsets: see [`Run::pick`].
fn pick() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(0), 8 => 1..0x40_u16, 1 => Just(0x8001)]
}

fn step() -> impl Strategy<Value = Step> {
    let partition = 0..PARTITIONS;
    // The last few leases are the interesting ones; 0 is the newest.
    let lease = 0..4_usize;
    let maybe_partition = prop::option::weighted(0.7, 0..PARTITIONS);
    let strict = prop::bool::weighted(0.3);
    // What wipes the slate is rare, or nothing gets entangled.
    prop_oneof![
        30 => (partition.clone(), 1..6_u8)
            .prop_map(|(partition, count)| Step::Append { partition, count }),
        20 => (1..40_u64).prop_map(|ms| Step::Wait { ms }),
        2 => Just(Step::Wait { ms: LEASE_DONE_KEEP_MS / 2 }),
        60 => (maybe_partition.clone(), 1..7_u32, 0..3_u8, 1..60_u64, start()).prop_map(
            |(partition, limit, by, lease_ms, start)| {
                Step::Claim { partition, limit, by, lease_ms, start }
            }
        ),
        12 => (partition.clone(), 0..10_u64, 0..3_u8, strict)
            .prop_map(|(partition, back, by, strict)| {
                Step::AckUpto { partition, back, by, strict }
            }),
        25 => (lease.clone(), pick(), strict)
            .prop_map(|(lease, pick, strict)| Step::AckLease { lease, pick, strict }),
        15 => (lease.clone(), pick(), 0..30_u64, strict).prop_map(
            |(lease, pick, delay_ms, strict)| Step::Nack { lease, pick, delay_ms, strict }
        ),
        8 => (lease.clone(), 1..60_u64)
            .prop_map(|(lease, lease_ms)| Step::Extend { lease, lease_ms }),
        15 => (lease, 0..6_u64).prop_map(|(lease, keep)| Step::Release { lease, keep }),
        3 => (maybe_partition, start()).prop_map(|(partition, to)| Step::Reset { partition, to }),
        3 => (partition, 0..10_u64)
            .prop_map(|(partition, keep)| Step::Retain { partition, keep }),
        1 => Just(Step::Clear),
    ]
}

/// State and model side by side.
struct Run {
    world: World,
    model: Model,
    /// Every lease ever granted, oldest first.
    leases: Vec<String>,
    /// How often each offset was delivered and not released.
    delivered: BTreeMap<(u32, u64), u32>,
}

impl Run {
    fn new() -> Run {
        Run {
            world: World::new(),
            model: Model::new(PARTITIONS),
            leases: Vec::new(),
            delivered: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        let before = self.committed();
        let held = self.model.holdings();
        // May this step move positions over what was never delivered, or back?
        let mut sets_position = false;
        match *step {
            Step::Append { partition, count } => {
                for _ in 0..count {
                    self.world.append(partition);
                    self.model.part(partition).end += 1;
                }
            }
            Step::Wait { ms } => self.model.now += ms,
            Step::Claim { .. } => self.claim(step),
            Step::AckUpto {
                partition,
                back,
                by,
                strict,
            } => {
                let group = &self.model.partitions[partition as usize].group;
                sets_position = group.as_ref().is_none_or(|work| !work.consumed);
                let next = group.as_ref().map_or(3, |work| work.next);
                let upto = next.saturating_sub(back);
                self.ack_upto(partition, upto, by, strict);
            }
            Step::AckLease {
                lease,
                pick,
                strict,
            } => self.ack_lease(lease, pick, strict),
            Step::Nack {
                lease,
                pick,
                delay_ms,
                strict,
            } => {
                self.nack(lease, pick, delay_ms, strict);
            }
            Step::Extend { lease, lease_ms } => self.extend(lease, lease_ms),
            Step::Release { lease, keep } => self.release(lease, keep),
            Step::Reset { partition, to } => {
                sets_position = true;
                self.reset(partition, to);
            }
            Step::Retain { partition, keep } => {
                let earliest = self.model.part(partition).end.saturating_sub(keep);
                let from = self.model.part(partition).earliest;
                let command = Retain {
                    topic_id: TOPIC,
                    partition,
                    earliest,
                    from,
                    bytes: self.bytes(partition, from..earliest),
                };
                self.apply(|batch, _| retention::retain(batch, &command).map(Ok))
                    .unwrap();
                let part = self.model.part(partition);
                part.earliest = part.earliest.max(earliest.min(part.end));
            }
            Step::Clear => {
                let command = ClearTopic {
                    topic_id: TOPIC,
                    partitions: PARTITIONS,
                };
                self.apply(|batch, _| retention::clear(batch, &command).map(Ok))
                    .unwrap();
                for part in &mut self.model.partitions {
                    part.earliest = part.end;
                }
            }
        }
        if !matches!(step, Step::Reset { .. }) {
            self.model.note_done(&held);
        }
        self.check(&before, sets_position);
    }

    /// Of the messages in a range.
    fn bytes(&self, partition: u32, range: std::ops::Range<u64>) -> u64 {
        let snapshot = self.world.snapshot();
        let kept = fetch::fetch(&*snapshot, TOPIC, partition, 0, u32::MAX, usize::MAX).unwrap();
        let counted = kept
            .iter()
            .filter(|message| range.contains(&message.offset));
        counted.map(|message| message.raw().len() as u64).sum()
    }

    fn apply<T>(
        &mut self,
        command: impl FnOnce(&mut Batch, ApplyContext) -> storage::Result<types::Result<T>>,
    ) -> Result<T, ErrorCode> {
        self.world
            .apply(self.model.now, command)
            .map_err(|refusal| refusal.code)
    }

    fn claim(&mut self, step: &Step) {
        let Step::Claim {
            partition,
            limit,
            by,
            lease_ms,
            start,
        } = *step
        else {
            return;
        };
        let command = Claim {
            topic_id: TOPIC,
            group: GROUP.to_owned(),
            partition,
            partitions: PARTITIONS,
            start: Some(StartAt::from(Position::from(start))),
            consumer_id: consumer(by),
            limit,
            lease_ms,
        };
        let result = self.apply(|batch, at| groups::claim(batch, at, &command));
        if let Err(code) = self.model.ensure(partition, start.into()) {
            assert_eq!(result, Err(code));
            return;
        }
        let turn = self.model.turn(partition);
        if let Some(one) = partition.or(turn) {
            self.model.trim(one);
        }
        match (result, turn) {
            (Ok(CommandResult::NothingToClaim), None) => {}
            (Ok(CommandResult::Granted(grant)), Some(turn)) => {
                assert_eq!(grant.partition, turn, "each partition in its turn");
                if partition.is_none() {
                    self.model.next_partition = (turn + 1) % PARTITIONS;
                }
                self.grant(&command, &grant);
                assert_eq!(
                    grant.has_more,
                    self.model.demand(partition) == Demand::Ready
                );
            }
            other => panic!("the model would grant in the second: {other:?}"),
        }
    }

    /// Checks a grant and takes it over into the model.
    fn grant(&mut self, command: &Claim, grant: &Grant) {
        let partition = grant.partition;
        let mut again = self.model.again(partition);
        again.retain(|_, at| *at <= self.model.now);
        let fresh = self.model.fresh(partition);
        let granted: Vec<(u64, u32)> = grant
            .ranges
            .iter()
            .flat_map(|range| (range.start..range.end).map(|o| (o, range.deliveries)))
            .collect();
        assert!(granted.is_sorted(), "in offset order, none twice");
        let available = again.len() as u64 + (fresh.end - fresh.start);
        assert_eq!(
            granted.len() as u64,
            available.min(u64::from(command.limit))
        );

        let (mut newest_taken, mut expected_fresh) = (0, fresh.start);
        for (offset, deliveries) in &granted {
            let work = self.model.work(partition);
            let before = match work.offsets.get(offset) {
                None => {
                    assert_eq!(*offset, expected_fresh, "fresh offsets in order");
                    expected_fresh += 1;
                    0
                }
                Some(Offset::Ready { deliveries, .. }) => *deliveries,
                Some(Offset::Leased { lease, deliveries }) => {
                    let (lease, deliveries) = (lease.clone(), *deliveries);
                    self.model.leases.get_mut(&lease).unwrap().lost = true;
                    deliveries
                }
                Some(Offset::Done) => panic!("offset {offset} is done"),
            };
            assert_eq!(*deliveries, before + 1);
            if *offset < fresh.start {
                // A live lease or a running delay is not in `again`: no two live leases.
                newest_taken = newest_taken.max(again.remove(offset).expect("claimable"));
            }
            *self.delivered.entry((partition, *offset)).or_default() += 1;
            let state = Offset::Leased {
                lease: grant.lease_id.clone(),
                deliveries: before + 1,
            };
            let work = self.model.work(partition);
            work.offsets.insert(*offset, state);
            work.next = work.next.max(offset + 1);
            work.consumed = true;
        }
        assert!(
            again.values().all(|at| newest_taken <= *at),
            "longest waiting first"
        );
        assert!(
            expected_fresh == fresh.start || again.is_empty(),
            "expired before fresh"
        );

        let lease = Lease {
            partition,
            consumer: command.consumer_id.clone(),
            expires: self.model.now + command.lease_ms,
            granted: granted.iter().map(|(offset, _)| *offset).collect(),
            lost: false,
        };
        assert_eq!(grant.expires, lease.expires);
        self.model.forget_done();
        let known = self.model.leases.insert(grant.lease_id.clone(), lease);
        assert!(known.is_none(), "a lease id is never given twice");
        self.leases.push(grant.lease_id.clone());
    }

    fn ack_upto(&mut self, partition: u32, upto: u64, by: u8, strict: bool) {
        let command = Ack {
            topic_id: TOPIC,
            group: GROUP.to_owned(),
            partition,
            upto_offset: Some(upto),
            consumer_id: consumer(by),
            strict,
            ..Ack::default()
        };
        let result = self.apply(|batch, at| groups::ack(batch, at, &command));
        let expected = self.model.ack_upto(partition, upto, &consumer(by), strict);
        assert_eq!(
            result,
            expected.map(|committed| CommandResult::Acknowledged { committed })
        );
    }

    /// A lease's id, and some of what it was granted: the offsets whose bits are set in `pick`; 0
    /// is none, which stands for all; the highest bit adds one that it was not granted.
    fn pick(&self, lease: usize, pick: u16) -> Option<(String, Vec<u64>)> {
        let lease = self.leases.iter().rev().nth(lease)?.clone();
        let granted = &self.model.leases[&lease].granted;
        let mut offsets: Vec<u64> = granted
            .iter()
            .enumerate()
            .filter(|(i, _)| pick & (1 << i) != 0)
            .map(|(_, offset)| *offset)
            .collect();
        if pick & 0x8000 != 0 {
            offsets.push(granted.last()? + 1);
        }
        Some((lease, offsets))
    }

    fn ack_lease(&mut self, lease: usize, pick: u16, strict: bool) {
        let Some((lease, offsets)) = self.pick(lease, pick) else {
            return;
        };
        let command = Ack {
            topic_id: TOPIC,
            group: GROUP.to_owned(),
            lease_id: lease.clone(),
            offsets: offsets.clone(),
            strict,
            ..Ack::default()
        };
        let result = self.apply(|batch, at| groups::ack(batch, at, &command));
        let expected = self.model.ack(&lease, &offsets, strict);
        assert_eq!(
            result,
            expected.map(|committed| CommandResult::Acknowledged { committed })
        );
    }

    fn nack(&mut self, lease: usize, pick: u16, delay_ms: u64, strict: bool) {
        let Some((lease, offsets)) = self.pick(lease, pick) else {
            return;
        };
        let command = Nack {
            topic_id: TOPIC,
            group: GROUP.to_owned(),
            lease_id: lease.clone(),
            offsets: offsets.clone(),
            delay_ms,
            strict,
        };
        let result = self.apply(|batch, at| groups::nack(batch, at, &command));
        let expected = self.model.nack(&lease, &offsets, delay_ms, strict);
        assert_eq!(result, expected.map(|()| CommandResult::Done));
    }

    fn extend(&mut self, lease: usize, lease_ms: u64) {
        let Some((lease_id, _)) = self.pick(lease, 0) else {
            return;
        };
        let expected = self.model.extend(&lease_id, lease_ms);
        let command = Extend {
            topic_id: TOPIC,
            group: GROUP.to_owned(),
            lease_id,
            lease_ms,
        };
        let result = self.apply(|batch, at| groups::extend(batch, at, &command));
        assert_eq!(
            result,
            expected.map(|expires| CommandResult::Extended { expires, lease_ms })
        );
    }

    fn release(&mut self, lease: usize, from_offset: u64) {
        let Some((lease_id, _)) = self.pick(lease, 0) else {
            return;
        };
        let partition = self.model.leases[&lease_id].partition;
        for offset in self.model.release(&lease_id, from_offset) {
            *self.delivered.get_mut(&(partition, offset)).unwrap() -= 1;
        }
        let command = Release {
            topic_id: TOPIC,
            group: GROUP.to_owned(),
            lease_id,
            from_offset,
        };
        let result = self.apply(|batch, at| groups::release(batch, at, &command));
        assert_eq!(result, Ok(CommandResult::Done));
    }

    fn reset(&mut self, partition: Option<u32>, to: Start) {
        let command = ResetGroup {
            topic_id: TOPIC,
            group: GROUP.to_owned(),
            partition,
            partitions: PARTITIONS,
            to: Some(StartAt::from(Position::from(to))),
        };
        let result = self.apply(|batch, at| groups::reset(batch, at, &command));
        let expected = self.model.reset(partition, to.into());
        assert_eq!(result, expected.map(|()| CommandResult::Done));
    }

    fn committed(&self) -> Vec<Option<u64>> {
        let snapshot = self.world.snapshot();
        (0..PARTITIONS)
            .map(|p| {
                groups::position(&*snapshot, TOPIC, GROUP, p)
                    .unwrap()
                    .map(|at| at.committed)
            })
            .collect()
    }

    /// What must hold after every step.
    fn check(&self, before: &[Option<u64>], sets_position: bool) {
        let snapshot = self.world.snapshot();
        invariants::check(&*snapshot, PARTITIONS);
        for address in [None, Some(0), Some(1)] {
            let now = self.model.now;
            let demand =
                groups::demand(&*snapshot, TOPIC, PARTITIONS, GROUP, address, now).unwrap();
            assert_eq!(demand, self.model.demand(address), "demand of {address:?}");
        }
        for (partition, part) in (0..).zip(&self.model.partitions) {
            let bytes = self.bytes(partition, part.earliest..part.end);
            let tail = fetch::tail(&*snapshot, TOPIC, partition).unwrap();
            assert_eq!(tail.bytes, bytes, "bytes of partition {partition}");
        }
        for (partition, (before, after)) in (0..).zip(before.iter().zip(self.committed())) {
            let part = &self.model.partitions[partition as usize];
            assert_eq!(after, part.group.as_ref().map(|work| work.committed));
            let (Some(before), Some(after)) = (*before, after) else {
                continue;
            };
            if sets_position {
                continue;
            }
            assert!(after >= before, "a committed position went back");
            for offset in before.max(part.earliest)..after {
                let count = self
                    .delivered
                    .get(&(partition, offset))
                    .copied()
                    .unwrap_or(0);
                assert!(count > 0, "offset {offset} is done and was never delivered");
            }
        }
    }

    /// Works everything off; nothing may be left.
    fn drain(&mut self) {
        for round in 0.. {
            assert!(round < 1_000, "the group never comes to its end");
            self.model.now += 1_000;
            let leases = self.leases.len();
            self.step(&Step::Claim {
                partition: None,
                limit: 4,
                by: 0,
                lease_ms: 10,
                start: Start::Earliest,
            });
            if self.leases.len() == leases {
                break;
            }
            self.step(&Step::AckLease {
                lease: 0,
                pick: 0,
                strict: true,
            });
        }
        // A position below the floor moves up when its partition itself is asked for.
        for partition in 0..PARTITIONS {
            self.step(&Step::Claim {
                partition: Some(partition),
                limit: 1,
                by: 0,
                lease_ms: 10,
                start: Start::Earliest,
            });
        }
        let snapshot = self.world.snapshot();
        for (part, committed) in self.model.partitions.iter().zip(self.committed()) {
            assert_eq!(committed, Some(part.end), "all is done");
        }
        let count = |kind| {
            let prefix = KeyRange::prefix(&group_prefix(kind, TOPIC, GROUP));
            snapshot.scan(&prefix, Direction::Forward).count()
        };
        for kind in [Kind::Segment, Kind::Deadline] {
            assert_eq!(count(kind), 0, "{kind:?} left");
        }
        assert_eq!(
            count(Kind::Lease),
            count(Kind::LeaseEnd),
            "a lease left that is never forgotten"
        );
    }
}

fn consumer(number: u8) -> String {
    if number == 0 {
        String::new()
    } else {
        format!("c{number}")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_group_does_what_its_model_does(steps in prop::collection::vec(step(), 1..120)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        run.drain();
    }
}
