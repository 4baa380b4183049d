//! Disk and memory of the log and the state.

use std::fs;
use std::io;
use std::path::Path;

use raft::StorageObserved;
use rustix::fs::statvfs;

use super::text::{Family, Text};

const DISK: Family = Family::gauge(
    "duet_storage_disk_bytes",
    "Bytes of the files of the log, the state and the snapshots; those that two of them share count \
     for both.",
);
const FREE: Family = Family::gauge(
    "duet_storage_disk_free_bytes",
    "Bytes that are free for the node on the data directory's file system.",
);
const SIZE: Family = Family::gauge(
    "duet_storage_disk_size_bytes",
    "Size of the data directory's file system.",
);
const MEMTABLES: Family = Family::gauge(
    "duet_storage_memtable_bytes",
    "Memory for writes that are not in a table yet.",
);
const CACHE: Family = Family::gauge(
    "duet_storage_cache_bytes",
    "Memory for blocks of tables that were read.",
);
const TABLES: Family = Family::gauge(
    "duet_storage_table_bytes",
    "Bytes of the files that hold keys and values.",
);
const PENDING: Family = Family::gauge(
    "duet_storage_compaction_pending_bytes",
    "Bytes that compaction has yet to rewrite, estimated.",
);
const STOPPED: Family = Family::gauge(
    "duet_storage_writes_stopped",
    "1 while writes wait for a flush or for compaction.",
);

/// Directories within the data directory.
const AREAS: [&str; 3] = ["log", "state", "snapshots"];
/// How deep those are looked into.
const DEPTH_MAX: usize = 3;

/// Writes what concerns storage. Looks at the disk. What the system does not say is left out.
pub fn render(text: &mut Text, seen: &StorageObserved) {
    let mut disk = text.family(&DISK);
    for area in AREAS {
        match bytes_below(&seen.data_dir.join(area), DEPTH_MAX) {
            Ok(bytes) => disk.add(&[("area", area)], bytes),
            Err(error) => tracing::debug!(area, %error, "a directory was not measured"),
        }
    }
    match statvfs(&seen.data_dir) {
        Ok(system) => {
            text.one(&FREE, system.f_bavail.saturating_mul(system.f_frsize));
            text.one(&SIZE, system.f_blocks.saturating_mul(system.f_frsize));
        }
        Err(error) => tracing::debug!(%error, "the file system was not measured"),
    }
    let databases = [("log", seen.log), ("state", seen.state)];
    let mut family = |family: &Family, value: fn(&storage::Usage) -> u64| {
        let mut samples = text.family(family);
        for (name, usage) in &databases {
            samples.add(&[("database", name)], value(usage));
        }
    };
    family(&MEMTABLES, |usage| usage.memtable_bytes);
    family(&CACHE, |usage| usage.cache_bytes);
    family(&TABLES, |usage| usage.table_bytes);
    family(&PENDING, |usage| usage.compaction_pending_bytes);
    family(&STOPPED, |usage| u64::from(usage.writes_stopped));
}

/// Bytes of the files in a directory and those in it. Files come and go meanwhile.
fn bytes_below(dir: &Path, depth: usize) -> io::Result<u64> {
    let mut bytes = 0;
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if metadata.is_file() {
            bytes += metadata.len();
        } else if metadata.is_dir() && depth > 0 {
            bytes += bytes_below(&entry.path(), depth - 1)?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_measured_with_those_in_it_and_one_that_is_gone_is_empty() {
        let dir = tempfile::tempdir().expect("temp dir");
        let inner = dir.path().join("1");
        fs::create_dir(&inner).expect("create");
        fs::write(dir.path().join("a"), [0; 10]).expect("write");
        fs::write(inner.join("b"), [0; 5]).expect("write");
        assert_eq!(bytes_below(dir.path(), 1).expect("measured"), 15);
        assert_eq!(
            bytes_below(&dir.path().join("gone"), 1).expect("measured"),
            0
        );
    }
}
