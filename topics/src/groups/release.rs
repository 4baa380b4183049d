//! What was granted never reached its client.

use std::ops::Range;

use storage::{Batch, keys};
use types::ErrorCode;
use types::command::Release;
use types::ids::Offset;
use types::outcome::CommandResult;

use super::lease::{self, Lease, Request};
use super::record::{self, LeaseRecord, RangeRecord};
use super::segment::State;
use super::stop::{Stop, settle};
use crate::ApplyContext;

/// Undoes a grant from an offset on: what the lease still holds there is free at once and was not
/// delivered. Fresh offsets at the end become fresh again. A lease that holds nothing is no error:
/// there is nothing to undo.
///
/// # Refusals
/// `INVALID_INPUT` for a text that is no lease id.
pub fn release(
    batch: &mut Batch,
    at: ApplyContext,
    command: &Release,
) -> storage::Result<types::Result<CommandResult>> {
    settle(run(batch, at, command))
}

fn run(batch: &mut Batch, at: ApplyContext, command: &Release) -> Result<CommandResult, Stop> {
    let lease = match Lease::find(batch, command.topic_id, &command.group, &command.lease_id) {
        Err(Stop::Refused(refusal)) if refusal.code == ErrorCode::LeaseLost => {
            return Ok(CommandResult::Done);
        }
        found => found?,
    };
    if lease.record.held == 0 {
        return Ok(CommandResult::Done);
    }
    let mut work = lease.open(batch, at, command.topic_id, &command.group)?;
    let request = Request {
        offsets: &[],
        strict: false,
        done_is_fine: false,
    };
    let undone: Vec<Range<Offset>> = lease::held_by(&work, &lease, &request)?
        .into_iter()
        .map(|range| range.start.max(command.from_offset)..range.end)
        .filter(|range| !range.is_empty())
        .collect();
    work.rewrite(&undone, |piece| State::Ready {
        not_before: at.lease_time,
        deliveries: piece.state.deliveries().saturating_sub(1),
    })?;
    work.shrink()?;
    work.finish()?;
    forget_granted(batch, command, &undone)?;
    Ok(CommandResult::Done)
}

/// What never reached the client is not the lease's any more: to have acked all it was given is to
/// have acked all it was granted.
fn forget_granted(
    batch: &mut Batch,
    command: &Release,
    undone: &[Range<Offset>],
) -> storage::Result<()> {
    let key = keys::topics::lease(command.topic_id, &command.group, &command.lease_id);
    let Some(mut record) = record::load::<LeaseRecord>(batch, &key)? else {
        return Ok(());
    };
    record.granted = without(&record.granted, undone);
    record::store(batch, key, &record);
    Ok(())
}

/// The rest of some ranges; both lists ascending, each of `undone` within one of `granted`.
fn without(granted: &[RangeRecord], undone: &[Range<Offset>]) -> Vec<RangeRecord> {
    let mut rest = Vec::with_capacity(granted.len());
    for range in granted {
        let mut start = range.start;
        let first = undone.partition_point(|gone| gone.end <= range.start);
        for gone in &undone[first..] {
            if gone.start >= range.end {
                break;
            }
            if start < gone.start {
                let end = gone.start;
                rest.push(RangeRecord { start, end });
            }
            start = gone.end;
        }
        if start < range.end {
            let end = range.end;
            rest.push(RangeRecord { start, end });
        }
    }
    rest
}
