//! The node's snapshots: the current one, and those on the way.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use storage::Engine;
use types::planted::{self, CrashPoint};

use super::manifest::Manifest;
use super::receiver::PartialSlot;
use super::{Result, SnapshotDir, SnapshotError, make_dir, remove_dir, sync_dir};
use crate::state_machine::{AppliedState, OpenEngine};
use crate::type_config::{Snapshot, SnapshotMeta};

/// Prefix of directories that are not finished, or not wanted any more.
const UNFINISHED: &str = "new-";

/// The directory of snapshots.
#[derive(Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
    next_number: AtomicU64,
    current: Mutex<Option<SnapshotDir>>,
    /// What came of a snapshot whose transfer was broken off.
    partial: PartialSlot,
    /// Held while a snapshot is made of the state, or the state of a snapshot.
    exclusive: Mutex<()>,
}

impl SnapshotStore {
    /// Opens the directory, or makes it. The newest finished snapshot is the current one; all else
    /// is removed.
    pub fn open(dir: &Path) -> Result<SnapshotStore> {
        let failed = |operation, error| SnapshotError::io(operation, dir, error);
        make_dir(dir)?;
        let (mut finished, mut others) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(dir).map_err(|error| failed("listing", error))? {
            let entry = entry.map_err(|error| failed("listing", error))?;
            let name = entry.file_name();
            match name.to_str().and_then(|name| name.parse::<u64>().ok()) {
                Some(number) => finished.push(number),
                None if name.to_string_lossy().starts_with(UNFINISHED) => others.push(entry.path()),
                None => tracing::warn!(path = %entry.path().display(), "left alone: no snapshot"),
            }
        }
        finished.sort_unstable();
        let newest = finished.pop();
        others.extend(finished.iter().map(|number| finished_dir(dir, *number)));
        for unwanted in others {
            remove_dir(&unwanted)?;
        }
        let current = newest
            .map(|number| SnapshotDir::open(&finished_dir(dir, number)))
            .transpose()?;
        Ok(SnapshotStore {
            dir: dir.to_owned(),
            next_number: AtomicU64::new(newest.map_or(1, |number| number + 1)),
            current: Mutex::new(current),
            partial: PartialSlot::default(),
            exclusive: Mutex::new(()),
        })
    }

    /// The current snapshot.
    pub fn current(&self) -> Option<SnapshotDir> {
        self.lock_current().clone()
    }

    /// Makes a snapshot of what `engine` holds now, on the disk when this returns, as is the engine
    /// up to it. Its place in the log is read from the finished copy, so it is the copy's own
    /// whatever was applied meanwhile. Blocks on the disk.
    pub fn build(&self, engine: &dyn Engine, open: &OpenEngine) -> Result<Snapshot> {
        let _exclusive = self.exclusive();
        self.build_exclusively(engine, open)
    }

    /// [`SnapshotStore::build`], by who holds [`SnapshotStore::exclusive`].
    pub(crate) fn build_exclusively(
        &self,
        engine: &dyn Engine,
        open: &OpenEngine,
    ) -> Result<Snapshot> {
        let path = self.new_dir();
        engine.checkpoint(&path)?;
        let applied = AppliedState::load(open(&path)?.snapshot().as_ref())?;
        let meta = SnapshotMeta {
            last_log_id: applied.last,
            last_membership: applied.membership,
        };

        let previous = self.current();
        let previous = previous
            .as_ref()
            .map(|snapshot| (snapshot.path(), snapshot.manifest()));
        let manifest = Manifest::describe(&path, &meta, previous)?;
        planted::crash_at(CrashPoint::MidBuild);
        manifest.write(&path)?;
        sync_dir(&path)?;
        let snapshot = self.publish(&path, manifest)?;
        Ok(Snapshot { meta, snapshot })
    }

    /// Gives a whole, synced directory its final name and makes it the current snapshot.
    fn publish(&self, path: &Path, manifest: Manifest) -> Result<SnapshotDir> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let named = finished_dir(&self.dir, number);
        fs::rename(path, &named).map_err(|error| SnapshotError::io("renaming", path, error))?;
        sync_dir(&self.dir)?;
        let snapshot = SnapshotDir::of(&named, manifest, true);
        let old = self.lock_current().replace(snapshot.clone());
        if let Some(old) = old {
            old.retire();
        }
        Ok(snapshot)
    }

    /// Makes `snapshot`, which was received here, the current one, for good when this returns. Its
    /// files stay those that were received. By who holds [`SnapshotStore::exclusive`].
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] if it is neither one that was received nor the current one.
    pub(crate) fn adopt(&self, snapshot: &SnapshotDir) -> Result<()> {
        let path = snapshot.path();
        if self.current().is_some_and(|current| current.path() == path) {
            return Ok(());
        }
        if path.parent() != Some(self.dir.as_path()) || !snapshot.is_spare() {
            let what = format!("{} was not received by this node", path.display());
            return Err(SnapshotError::Damaged(what));
        }
        self.publish(path, snapshot.manifest().clone()).map(drop)
    }

    /// How many of the manifest's first files are here, from a transfer that was broken off.
    pub fn files_there(&self, manifest: &Manifest) -> usize {
        self.partial.files_of(manifest)
    }

    /// Where receivers leave what came, and take it up again.
    pub(super) fn partial(&self) -> &PartialSlot {
        &self.partial
    }

    /// Waits until no snapshot is made of the state, and keeps it so.
    pub(crate) fn exclusive(&self) -> MutexGuard<'_, ()> {
        self.exclusive
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A name for a directory to be filled.
    pub(super) fn new_dir(&self) -> PathBuf {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{UNFINISHED}{number}"))
    }

    fn lock_current(&self) -> MutexGuard<'_, Option<SnapshotDir>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Twenty digits, so that an operator's listing is in order.
fn finished_dir(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}"))
}
