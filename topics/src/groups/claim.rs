//! A consumer asks for messages.

use std::ops::Range;

use storage::{Batch, Read, keys};
use types::command::{Claim, StartAt};
use types::ids::{Offset, PartitionId};
use types::limits;
use types::outcome::{CommandResult, Grant, GrantedRange};

use super::demand::{self, Demand};
use super::lease::{self, LeaseId};
use super::partition::Partition;
use super::position;
use super::record::{self, Cursor, Group, LeaseRecord, RangeRecord};
use super::segment::State;
use super::stop::{Stop, invalid, settle};
use crate::{ApplyContext, Tail};

/// Grants a lease on messages of one partition: first what can be delivered again, longest waiting
/// first, then fresh ones; in offset order.
///
/// The first claim makes the group and fixes its position in every partition it addresses. A claim
/// that can grant nothing changes nothing else, save that positions below the floor move up to it.
///
/// # Refusals
/// `NOT_FOUND` for a partition the topic does not have, `OFFSET_OUT_OF_RANGE` for a start outside
/// what a partition holds, `INVALID_INPUT` for a name or number out of its bounds.
pub fn claim(
    batch: &mut Batch,
    at: ApplyContext,
    command: &Claim,
) -> storage::Result<types::Result<CommandResult>> {
    settle(run(batch, at, command))
}

fn run(batch: &mut Batch, at: ApplyContext, command: &Claim) -> Result<CommandResult, Stop> {
    check(command)?;
    ensure_positions(batch, at, command)?;
    let Some((partition, ranges)) = grant_somewhere(batch, at, command)? else {
        return Ok(CommandResult::NothingToClaim);
    };
    let Claim {
        topic_id,
        partitions,
        ..
    } = *command;
    let left = demand::demand(
        batch,
        topic_id,
        partitions,
        &command.group,
        command.partition,
        at.lease_time,
    )?;
    Ok(CommandResult::Granted(Grant {
        lease_id: LeaseId::of(at.version).text(),
        partition,
        ranges,
        expires: expires(at, command),
        has_more: left == Demand::Ready,
    }))
}

fn check(command: &Claim) -> Result<(), Stop> {
    check_name("group", &command.group)?;
    if command.group.is_empty() {
        return Err(invalid("a group needs a name"));
    }
    check_name("consumer", &command.consumer_id)?;
    if command.partitions == 0 {
        return Err(invalid("a topic has at least one partition"));
    }
    if !(1..=limits::CONSUME_LIMIT_MAX).contains(&command.limit) {
        let max = limits::CONSUME_LIMIT_MAX;
        return Err(invalid(format!(
            "limit must be from 1 to {max}, not {}",
            command.limit
        )));
    }
    if !(1..=limits::LEASE_MAX_MS).contains(&command.lease_ms) {
        let (max, ms) = (limits::LEASE_MAX_MS, command.lease_ms);
        return Err(invalid(format!(
            "a lease lasts from 1 to {max} ms, not {ms}"
        )));
    }
    Ok(())
}

fn check_name(what: &str, name: &str) -> Result<(), Stop> {
    if name.len() > limits::NAME_MAX_BYTES {
        let max = limits::NAME_MAX_BYTES;
        return Err(invalid(format!("a {what}'s name has at most {max} bytes")));
    }
    Ok(())
}

/// Makes the group and what positions it lacks in the partitions addressed. With any partition
/// asked for, all get theirs now, so that LATEST means the same moment for all of them.
fn ensure_positions(batch: &mut Batch, at: ApplyContext, command: &Claim) -> Result<(), Stop> {
    let Claim {
        topic_id,
        partitions,
        partition,
        ..
    } = *command;
    let addressed = position::addressed(partition, partitions)?;
    let group_key = keys::topics::group(topic_id, &command.group);
    let group: Option<Group> = record::load(batch, &group_key)?;
    if group.as_ref().is_some_and(|group| group.complete) {
        return Ok(());
    }
    let start = command
        .start
        .as_ref()
        .map_or_else(|| StartAt::default().get(), StartAt::get);
    let mut missing = Vec::new();
    for partition in addressed {
        let key = keys::topics::cursor(topic_id, &command.group, partition);
        if batch.get(&key)?.is_none() {
            missing.push((key, position::resolve(batch, topic_id, partition, start)?));
        }
    }
    let complete = partition.is_none() || partitions == 1;
    if missing.is_empty() && !complete {
        return Ok(());
    }
    for (key, offset) in missing {
        let cursor = Cursor {
            committed: offset,
            next: offset,
            open: 0,
            consumed: true,
            updated_at: at.wall_time,
        };
        record::store(batch, key, &cursor);
    }
    let new = || Group {
        created_at: at.wall_time,
        ..Group::default()
    };
    let group = Group {
        complete,
        ..group.unwrap_or_else(new)
    };
    record::store(batch, group_key, &group);
    Ok(())
}

