//! The audit log: lines in the order of the log, in the same batch as what they tell of.

use storage::Batch;
use storage::keys::catalog;
use topics::ApplyContext;
use types::command::Audit;
use types::outcome::CommandResult;

/// Writes a line.
pub(super) fn run(batch: &mut Batch, at: ApplyContext, audit: &Audit) -> CommandResult {
    let key = catalog::audit(at.version.index, at.version.ordinal);
    batch.put(key, audit.record.to_vec());
    CommandResult::Done
}
