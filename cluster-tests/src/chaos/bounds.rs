//! What nodes take of their machine once nobody asks anything of them any more, against what they
//! took before anybody did: what a run leaves behind, leader after leader, shows here.

use std::time::{Duration, Instant};

use crate::Cluster;
use crate::lab::process::{self, Files};

/// Memory beyond that at the beginning: memtables and caches that are full now, and what the
/// allocator keeps after large rows.
const MEMORY_MAX_BYTES: u64 = 1024 * MIB;
/// Sockets beyond those at the beginning: connections that clients of the run keep, and those that
/// nodes opened anew.
const SOCKETS_MAX: usize = 16;
/// Files beyond those at the beginning: tables of storage, in two databases.
const FILES_MAX: usize = 64;
/// Removed files that are still open: what storage has not let go of yet.
const REMOVED_MAX: usize = 8;
/// Threads beyond those at the beginning: what the runtimes keep for work that blocks.
const THREADS_MAX: usize = 16;
/// How long nodes may take to get there: connections and threads end when they are idle.
const SETTLE_MAX: Duration = Duration::from_secs(45);
/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
const MIB: u64 = 1024 * 1024;

/// What a node takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    memory: u64,
    files: Files,
    threads: usize,
}

impl Taken {
    fn by(process: u32) -> Taken {
        Taken {
            memory: process::memory_bytes(process),
            files: process::files(process),
            threads: process::threads(process),
        }
    }

    /// The more of each.
    fn or_more(self, other: Taken) -> Taken {
        let (files, others) = (self.files, other.files);
        Taken {
            memory: self.memory.max(other.memory),
            files: Files {
                sockets: files.sockets.max(others.sockets),
                removed: files.removed.max(others.removed),
                others: files.others.max(others.others),
            },
            threads: self.threads.max(other.threads),
        }
    }
}

/// What nodes took at the beginning, and so what they may take at the end.
#[derive(Debug)]
pub struct Bounds {
    first: Taken,
}

impl Bounds {
    /// Looks at nodes of which nobody asks anything yet. Whoever takes the place of one of them may
    /// take as much.
    pub fn of(cluster: &Cluster) -> Bounds {
        let first = taken(cluster)
            .into_iter()
            .fold(Taken::default(), Taken::or_more);
        Bounds { first }
    }

    /// Waits until no node takes more than it may, for so long as that may take. What it counted,
    /// and what is wrong.
    pub async fn check(&self, cluster: &Cluster) -> (Vec<(&'static str, u64)>, Vec<String>) {
        let started = Instant::now();
        loop {
            let taken = taken(cluster);
            let wrong = self.violations(&taken);
            if wrong.is_empty() || started.elapsed() > SETTLE_MAX {
                return (counted(&taken), wrong);
            }
            // sleep: between two looks at processes that come to rest
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    fn violations(&self, taken: &[Taken]) -> Vec<String> {
        let first = self.first;
        let mut wrong = Vec::new();
        for (node, now) in taken.iter().enumerate() {
            let mut compare = |what: &str, now: u64, first: u64, more: u64| {
                if now > first + more {
                    let node = node + 1;
                    wrong.push(format!(
                        "bounds: node {node} has {now} {what} at the end, {first} at the \
                         beginning, and may have {more} more"
                    ));
                }
            };
            let (files, files_first) = (now.files, first.files);
            compare(
                "bytes of memory",
                now.memory,
                first.memory,
                MEMORY_MAX_BYTES,
            );
            for (what, now, first, more) in [
                ("sockets", files.sockets, files_first.sockets, SOCKETS_MAX),
                ("open files", files.others, files_first.others, FILES_MAX),
                ("removed files open", files.removed, 0, REMOVED_MAX),
                ("threads", now.threads, first.threads, THREADS_MAX),
            ] {
                compare(what, now as u64, first as u64, more as u64);
            }
        }
        wrong
    }
}

fn taken(cluster: &Cluster) -> Vec<Taken> {
    let nodes = cluster.nodes().iter();
    nodes.map(|node| Taken::by(node.pid())).collect()
}

/// The most that any node takes.
fn counted(taken: &[Taken]) -> Vec<(&'static str, u64)> {
    let most = taken.iter().copied().fold(Taken::default(), Taken::or_more);
    let files = most.files.others + most.files.removed;
    vec![
        ("MiB of memory of a node at the end", most.memory / MIB),
        ("sockets of a node at the end", most.files.sockets as u64),
        ("open files of a node at the end", files as u64),
        ("threads of a node at the end", most.threads as u64),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Taken = Taken {
        memory: 100 * MIB,
        files: Files {
            sockets: 20,
            removed: 0,
            others: 40,
        },
        threads: 14,
    };

    fn found(change: impl Fn(&mut Taken)) -> Vec<String> {
        let mut now = FIRST;
        change(&mut now);
        Bounds { first: FIRST }.violations(&[FIRST, now])
    }

    #[test]
    fn what_a_run_leaves_behind_is_seen() {
        assert_eq!(found(|_| {}), [""; 0]);
        let within = found(|now| {
            now.memory += MEMORY_MAX_BYTES;
            now.files.sockets += SOCKETS_MAX;
            now.files.others += FILES_MAX;
            now.files.removed += REMOVED_MAX;
            now.threads += THREADS_MAX;
        });
        assert_eq!(within, [""; 0]);
        type More = fn(&mut Taken);
        let beyond: [(&str, More); 5] = [
            ("memory", |now| now.memory += MEMORY_MAX_BYTES + 1),
            ("sockets", |now| now.files.sockets += SOCKETS_MAX + 1),
            ("open files", |now| now.files.others += FILES_MAX + 1),
            ("removed files", |now| now.files.removed += REMOVED_MAX + 1),
            ("threads", |now| now.threads += THREADS_MAX + 1),
        ];
        for (what, change) in beyond {
            let wrong = found(change);
            let is_told =
                wrong.len() == 1 && wrong[0].contains(what) && wrong[0].contains("node 2");
            assert!(is_told, "{what}: {wrong:?}");
        }
    }
}
