//! What dashboards, alerts and the operator's pages name is there.

use std::collections::BTreeSet;

/// The files that name metrics, each with its text.
const READERS: [(&str, &str); 3] = [
    (
        "deploy/monitoring/dashboard.json",
        include_str!("../../../deploy/monitoring/dashboard.json"),
    ),
    (
        "deploy/monitoring/alerts.yml",
        include_str!("../../../deploy/monitoring/alerts.yml"),
    ),
    (
        "docs/operations.md",
        include_str!("../../../docs/operations.md"),
    ),
];

/// The files that define them.
const SOURCES: [&str; 7] = [
    include_str!("certificates.rs"),
    include_str!("consensus.rs"),
    include_str!("disk.rs"),
    include_str!("guard.rs"),
    include_str!("messages.rs"),
    include_str!("process.rs"),
    include_str!("requests.rs"),
];

/// How the names begin.
const PREFIXES: [&str; 2] = ["duet_", "process_"];
fn words(text: &str) -> BTreeSet<&str> {
    let split = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    split
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        .collect()
}

/// Names in quotes of the sources, before their tests.
fn defined() -> BTreeSet<&'static str> {
    let before_tests = SOURCES.map(|source| source.split("#[cfg(test)]").next().unwrap_or(source));
    before_tests
        .iter()
        .flat_map(|source| words(source))
        .collect()
}

/// The family a name belongs to: a histogram has three.
fn family(name: &str) -> &str {
    let suffixes = ["_bucket", "_sum", "_count"];
    let found = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
    found.unwrap_or(name)
}

#[test]
fn every_metric_that_is_named_is_defined() {
    let defined = defined();
    assert!(defined.contains("duet_raft_term"), "{defined:?}");
    for (file, text) in READERS {
        let used = words(text);
        assert!(!used.is_empty(), "{file} names no metric");
        for name in used {
            let known = defined.contains(name) || defined.contains(family(name));
            assert!(known, "{file} names {name}, which is not defined");
        }
    }
}

#[test]
fn every_metric_is_explained_to_operators() {
    let (_, text) = READERS[2];
    let explained = words(text);
    for name in defined()
        .into_iter()
        .filter(|name| !name.starts_with("process_"))
    {
        assert!(
            explained.contains(name),
            "docs/operations.md does not name {name}"
        );
    }
}
