//! A group goes on elsewhere.

use std::collections::BTreeSet;

use storage::keys::{self, Kind};
use storage::{Batch, Direction, KeyRange, Read};
use types::command::{ResetGroup, StartAt};
use types::ids::{Offset, PartitionId};
use types::limits;
use types::outcome::CommandResult;

use super::partition;
use super::position;
use super::record::{self, Cursor, Group};
use super::segment::Segment;
use super::stop::{Stop, invalid, settle};
use crate::ApplyContext;

/// Sets a group's position in one partition or in all, forwards or back, and voids the leases
/// there. The only thing that moves a committed position back. A group that does not exist is made:
/// its first consumer begins where it was set.
///
/// # Refusals
/// `OFFSET_OUT_OF_RANGE` for an offset outside what a partition holds, `NOT_FOUND` for a partition
/// the topic does not have, `INVALID_INPUT` for a name out of its bounds.
pub fn reset(
    batch: &mut Batch,
    at: ApplyContext,
    command: &ResetGroup,
) -> storage::Result<types::Result<CommandResult>> {
    settle(run(batch, at, command))
}

fn run(batch: &mut Batch, at: ApplyContext, command: &ResetGroup) -> Result<CommandResult, Stop> {
    let ResetGroup {
        topic_id,
        partition,
        partitions,
        ..
    } = *command;
    if command.group.is_empty() || command.group.len() > limits::NAME_MAX_BYTES {
        let max = limits::NAME_MAX_BYTES;
        return Err(invalid(format!("a group's name has 1 to {max} bytes")));
    }
    let to = command
        .to
        .as_ref()
        .map_or_else(|| StartAt::default().get(), StartAt::get);
    let mut targets = Vec::new();
    for partition in position::addressed(partition, partitions)? {
        targets.push((
            partition,
            position::resolve(batch, topic_id, partition, to)?,
        ));
    }

    let group_key = keys::topics::group(topic_id, &command.group);
    let mut group: Group = record::load(batch, &group_key)?.unwrap_or_else(|| Group {
        created_at: at.wall_time,
        ..Group::default()
    });
    group.generation += 1;
    group.complete |= partition.is_none() || partitions == 1;
    record::store(batch, group_key, &group);

    match partition {
        None => void_all(batch, command),
        Some(one) => void_one(batch, command, one)?,
    }
    for (partition, offset) in targets {
        set(batch, at, command, partition, offset)?;
    }
    Ok(CommandResult::Done)
}

fn void_all(batch: &mut Batch, command: &ResetGroup) {
    for kind in [Kind::Segment, Kind::Deadline, Kind::Lease, Kind::LeaseEnd] {
        let prefix = keys::topics::group_prefix(kind, command.topic_id, &command.group);
        batch.delete_range(KeyRange::prefix(&prefix));
    }
}

/// Leases are not ordered by partition; those that hold something here are named by segments. One
/// that was acked to its end stays: what it was granted is open again, so its acks are refused.
fn void_one(
    batch: &mut Batch,
    command: &ResetGroup,
    partition: PartitionId,
) -> storage::Result<()> {
    let ResetGroup {
        topic_id,
        ref group,
        ..
    } = *command;
    let segments = partition::all(Kind::Segment, topic_id, group, partition);
    let mut leases = BTreeSet::new();
    for pair in batch.scan(&segments, Direction::Forward) {
        let (key, stored) = pair?;
        leases.extend(Segment::decode(&key, &stored)?.state.lease());
    }
    for lease in leases {
        batch.delete(keys::topics::lease(topic_id, group, &lease.text()));
    }
    batch.delete_range(segments);
    batch.delete_range(partition::all(Kind::Deadline, topic_id, group, partition));
    Ok(())
}

fn set(
    batch: &mut Batch,
    at: ApplyContext,
    command: &ResetGroup,
    partition: PartitionId,
    offset: Offset,
) -> storage::Result<()> {
    let key = keys::topics::cursor(command.topic_id, &command.group, partition);
    let before: Cursor = record::load(batch, &key)?.unwrap_or_default();
    let cursor = Cursor {
        committed: offset,
        next: offset,
        open: 0,
        consumed: before.consumed,
        updated_at: at.wall_time,
    };
    record::store(batch, key, &cursor);
    Ok(())
}
