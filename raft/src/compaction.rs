//! When a snapshot is taken, and how much of the log is kept below it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use types::ids::LogIndex;
use types::limits::SNAPSHOT_MAX_AGE_MS;

use crate::disk::Disk;
use crate::handle::Core;
use crate::log_store::LogHandle;
use crate::metrics;
use crate::options::Retention;

/// How often the log is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Takes a snapshot whenever the log has grown enough since the last one, or that one is old, and
/// lets the log go below it as far as its entries or its bytes are too many. All of that is decided
/// here: the core could count entries by itself, and would then want to purge less, after a
/// snapshot, than it was told to purge before; that it takes for impossible. On a full disk only if
/// log can go for it, since a snapshot keeps files that would be removed. Ends with the core.
pub(crate) async fn look_after_log(
    core: Core,
    log: LogHandle,
    disk: watch::Receiver<Disk>,
    retention: Retention,
) {
    let mut every = tokio::time::interval(LOOK_INTERVAL);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut schedule = Schedule::new(Instant::now(), retention.snapshot_log_bytes);
    loop {
        every.tick().await;
        let covered = metrics::look(&core, |metrics| metrics.snapshot.map(|log_id| log_id.index));
        let seen = Seen {
            covered,
            last: log.last().map(|log_id| log_id.index),
            bytes: log.bytes_after(covered),
        };
        let worth_it = !disk.borrow().full || frees_log(&core, &log, retention);
        if schedule.is_due(Instant::now(), seen)
            && worth_it
            && core.trigger().snapshot().await.is_err()
        {
            return;
        }
        let purged = log.purged().map(|log_id| log_id.index);
        let large = log.last_before(retention.keep_bytes);
        let excess = excess(covered, large, retention.keep_entries);
        if let Some(upto) = excess.filter(|_| excess > purged)
            && core.trigger().purge_log(upto).await.is_err()
        {
            return;
        }
    }
}

/// The last entry that need not be kept: of those that the snapshot has, where more than
/// `keep_entries` of it are left or too many bytes, which `large` is the last before.
fn excess(
    covered: Option<LogIndex>,
    large: Option<LogIndex>,
    keep_entries: u64,
) -> Option<LogIndex> {
    let many = covered.and_then(|covered| covered.checked_sub(keep_entries));
    many.max(large.min(covered))
}

/// Would the log lose entries by a snapshot of the state as it is?
pub(crate) fn frees_log(core: &Core, log: &LogHandle, retention: Retention) -> bool {
    let applied = metrics::look(core, |metrics| {
        metrics.last_applied.map(|log_id| log_id.index)
    });
    let kept_from = applied.unwrap_or(0).saturating_sub(retention.keep_entries);
    kept_from > log.purged().map_or(0, |log_id| log_id.index)
}

/// What a look at the log finds.
#[derive(Clone, Copy)]
struct Seen {
    /// The last entry in the snapshot.
    covered: Option<LogIndex>,
    /// The last entry.
    last: Option<LogIndex>,
    /// Bytes of the entries that are not in the snapshot.
    bytes: u64,
}

/// Decides whether it is time for a snapshot.
struct Schedule {
    /// Bytes that are enough for one.
    bytes: u64,
    covered: Option<LogIndex>,
    /// When the snapshot was first seen, or the process started.
    since: Instant,
}

impl Schedule {
    fn new(now: Instant, bytes: u64) -> Schedule {
        Schedule {
            bytes,
            covered: None,
            since: now,
        }
    }

    fn is_due(&mut self, now: Instant, seen: Seen) -> bool {
        if self.covered != seen.covered {
            (self.covered, self.since) = (seen.covered, now);
        }
        let old = now.duration_since(self.since) >= Duration::from_millis(SNAPSHOT_MAX_AGE_MS);
        seen.bytes >= self.bytes || (old && seen.last > seen.covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: u64 = 1_000;

    #[test]
    fn log_goes_that_is_in_the_snapshot_and_too_many_entries_or_bytes() {
        assert_eq!(excess(None, Some(50), 10), None);
        assert_eq!(excess(Some(100), None, 200), None);
        assert_eq!(excess(Some(100), None, 30), Some(70));
        assert_eq!(excess(Some(100), Some(50), 30), Some(70));
        assert_eq!(excess(Some(100), Some(80), 30), Some(80));
        assert_eq!(excess(Some(100), Some(180), 30), Some(100));
    }

    #[test]
    fn a_snapshot_is_due_by_bytes_or_by_age() {
        let start = Instant::now();
        let hours = |hours: u64| start + Duration::from_millis(hours * SNAPSHOT_MAX_AGE_MS);
        let mut schedule = Schedule::new(start, ENOUGH);
        let seen = |covered, last, bytes| Seen {
            covered,
            last,
            bytes,
        };
        assert!(!schedule.is_due(start, seen(None, Some(5), 100)));
        assert!(schedule.is_due(start, seen(None, Some(5), ENOUGH)));
        assert!(
            schedule.is_due(hours(1), seen(None, Some(5), 100)),
            "by age"
        );
        // It was taken; the next one is due an age later, if there is anything for it.
        assert!(!schedule.is_due(hours(1), seen(Some(5), Some(9), 100)));
        assert!(!schedule.is_due(hours(9), seen(Some(5), Some(5), 100)));
        assert!(schedule.is_due(hours(9), seen(Some(5), Some(6), 100)));
    }
}
