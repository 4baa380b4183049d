//! A limit of what a process may still take of the machine's memory: a control group of the first
//! version where `/sys/fs/cgroup/memory` is one, else of the second.
//!
//! What a process has already stays on its former group's account: kernels of today do not move it.
//! So the limit is one of what it takes from then on, what it reads and writes of files included.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the controller of one version is called and calls its files.
#[derive(Debug)]
struct Controller {
    root: &'static str,
    /// What its line of `/proc/PID/cgroup` names it; the second version names none.
    name: &'static str,
    limit: &'static str,
    highest: &'static str,
    /// Where it says how often the limit was met, and in the line of which name; none: the file
    /// holds nothing else.
    met: (&'static str, Option<&'static str>),
    /// Where it says how many processes were killed; the line's name is [`KILLS`].
    kills: &'static str,
}

const FIRST: Controller = Controller {
    root: "/sys/fs/cgroup/memory",
    name: "memory",
    limit: "memory.limit_in_bytes",
    highest: "memory.max_usage_in_bytes",
    met: ("memory.failcnt", None),
    kills: "memory.oom_control",
};
const SECOND: Controller = Controller {
    root: "/sys/fs/cgroup",
    name: "",
    limit: "memory.max",
    highest: "memory.peak",
    met: ("memory.events", Some("max")),
    kills: "memory.events",
};
const KILLS: &str = "oom_kill";
const PROCESSES: &str = "cgroup.procs";

/// Why no process can be given a limit on this machine; none: one can.
pub fn missing() -> Option<String> {
    let (first, second) = (FIRST.root, SECOND.root);
    controller()
        .is_none()
        .then(|| format!("neither {first} nor {second} is a control group for memory"))
}

fn controller() -> Option<&'static Controller> {
    if Path::new(FIRST.root).join(FIRST.limit).is_file() {
        return Some(&FIRST);
    }
    let children = Path::new(SECOND.root).join("cgroup.subtree_control");
    let children = fs::read_to_string(children).unwrap_or_default();
    let limited = children.split_whitespace().any(|name| name == "memory");
    limited.then_some(&SECOND)
}

/// A group whose process may take so much more memory. When it is dropped there is no limit any
/// more.
#[derive(Debug)]
pub struct MemoryLimit {
    controller: &'static Controller,
    group: PathBuf,
    /// The group that the process was in.
    former: PathBuf,
}

impl MemoryLimit {
    /// Puts the process into a group that may take `bytes` from now on.
    ///
    /// # Errors
    /// There is no controller, or it objects.
    pub fn give(process: u32, bytes: u64) -> io::Result<MemoryLimit> {
        let controller = controller().ok_or(io::ErrorKind::NotFound)?;
        let groups = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
        let former = group_of(&groups, controller.name).ok_or(io::ErrorKind::NotFound)?;
        let root = Path::new(controller.root);
        let name = format!("duet-{process}-{}", rand::random::<u32>());
        let limit = MemoryLimit {
            controller,
            group: root.join(name),
            former: root.join(former.trim_start_matches('/')),
        };
        fs::create_dir(&limit.group)?;
        fs::write(limit.group.join(controller.limit), bytes.to_string())?;
        fs::write(limit.group.join(PROCESSES), process.to_string())?;
        Ok(limit)
    }

    /// The most that was taken at once, in bytes.
    pub fn highest(&self) -> u64 {
        self.number(self.controller.highest, None)
    }

    /// How often the limit was met: something had to be given back, or waited for, before more was
    /// given.
    pub fn met(&self) -> u64 {
        let (file, line) = self.controller.met;
        self.number(file, line)
    }

    /// Processes that the kernel killed because they wanted more.
    pub fn kills(&self) -> u64 {
        self.number(self.controller.kills, Some(KILLS))
    }

    fn number(&self, file: &str, line: Option<&str>) -> u64 {
        let text = fs::read_to_string(self.group.join(file)).unwrap_or_default();
        number_in(&text, line)
    }

    fn lift(&self) -> io::Result<()> {
        for process in fs::read_to_string(self.group.join(PROCESSES))?.lines() {
            match fs::write(self.former.join(PROCESSES), process) {
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

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if let Err(error) = self.lift() {
            eprintln!("{} stays: {error}", self.group.display());
        }
    }
}

/// The group of this controller in the lines of `/proc/PID/cgroup`.
fn group_of<'a>(groups: &'a str, controller: &str) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        controllers
            .split(',')
            .any(|name| name == controller)
            .then_some(group)
    })
}

/// The number in the line of this name, or the whole text's; 0 if there is none.
fn number_in(text: &str, line: Option<&str>) -> u64 {
    let value = match line {
        None => Some(text),
        Some(name) => text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')),
    };
    value.map_or(0, |value| value.trim().parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_numbers_are_found() {
        let groups = "8:pids:/\n4:cpu,memory:/a/b\n0::/c\n";
        assert_eq!(group_of(groups, "memory"), Some("/a/b"));
        assert_eq!(group_of(groups, ""), Some("/c"));
        assert_eq!(group_of(groups, "blkio"), None);
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(number_in(control, Some(KILLS)), 3);
        assert_eq!(number_in("17\n", None), 17);
        assert_eq!(number_in("", Some("max")), 0);
    }
}
