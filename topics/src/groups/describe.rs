//! Positions of groups, for the system tables, the CLI and metrics.

use storage::keys::{self, Kind};
use storage::{Direction, KeyRange, Read};
use types::ids::{Offset, PartitionId, TopicId, WallTimeUs};

use super::record::{self, Cursor, LeaseRecord};
use crate::Tail;

/// Where a group is in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPosition {
    /// The topic.
    pub topic_id: TopicId,
    /// The group.
    pub group: String,
    /// The partition.
    pub partition: PartitionId,
    /// The first offset that is not done.
    pub committed: Offset,
    /// The first offset that was never granted.
    pub next: Offset,
    /// How many offsets between the two are not done: leased, or to be delivered again.
    pub in_flight: u64,
    /// When `committed` last moved or was set, in µs since 1970.
    pub updated_at: WallTimeUs,
}

impl GroupPosition {
    /// How many messages that are there are not done.
    pub fn lag(&self, tail: Tail) -> u64 {
        let fresh = tail.next.saturating_sub(self.next.max(tail.earliest));
        let kept = tail.next.saturating_sub(self.committed.max(tail.earliest));
        // What is in flight below the floor is gone.
        (self.in_flight + fresh).min(kept)
    }
}

/// All positions, or those of one topic's groups: by topic, group, partition.
pub fn positions<'a>(
    read: &'a dyn Read,
    topic: Option<TopicId>,
) -> impl Iterator<Item = storage::Result<GroupPosition>> + 'a {
    let prefix = topic.map_or_else(
        || Kind::Cursor.prefix(),
        |topic| keys::topics::topic_prefix(Kind::Cursor, topic),
    );
    read.scan(&KeyRange::prefix(&prefix), Direction::Forward)
        .map(|pair| {
            let (key, stored) = pair?;
            let (topic_id, group, partition) = keys::topics::split_cursor(&key)
                .map_err(|e| record::corrupt(&key, &e.to_string()))?;
            let cursor: Cursor = record::decode(&key, &stored)?;
            Ok(described(topic_id, group, partition, &cursor))
        })
}

/// How many leases hold at least one message, over all groups. Looks at `max` at most, those that
/// are remembered though all of theirs is acked among them.
pub fn leases(read: &dyn Read, max: usize) -> storage::Result<usize> {
    let all = KeyRange::prefix(&Kind::Lease.prefix());
    let mut count = 0;
    for pair in read.scan(&all, Direction::Forward).take(max) {
        let (key, stored) = pair?;
        let lease: LeaseRecord = record::decode(&key, &stored)?;
        count += usize::from(lease.held > 0);
    }
    Ok(count)
}

/// The position of one group in one partition, if it has one.
pub fn position(
    read: &dyn Read,
    topic: TopicId,
    group: &str,
    partition: PartitionId,
) -> storage::Result<Option<GroupPosition>> {
    let cursor: Option<Cursor> =
        record::load(read, &keys::topics::cursor(topic, group, partition))?;
    Ok(cursor.map(|cursor| described(topic, group.to_owned(), partition, &cursor)))
}

fn described(
    topic_id: TopicId,
    group: String,
    partition: PartitionId,
    cursor: &Cursor,
) -> GroupPosition {
    GroupPosition {
        topic_id,
        group,
        partition,
        committed: cursor.committed,
        next: cursor.next,
        in_flight: cursor.open,
        updated_at: cursor.updated_at,
    }
}
