//! Changes of keys, with the messages that row changes cause.

use storage::{Batch, KeyRange};
use types::command::{Change, Write};
use types::ids::Version;
use types::outcome::{AppendedRange, CommandResult};
use types::planted;

use super::Place;

/// Removes the ranges, then makes the changes in order. Every value gets its version in front,
/// every change of a routed row its messages, in the same batch.
pub(super) fn run(
    batch: &mut Batch,
    place: &mut Place,
    write: &Write,
) -> storage::Result<CommandResult> {
    for range in &write.delete_ranges {
        batch.delete_range(KeyRange::new(range.start.as_ref(), range.end.as_ref()));
    }
    let mut appended = Vec::new();
    let count = write.changes.len();
    for at in 0..count {
        // In their order, or offsets would differ from node to node.
        let change = &write.changes[planted::place(at, count)];
        apply_change(batch, place, change, &mut appended)?;
    }
    Ok(CommandResult::Written(appended))
}

fn apply_change(
    batch: &mut Batch,
    place: &mut Place,
    change: &Change,
    appended: &mut Vec<AppendedRange>,
) -> storage::Result<()> {
    let at = place.step();
    match &change.after {
        Some(value) => batch.put(change.key.to_vec(), versioned(at.version, value)),
        None => batch.delete(change.key.to_vec()),
    }
    match &change.event {
        Some(event) => topics::append::append(batch, at, event, change.after.as_deref(), appended),
        None => Ok(()),
    }
}

fn versioned(version: Version, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(Version::LEN + value.len());
    bytes.extend_from_slice(&version.to_bytes());
    bytes.extend_from_slice(value);
    bytes
}
