//! BEGIN … COMMIT: several plans that become one Envelope, each made on what those before it
//! would leave.

use std::collections::BTreeSet;

use bytes::Bytes;
use storage::{Batch, KeyRange};
use types::command::{Command, CommandKind, DeleteRange, Expectation, Write};
use types::ids::Version;

use super::Plan;
use crate::catalog::PROVISIONAL_INDEX;

/// The plans of a transaction so far, or of a statement that is one by itself.
///
/// Expectations are checked against the state before the transaction. One about a key that an
/// earlier statement of the same transaction wrote speaks of a later state, and is left out: the
/// earlier statement's own expectations hold that key already.
#[derive(Debug, Default)]
pub struct Transaction {
    expectations: Vec<Expectation>,
    commands: Vec<Command>,
    /// How many of `commands` are in `written` and `removed`. The last plan's are looked at only
    /// when another one follows.
    indexed: usize,
    written: BTreeSet<Bytes>,
    removed: Vec<KeyRange>,
}

impl Transaction {
    /// Takes the next statement's plan, which was made on what those before it would leave (see
    /// [`overlay`]).
    pub fn push(&mut self, plan: Plan) {
        for write in writes(&self.commands[self.indexed..]) {
            self.removed
                .extend(write.delete_ranges.iter().map(range_of));
            self.written
                .extend(write.changes.iter().map(|change| change.key.clone()));
        }
        self.indexed = self.commands.len();
        for expectation in plan.expectations {
            if !self.has_written(&expectation.key) {
                self.expectations.push(expectation);
            }
        }
        self.commands.extend(plan.commands);
    }

    /// The expectations and commands of the transaction's Envelope.
    pub fn into_parts(self) -> (Vec<Expectation>, Vec<Command>) {
        (self.expectations, self.commands)
    }

    fn has_written(&self, key: &Bytes) -> bool {
        self.written.contains(key) || self.removed.iter().any(|range| range.contains(key))
    }
}

fn range_of(range: &DeleteRange) -> KeyRange {
    KeyRange::new(range.start.to_vec(), range.end.to_vec())
}

/// Writes what a plan of an open transaction puts and deletes into `batch`. Values get the version
/// ([`PROVISIONAL_INDEX`], `next_ordinal`), by which later plans of the transaction know them as
/// its own.
pub fn overlay(batch: &mut Batch, plan: &Plan, next_ordinal: &mut u32) {
    for write in writes(&plan.commands) {
        for range in &write.delete_ranges {
            batch.delete_range(range_of(range));
        }
        for change in &write.changes {
            match &change.after {
                None => batch.delete(change.key.to_vec()),
                Some(after) => {
                    let version = Version {
                        index: PROVISIONAL_INDEX,
                        ordinal: *next_ordinal,
                    };
                    let value = [version.to_bytes().as_slice(), after].concat();
                    batch.put(change.key.to_vec(), value);
                }
            }
            *next_ordinal += 1;
        }
    }
}

fn writes(commands: &[Command]) -> impl Iterator<Item = &Write> {
    commands.iter().filter_map(|command| match &command.kind {
        Some(CommandKind::Write(write)) => Some(write),
        _ => None,
    })
}
