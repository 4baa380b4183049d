//! A finished snapshot, to be read.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::manifest::{FileRecord, Manifest};
use super::{Result, SnapshotError, remove_dir};
use crate::type_config::SnapshotMeta;

/// A directory with a snapshot. Cheap to clone; a directory that is not the current snapshot any
/// more stays until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct SnapshotDir {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    manifest: Manifest,
    /// Every byte was compared with the manifest by this process.
    verified: bool,
    /// Remove the directory when nobody holds it any more.
    retired: AtomicBool,
}

impl SnapshotDir {
    /// Opens a snapshot's directory. Its files are not read yet; see [`SnapshotDir::verify`].
    pub fn open(path: &Path) -> Result<SnapshotDir> {
        Ok(SnapshotDir::of(path, Manifest::read(path)?, false))
    }

    pub(super) fn of(path: &Path, manifest: Manifest, verified: bool) -> SnapshotDir {
        let retired = AtomicBool::new(false);
        SnapshotDir {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                manifest,
                verified,
                retired,
            }),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What is in it.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// Up to which entry it goes, and the membership there.
    pub fn meta(&self) -> Result<SnapshotMeta> {
        self.inner.manifest.meta()
    }

    /// Reads `len` bytes of a file from `offset` on, fewer at its end and none after it. `file` is
    /// its place in [`Manifest::files`]. Blocks on the disk.
    pub fn read_chunk(&self, file: usize, offset: u64, len: usize) -> Result<Bytes> {
        let record = self.record(file)?;
        let left = record.size.saturating_sub(offset);
        let mut chunk = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(len)];
        let path = self.inner.path.join(&record.name);
        File::open(&path)
            .and_then(|file| file.read_exact_at(&mut chunk, offset))
            .map_err(|error| SnapshotError::io("read", &path, error))?;
        Ok(chunk.into())
    }

    fn record(&self, file: usize) -> Result<&FileRecord> {
        let files = &self.inner.manifest.files;
        let missing = || SnapshotError::Damaged(format!("no file {file} of {}", files.len()));
        files.get(file).ok_or_else(missing)
    }

    /// Compares every byte with the manifest, unless this process did so as it wrote them. Blocks
    /// on the disk.
    pub fn verify(&self) -> Result<()> {
        if self.inner.verified {
            return Ok(());
        }
        self.inner.manifest.verify(&self.inner.path)
    }

    /// Compares every byte with the manifest, whatever this process knows: a file may have changed
    /// since. Blocks on the disk.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] names the file.
    pub fn verify_again(&self) -> Result<()> {
        self.inner.manifest.verify(&self.inner.path)
    }

    /// Is the directory about to be removed, so that it may be taken?
    pub(crate) fn is_spare(&self) -> bool {
        self.inner.retired.load(Ordering::Acquire)
    }

    /// Removes the directory as soon as nobody holds it.
    pub(crate) fn retire(&self) {
        self.inner.retired.store(true, Ordering::Release);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.retired.load(Ordering::Acquire) {
            return;
        }
        // What stays behind is removed at the next start.
        if let Err(error) = remove_dir(&self.path) {
            tracing::warn!(%error, "an old snapshot could not be removed");
        }
    }
}
