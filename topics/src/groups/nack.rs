//! Messages are to be delivered again.

use storage::Batch;
use types::command::Nack;
use types::limits;
use types::outcome::CommandResult;

use super::lease::{self, Lease, Request};
use super::segment::State;
use super::stop::{Stop, invalid, settle};
use crate::ApplyContext;

/// Gives up offsets that a lease holds: they can be granted again after `delay_ms`, and this one
/// counts as a delivery. A lease that ran out may still give up what nobody else was given.
///
/// # Refusals
/// As [`super::ack()`] by lease; also `INVALID_INPUT` for a delay beyond its limit, and
/// `LEASE_LOST` for an offset that is done.
pub fn nack(
    batch: &mut Batch,
    at: ApplyContext,
    command: &Nack,
) -> storage::Result<types::Result<CommandResult>> {
    settle(run(batch, at, command))
}

fn run(batch: &mut Batch, at: ApplyContext, command: &Nack) -> Result<CommandResult, Stop> {
    if command.delay_ms > limits::NACK_DELAY_MAX_MS {
        let max = limits::NACK_DELAY_MAX_MS;
        return Err(invalid(format!(
            "delay_ms must be at most {max}, not {}",
            command.delay_ms
        )));
    }
    let lease = Lease::find(batch, command.topic_id, &command.group, &command.lease_id)?;
    let mut work = lease.open(batch, at, command.topic_id, &command.group)?;
    let request = Request {
        offsets: &command.offsets,
        strict: command.strict,
        done_is_fine: false,
    };
    let held = lease::held_by(&work, &lease, &request)?;
    let not_before = at.lease_time.saturating_add(command.delay_ms);
    work.rewrite(&held, |piece| State::Ready {
        not_before,
        deliveries: piece.state.deliveries(),
    })?;
    work.finish()?;
    Ok(CommandResult::Done)
}
