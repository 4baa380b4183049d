//! Old messages go: a partition's floor rises, and what is below it is removed in one range.
//!
//! Groups are not touched here. A position below the floor moves up at the group's next claim.

use storage::keys;
use storage::{Batch, KeyRange};
use types::command::{ClearTopic, Retain};
use types::ids::{Offset, PartitionId, TopicId};

use crate::{Tail, chain};

/// Removes all messages of a topic; its offsets go on from where they are.
pub fn clear(batch: &mut Batch, command: &ClearTopic) -> storage::Result<()> {
    for partition in 0..command.partitions {
        raise_floor(batch, command.topic_id, partition, Offset::MAX)?;
    }
    Ok(())
}

/// Removes the messages of a partition below an offset. A floor never falls and never passes the
/// end.
pub fn retain(batch: &mut Batch, command: &Retain) -> storage::Result<()> {
    raise_floor(batch, command.topic_id, command.partition, command.earliest)
}

fn raise_floor(
    batch: &mut Batch,
    topic: TopicId,
    partition: PartitionId,
    earliest: Offset,
) -> storage::Result<()> {
    let mut tail = Tail::load(batch, topic, partition)?;
    let floor = earliest.min(tail.next);
    if floor <= tail.earliest {
        return Ok(());
    }
    // Asked while the message is still there.
    tail.floor_chain = chain::at(batch, topic, partition, tail, floor - 1)?;
    batch.delete_range(KeyRange::new(
        keys::topics::message(topic, partition, tail.earliest),
        keys::topics::message(topic, partition, floor),
    ));
    tail.earliest = floor;
    tail.store(batch, topic, partition);
    Ok(())
}
