//! Files and directories that are there after a power loss.

use std::fs::{self, File};
use std::path::Path;

use crate::error::{Error, Result};

/// Makes a name in a directory durable: its creation, or the rename to it.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    sync_dir(parent)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| Error::io("sync", dir, &e))
}

/// Writes a file whole or not at all: beside it, synced, then renamed.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, bytes).map_err(|e| Error::io("write", &new, &e))?;
    File::open(&new)
        .and_then(|file| file.sync_all())
        .map_err(|e| Error::io("sync", &new, &e))?;
    fs::rename(&new, path).map_err(|e| Error::io("rename", &new, &e))?;
    sync_parent(path)
}
