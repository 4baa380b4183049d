//! Why storage could not do as told. Every variant is the end of the node's service: a caller
//! never skips one and goes on.

use std::path::Path;

/// An error of the engine.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The operating system or RocksDB failed to read or write.
    #[error("storage {operation} failed: {message}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// What the system said, with the file where it names one.
        message: String,
    },
    /// Bytes on disk are not what was written.
    #[error("storage is corrupt: {what}")]
    Corrupt {
        /// Which file, key or record, and how it is wrong.
        what: String,
    },
    /// The directory was written by another version, cluster or node.
    #[error("{what}")]
    Foreign {
        /// One line for the operator.
        what: String,
    },
}

impl Error {
    /// An error of the operating system on a file or directory.
    pub(crate) fn io(operation: &'static str, path: &Path, error: &std::io::Error) -> Error {
        Error::Io {
            operation,
            message: format!("{}: {error}", path.display()),
        }
    }

    /// The same, naming where the damage is if it does not say so itself.
    #[must_use]
    pub fn within(self, path: &Path) -> Error {
        let path = path.display().to_string();
        match self {
            Error::Corrupt { what } if !what.contains(&path) => Error::Corrupt {
                what: format!("{path}: {what}"),
            },
            other => other,
        }
    }

    /// A range delete without an end, which no key kind needs and RocksDB does not know.
    pub(crate) fn range_without_end() -> Error {
        Error::Io {
            operation: "write",
            message: "a range delete needs an end: it must lie within one key kind".to_owned(),
        }
    }
}

/// Short form for this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_named_with_its_place_once() {
        let corrupt = |what: &str| Error::Corrupt { what: what.into() };
        let log = Path::new("/data/log");
        let named = corrupt("entry 3: gone").within(log).to_string();
        assert_eq!(named, "storage is corrupt: /data/log: entry 3: gone");
        let itself = corrupt("checksum in /data/log/7.sst").within(log);
        assert_eq!(
            itself.to_string(),
            "storage is corrupt: checksum in /data/log/7.sst"
        );
        let full = || Error::Io {
            operation: "write",
            message: "no room".into(),
        };
        assert_eq!(full().within(log).to_string(), full().to_string());
    }
}
