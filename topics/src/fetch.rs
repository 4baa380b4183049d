//! Reading partitions: ends, messages, and the offset of a point in time.

use std::ops::Range;

use storage::keys;
use storage::{Direction, Error, KeyRange, Read};
use types::ids::{Offset, PartitionId, TopicId, WallTimeUs};
use types::outcome::Grant;

use crate::message::{self, Message};
pub use crate::tail::Tail;

/// A message as it is stored, with where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its offset.
    pub offset: Offset,
    /// How often it was delivered, this time included; 0 without a group.
    pub deliveries: u32,
    key: Vec<u8>,
    stored: Vec<u8>,
}

impl Fetched {
    /// Its parts.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the bytes are not those that were appended.
    pub fn message(&self) -> storage::Result<Message<'_>> {
        message::decode(&self.key, &self.stored)
    }

    /// Its stored bytes: the same on every node, for as long as it is kept.
    pub fn raw(&self) -> &[u8] {
        &self.stored
    }
}

/// Both ends of a partition; one that never had a message is empty at 0.
pub fn tail(read: &dyn Read, topic: TopicId, partition: PartitionId) -> storage::Result<Tail> {
    Tail::load(read, topic, partition)
}

/// May a reader begin at `from`? Anywhere from the floor to the end; at the end there is nothing
/// to read yet.
pub fn check_start(tail: Tail, from: Offset) -> types::Result<()> {
    if from < tail.earliest || from > tail.next {
        return Err(types::Error::offset_out_of_range(
            from,
            tail.earliest,
            tail.next,
        ));
    }
    Ok(())
}

/// Messages from `from` on, in offset order: at most `limit`, and none more once `max_bytes` stored
/// bytes are reached, but at least one if there is any. Begins at the floor if `from` is below it;
/// whether that is allowed is [`check_start`]'s question.
pub fn fetch(
    read: &dyn Read,
    topic: TopicId,
    partition: PartitionId,
    from: Offset,
    limit: u32,
    max_bytes: usize,
) -> storage::Result<Vec<Fetched>> {
    let tail = Tail::load(read, topic, partition)?;
    let mut out = Vec::new();
    let range = from.max(tail.earliest)..tail.next;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    read_range(
        read,
        topic,
        partition,
        range,
        0,
        &mut Room {
            limit,
            bytes: max_bytes,
        },
        &mut out,
    )?;
    Ok(out)
}

/// The messages of a grant, in offset order, up to `max_bytes` stored bytes but at least one, and
/// the first granted offset that was left for the next answer, to be released. Offsets that
/// retention took since the grant are left out.
pub fn fetch_granted(
    read: &dyn Read,
    topic: TopicId,
    grant: &Grant,
    max_bytes: usize,
) -> storage::Result<(Vec<Fetched>, Option<Offset>)> {
    let tail = Tail::load(read, topic, grant.partition)?;
    let mut out = Vec::new();
    let mut room = Room {
        limit: usize::MAX,
        bytes: max_bytes,
    };
    for granted in &grant.ranges {
        let range = granted.start.max(tail.earliest)..granted.end.min(tail.next);
        let (partition, deliveries) = (grant.partition, granted.deliveries);
        let left = read_range(
            read, topic, partition, range, deliveries, &mut room, &mut out,
        )?;
        if left.is_some() {
            return Ok((out, left));
        }
    }
    Ok((out, None))
}

/// How much an answer may still hold.
struct Room {
    limit: usize,
    bytes: usize,
}

/// Appends the messages of `range`, which the partition must hold in full, to `out` while there is
/// room; the first one goes in whatever its size. Returns the first offset without room.
fn read_range(
    read: &dyn Read,
    topic: TopicId,
    partition: PartitionId,
    range: Range<Offset>,
    deliveries: u32,
    room: &mut Room,
    out: &mut Vec<Fetched>,
) -> storage::Result<Option<Offset>> {
    if range.is_empty() {
        return Ok(None);
    }
    let keys = KeyRange::new(
        keys::topics::message(topic, partition, range.start),
        keys::topics::message(topic, partition, range.end),
    );
    let mut pairs = read.scan(&keys, Direction::Forward);
    for offset in range {
        if room.limit == 0 || (room.bytes == 0 && !out.is_empty()) {
            return Ok(Some(offset));
        }
        let (key, stored) = pairs
            .next()
            .transpose()?
            .ok_or_else(|| hole(&keys, offset))?;
        if key != keys::topics::message(topic, partition, offset) {
            return Err(hole(&keys, offset));
        }
        if stored.len() > room.bytes && !out.is_empty() {
            return Ok(Some(offset));
        }
        room.limit -= 1;
        room.bytes = room.bytes.saturating_sub(stored.len());
        out.push(Fetched {
            offset,
            deliveries,
            key,
            stored,
        });
    }
    Ok(None)
}

/// Offsets are dense: a missing one is damage.
pub(crate) fn hole(keys: &KeyRange, offset: Offset) -> Error {
    Error::Corrupt {
        what: format!("offset {offset} is missing at {:02x?}", keys.start),
    }
}

/// The offset of the first message stamped at or after `timestamp` (µs since 1970), the end if
/// there is none. Timestamps never run back within a partition, so at most 64 messages are looked
/// at.
pub fn offset_at(
    read: &dyn Read,
    topic: TopicId,
    partition: PartitionId,
    timestamp: WallTimeUs,
) -> storage::Result<Offset> {
    let Tail {
        earliest: mut low,
        next: mut high,
        ..
    } = Tail::load(read, topic, partition)?;
    while low < high {
        let middle = low + (high - low) / 2;
        let key = keys::topics::message(topic, partition, middle);
        let Some(stored) = read.get(&key)? else {
            return Err(hole(&KeyRange::prefix(&key), middle));
        };
        if message::decode(&key, &stored)?.wall_time < timestamp {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
