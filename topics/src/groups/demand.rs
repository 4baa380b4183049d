//! Would a claim grant anything, and if not, when? For the leader, which proposes no claim in vain
//! and keeps a timer for the next deadline.

use std::collections::BTreeMap;

use storage::keys::{self, Kind};
use storage::{Direction, KeyRange, Read};
use types::ids::{LeaseTimeMs, PartitionId, TopicId};
use types::limits;

use super::partition;
use super::record::{self, Cursor};
use super::segment::Segment;
use crate::Tail;

/// What a claim would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// The group has no position in a partition asked for: a claim must be proposed to fix it.
    NoPosition,
    /// Something can be granted.
    Ready,
    /// Nothing before this, unless a message is appended: then a lease or a delay ends.
    NotBefore(LeaseTimeMs),
    /// Nothing, until a message is appended.
    Nothing,
}

/// What a claim of `group` on `partition` (none: any of the topic's `partitions`) would find at
/// `lease_now`. Reads two records and a few keys a partition.
pub fn demand(
    read: &dyn Read,
    topic: TopicId,
    partitions: u32,
    group: &str,
    partition: Option<PartitionId>,
    lease_now: LeaseTimeMs,
) -> storage::Result<Demand> {
    let Some(positions) = positions(read, topic, partitions, group, partition)? else {
        return Ok(Demand::NoPosition);
    };
    let mut earliest = Demand::Nothing;
    for (partition, position) in positions {
        earliest = match (
            of_partition(read, topic, group, partition, &position, lease_now)?,
            earliest,
        ) {
            (Demand::Ready, _) => return Ok(Demand::Ready),
            (Demand::NotBefore(a), Demand::NotBefore(b)) => Demand::NotBefore(a.min(b)),
            (Demand::NotBefore(at), _) => Demand::NotBefore(at),
            (Demand::NoPosition | Demand::Nothing, other) => other,
        };
    }
    Ok(earliest)
}

/// A group's position in a partition, and the partition's ends.
pub struct Position {
    pub cursor: Cursor,
    pub tail: Tail,
}

/// The positions in the partitions addressed, ascending; none if one of them has none.
pub fn positions(
    read: &dyn Read,
    topic: TopicId,
    partitions: u32,
    group: &str,
    partition: Option<PartitionId>,
) -> storage::Result<Option<Vec<(PartitionId, Position)>>> {
    if let Some(one) = partition.or((partitions == 1).then_some(0)) {
        let cursor = record::load(read, &keys::topics::cursor(topic, group, one))?;
        let Some(cursor) = cursor else {
            return Ok(None);
        };
        let tail = Tail::load(read, topic, one)?;
        return Ok(Some(vec![(one, Position { cursor, tail })]));
    }
    let mut tails = BTreeMap::new();
    let prefix = KeyRange::prefix(&keys::topics::tails_prefix(topic));
    for pair in read.scan(&prefix, Direction::Forward) {
        let (key, stored) = pair?;
        tails.insert(last_u32(&key)?, Tail::decode(&stored)?);
    }
    let mut found = Vec::new();
    let prefix = KeyRange::prefix(&keys::topics::group_prefix(Kind::Cursor, topic, group));
    for pair in read.scan(&prefix, Direction::Forward) {
        let (key, stored) = pair?;
        let partition = last_u32(&key)?;
        let cursor: Cursor = record::decode(&key, &stored)?;
        let tail = tails.get(&partition).copied().unwrap_or_default();
        found.push((partition, Position { cursor, tail }));
    }
    let complete = u32::try_from(found.len()).is_ok_and(|count| count >= partitions);
    Ok(complete.then_some(found))
}

/// What a claim would find in one partition.
pub fn of_partition(
    read: &dyn Read,
    topic: TopicId,
    group: &str,
    partition: PartitionId,
    position: &Position,
    now: LeaseTimeMs,
) -> storage::Result<Demand> {
    let Position { cursor, tail } = position;
    let has_fresh = cursor.next.max(tail.earliest) < tail.next;
    let below_floor = cursor.committed < tail.earliest;
    // A claim frees what is below the floor before it looks at the bound.
    if has_fresh && (cursor.open < limits::GROUP_IN_FLIGHT_MAX || below_floor) {
        return Ok(Demand::Ready);
    }
    if cursor.open == 0 {
        return Ok(Demand::Nothing);
    }
    let deadlines = partition::all(Kind::Deadline, topic, group, partition);
    let mut scanned = 0;
    for pair in read
        .scan(&deadlines, Direction::Forward)
        .take(limits::CLAIM_SCAN_MAX)
    {
        let (key, _) = pair?;
        scanned += 1;
        let (at, start) = keys::topics::split_deadline(&key)
            .map_err(|e| record::corrupt(&key, &e.to_string()))?;
        if start < tail.earliest {
            let key = keys::topics::segment(topic, group, partition, start);
            let stored = read
                .get(&key)?
                .ok_or_else(|| record::corrupt(&key, "it is missing"))?;
            if Segment::decode(&key, &stored)?.end <= tail.earliest {
                continue;
            }
        }
        return Ok(if at <= now {
            Demand::Ready
        } else {
            Demand::NotBefore(at)
        });
    }
    // So much lies below the floor that a claim must clear it away before more can be seen.
    Ok(if scanned == limits::CLAIM_SCAN_MAX {
        Demand::Ready
    } else {
        Demand::Nothing
    })
}

/// The partition at the end of a tail's or cursor's key.
fn last_u32(key: &[u8]) -> storage::Result<PartitionId> {
    key.last_chunk::<4>()
        .map(|bytes| u32::from_be_bytes(*bytes))
        .ok_or_else(|| record::corrupt(key, "it has no partition"))
}
