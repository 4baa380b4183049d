//! What a process takes of the machine, as the kernel counts it.

use std::fs;

/// Bytes of memory that the process has; 0 if it is gone.
pub fn memory_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| {
        let rest = line.strip_prefix("VmRSS:")?;
        rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    kib.unwrap_or(0) * 1024
}

/// Files, sockets included, that the process has open; 0 if it is gone.
pub fn open_files(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files_and_none_has_none() {
        let own = std::process::id();
        assert!(memory_bytes(own) > 1024 * 1024);
        assert!(open_files(own) > 2);
        assert_eq!((memory_bytes(u32::MAX), open_files(u32::MAX)), (0, 0));
    }
}
