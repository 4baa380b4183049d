//! The state as the rest of the node sees it: always a whole entry's, never half of one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::{fs, io};

use storage::{Op, Snapshot};
use tokio::sync::watch;
use types::ids::LogIndex;
use types::planted::{self, CrashPoint};

use super::applied::AppliedState;
use super::digests::Digests;
use super::generation::{Generation, PinnedSnapshot};
use super::recent::RecentRequests;
use crate::log_store::LogHandle;
use crate::snapshot::{Result, SnapshotDir, SnapshotError, SnapshotStore};
use crate::type_config::{LogId, SnapshotMeta};

/// Opens the state's engine in a directory, or makes it.
pub type OpenEngine = Arc<dyn Fn(&Path) -> storage::Result<Arc<dyn storage::Engine>> + Send + Sync>;

/// The state database behind one small lock. One thread writes; any number read.
pub struct StateStore {
    dir: PathBuf,
    open: OpenEngine,
    current: RwLock<Current>,
    applied_index: watch::Sender<LogIndex>,
    snapshots: SnapshotStore,
    recent: RecentRequests,
    digests: Digests,
    #[cfg(test)]
    pub(crate) corruption: std::sync::atomic::AtomicU64,
}

struct Current {
    generation: Arc<Generation>,
    applied: Arc<AppliedState>,
    /// The state at exactly `applied`.
    snapshot: Arc<dyn Snapshot>,
}

impl StateStore {
    /// Opens state and snapshots in `data_dir`, or makes them. After a crash the state is as of its
    /// last flush.
    ///
    /// # Errors
    /// [`storage::Error::Corrupt`] also if this state was found to differ from the majority's.
    pub fn open(data_dir: &Path, open: OpenEngine) -> Result<StateStore> {
        let dir = data_dir.join("state");
        if let Ok(what) = fs::read_to_string(verdict_file(&dir)) {
            return Err(storage::Error::Corrupt { what }.into());
        }
        let current = Current::of(Generation::open_current(&dir, &open)?)?;
        let (applied_index, _) = watch::channel(current.applied.index());
        let recent = RecentRequests::new(current.applied.index());
        let snapshots = SnapshotStore::open(&data_dir.join("snapshots"))?;
        Ok(StateStore {
            dir,
            open,
            current: RwLock::new(current),
            applied_index,
            snapshots,
            recent,
            digests: Digests::default(),
            #[cfg(test)]
            corruption: Default::default(),
        })
    }

    /// Checks that this state and `log` belong together: nothing is missing between them, and the
    /// state is not ahead of its log.
    ///
    /// # Errors
    /// [`storage::Error::Corrupt`] if the log was purged beyond what the state, or the snapshot it
    /// can be made of, holds; or if the log ends before the state does, and so has lost its end.
    pub fn check_reaches(&self, log: &LogHandle) -> Result<()> {
        let applied = self.applied().last;
        if let Some(applied) = applied {
            self.check_log_end(applied, log)?;
        }
        let Some(purged) = log.purged() else {
            return Ok(());
        };
        let snapshot = self
            .snapshots
            .current()
            .map(|snapshot| snapshot.meta())
            .transpose()?;
        let reached = applied.max(snapshot.and_then(|meta| meta.last_log_id));
        if reached.is_some_and(|reached| reached.index >= purged.index) {
            return Ok(());
        }
        let ends = reached.map_or("is empty".into(), |id| {
            format!("ends at entry {}", id.index)
        });
        let what = format!(
            "the log begins after entry {} but the state {ends}: the state was lost",
            purged.index
        );
        Err(storage::Error::Corrupt { what }.into())
    }

    /// Entries are applied when they are durable in this node's log, so a state is never ahead of
    /// it. One exception: a state made of a snapshot, after a crash before the log was purged up
    /// to it. Nothing can have been applied to it then.
    fn check_log_end(&self, applied: LogId, log: &LogHandle) -> Result<()> {
        let installed = self.read(|current| current.generation.installed);
        let ends = match (log.vote(), log.last()) {
            // Nothing is ever applied, nor a snapshot accepted, before a vote is on the disk.
            (None, _) => "is gone, with the votes this node gave".into(),
            (_, Some(last)) if last.index >= applied.index => return Ok(()),
            _ if installed == Some(applied) => return Ok(()),
            (_, Some(last)) => format!("ends at entry {}", last.index),
            (_, None) => "has no entries".into(),
        };
        let what = format!(
            "the state holds entry {} but the log {ends}: the log lost its end. This node must \
             not vote again",
            applied.index
        );
        Err(storage::Error::Corrupt { what }.into())
    }

    /// The last entry applied, and the state as of exactly that entry. A snapshot held keeps its
    /// state also when another one is installed.
    pub fn snapshot(&self) -> (LogIndex, Arc<dyn Snapshot>) {
        self.read(|current| (current.applied.index(), Arc::clone(&current.snapshot)))
    }

    /// Where the state stands in the log.
    pub fn applied(&self) -> Arc<AppliedState> {
        self.read(|current| Arc::clone(&current.applied))
    }

