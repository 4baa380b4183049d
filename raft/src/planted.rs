//! What planted bugs do to the state. Not in any normal build; see [`types::planted`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use storage::keys::{Kind, meta};
use storage::{Batch, Durability, Engine, KeyRange, Op, Result, Snapshot};
use types::ids::LogIndex;
use types::planted::{Bug, CrashPoint, crash_at, has, is_to_crash_at};

use crate::apply;
use crate::log_store::LogHandle;
use crate::type_config::Payload;

/// Every how many runs the state is flushed, as a memtable that is full would make it, where it
/// matters.
const FLUSH_RUNS: u64 = 16;

/// Writes a run, in as many batches as the planted bug makes of it.
pub(crate) fn write(engine: &dyn Engine, ops: &[Op]) -> Result<()> {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let moves = positions(ops);
    if moves {
        crash_at(CrashPoint::BeforePosition);
    }
    let (first, second): (Vec<Op>, Vec<Op>) = ops.iter().cloned().partition(|op| !is_late(op));
    engine.write(&first, Durability::Flushed)?;
    let flushes = has(Bug::MessagesApart)
        || has(Bug::AppliedApart)
        || is_to_crash_at(CrashPoint::BetweenRuns);
    if flushes && RUNS.fetch_add(1, Ordering::Relaxed) % FLUSH_RUNS == 0 {
        engine.flush()?;
        crash_at(CrashPoint::BetweenRuns);
    }
    if !second.is_empty() {
        engine.write(&second, Durability::Flushed)?;
    }
    if moves {
        crash_at(CrashPoint::AfterPosition);
    }
    Ok(())
}

/// Does the planted bug write this after the rest?
fn is_late(op: &Op) -> bool {
    let key = key(op);
    if has(Bug::AppliedApart) {
        return key == meta::applied();
    }
    let message = matches!(Kind::of(key), Some(Kind::Message | Kind::Tail));
    has(Bug::MessagesApart) && message
}

fn positions(ops: &[Op]) -> bool {
    ops.iter().any(|op| Kind::of(key(op)) == Some(Kind::Cursor))
}

fn key(op: &Op) -> &[u8] {
    match op {
        Op::Put { key, .. } | Op::Delete { key } => key,
        Op::DeleteRange { range } => &range.start,
    }
}

/// Removes what a planted bug leaves out of the snapshot that was just opened.
pub(crate) fn leave_out(engine: &dyn Engine) -> Result<()> {
    let kinds: &[Kind] = if has(Bug::SnapshotWithoutPositions) {
        &[Kind::Cursor]
    } else if has(Bug::SnapshotWithoutAnswers) {
        &[Kind::Idempotency, Kind::IdempotencyAge]
    } else {
        &[]
    };
    let remove = |kind: &Kind| Op::DeleteRange {
        range: KeyRange::prefix(&kind.prefix()),
    };
    let ops: Vec<Op> = kinds.iter().map(remove).collect();
    engine.write(&ops, Durability::Flushed)
}

/// The state with what the log holds beyond it, committed or not.
pub(crate) fn with_uncommitted(
    log: &LogHandle,
    applied: LogIndex,
    state: Arc<dyn Snapshot>,
) -> Arc<dyn Snapshot> {
    if !has(Bug::UncommittedReads) {
        return state;
    }
    let mut batch = Batch::new(state);
    for entry in log.entries_after(applied) {
        let Payload::Normal(proposal) = &entry.payload else {
            continue;
        };
        let Ok(decoded) = proposal.decoded() else {
            continue;
        };
        let index = entry.log_id.index;
        if apply::apply_entry(&mut batch, index, decoded, &BTreeSet::new()).is_err() {
            break;
        }
    }
    Arc::new(batch)
}
