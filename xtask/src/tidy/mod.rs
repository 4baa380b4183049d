//! `cargo xtask tidy`: the house rules that neither the compiler, rustfmt nor clippy checks.
//!
//! A rule is a function from files to findings, with a test that shows it objecting. What a rule
//! cannot judge (a name, a comment, a bound) is for the reviewer.

mod docs;
mod graph;
mod planted;
mod text;

use std::path::Path;
use std::{fmt, fs};

use anyhow::{Context, Result, bail};

use crate::cargo;

/// A file of the tree: its path below the root, with `/` between the parts, and its text.
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    #[cfg(test)]
    fn new(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The directory at the top that the file lies in: for most files, their crate.
    fn top(&self) -> &str {
        self.path.split_once('/').map_or("", |(top, _)| top)
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The lines with their numbers, from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            message: message.into(),
            fails: true,
        }
    }

    fn warning(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding {
            fails: false,
            ..self.finding(line, message)
        }
    }
}

#[derive(Debug)]
pub struct Finding {
    path: String,
    /// From 1; 0 stands for the whole file.
    line: usize,
    message: String,
    /// A warning does not.
    fails: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            path,
            line,
            message,
            fails,
        } = self;
        let kind = if *fails { "" } else { "warning: " };
        match line {
            0 => write!(f, "{path}: {kind}{message}"),
            line => write!(f, "{path}:{line}: {kind}{message}"),
        }
    }
}

/// Prints what it finds; fails when any of it is more than a warning.
pub fn run(root: &Path) -> Result<()> {
    let files = load(root)?;
    let mut findings: Vec<Finding> = files.iter().flat_map(text::check).collect();
    findings.extend(graph::check(&files));
    findings.extend(docs::check(&files));
    findings.extend(planted::check(&files));
    for finding in &findings {
        println!("{finding}");
    }
    let failures = findings.iter().filter(|finding| finding.fails).count();
    let warnings = findings.len() - failures;
    println!(
        "tidy: {} files, {failures} to mend, {warnings} warnings",
        files.len()
    );
    if failures > 0 {
        bail!("tidy found {failures} to mend");
    }
    Ok(())
}

/// Inputs of fuzzing: any bytes, which are text by chance.
const CORPUS: &str = "fuzz/corpus/";

/// The tree's text files. A file that is not UTF-8 (a picture, a golden database) has no rules.
fn load(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let sources = cargo::source_files(root)?.into_iter();
    for path in sources.filter(|path| !path.starts_with(CORPUS)) {
        let bytes = fs::read(root.join(&path)).with_context(|| format!("cannot read {path}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(File { path, text });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expects exactly these findings, each by a part of its text.
    pub fn assert_findings(findings: &[Finding], expected: &[&str]) {
        let seen: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert_eq!(seen.len(), expected.len(), "{seen:#?}");
        for (seen, expected) in seen.iter().zip(expected) {
            assert!(
                seen.contains(expected),
                "{seen:?} does not say {expected:?}"
            );
        }
    }

    #[test]
    fn this_tree_is_tidy() {
        // Asked at run time: what is compiled in may be another checkout's.
        let manifest_dir = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        assert!(
            run(Path::new(&manifest_dir).parent().unwrap()).is_ok(),
            "`cargo xtask tidy` says what is to mend"
        );
    }
}
