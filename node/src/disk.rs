//! How much room there is where this node keeps its data, and whether that is enough.

use std::path::{Path, PathBuf};
use std::time::Duration;

use raft::Disk;
use tokio::sync::watch;
use types::limits::{
    DISK_RECOVERY_PERCENT, DISK_RESERVE_MAX_BYTES, DISK_RESERVE_MIN_BYTES, DISK_RESERVE_PERCENT,
    DISK_RESERVE_SMALL_PERCENT, WATCH_INTERVAL_MS,
};

/// A file system, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    free_bytes: u64,
    total_bytes: u64,
}

/// Looks at the file system of `dir`, which exists, from now on, for as long as somebody wants to
/// know. `reserve_bytes` is as configured; none: by the file system's size.
pub fn measure(dir: &Path, reserve_bytes: Option<u64>) -> watch::Receiver<Disk> {
    let dir = dir.to_owned();
    let (sender, receiver) = watch::channel(Disk::UNKNOWN);
    look(&dir, reserve_bytes, &sender);
    tokio::spawn(keep_looking(dir, reserve_bytes, sender));
    receiver
}

async fn keep_looking(dir: PathBuf, reserve_bytes: Option<u64>, disk: watch::Sender<Disk>) {
    let mut every = tokio::time::interval(Duration::from_millis(WATCH_INTERVAL_MS));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !disk.is_closed() {
        every.tick().await;
        look(&dir, reserve_bytes, &disk);
    }
}

/// Looks once. Asking for a mounted file system's figures does not wait for its disk.
fn look(dir: &Path, reserve_bytes: Option<u64>, disk: &watch::Sender<Disk>) {
    let space = match rustix::fs::statvfs(dir) {
        Ok(stat) => Space {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        },
        Err(error) => {
            tracing::warn!(%error, dir = %dir.display(), "the room on the disk is not known");
            return;
        }
    };
    let before = *disk.borrow();
    let now = judge(before, space, reserve_bytes);
    let Space { free_bytes, .. } = space;
    match (before.full, now.full) {
        (false, true) => tracing::warn!(free_bytes, "this node's disk is nearly full"),
        (true, false) => tracing::info!(free_bytes, "this node's disk has room again"),
        _ => {}
    }
    // Who waits for a change waits for another verdict, not for every byte.
    disk.send_if_modified(|disk| {
        let changed = disk.full != now.full;
        *disk = now;
        changed
    });
}

/// Full from below the reserve on, and until there is clearly more than it: a file that comes and
/// goes should not make writes fail every other second.
fn judge(before: Disk, space: Space, reserve_bytes: Option<u64>) -> Disk {
    let reserve = reserve_bytes.unwrap_or_else(|| usual_reserve(space.total_bytes));
    let margin = if before.full {
        reserve / 100 * DISK_RECOVERY_PERCENT
    } else {
        0
    };
    Disk {
        free_bytes: Some(space.free_bytes),
        reserve_bytes: Some(reserve),
        full: space.free_bytes < reserve.saturating_add(margin),
    }
}

fn usual_reserve(total_bytes: u64) -> u64 {
    let share = |percent| total_bytes / 100 * percent;
    share(DISK_RESERVE_PERCENT)
        .clamp(DISK_RESERVE_MIN_BYTES, DISK_RESERVE_MAX_BYTES)
        .min(share(DISK_RESERVE_SMALL_PERCENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_usual_reserve_is_a_share_within_bounds() {
        assert_eq!(usual_reserve(100 * GIB), 100 * GIB / 100 * 5);
        assert_eq!(usual_reserve(5 * GIB), DISK_RESERVE_MIN_BYTES);
        assert_eq!(usual_reserve(4_000 * GIB), DISK_RESERVE_MAX_BYTES);
        // A small one is not taken whole.
        assert_eq!(usual_reserve(GIB), GIB / 100 * 20);
        assert_eq!(usual_reserve(0), 0);
    }

    #[test]
    fn a_full_disk_needs_clearly_more_than_its_reserve_to_recover() {
        let space = |free_bytes| Space {
            free_bytes,
            total_bytes: GIB,
        };
        let mut disk = Disk::UNKNOWN;
        let mut full_at = |free| {
            disk = judge(disk, space(free), Some(1_000));
            assert_eq!(disk.free_bytes, Some(free));
            disk.full
        };
        let steps = [1_000, 999, 1_000, 1_099, 1_100, 1_000, 999];
        let verdicts = steps.map(&mut full_at);
        assert_eq!(verdicts, [false, true, true, true, false, false, true]);
        assert!(!judge(Disk::UNKNOWN, space(0), Some(0)).full, "no reserve");
        assert!(judge(Disk::UNKNOWN, space(GIB), Some(u64::MAX)).full);
    }

    #[test]
    fn a_real_directory_has_room() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (sender, receiver) = watch::channel(Disk::UNKNOWN);
        look(dir.path(), Some(0), &sender);
        let seen = *receiver.borrow();
        assert!(seen.free_bytes.is_some_and(|free| free > 0) && !seen.full);
        look(&dir.path().join("missing"), Some(u64::MAX), &sender);
        assert_eq!(
            *receiver.borrow(),
            seen,
            "what is not known changes nothing"
        );
    }
}
