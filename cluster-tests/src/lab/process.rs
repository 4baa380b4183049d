//! What a process takes of the machine, as the kernel counts it, and a limit of it.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Where the time in the process's own code stands behind its name, followed by that in the kernel,
/// see proc(5).
const USER_TIME: usize = 11;
/// In which the kernel counts them on every architecture there is.
const TICK_MS: u64 = 10;

/// Bytes of memory that the process has; 0 if it is gone.
pub fn memory_bytes(process: u32) -> u64 {
    let kib = status(process, "VmRSS:", |value| {
        value.strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    kib.unwrap_or(0) * 1024
}

/// Threads of the process; 0 if it is gone.
pub fn threads(process: u32) -> usize {
    status(process, "Threads:", |value| value.parse().ok()).unwrap_or(0)
}

/// Processor time that the process has used; zero if it is gone.
pub fn processor_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything but ends with the last parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let times = fields.split_whitespace().skip(USER_TIME).take(2);
    let ticks: u64 = times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * TICK_MS)
}

/// A value of the kernel's lines about the process.
fn status<T>(process: u32, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    parse(value.trim())
}

/// Files, sockets included, that the process has open; 0 if it is gone.
pub fn open_files(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count)
}

/// What the files are that a process has open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Sockets.
    pub sockets: usize,
    /// Files that nobody else can open any more: they were removed.
    pub removed: usize,
    /// All others.
    pub others: usize,
}

/// What the files are that the process has open.
pub fn files(process: u32) -> Files {
    let mut files = Files::default();
    let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return files;
    };
    // One that was closed meanwhile is nothing.
    for target in open.flatten().flat_map(|file| fs::read_link(file.path())) {
        let target = target.to_string_lossy();
        if target.starts_with("socket:") {
            files.sockets += 1;
        } else if target.ends_with(" (deleted)") {
            files.removed += 1;
        } else {
            files.others += 1;
        }
    }
    files
}

/// A limit of the files that a running process may have open. When it is dropped, the former limit
/// holds again.
#[derive(Debug)]
pub struct FileLimit {
    process: Pid,
    files: u64,
    former: Rlimit,
}

impl FileLimit {
    /// The process may have `files` open, and no more.
    ///
    /// # Errors
    /// The process is gone, or another user's.
    pub fn set(process: u32, files: u64) -> io::Result<FileLimit> {
        let number = i32::try_from(process).ok().and_then(Pid::from_raw);
        let process = number.ok_or(io::ErrorKind::NotFound)?;
        // The hard limit stays: whoever may not raise that again lifts this one all the same.
        let hard = limits(process)?.maximum;
        let limit = Rlimit {
            current: Some(files),
            maximum: hard,
        };
        let former = prlimit(Some(process), Resource::Nofile, limit)?;
        Ok(FileLimit {
            process,
            files,
            former,
        })
    }

    /// How many may be open.
    pub fn files(&self) -> u64 {
        self.files
    }
}

/// How many files the process may have open.
fn limits(process: Pid) -> io::Result<Rlimit> {
    let text = fs::read_to_string(format!("/proc/{}/limits", process.as_raw_nonzero()))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let mut values = line.unwrap_or_default().split_whitespace();
    let mut next = || values.next().and_then(|value| value.parse().ok());
    Ok(Rlimit {
        current: next(),
        maximum: next(),
    })
}

impl Drop for FileLimit {
    fn drop(&mut self) {
        match prlimit(Some(self.process), Resource::Nofile, self.former) {
            // It has ended meanwhile.
            Ok(_) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => eprintln!("{:?} keeps its limit of open files: {error}", self.process),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files_and_none_has_none() {
        let own = std::process::id();
        assert!(memory_bytes(own) > 1024 * 1024);
        assert!(open_files(own) > 2);
        assert!(threads(own) > 0);
        while processor_time(own).is_zero() {}
        assert_eq!((memory_bytes(u32::MAX), open_files(u32::MAX)), (0, 0));
        assert_eq!(threads(u32::MAX), 0);
        assert_eq!(processor_time(u32::MAX), Duration::ZERO);
    }

    #[test]
    fn sockets_and_removed_files_are_told_apart() {
        let own = std::process::id();
        let before = files(own);
        let file = tempfile::tempfile().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let after = files(own);
        assert_eq!(after.removed, before.removed + 1);
        assert_eq!(after.sockets, before.sockets + 1);
        drop((file, socket));
        assert_eq!(files(u32::MAX), Files::default());
    }

    #[test]
    fn a_limit_holds_until_it_is_dropped() {
        let mut sleeper = std::process::Command::new("sleep");
        let mut child = sleeper.arg("60").spawn().unwrap();
        let process = Pid::from_child(&child);
        let before = limits(process).unwrap();
        let limit = FileLimit::set(child.id(), 17).unwrap();
        assert_eq!(limits(process).unwrap().current, Some(17));
        drop(limit);
        assert_eq!(limits(process).unwrap(), before);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