    /// Index of the last entry applied, whenever it changes; by then [`StateStore::snapshot`]
    /// shows it.
    pub fn applied_index(&self) -> watch::Receiver<LogIndex> {
        self.applied_index.subscribe()
    }

    /// The requests applied lately.
    pub fn recent(&self) -> &RecentRequests {
        &self.recent
    }

    /// The digests of the state at the last marked entries.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// The digest at `index`, if that is the last entry applied or a mark that is remembered.
    pub fn digest_at(&self, index: LogIndex) -> Option<u64> {
        let applied = self.applied();
        let last = (applied.index() == index).then_some(applied.digest);
        last.or_else(|| self.digests.at(index))
    }

    /// This state must not be served again, for this reason: it is refused at every later start.
    pub(super) fn condemn(&self, why: &str) -> io::Result<()> {
        let mut file = fs::File::create(verdict_file(&self.dir))?;
        file.write_all(why.as_bytes())?;
        file.sync_all()
    }

    /// The node's snapshots.
    pub fn snapshots(&self) -> &SnapshotStore {
        &self.snapshots
    }

    /// What the engine says of itself.
    pub(crate) fn usage(&self) -> storage::Result<storage::Usage> {
        let generation = self.read(|current| Arc::clone(&current.generation));
        generation.engine.usage()
    }

    /// The directory that holds this one's, the log's and the snapshots'.
    pub(crate) fn data_dir(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    /// Puts all that was applied on the disk. Blocks on it.
    pub fn flush(&self) -> storage::Result<()> {
        let generation = self.read(|current| Arc::clone(&current.generation));
        generation.engine.flush()
    }

    /// Makes a snapshot of the state as it is now. Blocks on the disk.
    pub fn build_snapshot(&self) -> Result<crate::type_config::Snapshot> {
        let _exclusive = self.snapshots.exclusive();
        let generation = self.read(|current| Arc::clone(&current.generation));
        self.snapshots
            .build_exclusively(generation.engine.as_ref(), &self.open)
    }

    /// Writes a run's effects and `applied`, its end, in one step, and shows them to readers.
    pub(super) fn commit(&self, ops: &[Op], applied: AppliedState) -> storage::Result<()> {
        let generation = self.read(|current| Arc::clone(&current.generation));
        #[cfg(not(feature = "planted"))]
        generation.engine.write(ops, storage::Durability::Flushed)?;
        #[cfg(feature = "planted")]
        crate::planted::write(generation.engine.as_ref(), ops)?;
        self.show(Current::at(generation, applied));
        Ok(())
    }

    /// Replaces the state by a snapshot's. When this returns, that is the state after a crash too,
    /// and the snapshot is the current one. Nothing of its size is read or written: its tables are
    /// shared, and its bytes were compared with its manifest as they came.
    ///
    /// After a crash before the end the state is the old one or the new one. The snapshot is made
    /// the current one first: consensus installs a snapshot that is ahead of the state at the
    /// start, while one that is behind the log's start could bring nobody forward.
    pub(super) fn install(&self, meta: &SnapshotMeta, snapshot: &SnapshotDir) -> Result<()> {
        let _exclusive = self.snapshots.exclusive();
        snapshot.verify()?;
        let old = self.read(|current| Arc::clone(&current.generation));
        let generation =
            Generation::from_snapshot(&self.dir, old.number + 1, snapshot, &self.open)?;
        #[cfg(feature = "planted")]
        crate::planted::leave_out(generation.engine.as_ref())?;
        let current = Current::of(generation)?;
        if current.applied.last != meta.last_log_id
            || current.applied.membership != meta.last_membership
        {
            let what = format!("it holds entry {:?}, not {meta}", current.applied.last);
            return Err(SnapshotError::Damaged(what));
        }
        self.snapshots.adopt(snapshot)?;
        planted::crash_at(CrashPoint::MidInstall);
        current.generation.point_to(&self.dir)?;
        planted::crash_at(CrashPoint::AfterInstall);
        self.show(current);
        old.replaced();
        Ok(())
    }

    fn show(&self, current: Current) {
        let index = current.applied.index();
        let old = {
            let mut shown = self.current.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *shown, current)
        };
        self.applied_index.send_replace(index);
        // Outside of the lock: closing an engine takes time.
        drop(old);
    }

    fn read<T>(&self, look: impl FnOnce(&Current) -> T) -> T {
        // Replaced in one step, so a panic elsewhere leaves it whole.
        look(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where it is written that the state beside it is wrong.
fn verdict_file(state: &Path) -> PathBuf {
    state.with_file_name("diverged")
}

impl Current {
    /// What an engine that was just opened holds.
    fn of(generation: Generation) -> storage::Result<Current> {
        let applied = AppliedState::load(generation.engine.snapshot().as_ref())?;
        Ok(Current::at(Arc::new(generation), applied))
    }

    /// What an engine holds now, `applied` being its end.
    fn at(generation: Arc<Generation>, applied: AppliedState) -> Current {
        let snapshot = Arc::new(PinnedSnapshot {
            snapshot: generation.engine.snapshot(),
            _generation: Arc::clone(&generation),
        });
        Current {
            generation,
            applied: Arc::new(applied),
            snapshot,
        }
    }
}
