//! The engine on disk: RocksDB, opened as the log's database or as the state's.
//!
//! The two differ in what a crash may take. The log's writes are synced in its WAL: RocksDB must
//! find every one again or refuse to open. The state has no WAL at all: a crash takes it back to
//! its last flush, atomic over all column families, and the log brings it forward again.

mod format;
mod options;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    ColumnFamily, DB, DEFAULT_COLUMN_FAMILY_NAME, FlushOptions, WriteBatch, WriteOptions,
    properties,
};

use crate::engine::{Durability, Engine, KeyRange, Op, Snapshot, Usage};
use crate::error::{Error, Result};
use crate::files::{sync_dir, sync_parent};
use crate::keys::{Family, Kind};

/// Which of the two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The log: one column family, a WAL.
    Log,
    /// The state: the families of [`Family`], no WAL.
    State,
}

/// An engine on a directory. The directory is its own until it and all its snapshots are dropped.
pub struct RocksEngine {
    database: Arc<Database>,
    /// An earlier write or flush failed.
    failed: AtomicBool,
}

/// The open database with what is needed to find a key in it.
struct Database {
    db: DB,
    role: Role,
    dir: PathBuf,
}

impl RocksEngine {
    /// Opens the log's database in `dir`, or makes it. Keys are the caller's own.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the log is not what was written, save for a torn last record, which
    /// was never acknowledged; [`Error::Foreign`] if the directory is another version's or in use.
    pub fn open_log(dir: &Path) -> Result<RocksEngine> {
        RocksEngine::open(dir, Role::Log)
    }

    /// Opens the state's database in `dir`, or makes it. Keys are those of [`crate::keys`].
    /// [`Durability::Synced`] writes are refused: there is no WAL to sync.
    ///
    /// # Errors
    /// As [`RocksEngine::open_log`].
    pub fn open_state(dir: &Path) -> Result<RocksEngine> {
        RocksEngine::open(dir, Role::State)
    }

    fn open(dir: &Path, role: Role) -> Result<RocksEngine> {
        format::prepare(dir, role)?;
        let db = DB::open_cf_descriptors(&options::database(role), dir, options::families(role))
            .map_err(|e| open_error(dir, &e))?;
        let database = Arc::new(Database {
            db,
            role,
            dir: dir.to_owned(),
        });
        Ok(RocksEngine {
            database,
            failed: AtomicBool::new(false),
        })
    }

    /// Runs what changes the disk; after its first error nothing is run any more. RocksDB may
    /// recover by itself, but what it kept and what it lost is not known here.
    fn unless_failed<T>(&self, run: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        if self.failed.load(Ordering::Acquire) {
            let message = format!("{}: an earlier write failed", self.database.dir.display());
            return Err(Error::Io {
                operation: "write",
                message,
            });
        }
        run(&self.database).inspect_err(|_| self.failed.store(true, Ordering::Release))
    }
}

impl Engine for RocksEngine {
    fn write(&self, ops: &[Op], durability: Durability) -> Result<()> {
        self.unless_failed(|database| database.write(ops, durability))
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(snapshot::OwnedSnapshot::of(&self.database))
    }

    fn flush(&self) -> Result<()> {
        self.unless_failed(Database::flush)
    }

    fn checkpoint(&self, dir: &Path) -> Result<()> {
        self.unless_failed(|database| database.checkpoint(dir))
    }

    fn usage(&self) -> Result<Usage> {
        self.database.usage()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let database = &self.database;
        let family = database.family_of(key)?;
        database
            .db
            .get_cf(family, key)
            .map_err(|e| database_error("read", &e))
    }
}

impl Database {
    fn write(&self, ops: &[Op], durability: Durability) -> Result<()> {
        let mut options = WriteOptions::default();
        match (self.role, durability) {
            (Role::Log, Durability::Synced) => options.set_sync(true),
            (Role::Log, Durability::Flushed) => {}
            (Role::State, Durability::Flushed) => options.disable_wal(true),
            (Role::State, Durability::Synced) => {
                let message = "the state database has no WAL to sync; flush it".to_owned();
                return Err(Error::Io {
                    operation: "write",
                    message,
                });
            }
        }
        let mut batch = WriteBatch::default();
        for op in ops {
            match op {
                Op::Put { key, value } => batch.put_cf(self.family_of(key)?, key, value),
                Op::Delete { key } => batch.delete_cf(self.family_of(key)?, key),
                Op::DeleteRange { range } if range.is_empty() => {}
                Op::DeleteRange { range } => {
                    let end = range.end.as_ref().ok_or_else(Error::range_without_end)?;
                    batch.delete_range_cf(self.family_of_range(range)?, &range.start, end);
                }
            }
        }
        self.db
            .write_opt(batch, &options)
            .map_err(|e| database_error("write", &e))
    }

