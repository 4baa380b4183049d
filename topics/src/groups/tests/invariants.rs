//! What must hold of a group's records after every command.

use std::collections::{BTreeMap, BTreeSet};

use storage::keys::{self, Kind};
use storage::{Direction, KeyRange, Read};
use types::ids::{LeaseTimeMs, Offset, PartitionId};

use super::super::partition;
use super::super::record::{self, Cursor, LeaseRecord};
use super::super::segment::{Segment, State};
use super::{GROUP, TOPIC};

/// Checks all records of the group, and that no record is left over.
pub fn check(read: &dyn Read, partitions: u32) {
    let mut held = BTreeMap::new();
    for partition in 0..partitions {
        let key = keys::topics::cursor(TOPIC, GROUP, partition);
        let cursor: Option<Cursor> = record::load(read, &key).unwrap();
        let segments = segments(read, partition);
        match cursor {
            None => assert!(segments.is_empty(), "segments without a position"),
            Some(cursor) => check_cover(&cursor, &segments),
        }
        check_deadlines(read, partition, &segments);
        for segment in segments {
            if let State::Leased { lease, expires, .. } = segment.state {
                let entry = held
                    .entry(lease.text())
                    .or_insert((partition, expires, vec![]));
                assert_eq!(
                    (entry.0, entry.1),
                    (partition, expires),
                    "one lease, one end"
                );
                entry.2.push(segment);
            }
        }
    }
    check_leases(read, &held);
}

/// Segments cover exactly what lies between the cursor's two offsets, and are joined.
fn check_cover(cursor: &Cursor, segments: &[Segment]) {
    let mut at = cursor.committed;
    for segment in segments {
        assert_eq!(segment.start, at, "a gap or an overlap");
        at = segment.end;
    }
    assert_eq!(at, cursor.next, "segments end where fresh offsets begin");
    assert_ne!(
        segments.first().map(|s| s.state),
        Some(State::Done),
        "the position stands still"
    );
    for pair in segments.windows(2) {
        assert_ne!(
            (pair[0].state, pair[1].state),
            (State::Done, State::Done),
            "not joined"
        );
    }
    assert_eq!(segments.iter().map(Segment::open).sum::<u64>(), cursor.open);
}

fn check_deadlines(read: &dyn Read, partition: PartitionId, segments: &[Segment]) {
    let expected: BTreeSet<(LeaseTimeMs, Offset)> = segments
        .iter()
        .filter_map(|s| Some((s.state.claimable_at()?, s.start)))
        .collect();
    let found: BTreeSet<_> = read
        .scan(
            &partition::all(Kind::Deadline, TOPIC, GROUP, partition),
            Direction::Forward,
        )
        .map(|pair| keys::topics::split_deadline(&pair.unwrap().0).unwrap())
        .collect();
    assert_eq!(found, expected, "deadlines");
}

fn check_leases(
    read: &dyn Read,
    held: &BTreeMap<String, (PartitionId, LeaseTimeMs, Vec<Segment>)>,
) {
    let prefix = keys::topics::group_prefix(Kind::Lease, TOPIC, GROUP);
    let found = read
        .scan(&KeyRange::prefix(&prefix), Direction::Forward)
        .count();
    let ends = keys::topics::group_prefix(Kind::LeaseEnd, TOPIC, GROUP);
    let mut done = 0;
    for pair in read.scan(&KeyRange::prefix(&ends), Direction::Forward) {
        let (_, id) = keys::topics::split_lease_end(TOPIC, GROUP, &pair.unwrap().0).unwrap();
        let key = keys::topics::lease(TOPIC, GROUP, &id);
        let lease: LeaseRecord = record::load(read, &key).unwrap().expect("a record");
        assert_eq!(
            (lease.held, lease.lost),
            (0, false),
            "it was acked to its end"
        );
        done += 1;
    }
    assert_eq!(
        found,
        held.len() + done,
        "a lease that holds nothing has no record, or one that will be forgotten"
    );
    for (id, (partition, expires, segments)) in held {
        let key = keys::topics::lease(TOPIC, GROUP, id);
        let lease: LeaseRecord = record::load(read, &key).unwrap().expect("a record");
        assert_eq!((lease.partition, lease.expires), (*partition, *expires));
        assert_eq!(lease.held, segments.iter().map(Segment::len).sum::<u64>());
        for segment in segments {
            let granted = |o| lease.granted.iter().any(|r| r.start <= o && o < r.end);
            assert!(
                (segment.start..segment.end).all(granted),
                "held but never granted"
            );
        }
    }
}

fn segments(read: &dyn Read, partition: PartitionId) -> Vec<Segment> {
    read.scan(
        &partition::all(Kind::Segment, TOPIC, GROUP, partition),
        Direction::Forward,
    )
    .map(|pair| {
        let (key, stored) = pair.unwrap();
        Segment::decode(&key, &stored).unwrap()
    })
    .collect()
}
