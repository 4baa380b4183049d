//! A snapshot that arrives from another node.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use types::limits::SNAPSHOT_SYNC_BYTES;

use super::manifest::Manifest;
use super::{Result, SnapshotDir, SnapshotError, SnapshotStore, remove_dir, sync_dir};

/// Writes a snapshot's files as they arrive: all files in the manifest's order, each from its start
/// to its end. Dropping it unfinished leaves the files that are whole to the next receiver of the
/// same snapshot, and removes the rest.
#[derive(Debug)]
pub struct SnapshotReceiver {
    path: PathBuf,
    manifest: Manifest,
    /// Place in the manifest of the file that is being written, or comes next.
    file: usize,
    open: Option<OpenFile>,
    finished: bool,
    left_to: PartialSlot,
}

/// Holds what came of a snapshot whose transfer was broken off, until its next attempt or until
/// another snapshot's transfer is broken off. Clones are the same slot.
#[derive(Clone, Debug, Default)]
pub(super) struct PartialSlot(Arc<Mutex<Option<Partial>>>);

/// A directory with the first files of a snapshot, each compared with the manifest as it came.
#[derive(Debug)]
struct Partial {
    path: PathBuf,
    manifest: Manifest,
    files: usize,
}

impl PartialSlot {
    /// How many files of this snapshot are there.
    pub(super) fn files_of(&self, manifest: &Manifest) -> usize {
        let slot = self.lock();
        slot.as_ref()
            .filter(|partial| partial.manifest == *manifest)
            .map_or(0, |partial| partial.files)
    }

    /// Takes what is there, whichever snapshot's it is.
    fn take(&self) -> Option<Partial> {
        self.lock().take()
    }

