//! The data directory: who this node is, and that nobody else uses it.
//!
//! ```text
//! <data-dir>/LOCK           held while a process serves from here
//! <data-dir>/identity.json  cluster and node number, written before the first vote; another
//!                           cluster's only by `duet cluster recover`
//! <data-dir>/raft/          log, state, snapshots: the raft crate's
//! ```

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use types::ids::NodeId;

/// Form of `identity.json`.
const IDENTITY_VERSION: u32 = 1;

/// What to do about a directory that does not say whose it is.
const REPLACING: &str = "where the other members are up, start a node with --join and an empty data directory, and run \
     `duet cluster replace NUMBER` with the number of this one, which `duet cluster status` shows";

/// Who the node is, for the life of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Form of this record.
    pub version: u32,
    /// The cluster it belongs to.
    pub cluster_id: String,
    /// Its number in it.
    pub node_id: NodeId,
    /// How it came here.
    pub origin: Origin,
}

/// How a node came to its cluster. It finishes what it began when it is started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It founded the cluster.
    Founder,
    /// It asked these members to take it in.
    Joiner {
        /// Their RPC addresses.
        members: Vec<String>,
        /// Its voter's rights are wanted.
        voter: bool,
    },
}

impl Identity {
    /// The identity of a node in a cluster.
    pub fn new(cluster_id: String, node_id: NodeId, origin: Origin) -> Identity {
        Identity {
            version: IDENTITY_VERSION,
            cluster_id,
            node_id,
            origin,
        }
    }
}

/// Why the directory cannot be used; one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process serves from it.
    #[error("data directory {0} is in use by another process")]
    InUse(PathBuf),
    /// The identity is not readable as one.
    #[error("{path} is damaged or of another version: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// An open, locked data directory.
pub struct DataDir {
    path: PathBuf,
    /// Held open for the lock on it.
    _lock: File,
}

impl DataDir {
    /// Creates the directory where it is missing and locks it.
    pub fn open(path: &Path) -> Result<DataDir, DataDirError> {
        std::fs::create_dir_all(path).map_err(io_error("create", path))?;
        let lock_path = path.join("LOCK");
        let lock = File::create(&lock_path).map_err(io_error("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(DataDir {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(e)) => Err(io_error("lock", &lock_path)(e)),
        }
    }

    /// Where the raft crate keeps its files.
    pub fn raft(&self) -> PathBuf {
        self.path.join("raft")
    }

    /// Who the node is; none in a directory that belongs to no cluster yet.
    pub fn identity(&self) -> Result<Option<Identity>, DataDirError> {
        let path = self.path.join("identity.json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return self.no_identity(),
            Err(e) => return Err(io_error("read", &path)(e)),
        };
        let damaged = |reason: String| DataDirError::Damaged {
            path: path.clone(),
            reason: format!("{reason}; {REPLACING}"),
        };
        let identity: Identity = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        if identity.version != IDENTITY_VERSION {
            return Err(damaged(format!("form {} is not known", identity.version)));
        }
        Ok(Some(identity))
    }

    /// A directory that lost its identity but still has a log must not begin anew.
    fn no_identity(&self) -> Result<Option<Identity>, DataDirError> {
        if self.raft().exists() {
            return Err(DataDirError::Damaged {
                path: self.path.join("identity.json"),
                reason: format!("it is missing although the directory holds a log; {REPLACING}"),
            });
        }
        Ok(None)
    }

    /// Writes the identity, durably, before the node takes any part in the cluster.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), DataDirError> {
        let text = serde_json::to_string_pretty(identity).map_err(|e| DataDirError::Damaged {
            path: self.path.join("identity.json"),
            reason: e.to_string(),
        })?;
        self.write_durably("identity.json", text.as_bytes())
    }

    /// The nonce of this directory's attempt to join, made once and kept, so that an answer that
    /// was lost is given again instead of a second number.
    pub fn join_nonce(&self, make: impl FnOnce() -> [u8; 16]) -> Result<[u8; 16], DataDirError> {
        let path = self.path.join("join-nonce");
        match std::fs::read(&path) {
            Ok(nonce) => nonce.try_into().map_err(|_| DataDirError::Damaged {
                path,
                reason: "not 16 bytes".into(),
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let nonce = make();
                self.write_durably("join-nonce", &nonce)?;
                Ok(nonce)
            }
            Err(e) => Err(io_error("read", &path)(e)),
        }
    }

    /// Writes beside, syncs, renames, syncs the directory: the file is old or new, never half.
    fn write_durably(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        let path = self.path.join(name);
        let beside = self.path.join(format!("{name}.new"));
        let write = || -> io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&beside, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(io_error("write", &path))
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_survives_and_is_exclusive() {
        let dir = tempfile::tempdir().expect("temp dir");
        let open = DataDir::open(dir.path()).expect("opens");
        assert_eq!(open.identity().expect("reads"), None);
        let identity = Identity::new("c".into(), 3, Origin::Founder);
        open.set_identity(&identity).expect("writes");
        assert!(matches!(
            DataDir::open(dir.path()),
            Err(DataDirError::InUse(_))
        ));
        drop(open);
        let again = DataDir::open(dir.path()).expect("opens again");
        assert_eq!(again.identity().expect("reads"), Some(identity));
    }

    #[test]
    fn a_log_without_an_identity_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let open = DataDir::open(dir.path()).expect("opens");
        std::fs::create_dir(open.raft()).expect("mkdir");
        assert!(matches!(open.identity(), Err(DataDirError::Damaged { .. })));
    }

    #[test]
    fn the_join_nonce_is_made_once() {
        let dir = tempfile::tempdir().expect("temp dir");
        let open = DataDir::open(dir.path()).expect("opens");
        let first = open.join_nonce(|| [1; 16]).expect("makes");
        assert_eq!(open.join_nonce(|| [2; 16]).expect("reads"), first);
    }
}
