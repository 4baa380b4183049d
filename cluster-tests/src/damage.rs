//! Files of a node, damaged as a disk damages them.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a file of a data directory is to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The log's youngest entries, and the vote with them.
    LogWal,
    /// Older entries of the log.
    LogTable,
    /// What the log's database consists of.
    LogManifest,
    /// Which of its manifests counts.
    LogCurrent,
    /// How far the log was durable.
    LogMarker,
    /// A part of the state.
    StateTable,
    /// What the state's database consists of.
    StateManifest,
    /// Which of its manifests counts.
    StateCurrent,
    /// Which directory is the state.
    StatePointer,
    /// A part of the snapshot. May be the very same file as one of the state's.
    SnapshotTable,
    /// What the snapshot consists of.
    SnapshotManifest,
    /// Who the node is.
    Identity,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 12] = [
        Part::LogWal,
        Part::LogTable,
        Part::LogManifest,
        Part::LogCurrent,
        Part::LogMarker,
        Part::StateTable,
        Part::StateManifest,
        Part::StateCurrent,
        Part::StatePointer,
        Part::SnapshotTable,
        Part::SnapshotManifest,
        Part::Identity,
    ];

    /// The largest file of this kind in a data directory; none if there is none.
    pub fn find(self, data: &Path) -> Option<PathBuf> {
        let all = self.find_all(data).into_iter();
        all.max_by_key(|file| size(file))
    }

    /// All files of this kind in a data directory.
    pub fn find_all(self, data: &Path) -> Vec<PathBuf> {
        let (below, suffix) = match self {
            Part::LogWal => ("raft/log", ".log"),
            Part::LogTable => ("raft/log", ".sst"),
            Part::LogManifest => ("raft/log", "MANIFEST-*"),
            Part::LogCurrent => ("raft/log", "CURRENT"),
            Part::LogMarker => ("raft", "log.marker"),
            Part::StateTable => ("raft/state/*", ".sst"),
            Part::StateManifest => ("raft/state/*", "MANIFEST-*"),
            Part::StateCurrent => ("raft/state/*", "CURRENT"),
            Part::StatePointer => ("raft/state", "CURRENT"),
            Part::SnapshotTable => ("raft/snapshots/*", ".sst"),
            Part::SnapshotManifest => ("raft/snapshots/*", "SNAPSHOT"),
            Part::Identity => ("", "identity.json"),
        };
        let dirs = match below.strip_suffix("/*") {
            None => vec![data.join(below)],
            Some(above) => entries(&data.join(above)),
        };
        let files = dirs.iter().flat_map(|dir| entries(dir));
        let is_one = |file: &PathBuf| file.is_file() && is_named(file, suffix);
        files.filter(is_one).collect()
    }
}

/// What is in a directory; nothing where there is none.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

fn is_named(file: &Path, pattern: &str) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None if pattern.starts_with('.') => name.ends_with(pattern),
        None => name == pattern,
    }
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |file| file.len())
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A bit at this part of a thousand of it is flipped.
    Flip(u64),
    /// A bit in each piece of so many bytes is flipped, so that whatever is read is damaged.
    FlipEvery(u64),
    /// Only this part of a thousand of it is left.
    Cut(u64),
    /// It is gone.
    Remove,
}

impl Damage {
    /// Damages a file. A process that has it open sees it, where it does not remember what it read.
    pub fn inflict(self, path: &Path) -> io::Result<()> {
        let size = size(path);
        if size == 0 {
            // As good as gone, or not used yet.
            return match self {
                Damage::Remove => fs::remove_file(path),
                _ => Ok(()),
            };
        }
        let file = fs::File::options().read(true).write(true).open(path)?;
        match self {
            Damage::Flip(part) => flip(&file, (size * part / 1000).min(size - 1))?,
            Damage::FlipEvery(bytes) => {
                for piece in 0..size / bytes {
                    flip(&file, piece * bytes + bytes / 2)?;
                }
            }
            Damage::Cut(part) => file.set_len(size * part / 1000)?,
            Damage::Remove => return fs::remove_file(path),
        }
        file.sync_all()
    }
}

fn flip(file: &fs::File, at: u64) -> io::Result<()> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 0x10], at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_file_of_a_kind_is_found_and_damaged() {
        let data = tempfile::tempdir().unwrap();
        let state = data.path().join("raft/state/2");
        fs::create_dir_all(&state).unwrap();
        for (name, bytes) in [("1.sst", 10), ("2.sst", 4_000), ("CURRENT", 3)] {
            fs::write(state.join(name), vec![0; bytes]).unwrap();
        }
        fs::write(data.path().join("raft/state/CURRENT"), "2").unwrap();
        let table = Part::StateTable.find(data.path()).unwrap();
        assert_eq!(table, state.join("2.sst"));
        let pointer = Part::StatePointer.find(data.path()).unwrap();
        assert_eq!(fs::read(pointer).unwrap(), b"2");
        assert_eq!(Part::LogWal.find(data.path()), None);

        let wrong = || {
            fs::read(&table)
                .unwrap()
                .iter()
                .filter(|b| **b != 0)
                .count()
        };
        Damage::Flip(1000).inflict(&table).unwrap();
        assert_eq!(wrong(), 1);
        Damage::FlipEvery(1_000).inflict(&table).unwrap();
        assert_eq!(wrong(), 5);
        Damage::Cut(500).inflict(&table).unwrap();
        assert_eq!(size(&table), 2_000);
        Damage::Remove.inflict(&table).unwrap();
        assert!(!table.exists());
    }
}