    fn flush(&self) -> Result<()> {
        match self.role {
            Role::Log => self
                .db
                .flush_wal(true)
                .map_err(|e| database_error("sync", &e)),
            Role::State => self.flush_memtables(),
        }
    }

    fn flush_memtables(&self) -> Result<()> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let names = options::family_names(self.role);
        let families: Vec<_> = names
            .iter()
            .map(|name| self.family(name))
            .collect::<Result<_>>()?;
        self.db
            .flush_cfs_opt(&families, &options)
            .map_err(|e| database_error("flush", &e))
    }

    fn checkpoint(&self, dir: &Path) -> Result<()> {
        // RocksDB flushes too, so that writes made meanwhile are in the copy whole or not at all.
        self.flush_memtables()?;
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(dir))
            .map_err(|e| database_error("checkpoint", &e))?;
        // Last, so that a copy without it is known to be unfinished.
        format::write(dir, self.role)?;
        sync_dir(dir)?;
        sync_parent(dir)
    }

    fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for name in options::family_names(self.role) {
            let family = self.family(name)?;
            let property = |name| -> Result<u64> {
                let value = self.db.property_int_value_cf(family, name);
                Ok(value.map_err(|e| database_error("ask", &e))?.unwrap_or(0))
            };
            usage.memtable_bytes += property(properties::CUR_SIZE_ALL_MEM_TABLES)?;
            usage.table_bytes += property(properties::TOTAL_SST_FILES_SIZE)?;
            usage.compaction_pending_bytes +=
                property(properties::ESTIMATE_PENDING_COMPACTION_BYTES)?;
            usage.writes_stopped |= property(properties::IS_WRITE_STOPPED)? > 0;
            // The families share one cache, so each of them says the whole of it.
            usage.cache_bytes = property(properties::BLOCK_CACHE_USAGE)?;
        }
        Ok(usage)
    }

    /// The column family a key lives in.
    fn family_of(&self, key: &[u8]) -> Result<&ColumnFamily> {
        match self.role {
            Role::Log => self.family(DEFAULT_COLUMN_FAMILY_NAME),
            Role::State => self.family(state_family(key)?.name()),
        }
    }

    /// The column family a range lives in.
    fn family_of_range(&self, range: &KeyRange) -> Result<&ColumnFamily> {
        if self.role == Role::State {
            let kind = Kind::of(&range.start).ok_or_else(|| unknown_key(&range.start))?;
            let whole = KeyRange::prefix(&kind.prefix());
            let within = match (&range.end, &whole.end) {
                (Some(end), Some(last)) => end <= last,
                (None, Some(_)) => false,
                (_, None) => true,
            };
            if !within {
                let what = format!("a range leaves the key kind {kind:?} it starts in");
                return Err(Error::Io {
                    operation: "find",
                    message: what,
                });
            }
        }
        self.family_of(&range.start)
    }

    fn family(&self, name: &str) -> Result<&ColumnFamily> {
        self.db.cf_handle(name).ok_or_else(|| Error::Corrupt {
            what: format!("{} has no column family {name}", self.dir.display()),
        })
    }
}

fn state_family(key: &[u8]) -> Result<Family> {
    Ok(Kind::of(key).ok_or_else(|| unknown_key(key))?.family())
}

fn unknown_key(key: &[u8]) -> Error {
    let start = &key[..key.len().min(16)];
    Error::Corrupt {
        what: format!("no state key starts with the bytes {start:02x?}"),
    }
}

/// RocksDB puts the file, where there is one, into its message.
fn database_error(operation: &'static str, error: &rocksdb::Error) -> Error {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => Error::Corrupt {
            what: error.to_string(),
        },
        _ => Error::Io {
            operation,
            message: error.to_string(),
        },
    }
}

fn open_error(dir: &Path, error: &rocksdb::Error) -> Error {
    let text: &str = error.as_ref();
    // RocksDB has no kind of its own for this; the wording is that of its LockFile.
    if text.contains("While lock file") || text.contains("lock hold by current process") {
        let what = format!("{} is in use by another process", dir.display());
        return Error::Foreign { what };
    }
    match error.kind() {
        rocksdb::ErrorKind::Corruption => {
            // RocksDB names the file, but for a damaged WAL.
            let names_it = ["/", "CURRENT", ".log"].iter().any(|it| text.contains(it));
            let place = if names_it { "" } else { "/*.log" };
            Error::Corrupt {
                what: format!("{}{place}: {text}", dir.display()),
            }
        }
        _ => Error::Io {
            operation: "open",
            message: format!("{}: {text}", dir.display()),
        },
    }
}