    /// Leaves something, in the place of what was left before.
    fn leave(&self, partial: Partial) {
        let old = self.lock().replace(partial);
        if let Some(old) = old {
            remove(&old.path);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Partial>> {
        // Replaced in one step, so a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    path: PathBuf,
    written: u64,
    /// Of those.
    synced: u64,
    hasher: crc32fast::Hasher,
}

impl SnapshotReceiver {
    /// Begins to receive the snapshot that `manifest` describes. Blocks on the disk.
    pub fn new(snapshots: &SnapshotStore, manifest: Manifest) -> Result<SnapshotReceiver> {
        SnapshotReceiver::resume(snapshots, manifest, 0)
    }

    /// Begins to receive the snapshot that `manifest` describes, but for its first `files_there`
    /// files, which came in an earlier attempt. Blocks on the disk.
    ///
    /// # Errors
    /// [`SnapshotError::BrokenOff`] if those files are not there any more.
    pub fn resume(
        snapshots: &SnapshotStore,
        manifest: Manifest,
        files_there: usize,
    ) -> Result<SnapshotReceiver> {
        let left_to = snapshots.partial().clone();
        let mut receiver = SnapshotReceiver {
            path: snapshots.new_dir(),
            manifest,
            file: 0,
            open: None,
            finished: false,
            left_to,
        };
        match receiver.left_to.take() {
            Some(left) if files_there > 0 && left.manifest == receiver.manifest => {
                (receiver.path, receiver.file) = (left.path, left.files);
            }
            other => {
                if let Some(unwanted) = other {
                    remove(&unwanted.path);
                }
                let path = &receiver.path;
                fs::create_dir(path).map_err(|error| SnapshotError::io("creation", path, error))?;
            }
        }
        if receiver.file != files_there {
            return Err(SnapshotError::BrokenOff);
        }
        Ok(receiver)
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is being received.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Writes the next bytes of a file. `file` is its place in [`Manifest::files`]; empty files may
    /// be left out. Blocks on the disk.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] for bytes out of order, beyond the file's size, or with a wrong
    /// checksum once it is complete.
    pub fn write_chunk(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        while self.file < file {
            self.complete_file()?;
        }
        let Some(record) = self.manifest.files.get(file).filter(|_| file == self.file) else {
            let what = format!("bytes of file {file} after those of file {}", self.file);
            return Err(SnapshotError::Damaged(what));
        };
        let size = record.size;
        let open = self.open_file()?;
        if offset != open.written || size - open.written < bytes.len() as u64 {
            let what = format!(
                "{} bytes at {offset} of {}, after {} of {size}",
                bytes.len(),
                open.path.display(),
                open.written
            );
            return Err(SnapshotError::Damaged(what));
        }
        open.file
            .write_all(bytes)
            .map_err(|error| SnapshotError::io("write", &open.path, error))?;
        open.hasher.update(bytes);
        open.written += bytes.len() as u64;
        if open.written - open.synced >= SNAPSHOT_SYNC_BYTES {
            open.synced = open.written;
            open.file
                .sync_data()
                .map_err(|error| SnapshotError::io("sync", &open.path, error))?;
        }
        Ok(())
    }

    /// All was sent. The snapshot is whole, on the disk, and as its manifest says: it is read
    /// again, because what came in an earlier attempt may lie there for long, and nobody reads all
    /// of a state before it is served. Blocks on the disk.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] names the file; all is sent again then.
    pub fn finish(mut self) -> Result<SnapshotDir> {
        while self.file < self.manifest.files.len() {
            self.complete_file()?;
        }
        if let Err(error) = self.manifest.verify(&self.path) {
            // Then nothing is left to the next attempt.
            self.file = 0;
            return Err(error);
        }
        self.manifest.write(&self.path)?;
        sync_dir(&self.path)?;
        self.finished = true;
        if let Some(left) = self.left_to.take() {
            // Of an attempt that ended while this one was under way.
            remove(&left.path);
        }
        let dir = SnapshotDir::of(&self.path, std::mem::take(&mut self.manifest), true);
        // Until it is installed it is nobody's current snapshot.
        dir.retire();
        Ok(dir)
    }

    /// The file that is being written; created if need be.
    fn open_file(&mut self) -> Result<&mut OpenFile> {
        if self.open.is_none() {
            let path = self.path.join(&self.manifest.files[self.file].name);
            let file = File::create_new(&path)
                .map_err(|error| SnapshotError::io("creation", &path, error))?;
            self.open = Some(OpenFile {
                file,
                path,
                written: 0,
                synced: 0,
                hasher: Default::default(),
            });
        }
        self.open
            .as_mut()
            .ok_or_else(|| SnapshotError::Damaged("no file is open".into()))
    }

    /// Checks and syncs the file that is being written, and goes on to the next.
    fn complete_file(&mut self) -> Result<()> {
        if self.file >= self.manifest.files.len() {
            return Err(SnapshotError::Damaged(format!(
                "there is no file {}",
                self.file
            )));
        }
        self.open_file()?;
        let Some(OpenFile {
            file,
            path,
            written,
            hasher,
            ..
        }) = self.open.take()
        else {
            return Ok(());
        };
        let record = &self.manifest.files[self.file];
        if written != record.size || hasher.finalize() != record.crc32 {
            let what = format!(
                "{} arrived with {written} of {} bytes, or with other bytes",
                path.display(),
                record.size
            );
            return Err(SnapshotError::Damaged(what));
        }
        file.sync_all()
            .map_err(|error| SnapshotError::io("sync", &path, error))?;
        self.file += 1;
        Ok(())
    }
}

impl Drop for SnapshotReceiver {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let path = std::mem::take(&mut self.path);
        let begun = self.manifest.files.get(self.file);
        let removed = begun.is_none_or(|file| match fs::remove_file(path.join(&file.name)) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        });
        if self.file == 0 || !removed {
            return remove(&path);
        }
        self.left_to.leave(Partial {
            path,
            manifest: std::mem::take(&mut self.manifest),
            files: self.file,
        });
    }
}

/// Removes a directory that is not finished. What stays behind is removed at the next start.
fn remove(path: &Path) {
    if let Err(error) = remove_dir(path) {
        tracing::warn!(%error, "an unfinished snapshot could not be removed");
    }
}
