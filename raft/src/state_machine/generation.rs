//! The directories of the state database. Installing a snapshot makes a new one; the pointer file
//! says which is the state.
//!
//! ```text
//! <data>/state/CURRENT   the number of the directory that is the state, as text; for one that was
//!                        made of a snapshot, followed by the snapshot's last entry: term, node
//!                        and index
//! <data>/state/<number>  a state database
//! ```
//! The pointer is replaced by a rename. A directory it does not name is one that was being made or
//! was replaced, and is removed at the start.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use storage::keys::meta;
use storage::{Engine, KeyRange, Read, Scan, Snapshot};

use crate::snapshot::{Result, SnapshotDir, SnapshotError, make_dir, remove_dir, sync_dir};
use crate::state_machine::OpenEngine;
use crate::type_config::{LeaderId, LogId};

const POINTER: &str = "CURRENT";
/// Files whose names end like this are written once and never changed.
const TABLE_SUFFIX: &str = ".sst";
/// Number of the state a node begins with.
const FIRST: u64 = 1;

/// A state database that is open. Its directory is removed, once it has been replaced, when neither
/// the engine nor any of its snapshots is held any more.
pub(super) struct Generation {
    pub number: u64,
    pub engine: Arc<dyn Engine>,
    /// The last entry of the snapshot it was made of, if it was.
    pub installed: Option<LogId>,
    directory: Directory,
}

/// Removes a directory when dropped, if told so. Dropped after the engine in it.
struct Directory {
    path: PathBuf,
    replaced: AtomicBool,
}

impl Generation {
    /// Opens the state, or makes an empty one.
    pub(super) fn open_current(dir: &Path, open: &OpenEngine) -> Result<Generation> {
        make_dir(dir)?;
        match read_pointer(dir)? {
            Some(Pointer { number, installed }) => {
                let path = directory(dir, number);
                if !path.is_dir() {
                    let what = format!("the state {} is gone", path.display());
                    return Err(SnapshotError::Damaged(what));
                }
                for other in numbered(dir)?.into_iter().filter(|other| *other != number) {
                    remove_dir(&directory(dir, other))?;
                }
                Generation::open(dir, number, installed, open)
            }
            None => Generation::create_first(dir, open),
        }
    }

    /// Makes the first state, also where a start that made it did not come to the pointer.
    fn create_first(dir: &Path, open: &OpenEngine) -> Result<Generation> {
        let others = numbered(dir)?.into_iter().any(|number| number != FIRST);
        let generation = Generation::open(dir, FIRST, None, open)?;
        let empty = generation.engine.get(&meta::applied())?.is_none();
        if others || !empty {
            let what = format!("{} has a state and no {POINTER}", dir.display());
            return Err(SnapshotError::Damaged(what));
        }
        generation.engine.flush()?;
        generation.point_to(dir)?;
        Ok(generation)
    }

    fn open(
        dir: &Path,
        number: u64,
        installed: Option<LogId>,
        open: &OpenEngine,
    ) -> Result<Generation> {
        let path = directory(dir, number);
        let engine = open(&path)?;
        let directory = Directory {
            path,
            replaced: AtomicBool::new(false),
        };
        Ok(Generation {
            number,
            engine,
            installed,
            directory,
        })
    }

    /// Makes a state of a snapshot, beside the current one. The tables, which never change, are
    /// shared; what the engine goes on writing to is copied.
    pub(super) fn from_snapshot(
        dir: &Path,
        number: u64,
        snapshot: &SnapshotDir,
        open: &OpenEngine,
    ) -> Result<Generation> {
        let path = directory(dir, number);
        remove_dir(&path)?;
        fs::create_dir(&path).map_err(|error| SnapshotError::io("creation", &path, error))?;
        for file in &snapshot.manifest().files {
            let (from, to) = (snapshot.path().join(&file.name), path.join(&file.name));
            let (operation, made) = match file.name.ends_with(TABLE_SUFFIX) {
                true => ("linking", fs::hard_link(&from, &to)),
                false => ("copy", copy_synced(&from, &to)),
            };
            made.map_err(|error| SnapshotError::io(operation, &to, error))?;
        }
        sync_dir(&path)?;
        sync_dir(dir)?;
        let installed = snapshot.meta()?.last_log_id;
        Generation::open(dir, number, installed, open)
    }

    /// Makes this the state, for good when this returns.
    pub(super) fn point_to(&self, dir: &Path) -> Result<()> {
        let (new, path) = (dir.join("CURRENT.new"), dir.join(POINTER));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(self.pointer().to_string().as_bytes())?;
            file.sync_all()
        });
        written
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|error| SnapshotError::io("write", &path, error))?;
        sync_dir(dir)
    }

    fn pointer(&self) -> Pointer {
        Pointer {
            number: self.number,
            installed: self.installed,
        }
    }

    /// Another one is the state now.
    pub(super) fn replaced(&self) {
        self.directory.replaced.store(true, Ordering::Release);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.replaced.load(Ordering::Acquire) {
            return;
        }
        // What stays behind is removed at the next start.
        if let Err(error) = remove_dir(&self.path) {
            tracing::warn!(%error, "a replaced state could not be removed");
        }
    }
}

/// A snapshot that keeps its generation's directory in place.
pub(super) struct PinnedSnapshot {
    pub snapshot: Arc<dyn Snapshot>,
    pub _generation: Arc<Generation>,
}

impl Read for PinnedSnapshot {
    fn get(&self, key: &[u8]) -> storage::Result<Option<Vec<u8>>> {
        self.snapshot.get(key)
    }

    fn scan<'a>(&'a self, range: &KeyRange, direction: storage::Direction) -> Scan<'a> {
        self.snapshot.scan(range, direction)
    }
}

fn directory(dir: &Path, number: u64) -> PathBuf {
    dir.join(number.to_string())
}

/// The numbers of the directories there are.
fn numbered(dir: &Path) -> Result<Vec<u64>> {
    let failed = |error| SnapshotError::io("listing", dir, error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(numbers)
}

/// What the pointer file says.
struct Pointer {
    number: u64,
    installed: Option<LogId>,
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)?;
        if let Some(LogId { leader_id, index }) = &self.installed {
            write!(f, " {} {} {index}", leader_id.term, leader_id.node_id)?;
        }
        writeln!(f)
    }
}

impl Pointer {
    fn parse(text: &str) -> Option<Pointer> {
        let numbers: Vec<u64> = text
            .strip_suffix('\n')?
            .split(' ')
            .map(|number| number.parse().ok())
            .collect::<Option<_>>()?;
        match numbers[..] {
            [number] => Some(Pointer {
                number,
                installed: None,
            }),
            [number, term, node_id, index] => Some(Pointer {
                number,
                installed: Some(LogId::new(LeaderId { term, node_id }, index)),
            }),
            _ => None,
        }
    }
}

fn read_pointer(dir: &Path) -> Result<Option<Pointer>> {
    let path = dir.join(POINTER);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SnapshotError::io("read", &path, error)),
    };
    let damaged = || SnapshotError::Damaged(format!("{} holds {text:?}", path.display()));
    Pointer::parse(&text).map(Some).ok_or_else(damaged)
}

fn copy_synced(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}
