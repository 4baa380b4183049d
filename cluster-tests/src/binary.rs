//! Which `duet` is tested.

use std::path::PathBuf;

/// Names the binary to start; set by `cargo xtask test`.
const VARIABLE: &str = "DUET_BIN";

/// The binary under test: from the environment, or the one that lies beside this test's directory.
pub fn duet() -> PathBuf {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return PathBuf::from(path);
    }
    let this = std::env::current_exe().expect("a process knows its own binary");
    // target/debug/deps/cluster-1234 → target/debug/duet
    let beside = this
        .parent()
        .and_then(|deps| deps.parent())
        .map(|dir| dir.join("duet"));
    match beside {
        Some(path) if path.is_file() => path,
        _ => panic!(
            "no duet beside {}: build it (cargo build -p node) or set {VARIABLE}",
            this.display()
        ),
    }
}
