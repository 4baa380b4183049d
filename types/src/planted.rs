//! Bugs planted on purpose, to see that the checks of `cluster-tests` object, and points at which a
//! process ends, to see that what it leaves is good.
//!
//! They are there only with the feature `planted`, which no release build can have. Without it
//! [`has`] is always false, [`crash_at`] does nothing, and no name of any of them is in the
//! program. With it the process says once what it is to do (`plant`): at most one bug, at most one
//! point.

#[cfg(all(feature = "planted", not(debug_assertions)))]
compile_error!("the feature `planted` plants bugs: no release build may have it");

/// What is wrong with a build that has it. See `docs/testing.md` for the check that must object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Nothing of the log is synced.
    AckBeforeSync,
    /// The log says that entries are durable, and writes them after that.
    CallbackBeforeSync,
    /// Messages are written in a batch of their own, after the rows.
    MessagesApart,
    /// The record of what was applied is written in a batch of its own, after the effects.
    AppliedApart,
    /// The changes of a statement take effect in the order of a hash map.
    HashOrder,
    /// Readers see entries that the log has and that nobody committed.
    UncommittedReads,
    /// A snapshot is installed without the positions of groups.
    SnapshotWithoutPositions,
    /// A snapshot is installed without the answers under idempotency keys.
    SnapshotWithoutAnswers,
    /// A leader gives read indexes without asking whether it still leads.
    ReadWithoutQuorum,
    /// An ack by a lease that was given to somebody else is accepted.
    LostLeaseAccepted,
    /// A log whose WAL is damaged in its middle opens without what follows.
    PointInTimeRecovery,
    /// A request whose answer was lost is sent again without asking whether it happened.
    BlindRetry,
    /// A vote is given before it is on the disk.
    VoteNotSynced,
    /// A write whose outcome is not known in time is reported as failed.
    TimeoutIsFailure,
}

/// Where a process can end, as if its machine had lost its mind but not its power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// Entries are in memory, and not in the log writer's queue.
    BeforeAppend,
    /// They are in its queue.
    AfterAppend,
    /// Before the log's write and its fsync.
    BeforeSync,
    /// After it, before anybody is told.
    AfterSync,
    /// The committed position is in the group that is written next.
    BeforeCommitted,
    /// The marker is lowered, the log not yet cut.
    MidTruncate,
    /// The log's front is removed in memory, not yet on the disk.
    MidPurge,
    /// Between two runs of apply, the first being flushed.
    BetweenRuns,
    /// A group's position is in the batch that is written next.
    BeforePosition,
    /// It was written, and nobody told.
    AfterPosition,
    /// A snapshot is made, and its directory has no manifest yet.
    MidBuild,
    /// An installed snapshot is the node's current one, and the state not yet its.
    MidInstall,
    /// The state is the snapshot's, and nobody told.
    AfterInstall,
}

