//! Groups at their bounds.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use storage::memory::MemoryEngine;
use storage::{Batch, Durability, Engine};
use topics::groups::{self, Demand};
use topics::{ApplyContext, append};
use types::command::{Ack, Claim, Position, RouteTarget, RowEvent};
use types::ids::Version;
use types::limits;
use types::outcome::{CommandResult, Grant};
use types::schema::{PayloadMode, RowOp};

struct World {
    engine: MemoryEngine,
    index: u64,
    now: u64,
}

impl World {
    fn with_messages(count: u64) -> World {
        let mut world = World {
            engine: MemoryEngine::new(),
            index: 0,
            now: 0,
        };
        world.apply(|batch, at| {
            let target = RouteTarget {
                topic_id: 1,
                partition: 0,
                payload: PayloadMode::Full.into(),
            };
            let event = RowEvent {
                table_id: 1,
                op: RowOp::Insert.into(),
                user: String::new(),
                message_key: String::new(),
                before: None,
                targets: vec![target],
            };
            let mut ranges = Vec::new();
            for _ in 0..count {
                append::append(batch, at, &event, Some(b""), &mut ranges)?;
            }
            assert_eq!(ranges.len(), 1);
            Ok(())
        });
        world
    }

    fn apply<T>(
        &mut self,
        command: impl FnOnce(&mut Batch, ApplyContext) -> storage::Result<T>,
    ) -> T {
        self.index += 1;
        let version = Version {
            index: self.index,
            ordinal: 0,
        };
        let mut batch = Batch::new(self.engine.snapshot());
        let at = ApplyContext {
            version,
            lease_time: self.now,
            wall_time: 0,
        };
        let result = command(&mut batch, at).unwrap();
        self.engine
            .write(&batch.into_ops(), Durability::Flushed)
            .unwrap();
        result
    }

    fn claim(&mut self, limit: u32) -> Option<Grant> {
        let claim = Claim {
            topic_id: 1,
            group: "g".to_owned(),
            partition: None,
            partitions: 1,
            start: Some(Position::Earliest(true).into()),
            consumer_id: String::new(),
            limit,
            lease_ms: 100,
        };
        match self
            .apply(|batch, at| groups::claim(batch, at, &claim))
            .unwrap()
        {
            CommandResult::Granted(grant) => Some(grant),
            _ => None,
        }
    }

    fn ack(&mut self, lease_id: &str, offsets: Vec<u64>) -> u64 {
        let ack = Ack {
            topic_id: 1,
            group: "g".to_owned(),
            lease_id: lease_id.to_owned(),
            offsets,
            ..Ack::default()
        };
        match self
            .apply(|batch, at| groups::ack(batch, at, &ack))
            .unwrap()
        {
            CommandResult::Acknowledged { committed } => committed,
            other => panic!("{other:?}"),
        }
    }

    fn demand(&self) -> Demand {
        groups::demand(&*self.engine.snapshot(), 1, 1, "g", None, self.now).unwrap()
    }
}

fn granted(grant: &Grant) -> u64 {
    grant
        .ranges
        .iter()
        .map(|range| range.end - range.start)
        .sum()
}

#[test]
fn at_most_so_many_messages_are_in_flight() {
    let limit = limits::CONSUME_LIMIT_MAX;
    let mut world = World::with_messages(limits::GROUP_IN_FLIGHT_MAX + 10);
    for _ in 0..limits::GROUP_IN_FLIGHT_MAX / u64::from(limit) {
        assert_eq!(granted(&world.claim(limit).unwrap()), u64::from(limit));
    }
    assert_eq!(world.demand(), Demand::NotBefore(100));
    assert_eq!(world.claim(limit), None);

    // What ran out is granted all the same, and what is done makes room.
    world.now = 100;
    let grant = world.claim(3).unwrap();
    assert_eq!((granted(&grant), grant.has_more), (3, true));
    world.ack(&grant.lease_id, vec![]);
    let grant = world.claim(limit).unwrap();
    assert_eq!(grant.ranges[0].start, 3);
}

#[test]
fn a_claim_looks_at_a_bounded_number_of_segments() {
    let limit = limits::CONSUME_LIMIT_MAX;
    let mut world = World::with_messages(u64::from(limit));
    let grant = world.claim(limit).unwrap();
    let odd = (0..u64::from(limit))
        .filter(|offset| offset % 2 == 1)
        .collect();
    assert_eq!(world.ack(&grant.lease_id, odd), 0);

    // Each open message is a segment of its own now.
    world.now = 100;
    let mut committed = 0;
    for round in 1..=u64::from(limit) / 2 / limits::CLAIM_SCAN_MAX as u64 {
        let grant = world.claim(limit).unwrap();
        assert_eq!(granted(&grant), limits::CLAIM_SCAN_MAX as u64);
        assert_eq!(grant.ranges.len(), limits::CLAIM_SCAN_MAX);
        assert_eq!(grant.has_more, round < 5);
        committed = world.ack(&grant.lease_id, vec![]);
    }
    assert_eq!(committed, u64::from(limit));
    assert_eq!(world.demand(), Demand::Nothing);
}

#[test]
fn a_claim_on_a_topic_without_partitions_is_refused() {
    let mut world = World::with_messages(2);
    let claim = Claim {
        topic_id: 1,
        group: "g".into(),
        limit: 1,
        lease_ms: 1,
        start: Some(Position::Earliest(true).into()),
        ..Claim::default()
    };
    // There is a position, and more to grant: whose turn it is next is what cannot be said.
    assert!(world.claim(1).is_some());
    let refused = world.apply(|batch, at| groups::claim(batch, at, &claim));
    assert_eq!(refused.unwrap_err().code, types::ErrorCode::InvalidInput);
}
