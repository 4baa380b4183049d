//! A lease lasts longer.

use storage::{Batch, keys};
use types::command::Extend;
use types::limits;
use types::outcome::CommandResult;

use super::lease::{self, Lease, Request};
use super::record::{self, LeaseRecord};
use super::segment::State;
use super::stop::{Stop, invalid, lease_lost, settle};
use crate::ApplyContext;

/// Sets the end of a lease, for all it still holds, to `lease_ms` from now.
///
/// A lease that ran out is over, whether or not somebody else was given what it held: as in SQS,
/// where a message whose visibility timeout passed is no longer in flight.
///
/// # Refusals
/// `LEASE_LOST` if it ran out or holds nothing, `INVALID_INPUT` for a length out of bounds or a
/// text that is no lease id.
pub fn extend(
    batch: &mut Batch,
    at: ApplyContext,
    command: &Extend,
) -> storage::Result<types::Result<CommandResult>> {
    settle(run(batch, at, command))
}

fn run(batch: &mut Batch, at: ApplyContext, command: &Extend) -> Result<CommandResult, Stop> {
    let Extend {
        topic_id, lease_ms, ..
    } = *command;
    if !(1..=limits::LEASE_MAX_MS).contains(&lease_ms) {
        let max = limits::LEASE_MAX_MS;
        return Err(invalid(format!(
            "a lease lasts from 1 to {max} ms, not {lease_ms}"
        )));
    }
    let lease = Lease::find(batch, topic_id, &command.group, &command.lease_id)?;
    if !lease.is_live(at.lease_time) {
        return Err(lease_lost("the lease ran out"));
    }
    let expires = at.lease_time.saturating_add(lease_ms);
    let mut work = lease.open(batch, at, topic_id, &command.group)?;
    let request = Request {
        offsets: &[],
        strict: false,
        done_is_fine: false,
    };
    let held = lease::held_by(&work, &lease, &request)?;
    work.rewrite(&held, |piece| State::Leased {
        lease: lease.id,
        expires,
        deliveries: piece.state.deliveries(),
    })?;
    work.finish()?;
    let key = keys::topics::lease(topic_id, &command.group, &command.lease_id);
    record::store(
        batch,
        key,
        &LeaseRecord {
            expires,
            ..lease.record
        },
    );
    Ok(CommandResult::Extended { expires, lease_ms })
}
