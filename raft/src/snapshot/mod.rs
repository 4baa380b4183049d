//! Snapshots: directories with a copy of the state, and a record of what is in them.
//!
//! Files: [`manifest`] is that record; [`dir`] reads a finished snapshot; [`receiver`] writes one
//! that arrives from another node; [`store`] keeps the current one, builds the next and removes the
//! old.
//!
//! ```text
//! <data>/snapshots/<number>/          a finished snapshot; the highest number is the current one
//! <data>/snapshots/<number>/SNAPSHOT  its manifest
//! <data>/snapshots/new-<number>/      one that is being built or received, or whose receiving was
//!                                     broken off; removed at the start
//! ```
//! A directory gets its final name only when all in it is on the disk, so whatever has such a name
//! is whole. What is read from it is checked against the manifest all the same.

pub mod dir;
pub mod manifest;
pub mod receiver;
pub mod store;

use std::fs::{self, File};
use std::io;
use std::path::Path;

pub use self::dir::SnapshotDir;
pub use self::manifest::{FileRecord, Manifest};
pub use self::receiver::SnapshotReceiver;
pub use self::store::SnapshotStore;

/// What is wrong with a snapshot, or with what arrives as one.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system failed.
    #[error("snapshot: {operation} of {path}: {source}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file or directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The state's engine failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The bytes are not those the manifest names.
    #[error("snapshot is damaged: {0}")]
    Damaged(String),
    /// It was not received to its end. What came whole is kept for the next attempt.
    #[error("the transfer of a snapshot was broken off")]
    BrokenOff,
}

impl SnapshotError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> SnapshotError {
        SnapshotError::Io {
            operation,
            path: path.display().to_string(),
            source,
        }
    }
}

/// Short form for this module.
pub type Result<T, E = SnapshotError> = std::result::Result<T, E>;

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| SnapshotError::io("sync", dir, error))
}

/// Makes a directory, if it is not there, whose name is durable when this returns.
pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|error| SnapshotError::io("creation", dir, error))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Removes a directory with all in it, if it is there.
pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SnapshotError::io("removal", dir, error))
        }
        _ => Ok(()),
    }
}
