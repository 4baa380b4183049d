//! A snapshot that arrives from another node.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use super::manifest::Manifest;
use super::{Result, SnapshotDir, SnapshotError, SnapshotStore, remove_dir, sync_dir};

/// Writes a snapshot's files as they arrive: all files in the manifest's order, each from its start
/// to its end. Dropping it unfinished removes what was written.
#[derive(Debug)]
pub struct SnapshotReceiver {
    path: PathBuf,
    manifest: Manifest,
    /// Place in the manifest of the file that is being written, or comes next.
    file: usize,
    open: Option<OpenFile>,
    finished: bool,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    path: PathBuf,
    written: u64,
    hasher: crc32fast::Hasher,
}

impl SnapshotReceiver {
    /// Begins to receive the snapshot that `manifest` describes. Blocks on the disk.
    pub fn new(snapshots: &SnapshotStore, manifest: Manifest) -> Result<SnapshotReceiver> {
        let path = snapshots.new_dir();
        fs::create_dir(&path).map_err(|error| SnapshotError::io("creation", &path, error))?;
        let (file, open, finished) = (0, None, false);
        Ok(SnapshotReceiver {
            path,
            manifest,
            file,
            open,
            finished,
        })
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
        Ok(())
    }

    /// All was sent. The snapshot is whole, on the disk, and as its manifest says. Blocks on the
    /// disk.
    pub fn finish(mut self) -> Result<SnapshotDir> {
        while self.file < self.manifest.files.len() {
            self.complete_file()?;
        }
        self.manifest.write(&self.path)?;
        sync_dir(&self.path)?;
        self.finished = true;
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
        if !self.finished
            && let Err(error) = remove_dir(&self.path)
        {
            tracing::warn!(%error, "an unfinished snapshot could not be removed");
        }
    }
}
