//! A process whose fsync fails while all else goes on: `strace` answers in the kernel's place.

use std::process::{Child, Command, Stdio};

use super::{TOOL_DIRS, installed};
use crate::node::Node;

/// Why no fsync can be made to fail on this machine; none: they can.
pub fn missing() -> Option<String> {
    (!installed("strace")).then(|| "`strace` is not installed".to_owned())
}

/// Fails the syncs of a node until it is dropped.
#[derive(Debug)]
pub struct FailingSyncs(Child);

impl FailingSyncs {
    /// From now on each thread of the running node gets EIO for its second sync and every later
    /// one.
    pub fn of(node: &Node) -> FailingSyncs {
        let strace = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=fsync,fdatasync",
            ])
            .args(["-e", "inject=fsync,fdatasync:error=EIO:when=2+"])
            .args(["-p", &node.pid().to_string()])
            .env("PATH", TOOL_DIRS.join(":"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        FailingSyncs(strace.expect("strace starts"))
    }
}

impl Drop for FailingSyncs {
    fn drop(&mut self) {
        // It has ended by itself where its node has.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
