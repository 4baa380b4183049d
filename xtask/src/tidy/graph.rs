//! The crate graph: which of our crates may depend on which, and which libraries stay inside one.

use super::{File, Finding};

/// Each crate and those of ours it may depend on, lowest layer first, as in ARCHITECTURE.md.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("storage", &["types"]),
    ("topics", &["types", "storage"]),
    ("sql", &["types", "storage"]),
    ("raft", &["types", "storage", "topics"]),
    ("api", &["types"]),
    ("client", &["types", "api"]),
    (
        "node",
        &["types", "storage", "topics", "sql", "raft", "api", "client"],
    ),
    ("cluster-tests", &["api", "client"]),
    ("bench", &["api", "client"]),
    (
        "fuzz",
        &["types", "storage", "topics", "sql", "raft", "api"],
    ),
    ("xtask", &[]),
];

/// Libraries that one crate hides from all others, with the crates published beside them
/// (`openraft` stands for `openraft-macros` too).
const CONFINED: &[(&str, &str)] = &[
    ("rocksdb", "storage"),
    ("librocksdb-sys", "storage"),
    ("openraft", "raft"),
    ("sqlparser", "sql"),
    ("datafusion", "sql"),
    ("arrow", "sql"),
    ("axum", "node"),
];

/// Crates that are synchronous and deterministic, and what would make them otherwise.
const PURE: &[&str] = &["types", "storage", "topics"];
const IMPURE: &[&str] = &["tokio", "futures", "async-trait", "tonic", "hyper", "rand"];

pub fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        if file.path == format!("{}/Cargo.toml", file.top()) {
            manifest(file, &mut findings);
        } else if file.is_rust() {
            uses(file, &mut findings);
        }
    }
    findings
}

fn manifest(file: &File, findings: &mut Vec<Finding>) {
    let name = file.top();
    let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
        findings.push(file.finding(0, format!("crate `{name}` has no place in the crate graph")));
        return;
    };
    for (line, dependency) in dependencies(file) {
        let ours = LAYERS.iter().any(|(layer, _)| *layer == dependency);
        if ours && !allowed.contains(&dependency.as_str()) {
            let message = format!("`{name}` may not depend on `{dependency}`");
            findings.push(file.finding(line, message));
        }
        if let Some(owner) = owner(&dependency).filter(|owner| *owner != name) {
            let message = format!("`{dependency}` belongs into `{owner}` alone");
            findings.push(file.finding(line, message));
        }
        if PURE.contains(&name) && IMPURE.contains(&dependency.as_str()) {
            let message = format!("`{name}` is synchronous and deterministic: no `{dependency}`");
            findings.push(file.finding(line, message));
        }
    }
}

fn owner(dependency: &str) -> Option<&'static str> {
    let beside = |library: &str| {
        let rest = dependency.strip_prefix(library);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    CONFINED
        .iter()
        .find(|(library, _)| beside(library))
        .map(|(_, owner)| *owner)
}

/// The dependencies of a manifest, of all kinds, each with its line. A renamed one counts under its
/// real name.
fn dependencies(file: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_section = false;
    for (number, line) in file.lines() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            in_section = header.ends_with("dependencies");
            // `[dependencies.NAME]`, also below a `target`.
            if let Some((_, name)) = header.rsplit_once("dependencies.") {
                found.push((number, unquoted(name)));
            }
            continue;
        }
        if !in_section || line.starts_with('#') {
            continue;
        }
        if let Some((_, rest)) = line.split_once("package = \"") {
            found.push((
                number,
                rest.split('"').next().unwrap_or_default().to_owned(),
            ));
        } else if let Some((key, _)) = line.split_once('=') {
            found.push((number, unquoted(key.split('.').next().unwrap_or_default())));
        }
    }
    found
}

fn unquoted(name: &str) -> String {
    name.trim().trim_matches('"').to_owned()
}

/// A path through a confined library, for which a re-export elsewhere would be enough.
fn uses(file: &File, findings: &mut Vec<Finding>) {
    for (number, line) in file.lines() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for (library, owner) in CONFINED {
            if file.top() != *owner && file.top() != "xtask" && mentions_path(line, library) {
                let message = format!("`{library}` belongs into `{owner}` alone");
                findings.push(file.finding(number, message));
            }
        }
    }
}

/// Whether the line goes through `library::`, not through a longer name that ends with it.
fn mentions_path(line: &str, library: &str) -> bool {
    let path = format!("{}::", library.replace('-', "_"));
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_findings;
    use super::*;

    fn check_one(path: &str, text: &str) -> Vec<Finding> {
        check(&[File::new(path, text)])
    }

    #[test]
    fn an_edge_that_is_not_in_the_graph() {
        let text = "[dependencies]\ntypes.workspace = true\nraft.workspace = true\n";
        assert_findings(
            &check_one("sql/Cargo.toml", text),
            &["`sql` may not depend on `raft`"],
        );
        let text = "[dev-dependencies]\nnode = { path = \"../node\" }\n";
        let says = ["3: `cluster-tests` may not depend on `node`"];
        let text = format!("[package]\n{text}");
        assert_findings(&check_one("cluster-tests/Cargo.toml", &text), &says);
    }

    #[test]
    fn every_way_to_write_a_dependency_is_read() {
        let text = "[target.'cfg(unix)'.dependencies.rocksdb]\nversion = \"1\"\n\
                    [build-dependencies]\n\"axum\" = \"1\"\n# openraft = \"1\"\n\
                    consensus = { package = \"openraft-macros\", version = \"1\" }\n";
        let says = [
            "`rocksdb` belongs into",
            "`axum` belongs",
            "`openraft-macros` belongs",
        ];
        assert_findings(&check_one("api/Cargo.toml", text), &says);
    }

    #[test]
    fn a_library_in_the_crate_that_owns_it() {
        let text = "[dependencies]\nrocksdb.workspace = true\ntypes.workspace = true\n";
        assert_findings(&check_one("storage/Cargo.toml", text), &[]);
    }

    #[test]
    fn a_crate_without_a_place() {
        assert_findings(
            &check_one("util/Cargo.toml", "[package]\n"),
            &["`util` has no place"],
        );
    }

    #[test]
    fn a_runtime_in_a_synchronous_crate() {
        let text = "[dev-dependencies]\ntokio.workspace = true\n";
        assert_findings(&check_one("topics/Cargo.toml", text), &["no `tokio`"]);
        assert_findings(&check_one("raft/Cargo.toml", text), &[]);
    }

    #[test]
    fn a_path_through_a_library_of_another_crate() {
        let text =
            "use storage::rocksdb::DB;\n// rocksdb::DB is elsewhere\nlet a = my_axum::b();\n";
        assert_findings(
            &check_one("node/src/a.rs", text),
            &["node/src/a.rs:1: `rocksdb`"],
        );
        assert_findings(&check_one("storage/src/a.rs", "use rocksdb::DB;\n"), &[]);
    }
}
