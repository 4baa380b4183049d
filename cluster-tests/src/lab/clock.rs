//! A wall clock of one's own for a node, which can be set. Its monotonic clock goes on as it is: no
//! machine's jumps.
//!
//! `libfaketime` (Debian's `faketime`) is loaded into the node and reads how far to be off from a
//! file at each look at the clock.

use std::path::{Path, PathBuf};

/// Where Debian and Ubuntu put the library, for each processor.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];

/// Why there can be no clocks to set on this machine; none: there can be.
pub fn missing() -> Option<String> {
    library()
        .is_none()
        .then(|| "`libfaketime` is not installed (Debian: faketime)".into())
}

fn library() -> Option<&'static str> {
    LIBRARIES
        .into_iter()
        .find(|library| Path::new(library).exists())
}

/// A clock that can be set.
#[derive(Clone, Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// One that is right, kept in a file at `file`.
    pub fn new(file: PathBuf) -> Clock {
        let clock = Clock { file };
        clock.set(0);
        clock
    }

    /// From now on it is ahead by so many seconds, or behind.
    pub fn set(&self, seconds: i64) {
        // Renamed into place: the node must never read half of it.
        let new = self.file.with_extension("new");
        let written = std::fs::write(&new, format!("{seconds:+}\n"));
        let renamed = written.and_then(|()| std::fs::rename(&new, &self.file));
        renamed.expect("a temporary directory can be written");
    }

    /// What a process needs in its environment to go by this clock.
    pub fn env(&self) -> Vec<(String, String)> {
        let library = library().expect("asked for only where it is installed");
        let file = self.file.to_string_lossy();
        [
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}
