//! What a snapshot consists of: its files with their sizes and checksums, and the place in the log
//! it was taken at.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use prost::Message;
use types::limits::SNAPSHOT_CHUNK_BYTES;

use super::{Result, SnapshotError};
use crate::codec::{LogIdRecord, StoredMembershipRecord};
use crate::type_config::{LogId, SnapshotMeta};

/// Name of the manifest in a snapshot's directory.
pub const MANIFEST_FILE: &str = "SNAPSHOT";
const FORMAT: u32 = 1;

/// The record of a snapshot. On the disk its bytes are followed by their crc32, big-endian.
#[derive(Clone, PartialEq, Message)]
pub struct Manifest {
    /// Version of this record and of how files are streamed.
    #[prost(uint32, tag = "1")]
    format: u32,
    /// The last entry in the snapshot; none for a state that nothing was applied to.
    #[prost(message, optional, tag = "2")]
    last_log_id: Option<LogIdRecord>,
    /// The membership at that entry.
    #[prost(message, optional, tag = "3")]
    membership: Option<StoredMembershipRecord>,
    /// All files but the manifest, by name.
    #[prost(message, repeated, tag = "4")]
    pub files: Vec<FileRecord>,
}

/// A file of a snapshot.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FileRecord {
    /// Its name in the directory; there are no directories within.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its length in bytes.
    #[prost(uint64, tag = "2")]
    pub size: u64,
    /// Its checksum.
    #[prost(uint32, tag = "3")]
    pub crc32: u32,
}

impl Manifest {
    /// Describes the files of `dir`. Checksums of files that are the very same in `previous`, a
    /// snapshot of the same state, are taken from there: a table's file never changes.
    pub(super) fn describe(
        dir: &Path,
        meta: &SnapshotMeta,
        previous: Option<(&Path, &Manifest)>,
    ) -> Result<Manifest> {
        let known = |name: &str, size: u64| -> Option<u32> {
            let (previous_dir, manifest) = previous?;
            let record = manifest.files.iter().find(|file| file.name == name)?;
            let same = record.size == size && same_file(&previous_dir.join(name), &dir.join(name));
            same.then_some(record.crc32)
        };
        let mut files = Vec::new();
        for (name, size) in files_of(dir)? {
            let crc32 = match known(&name, size) {
                Some(crc32) => crc32,
                None => checksum_synced(&dir.join(&name))?,
            };
            files.push(FileRecord { name, size, crc32 });
        }
        Ok(Manifest {
            format: FORMAT,
            last_log_id: meta.last_log_id.as_ref().map(LogIdRecord::from),
            membership: Some(StoredMembershipRecord::of(&meta.last_membership)),
            files,
        })
    }

    /// Up to which entry the snapshot goes, and the membership there.
    pub fn meta(&self) -> Result<SnapshotMeta> {
        let last_membership = match &self.membership {
            Some(record) => record
                .to_stored()
                .map_err(|error| SnapshotError::Damaged(error.to_string()))?,
            None => Default::default(),
        };
        let last_log_id = self.last_log_id.as_ref().map(LogId::from);
        Ok(SnapshotMeta {
            last_log_id,
            last_membership,
        })
    }

    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The manifest as bytes, for the disk and for another node.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.encode_to_vec();
        let crc32 = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc32.to_be_bytes());
        bytes
    }

    /// Reads what [`Manifest::encode`] gave.
    pub fn decode(bytes: &[u8]) -> Result<Manifest> {
        let damaged = |what: &str| SnapshotError::Damaged(format!("its manifest {what}"));
        let (body, crc32) = bytes
            .split_last_chunk::<4>()
            .ok_or_else(|| damaged("is too short"))?;
        if crc32fast::hash(body) != u32::from_be_bytes(*crc32) {
            return Err(damaged("has a wrong checksum"));
        }
        let manifest =
            <Manifest as Message>::decode(body).map_err(|error| damaged(&error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(damaged("is of a newer version"));
        }
        // Names come from another node: none may lead out of the directory, or name a file twice.
        let mut names = std::collections::BTreeSet::new();
        for file in &manifest.files {
            let plain = !file.name.is_empty()
                && !file.name.contains(['/', '\\', '\0'])
                && ![".", "..", MANIFEST_FILE].contains(&file.name.as_str());
            if !plain || !names.insert(&file.name) {
                return Err(damaged(&format!("names a file {:?}", file.name)));
            }
        }
        manifest.meta()?;
        Ok(manifest)
    }

    /// Writes the manifest into `dir`, synced.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(MANIFEST_FILE);
        File::create(&path)
            .and_then(|mut file| {
                file.write_all(&self.encode())?;
                file.sync_all()
            })
            .map_err(|error| SnapshotError::io("write", &path, error))
    }

    /// Reads the manifest of `dir`.
    pub(super) fn read(dir: &Path) -> Result<Manifest> {
        let path = dir.join(MANIFEST_FILE);
        let bytes = fs::read(&path).map_err(|error| SnapshotError::io("read", &path, error))?;
        Manifest::decode(&bytes).map_err(|error| match error {
            SnapshotError::Damaged(what) => {
                SnapshotError::Damaged(format!("{}: {what}", path.display()))
            }
            other => other,
        })
    }

    /// Reads all files of `dir` and compares them with the manifest.
    pub(super) fn verify(&self, dir: &Path) -> Result<()> {
        let found = files_of(dir)?;
        for file in &self.files {
            let path = dir.join(&file.name);
            let size = found.get(&file.name).copied();
            if size != Some(file.size) {
                let size = size.map_or("is missing".into(), |size| format!("has {size} bytes"));
                let what = format!("{} {size}, not {}", path.display(), file.size);
                return Err(SnapshotError::Damaged(what));
            }
            if checksum(&path)? != file.crc32 {
                // Its tables are those of the state it was made of, under another name.
                let what = format!(
                    "{} was changed. A state that has a file of this name shares it, and is damaged \
                     too",
                    path.display()
                );
                return Err(SnapshotError::Damaged(what));
            }
        }
        if found.len() != self.files.len() {
            let what = format!("{} files, not {}", found.len(), self.files.len());
            return Err(SnapshotError::Damaged(what));
        }
        Ok(())
    }
}

/// Names and sizes of the files in `dir`, but for the manifest.
fn files_of(dir: &Path) -> Result<BTreeMap<String, u64>> {
    let failed = |error| SnapshotError::io("listing", dir, error);
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let metadata = entry.metadata().map_err(failed)?;
        let name = entry.file_name().into_string();
        let (Ok(name), true) = (name, metadata.is_file()) else {
            let what = format!("{} is no plain file", entry.path().display());
            return Err(SnapshotError::Damaged(what));
        };
        if name != MANIFEST_FILE {
            files.insert(name, metadata.len());
        }
    }
    Ok(files)
}

/// The checksum of a file that is on the disk when this returns.
fn checksum_synced(path: &Path) -> Result<u32> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| SnapshotError::io("sync", path, error))?;
    checksum(path)
}

fn checksum(path: &Path) -> Result<u32> {
    let failed = |error| SnapshotError::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut chunk = vec![0; SNAPSHOT_CHUNK_BYTES];
    loop {
        match file.read(&mut chunk).map_err(failed)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&chunk[..read]),
        }
    }
}

/// Are these two names of one file?
fn same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(one).is_some_and(|identity_of_one| identity(other) == Some(identity_of_one))
}
