//! Messages are done.

use std::collections::BTreeMap;

use storage::{Batch, keys};
use types::command::Ack;
use types::ids::Offset;
use types::limits;
use types::outcome::CommandResult;
use types::planted::{self, Bug};

use super::lease::{self, Lease, LeaseId, Request};
use super::partition::Partition;
use super::record::{self, Cursor, Group, LeaseRecord};
use super::segment::State;
use super::stop::{Stop, invalid, lease_lost, settle};
use crate::{ApplyContext, Tail};

/// Marks messages as done: cumulatively up to an offset, or those of a lease.
///
/// Cumulative: everything that was delivered up to and including the offset, save what a live lease
/// of another consumer holds, and what was granted but never reached any consumer. A group that
/// never claimed in the partition is made and its position set, forwards only. With `strict` the
/// offset itself must still be open and nobody else's.
///
/// By lease: the offsets named, or all that the lease still holds. A lease that ran out holds what
/// nobody else was given. What the lease's consumer acked before is no error, unless `strict`: an
/// ack may be repeated, also the one that left the lease nothing, for a minute. The lease tells the
/// partition; one named beside it (other than 0, which stands for none) must be the same.
///
/// # Refusals
/// `INVALID_INPUT` beyond what was delivered, beyond the last message, for an offset that the lease
/// was never granted or a text that is no lease id; `LEASE_LOST` for what is somebody else's now,
/// and with `strict` for what is done already.
pub fn ack(
    batch: &mut Batch,
    at: ApplyContext,
    command: &Ack,
) -> storage::Result<types::Result<CommandResult>> {
    let cursor = match command.upto_offset {
        Some(upto) => cumulative(batch, at, command, upto),
        None => by_lease(batch, at, command),
    };
    let committed = match cursor {
        // Somebody else has the messages now, and does them too.
        Err(Stop::Refused(_)) if planted::has(Bug::LostLeaseAccepted) => Ok(0),
        cursor => cursor.map(|cursor| cursor.committed),
    };
    settle(committed.map(|committed| CommandResult::Acknowledged { committed }))
}

fn by_lease(batch: &mut Batch, at: ApplyContext, command: &Ack) -> Result<Cursor, Stop> {
    let lease = Lease::find(batch, command.topic_id, &command.group, &command.lease_id)?;
    let partition = lease.record.partition;
    if command.partition != 0 && command.partition != partition {
        return Err(invalid(format!("the lease is on partition {partition}")));
    }
    let mut work = lease.open(batch, at, command.topic_id, &command.group)?;
    let request = Request {
        offsets: &command.offsets,
        strict: command.strict,
        done_is_fine: true,
    };
    let held = lease::held_by(&work, &lease, &request)?;
    work.rewrite(&held, |_| State::Done)?;
    Ok(work.finish()?)
}

fn cumulative(
    batch: &mut Batch,
    at: ApplyContext,
    command: &Ack,
    upto: Offset,
) -> Result<Cursor, Stop> {
    let Ack {
        topic_id,
        partition,
        ..
    } = *command;
    let tail = Tail::load(batch, topic_id, partition)?;
    let Some(mut work) = Partition::open(batch, at, topic_id, &command.group, partition)? else {
        check_exists(upto, tail)?;
        return make_position(batch, at, command, upto + 1);
    };
    let cursor = work.cursor();
    if command.strict && upto < cursor.committed {
        return Err(lease_lost(format!("offset {upto} is done already")));
    }
    if !cursor.consumed {
        check_exists(upto, tail)?;
        work.set_position(upto + 1);
        return Ok(work.finish()?);
    }
    if upto >= cursor.next {
        return Err(invalid(format!(
            "offset {upto} was not delivered to the group: it has seen those below {}",
            cursor.next
        )));
    }
    if upto >= cursor.committed {
        mark_delivered(&mut work, command, upto)?;
    }
    Ok(work.finish()?)
}

fn check_exists(upto: Offset, tail: Tail) -> Result<(), Stop> {
    if upto >= tail.next {
        return Err(invalid(format!(
            "offset {upto} is beyond the last message: the partition ends before {}",
            tail.next
        )));
    }
    Ok(())
}

/// For a group that never consumed here.
fn make_position(
    batch: &mut Batch,
    at: ApplyContext,
    command: &Ack,
    offset: Offset,
) -> Result<Cursor, Stop> {
    let Ack {
        topic_id,
        partition,
        ..
    } = *command;
    if command.group.is_empty() || command.group.len() > limits::NAME_MAX_BYTES {
        let max = limits::NAME_MAX_BYTES;
        return Err(invalid(format!("a group's name has 1 to {max} bytes")));
    }
    let group_key = keys::topics::group(topic_id, &command.group);
    if record::load::<Group>(batch, &group_key)?.is_none() {
        let group = Group {
            created_at: at.wall_time,
            ..Group::default()
        };
        record::store(batch, group_key, &group);
    }
    let cursor = Cursor {
        committed: offset,
        next: offset,
        open: 0,
        consumed: false,
        updated_at: at.wall_time,
    };
    record::store(
        batch,
        keys::topics::cursor(topic_id, &command.group, partition),
        &cursor,
    );
    Ok(cursor)
}

/// What an open offset is to a cumulative ack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// It becomes done.
    Done,
    /// It becomes done, and a lease that ran out loses it.
    Taken(LeaseId),
    /// It stays: somebody else works on it, or nobody ever saw it.
    Kept,
}

fn mark_delivered(work: &mut Partition<'_>, command: &Ack, upto: Offset) -> Result<(), Stop> {
    let range = work.cursor().committed..upto + 1;
    let segments = work.segments(&range)?;
    let mut is_ours = BTreeMap::new();
    for lease in segments.iter().filter_map(|segment| segment.state.lease()) {
        if let std::collections::btree_map::Entry::Vacant(entry) = is_ours.entry(lease) {
            let key = keys::topics::lease(command.topic_id, &command.group, &lease.text());
            let record: LeaseRecord = record::load(work.read(), &key)?
                .ok_or_else(|| record::corrupt(&key, "it holds offsets but has no record"))?;
            entry.insert(record.consumer_id == command.consumer_id);
        }
    }
    let now = work.now();
    let mark = |state| match state {
        State::Done => Mark::Done,
        State::Ready { deliveries: 0, .. } => Mark::Kept,
        State::Ready { .. } => Mark::Done,
        State::Leased { lease, expires, .. } => match is_ours.get(&lease) {
            Some(true) => Mark::Done,
            Some(false) | None if expires <= now => Mark::Taken(lease),
            Some(false) | None => Mark::Kept,
        },
    };
    if command.strict {
        let last = segments.last().map(|segment| segment.state);
        if last.is_none_or(|state| state == State::Done || mark(state) == Mark::Kept) {
            return Err(lease_lost(format!(
                "offset {upto} is done already or somebody else's"
            )));
        }
    }
    work.note_lost(
        segments
            .iter()
            .filter_map(|segment| match mark(segment.state) {
                Mark::Taken(lease) => Some(lease),
                Mark::Done | Mark::Kept => None,
            }),
    );
    work.rewrite(&[range], |piece| match mark(piece.state) {
        Mark::Done | Mark::Taken(_) => State::Done,
        Mark::Kept => piece.state,
    })?;
    Ok(())
}