#[cfg(feature = "planted")]
mod on {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Bug, CrashPoint};

    static BUG: OnceLock<Bug> = OnceLock::new();
    static CRASH: OnceLock<(CrashPoint, AtomicU64)> = OnceLock::new();

    const BUGS: [(&str, Bug); 14] = [
        ("ack-before-sync", Bug::AckBeforeSync),
        ("callback-before-sync", Bug::CallbackBeforeSync),
        ("messages-apart", Bug::MessagesApart),
        ("applied-apart", Bug::AppliedApart),
        ("hash-order", Bug::HashOrder),
        ("uncommitted-reads", Bug::UncommittedReads),
        ("snapshot-without-positions", Bug::SnapshotWithoutPositions),
        ("snapshot-without-answers", Bug::SnapshotWithoutAnswers),
        ("read-without-quorum", Bug::ReadWithoutQuorum),
        ("lost-lease-accepted", Bug::LostLeaseAccepted),
        ("point-in-time-recovery", Bug::PointInTimeRecovery),
        ("blind-retry", Bug::BlindRetry),
        ("vote-not-synced", Bug::VoteNotSynced),
        ("timeout-is-failure", Bug::TimeoutIsFailure),
    ];

    const POINTS: [(&str, CrashPoint); 13] = [
        ("before-append", CrashPoint::BeforeAppend),
        ("after-append", CrashPoint::AfterAppend),
        ("before-sync", CrashPoint::BeforeSync),
        ("after-sync", CrashPoint::AfterSync),
        ("before-committed", CrashPoint::BeforeCommitted),
        ("mid-truncate", CrashPoint::MidTruncate),
        ("mid-purge", CrashPoint::MidPurge),
        ("between-runs", CrashPoint::BetweenRuns),
        ("before-position", CrashPoint::BeforePosition),
        ("after-position", CrashPoint::AfterPosition),
        ("mid-build", CrashPoint::MidBuild),
        ("mid-install", CrashPoint::MidInstall),
        ("after-install", CrashPoint::AfterInstall),
    ];

    /// Plants what this process is to do: a bug by its name, and `POINT:N`, a point at whose n-th
    /// pass it ends. Only the first call counts.
    ///
    /// # Errors
    /// What is not understood.
    pub fn plant(bug: Option<&str>, crash: Option<&str>) -> Result<(), String> {
        if let Some(name) = bug {
            let found = BUGS.iter().find(|(known, _)| *known == name);
            let (_, bug) = found.ok_or_else(|| format!("no bug is called {name:?}"))?;
            BUG.get_or_init(|| *bug);
        }
        if let Some(text) = crash {
            let parsed = text.split_once(':').and_then(|(name, passes)| {
                let (_, point) = POINTS.iter().find(|(known, _)| *known == name)?;
                Some((*point, AtomicU64::new(passes.parse().ok()?)))
            });
            let parsed = parsed.ok_or_else(|| format!("{text:?} is no POINT:N"))?;
            CRASH.get_or_init(|| parsed);
        }
        Ok(())
    }

    /// Is this bug planted?
    pub fn has(bug: Bug) -> bool {
        BUG.get() == Some(&bug)
    }

    /// Is this the point at which the process is to end?
    pub fn is_to_crash_at(point: CrashPoint) -> bool {
        CRASH.get().is_some_and(|(planted, _)| *planted == point)
    }

    /// Ends the process at the n-th pass of the point that was planted.
    pub fn crash_at(point: CrashPoint) {
        let Some((planted, left)) = CRASH.get() else {
            return;
        };
        if *planted == point && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            eprintln!("planted: this process ends at {point:?}");
            std::process::abort();
        }
    }

    /// The place of the `at`-th of `count` things in an order that differs from process to process.
    #[expect(
        clippy::disallowed_types,
        reason = "an order that no two nodes share is the bug"
    )]
    pub fn place(at: usize, count: usize) -> usize {
        use std::hash::BuildHasher;
        static SEED: OnceLock<u64> = OnceLock::new();
        if !has(Bug::HashOrder) || count == 0 {
            return at;
        }
        let seed = SEED.get_or_init(|| std::hash::RandomState::new().hash_one(0));
        let turn = usize::try_from(seed % count as u64).unwrap_or(0);
        (at + turn) % count
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_is_not_understood_plants_nothing() {
            assert!(plant(Some("ack-after-sync"), None).is_err());
            assert!(plant(None, Some("before-sync")).is_err());
            assert!(plant(None, Some("nowhere:1")).is_err());
            assert!(!has(Bug::AckBeforeSync));
            crash_at(CrashPoint::BeforeSync);
        }
    }
}

#[cfg(not(feature = "planted"))]
mod off {
    use super::{Bug, CrashPoint};

    /// Is this bug planted? Never, in this build.
    #[inline(always)]
    pub const fn has(_: Bug) -> bool {
        false
    }

    /// Does nothing, in this build.
    #[inline(always)]
    pub const fn crash_at(_: CrashPoint) {}

    /// The place of the `at`-th thing: that one, in this build.
    #[inline(always)]
    pub const fn place(at: usize, _count: usize) -> usize {
        at
    }
}

#[cfg(not(feature = "planted"))]
pub use off::{crash_at, has, place};
#[cfg(feature = "planted")]
pub use on::{crash_at, has, is_to_crash_at, place, plant};
