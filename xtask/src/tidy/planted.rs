//! Planted bugs stay out of every build that anybody would run: the feature is nobody's default,
//! nothing in `deploy` names it, and the compiler refuses it without debug assertions, which no
//! release profile turns on.

use super::{File, Finding};

const FEATURE: &str = "planted";
/// Where the compiler is told to refuse it.
const SOURCE: &str = "types/src/planted.rs";
const REFUSAL: &str = "compile_error!";

pub fn check(files: &[File]) -> Vec<Finding> {
    files.iter().flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    if file.path == SOURCE && !file.text.contains(REFUSAL) {
        findings.push(file.finding(0, "nothing refuses planted bugs in a release build"));
    }
    for (number, line) in file.lines() {
        let line = line.trim();
        let (in_manifest, in_deploy) = (file.path.ends_with("Cargo.toml"), file.top() == "deploy");
        let planted = line.contains(FEATURE) || line.contains("all-features");
        if in_manifest && line.starts_with("default") && planted {
            findings.push(file.finding(number, "planted bugs are nobody's default"));
        }
        if in_manifest && line.starts_with("debug-assertions") {
            findings.push(file.finding(
                number,
                "debug assertions tell builds for tests from those that are released",
            ));
        }
        if in_deploy && planted {
            findings.push(file.finding(number, "what is deployed has no planted bugs"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_findings;
    use super::*;

    fn check_one(path: &str, text: &str) -> Vec<Finding> {
        check(&[File::new(path, text)])
    }

    #[test]
    fn every_way_into_a_release_is_closed() {
        let cases = [
            ("node/Cargo.toml", "[features]\ndefault = [\"planted\"]\n"),
            ("Cargo.toml", "[profile.release]\ndebug-assertions = true\n"),
            ("deploy/Dockerfile", "RUN cargo build --features planted\n"),
            ("deploy/Dockerfile", "RUN cargo build --all-features\n"),
            ("types/src/planted.rs", "pub fn has() {}\n"),
        ];
        for (path, text) in cases {
            assert_eq!(check_one(path, text).len(), 1, "{path}: {text}");
        }
        let fine = "[features]\nplanted = [\"types/planted\"]\n";
        assert_findings(&check_one("node/Cargo.toml", fine), &[]);
    }
}
