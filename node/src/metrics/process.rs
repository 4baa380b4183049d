//! The process itself, from `/proc`, under the names that Prometheus' own libraries use. Elsewhere
//! than on Linux there is nothing to say.

use std::fs;

use super::text::{Family, Text};

const CPU: Family = Family::counter(
    "process_cpu_seconds_total",
    "User and system time that the process has used.",
);
const RESIDENT: Family = Family::gauge(
    "process_resident_memory_bytes",
    "Memory of the process that is in RAM.",
);
const VIRTUAL: Family = Family::gauge(
    "process_virtual_memory_bytes",
    "Address space of the process; most of it is never touched.",
);
const THREADS: Family = Family::gauge("process_threads", "Threads of the process.");
const OPEN_FDS: Family = Family::gauge("process_open_fds", "Open file descriptors.");
const MAX_FDS: Family = Family::gauge(
    "process_max_fds",
    "Most file descriptors the process may have open.",
);
const STARTED: Family = Family::gauge(
    "process_start_time_seconds",
    "When the process started, in seconds since 1970.",
);

/// Clock ticks a second in `/proc`: what Linux shows there on every machine this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes what concerns the process. What the system does not say is left out.
pub fn render(text: &mut Text) {
    let read = |name: &str| fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
    let stat = Stat::parse(&read("self/stat"));
    if let Some(stat) = &stat {
        text.one(&CPU, stat.cpu_ticks as f64 / TICKS_PER_SECOND);
        text.one(&THREADS, stat.threads);
        text.one(&VIRTUAL, stat.virtual_bytes);
    }
    if let Some(kib) = field(&read("self/status"), "VmRSS:") {
        text.one(&RESIDENT, kib.saturating_mul(1_024));
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        text.one(&OPEN_FDS, open.count().saturating_sub(1));
    }
    if let Some(most) = field(&read("self/limits"), "Max open files") {
        text.one(&MAX_FDS, most);
    }
    if let (Some(stat), Some(booted)) = (&stat, field(&read("stat"), "btime")) {
        text.one(
            &STARTED,
            booted as f64 + stat.started_ticks as f64 / TICKS_PER_SECOND,
        );
    }
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Fields of `/proc/self/stat`, see proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    started_ticks: u64,
    virtual_bytes: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The second field is the name in brackets, which may hold anything; the third follows it.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            started_ticks: field(22)?,
            virtual_bytes: field(23)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_stat_are_counted_behind_the_name() {
        let text = "7 (a ) b) S 1 7 7 0 -1 4194560 5 0 0 0 11 22 0 0 20 0 33 0 44 55 66\n";
        let expected = Stat {
            cpu_ticks: 33,
            threads: 33,
            started_ticks: 44,
            virtual_bytes: 55,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("7 (a"), None);
    }

    #[test]
    fn a_field_is_the_number_behind_its_name() {
        let limits =
            "Limit   Soft Limit\nMax open files            1024                 4096  files\n";
        assert_eq!(field(limits, "Max open files"), Some(1024));
        assert_eq!(field("VmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
        assert_eq!(field("", "btime"), None);
    }
}
