//! The file that says what a directory holds and which version wrote it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::Role;
use crate::error::{Error, Result};
use crate::files::{sync_parent, write_whole};

const FILE: &str = "FORMAT";

/// Version of what is in the two databases: keys, values, column families.
const VERSION: u32 = 1;

/// Makes `dir` ready to be opened in this role: checks the format of one that holds a database,
/// gives its format to an empty or missing one.
pub(super) fn prepare(dir: &Path, role: Role) -> Result<()> {
    let path = dir.join(FILE);
    match fs::read(&path) {
        Ok(found) if found == content(role).into_bytes() => Ok(()),
        Ok(found) => Err(Error::Foreign {
            what: format!(
                "{} holds \"{}\"; this version of duet reads only \"{}\"",
                dir.display(),
                String::from_utf8_lossy(&found).trim_end(),
                content(role).trim_end(),
            ),
        }),
        Err(e) if e.kind() == ErrorKind::NotFound => make(dir, role),
        Err(e) => Err(Error::io("read", &path, &e)),
    }
}

/// Gives a directory its format.
pub(super) fn write(dir: &Path, role: Role) -> Result<()> {
    write_whole(&dir.join(FILE), content(role).as_bytes())
}

fn make(dir: &Path, role: Role) -> Result<()> {
    // What every RocksDB has: something else made it, or a copy was left unfinished.
    let current = dir.join("CURRENT");
    if fs::exists(&current).map_err(|e| Error::io("read", &current, &e))? {
        return Err(Error::Foreign {
            what: format!("{} holds a database without a {FILE} file", dir.display()),
        });
    }
    fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, &e))?;
    sync_parent(dir)?;
    write(dir, role)
}

fn content(role: Role) -> String {
    let holds = match role {
        Role::Log => "log",
        Role::State => "state",
    };
    format!("duet {holds} {VERSION}\n")
}
