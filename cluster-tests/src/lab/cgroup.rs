//! A share of the processor for one process: a control group of the first version, as it is where
//! `/sys/fs/cgroup/cpu` is one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where processor time is shared out.
const CPU: &str = "/sys/fs/cgroup/cpu";
/// In which a share is used up, in µs.
const PERIOD_US: u64 = 100_000;

/// Why no process can be given a share on this machine; none: one can.
pub fn missing() -> Option<String> {
    let is_there = Path::new(CPU).join("cgroup.procs").exists();
    (!is_there).then(|| format!("{CPU} is no control group of the first version"))
}

/// A group whose processes share so much of one processor. When it is dropped they have all of it
/// again.
#[derive(Debug)]
pub struct CpuShare {
    group: PathBuf,
}

impl CpuShare {
    /// Puts the process into a group that may use `percent` of one processor.
    pub fn give(process: u32, percent: u64) -> io::Result<CpuShare> {
        let name = format!("duet-{process}-{}", rand::random::<u32>());
        let share = CpuShare {
            group: Path::new(CPU).join(name),
        };
        fs::create_dir(&share.group)?;
        share.write("cpu.cfs_period_us", PERIOD_US)?;
        share.write("cpu.cfs_quota_us", PERIOD_US * percent / 100)?;
        share.write("cgroup.procs", u64::from(process))?;
        Ok(share)
    }

    /// How often its processes had to wait for the next period.
    pub fn waits(&self) -> u64 {
        let text = fs::read_to_string(self.group.join("cpu.stat")).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let waits = lines.find(|(name, _)| *name == "nr_throttled");
        waits.map_or(0, |(_, count)| count.parse().unwrap_or(0))
    }

    fn write(&self, file: &str, value: u64) -> io::Result<()> {
        fs::write(self.group.join(file), value.to_string())
    }

    fn end(&self) -> io::Result<()> {
        let processes = fs::read_to_string(self.group.join("cgroup.procs"))?;
        for process in processes.lines() {
            fs::write(Path::new(CPU).join("cgroup.procs"), process)?;
        }
        fs::remove_dir(&self.group)
    }
}

impl Drop for CpuShare {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{} stays: {error}", self.group.display());
        }
    }
}
