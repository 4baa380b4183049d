//! A machine for each node, as far as one machine can be several: a disk that loses power, and a
//! network that can be cut.
//!
//! [`disk`] is an ext4 file system of its own in a file; [`namespaces`] give each node a network of
//! its own on a bridge. Both need root and tools that Debian and Ubuntu have (`mount`, `mkfs.ext4`,
//! `ip`, `nsenter`, `perl`). Where something is missing, [`missing`] says what.
//!
//! Some faults need more, and each says for itself what is missing: [`links`] that are bad, a
//! [`clock`] that can be set, a [`cgroup`] for a share of the processor, one for a limit of
//! [`memory`], a disk that is slow ([`throttle`]), [`syncs`] that fail.
//!
//! What needs no rights: [`proxy`], a door for clients, and [`relays`], which are what [`network`]
//! asks for where there can be no lab.

pub mod cgroup;
pub mod clock;
pub mod disk;
pub mod links;
pub mod memory;
pub mod namespaces;
pub mod network;
pub mod process;
pub mod proxy;
pub mod relays;
pub mod syncs;
pub mod throttle;

use std::path::Path;
use std::process::{Command, Output};

pub use clock::Clock;
pub use disk::Disk;
pub use namespaces::Namespaces;
pub use network::Network;
pub use proxy::Proxy;
pub use relays::Relays;

/// The tools that the lab runs.
const TOOLS: [&str; 9] = [
    "mount",
    "umount",
    "fsfreeze",
    "fallocate",
    "mkfs.ext4",
    "truncate",
    "ip",
    "nsenter",
    "perl",
];
/// Where tools are.
const TOOL_DIRS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Why there can be no lab on this machine; none: there can be one.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some(
            "the lab mounts file systems and makes network namespaces: run as root".into(),
        );
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("this kernel has no loop devices".into());
    }
    let tool = TOOLS.iter().find(|tool| !installed(tool))?;
    Some(format!("`{tool}` is not installed"))
}

/// Is there such a tool?
fn installed(tool: &str) -> bool {
    TOOL_DIRS
        .iter()
        .any(|dir| Path::new(dir).join(tool).is_file())
}

/// Is there a lab? Prints why not, for a test that then shows nothing. Where tests run as root with
/// `CI` set, a missing lab is a failure: nobody would notice that nothing was shown.
pub fn available() -> bool {
    let Some(reason) = missing() else { return true };
    let must = std::env::var_os("CI").is_some() && rustix::process::geteuid().is_root();
    assert!(!must, "no lab: {reason}");
    println!("nothing was shown, there is no lab here: {reason}");
    false
}

/// Runs a tool that has to succeed.
fn run(program: &str, args: &[&str]) {
    let output = try_run(program, args);
    assert!(
        output.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs a tool that may fail.
fn try_run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program)
        .args(args)
        .env("PATH", TOOL_DIRS.join(":"))
        .output();
    output.unwrap_or_else(|error| panic!("{program} cannot be started: {error}"))
}