/// Grants in the partition asked for, or in the next one in turn that has work.
fn grant_somewhere(
    batch: &mut Batch,
    at: ApplyContext,
    command: &Claim,
) -> storage::Result<Option<(PartitionId, Vec<GrantedRange>)>> {
    let Claim {
        topic_id,
        partitions,
        partition,
        ..
    } = *command;
    if let Some(one) = partition.or((partitions == 1).then_some(0)) {
        let ranges = grant(batch, at, command, one)?;
        return Ok((!ranges.is_empty()).then_some((one, ranges)));
    }
    let group_key = keys::topics::group(topic_id, &command.group);
    let mut group: Group = record::load(batch, &group_key)?
        .ok_or_else(|| record::corrupt(&group_key, "a claim needs it"))?;
    let positions = demand::positions(batch, topic_id, partitions, &command.group, None)?
        .ok_or_else(|| record::corrupt(&group_key, "it should have all its positions"))?;
    let (later, sooner): (Vec<_>, Vec<_>) = positions
        .into_iter()
        .partition(|(partition, _)| *partition < group.next_partition);
    for (partition, position) in sooner.into_iter().chain(later) {
        let found = demand::of_partition(
            batch,
            topic_id,
            &command.group,
            partition,
            &position,
            at.lease_time,
        )?;
        if found != Demand::Ready {
            continue;
        }
        let ranges = grant(batch, at, command, partition)?;
        if !ranges.is_empty() {
            group.next_partition = (partition + 1) % partitions;
            record::store(batch, group_key, &group);
            return Ok(Some((partition, ranges)));
        }
    }
    Ok(None)
}

/// Grants in one partition; nothing granted is an empty list.
fn grant(
    batch: &mut Batch,
    at: ApplyContext,
    command: &Claim,
    partition: PartitionId,
) -> storage::Result<Vec<GrantedRange>> {
    let Claim { topic_id, .. } = *command;
    let tail = Tail::load(batch, topic_id, partition)?;
    let mut work =
        Partition::open(batch, at, topic_id, &command.group, partition)?.ok_or_else(|| {
            record::corrupt(
                &keys::topics::group(topic_id, &command.group),
                "it lacks a position",
            )
        })?;
    work.trim(tail.earliest)?;
    let leased = |deliveries| State::Leased {
        lease: LeaseId::of(at.version),
        expires: expires(at, command),
        deliveries,
    };
    let limit = u64::from(command.limit);

    let mut granted = take_again(&mut work, limit, leased)?;
    let taken: u64 = granted.iter().map(|range| range.end - range.start).sum();
    let in_flight_room = limits::GROUP_IN_FLIGHT_MAX.saturating_sub(work.cursor().open);
    let fresh = (tail.next - work.cursor().next)
        .min(limit - taken)
        .min(in_flight_room);
    if fresh > 0 {
        let segment = work.append(fresh, leased(1));
        granted.push(GrantedRange {
            start: segment.start,
            end: segment.end,
            deliveries: 1,
        });
    }
    work.finish()?;
    if !granted.is_empty() {
        lease::forget_done(batch, topic_id, &command.group, at.lease_time)?;
        store_lease(batch, at, command, partition, &granted)?;
    }
    Ok(granted)
}

/// Leases what can be delivered again, up to `limit` offsets.
fn take_again(
    work: &mut Partition<'_>,
    limit: u64,
    leased: impl Fn(u32) -> State,
) -> storage::Result<Vec<GrantedRange>> {
    let mut granted = Vec::new();
    let mut room = limit;
    for segment in work.claimable(limit, limits::CLAIM_SCAN_MAX)? {
        let end = segment.end.min(segment.start + room);
        room -= end - segment.start;
        let deliveries = segment.state.deliveries().saturating_add(1);
        granted.push(GrantedRange {
            start: segment.start,
            end,
            deliveries,
        });
        work.note_lost(segment.state.lease());
    }
    granted.sort_unstable_by_key(|range| range.start);
    let cuts: Vec<Range<Offset>> = granted.iter().map(|range| range.start..range.end).collect();
    work.rewrite(&cuts, |piece| {
        leased(piece.state.deliveries().saturating_add(1))
    })?;
    Ok(granted)
}

fn store_lease(
    batch: &mut Batch,
    at: ApplyContext,
    command: &Claim,
    partition: PartitionId,
    granted: &[GrantedRange],
) -> storage::Result<()> {
    let key = keys::topics::lease(
        command.topic_id,
        &command.group,
        &LeaseId::of(at.version).text(),
    );
    if batch.get(&key)?.is_some() {
        return Err(record::corrupt(
            &key,
            "two claims had the same place in the log",
        ));
    }
    let record = LeaseRecord {
        partition,
        consumer_id: command.consumer_id.clone(),
        expires: expires(at, command),
        held: granted.iter().map(|range| range.end - range.start).sum(),
        lost: false,
        granted: granted
            .iter()
            .map(|range| RangeRecord {
                start: range.start,
                end: range.end,
            })
            .collect(),
    };
    record::store(batch, key, &record);
    Ok(())
}

fn expires(at: ApplyContext, command: &Claim) -> u64 {
    at.lease_time.saturating_add(command.lease_ms)
}
