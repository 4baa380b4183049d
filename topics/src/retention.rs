//! Old messages go: a partition's floor rises, and what is below it is removed in one range.
//!
//! The leader finds out what is [`due`] and proposes it; apply only checks that the floor is still
//! where the leader saw it. Groups are not touched here. A position below the floor moves up at the
//! group's next claim.

use storage::keys;
use storage::{Batch, Direction, Error, KeyRange, Read};
use types::command::{ClearTopic, Retain};
use types::ids::{Offset, PartitionId, TopicId, WallTimeUs};

use crate::{Tail, chain, message};

/// What a partition may keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Messages stamped before this are too old, in µs since 1970.
    pub oldest: Option<WallTimeUs>,
    /// The oldest are too many while all together have more bytes than this, as they are stored.
    pub max_bytes: Option<u64>,
}

/// What has to go for a partition to be within its bounds; none if nothing has to. Takes what it
/// looks at from `scan_left`, and stops when that is 0: the rest is due the next time.
pub fn due(
    read: &dyn Read,
    topic: TopicId,
    partition: PartitionId,
    bounds: Bounds,
    scan_left: &mut usize,
) -> storage::Result<Option<Retain>> {
    let tail = Tail::load(read, topic, partition)?;
    let range = KeyRange::new(
        keys::topics::message(topic, partition, tail.earliest),
        keys::topics::message(topic, partition, tail.next),
    );
    let mut cut = Retain {
        topic_id: topic,
        partition,
        earliest: tail.earliest,
        from: tail.earliest,
        bytes: 0,
    };
    if tail.is_empty() {
        return Ok(None);
    }
    for pair in read.scan(&range, Direction::Forward) {
        if *scan_left == 0 {
            break;
        }
        *scan_left -= 1;
        let (key, stored) = pair?;
        if key != keys::topics::message(topic, partition, cut.earliest) {
            let what = format!("offset {} is missing at {key:02x?}", cut.earliest);
            return Err(Error::Corrupt { what });
        }
        let too_many = bounds
            .max_bytes
            .is_some_and(|most| tail.bytes.saturating_sub(cut.bytes) > most);
        // Timestamps never run back within a partition, so what follows is younger.
        let too_old = match bounds.oldest {
            Some(oldest) if !too_many => message::decode(&key, &stored)?.wall_time < oldest,
            Some(_) | None => false,
        };
        if !too_many && !too_old {
            break;
        }
        cut.earliest += 1;
        cut.bytes += stored.len() as u64;
    }
    Ok((cut.earliest > cut.from).then_some(cut))
}

/// Removes all messages of a topic; its offsets go on from where they are.
pub fn clear(batch: &mut Batch, command: &ClearTopic) -> storage::Result<()> {
    for partition in 0..command.partitions {
        let tail = Tail::load(batch, command.topic_id, partition)?;
        raise_floor(batch, command.topic_id, partition, tail, tail.next, 0)?;
    }
    Ok(())
}

/// Removes the messages of a partition below an offset, unless its floor has moved since the leader
/// looked. A floor never falls and never passes the end.
pub fn retain(batch: &mut Batch, command: &Retain) -> storage::Result<()> {
    let Retain {
        topic_id,
        partition,
        earliest,
        from,
        bytes,
    } = *command;
    let tail = Tail::load(batch, topic_id, partition)?;
    if tail.earliest == from {
        let left = tail.bytes.saturating_sub(bytes);
        raise_floor(batch, topic_id, partition, tail, earliest, left)?;
    }
    Ok(())
}

/// `bytes` is what is left above the new floor.
fn raise_floor(
    batch: &mut Batch,
    topic: TopicId,
    partition: PartitionId,
    tail: Tail,
    earliest: Offset,
    bytes: u64,
) -> storage::Result<()> {
    let floor = earliest.min(tail.next);
    if floor <= tail.earliest {
        return Ok(());
    }
    // Asked while the message is still there.
    let floor_chain = chain::at(batch, topic, partition, tail, floor - 1)?;
    batch.delete_range(KeyRange::new(
        keys::topics::message(topic, partition, tail.earliest),
        keys::topics::message(topic, partition, floor),
    ));
    let tail = Tail {
        earliest: floor,
        bytes: if floor == tail.next { 0 } else { bytes },
        floor_chain,
        ..tail
    };
    tail.store(batch, topic, partition);
    Ok(())
}
