//! Keys of messages, partitions, consumer groups and idempotency keys.

use types::ids::{LeaseTimeMs, Offset, PartitionId, TopicId, WallTimeUs};

use super::Kind;
use super::encoding::{MalformedKey, put_bytes, take_name, take_u32, take_u64};

/// A message.
pub fn message(topic: TopicId, partition: PartitionId, offset: Offset) -> Vec<u8> {
    let mut key = partition_prefix(topic, partition);
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

/// All messages of a topic.
pub fn messages_prefix(topic: TopicId) -> Vec<u8> {
    let mut key = Kind::Message.prefix();
    key.extend_from_slice(&topic.to_be_bytes());
    key
}

/// All messages of a partition.
pub fn partition_prefix(topic: TopicId, partition: PartitionId) -> Vec<u8> {
    let mut key = messages_prefix(topic);
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

/// Both ends of a partition.
pub fn tail(topic: TopicId, partition: PartitionId) -> Vec<u8> {
    let mut key = tails_prefix(topic);
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

/// The ends of all partitions of a topic.
pub fn tails_prefix(topic: TopicId) -> Vec<u8> {
    let mut key = Kind::Tail.prefix();
    key.extend_from_slice(&topic.to_be_bytes());
    key
}

/// Everything of one `kind` that belongs to a topic: groups, cursors, segments, leases, deadlines,
/// ends of leases.
pub fn topic_prefix(kind: Kind, topic: TopicId) -> Vec<u8> {
    let mut key = kind.prefix();
    key.extend_from_slice(&topic.to_be_bytes());
    key
}

/// What starts the key of everything that belongs to a topic, its record and name apart: what
/// goes, prefix by prefix, when the topic is dropped.
pub fn all_prefixes(topic: TopicId) -> [Vec<u8>; 8] {
    [
        messages_prefix(topic),
        tails_prefix(topic),
        topic_prefix(Kind::Group, topic),
        topic_prefix(Kind::Cursor, topic),
        topic_prefix(Kind::Segment, topic),
        topic_prefix(Kind::Lease, topic),
        topic_prefix(Kind::Deadline, topic),
        topic_prefix(Kind::LeaseEnd, topic),
    ]
}

/// Everything of one `kind` that belongs to a group.
pub fn group_prefix(kind: Kind, topic: TopicId, group: &str) -> Vec<u8> {
    let mut key = topic_prefix(kind, topic);
    put_bytes(&mut key, group.as_bytes());
    key
}

/// Everything of one `kind` that belongs to a group's partition.
pub fn group_partition_prefix(
    kind: Kind,
    topic: TopicId,
    group: &str,
    partition: PartitionId,
) -> Vec<u8> {
    let mut key = group_prefix(kind, topic, group);
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

/// A group.
pub fn group(topic: TopicId, group: &str) -> Vec<u8> {
    group_prefix(Kind::Group, topic, group)
}

/// A group's position in a partition.
pub fn cursor(topic: TopicId, group: &str, partition: PartitionId) -> Vec<u8> {
    group_partition_prefix(Kind::Cursor, topic, group, partition)
}

/// The parts of a cursor's key.
pub fn split_cursor(key: &[u8]) -> Result<(TopicId, String, PartitionId), MalformedKey> {
    let mut rest = key
        .strip_prefix(Kind::Cursor.prefix().as_slice())
        .ok_or(MalformedKey)?;
    Ok((
        take_u32(&mut rest)?,
        take_name(&mut rest)?,
        take_u32(&mut rest)?,
    ))
}

/// A segment of a group's partition, by its first offset.
pub fn segment(topic: TopicId, group: &str, partition: PartitionId, start: Offset) -> Vec<u8> {
    let mut key = group_partition_prefix(Kind::Segment, topic, group, partition);
    key.extend_from_slice(&start.to_be_bytes());
    key
}

/// The first offset in a [`segment`] key.
pub fn split_segment(key: &[u8]) -> Result<Offset, MalformedKey> {
    let mut rest = key
        .len()
        .checked_sub(8)
        .map(|at| &key[at..])
        .ok_or(MalformedKey)?;
    take_u64(&mut rest)
}

/// A lease.
pub fn lease(topic: TopicId, group: &str, lease_id: &str) -> Vec<u8> {
    let mut key = group_prefix(Kind::Lease, topic, group);
    put_bytes(&mut key, lease_id.as_bytes());
    key
}

/// When a segment can be claimed.
pub fn deadline(
    topic: TopicId,
    group: &str,
    partition: PartitionId,
    at: LeaseTimeMs,
    start: Offset,
) -> Vec<u8> {
    let mut key = group_partition_prefix(Kind::Deadline, topic, group, partition);
    key.extend_from_slice(&at.to_be_bytes());
    key.extend_from_slice(&start.to_be_bytes());
    key
}

/// The last two fields of a [`deadline`] key: when, and which segment.
pub fn split_deadline(key: &[u8]) -> Result<(LeaseTimeMs, Offset), MalformedKey> {
    let mut rest = key
        .len()
        .checked_sub(16)
        .map(|at| &key[at..])
        .ok_or(MalformedKey)?;
    Ok((take_u64(&mut rest)?, take_u64(&mut rest)?))
}

/// When a lease that holds nothing is forgotten.
pub fn lease_end(topic: TopicId, group: &str, at: LeaseTimeMs, lease_id: &str) -> Vec<u8> {
    let mut key = group_prefix(Kind::LeaseEnd, topic, group);
    key.extend_from_slice(&at.to_be_bytes());
    put_bytes(&mut key, lease_id.as_bytes());
    key
}

/// The last two fields of a [`lease_end`] key of this group: when, and which lease.
pub fn split_lease_end(
    topic: TopicId,
    group: &str,
    key: &[u8],
) -> Result<(LeaseTimeMs, String), MalformedKey> {
    let prefix = group_prefix(Kind::LeaseEnd, topic, group);
    let mut rest = key.strip_prefix(prefix.as_slice()).ok_or(MalformedKey)?;
    Ok((take_u64(&mut rest)?, take_name(&mut rest)?))
}

/// The answer under an idempotency key.
pub fn idempotency(actor: &str, key: &str, ordinal: u32) -> Vec<u8> {
    let mut bytes = Kind::Idempotency.prefix();
    put_scope(&mut bytes, actor, key, ordinal);
    bytes
}

/// An idempotency key by age. `at` is never negative: the wall clock starts after 1970.
pub fn idempotency_age(at: WallTimeUs, actor: &str, key: &str, ordinal: u32) -> Vec<u8> {
    let mut bytes = Kind::IdempotencyAge.prefix();
    bytes.extend_from_slice(&at.max(0).to_be_bytes());
    put_scope(&mut bytes, actor, key, ordinal);
    bytes
}

/// The parts of an [`idempotency_age`] key: when, and the matching [`idempotency`] key.
pub fn split_idempotency_age(key: &[u8]) -> Result<(WallTimeUs, Vec<u8>), MalformedKey> {
    let rest = key
        .strip_prefix(Kind::IdempotencyAge.prefix().as_slice())
        .ok_or(MalformedKey)?;
    let (at, scope) = rest.split_first_chunk::<8>().ok_or(MalformedKey)?;
    let mut answer = Kind::Idempotency.prefix();
    answer.extend_from_slice(scope);
    Ok((i64::from_be_bytes(*at), answer))
}

fn put_scope(bytes: &mut Vec<u8>, actor: &str, key: &str, ordinal: u32) {
    put_bytes(bytes, actor.as_bytes());
    put_bytes(bytes, key.as_bytes());
    bytes.extend_from_slice(&ordinal.to_be_bytes());
}
