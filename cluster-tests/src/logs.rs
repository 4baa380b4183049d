//! What a node's log must not say.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Lines that fail a test: panics, and ERROR lines that contain none of `expected`.
pub fn complaints(log: &Path, expected: &[String]) -> Vec<String> {
    // A node that never started has no log.
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .filter(|line| is_complaint(line) && !is_ordinary(line))
        .filter(|line| !expected.iter().any(|part| line.contains(part.as_str())))
        .map(str::to_owned)
        .collect()
}

/// The last lines of a log, for a failure's message.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// What the consensus library calls an error and is none: a peer's message met a node that has just
/// been told to stop, or a change of the membership one that has just ceased to lead, which whoever
/// asked for it is told. What could not be received is said without its cause, which the line
/// before has: where it is another than a stop, that line is no ordinary one.
fn is_ordinary(line: &str) -> bool {
    let ordinary = [
        "raft stopped",
        "failed to receive from RaftCore",
        "has to forward request",
    ];
    line.contains("openraft") && ordinary.iter().any(|part| line.contains(part))
}

fn is_complaint(line: &str) -> bool {
    if line.contains("panicked at") || line.contains("stack overflow") {
        return true;
    }
    match serde_json::from_str::<Value>(line) {
        Ok(record) => record["level"] == "ERROR",
        // Not JSON: whatever prints without the logger, or a log in human form.
        Err(_) => line.split_whitespace().take(3).any(|word| word == "ERROR"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_errors_are_found_and_talk_of_errors_is_not() {
        let bad = [
            "thread 'raft' panicked at node/src/x.rs:1:2:",
            r#"{"timestamp":"t","level":"ERROR","fields":{"message":"disk"}}"#,
            "2026-04-18T12:00:00Z ERROR duet: disk",
        ];
        let good = [
            "",
            r#"{"timestamp":"t","level":"INFO","fields":{"message":"no ERROR here"}}"#,
            "2026-04-18T12:00:00Z  WARN duet: the last ERROR was long ago",
        ];
        assert!(bad.into_iter().all(is_complaint));
        assert!(!good.into_iter().any(is_complaint));
    }

    #[test]
    fn a_message_that_meets_a_node_that_stops_is_ordinary_and_one_that_meets_a_panic_is_not() {
        let line = |message: &str| {
            format!(r#"{{"level":"ERROR","message":"{message}","target":"openraft"}}"#)
        };
        let cause = |cause: &str| line(&format!("RaftInner<_>::recv_msg: error: {cause}"));
        let follows = line("failed to receive from RaftCore: None");
        assert!(is_ordinary(&cause("raft stopped")) && is_ordinary(&follows));
        assert!(!is_ordinary(&cause("panicked")));
        assert!(!is_ordinary(&follows.replace("openraft", "raft")));
    }

    #[test]
    fn expected_errors_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        fs::write(&log, "t ERROR duet: one\nt ERROR duet: two\n").unwrap();
        assert_eq!(complaints(&log, &["one".into()]), ["t ERROR duet: two"]);
        assert_eq!(complaints(&directory.path().join("none"), &[]), [""; 0]);
        assert_eq!(tail(&log, 1), "t ERROR duet: two");
    }
}
