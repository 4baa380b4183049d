//! A disk that is slow for one process: the block controller of control groups, version 1.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Disk;
use crate::node::Node;

/// Where the controller is, on a machine that has it.
const CONTROLLER: &str = "/sys/fs/cgroup/blkio";
const WRITES: &str = "blkio.throttle.write_iops_device";
const COUNTS: &str = "blkio.throttle.io_serviced";
const PROCESSES: &str = "cgroup.procs";

/// Why no disk can be made slow on this machine; none: they can.
pub fn missing() -> Option<String> {
    let there = Path::new(CONTROLLER).join(WRITES).is_file();
    (!there)
        .then(|| format!("no {CONTROLLER}/{WRITES}: this machine has no block controller of v1"))
}

/// A node whose disk is slow; as fast as before when this is dropped.
#[derive(Debug)]
pub struct Slow {
    group: PathBuf,
    device: String,
}

impl Slow {
    /// The running node's writes reach its disk at most `per_second` times a second.
    pub fn disk(node: &Node, per_second: u32) -> Slow {
        let disk: &Disk = node.disk();
        let device = disk.device();
        let name = format!("duet-{}-{}", node.pid(), device.replace(':', "-"));
        let group = Path::new(CONTROLLER).join(name);
        fs::create_dir(&group).expect("root makes control groups");
        let slow = Slow { group, device };
        slow.limit(per_second).expect("the device takes a limit");
        let process = node.pid().to_string();
        fs::write(slow.group.join(PROCESSES), process).expect("a process changes its group");
        slow
    }

    /// No limit: 0.
    fn limit(&self, per_second: u32) -> io::Result<()> {
        fs::write(
            self.group.join(WRITES),
            format!("{} {per_second}", self.device),
        )
    }

    /// Writes that reached the disk from this process since it is slow; none if the machine does
    /// not count them.
    pub fn writes(&self) -> Option<u64> {
        let counts = fs::read_to_string(self.group.join(COUNTS)).ok()?;
        let prefix = format!("{} Write ", self.device);
        let line = counts.lines().find_map(|line| line.strip_prefix(&prefix))?;
        line.trim().parse().ok()
    }

    fn lift(&self) -> io::Result<()> {
        self.limit(0)?;
        let back = Path::new(CONTROLLER).join(PROCESSES);
        for process in fs::read_to_string(self.group.join(PROCESSES))?.lines() {
            match fs::write(&back, process) {
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(ESRCH) => {}
                other => other?,
            }
        }
        fs::remove_dir(&self.group)
    }
}

/// No such process.
const ESRCH: i32 = 3;

impl Drop for Slow {
    fn drop(&mut self) {
        if let Err(error) = self.lift() {
            eprintln!("{} stays: {error}", self.group.display());
        }
    }
}
