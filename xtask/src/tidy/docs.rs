//! The architecture page: every file it names is there.

use super::{File, Finding};

const PAGE: &str = "ARCHITECTURE.md";

/// What ends in one of these names a file; what ends in `/`, a directory.
const EXTENSIONS: &[&str] = &[
    "rs", "toml", "md", "proto", "sql", "slt", "sh", "yml", "yaml", "json", "service", "txt",
];

pub fn check(files: &[File]) -> Vec<Finding> {
    let Some(page) = files.iter().find(|file| file.path == PAGE) else {
        let page = File {
            path: PAGE.to_owned(),
            text: String::new(),
        };
        return vec![page.finding(0, "is missing")];
    };
    let mut findings = Vec::new();
    for (number, line) in page.lines() {
        for name in line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| names_a_file(name))
        {
            if !files.iter().any(|file| matches(&file.path, name)) {
                findings.push(page.finding(number, format!("there is no `{name}`")));
            }
        }
    }
    findings
}

fn names_a_file(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if word.starts_with('/') || !word.chars().all(plain) {
        return false;
    }
    let extension = word.rsplit_once('.').map(|(_, extension)| extension);
    word.ends_with('/') || extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// Whether `path` is what `name` names: the whole path, or its end, or a directory above it.
fn matches(path: &str, name: &str) -> bool {
    if name.ends_with('/') {
        return path.starts_with(name) || path.contains(&format!("/{name}"));
    }
    path.strip_suffix(name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_findings;
    use super::*;

    #[test]
    fn a_page_that_names_what_is_gone() {
        let page = "Reads go through `sql/src/read.rs` to `keys/`,\n\
                    then `plan.rs` and `raft/src/gone.rs`, never `an.rs` or `lost/`.\n\
                    `GET /ready`, `/v1/a.json`, `Batch` and `types` name no file.\n";
        let files = [
            File::new(PAGE, page),
            File::new("sql/src/read.rs", ""),
            File::new("sql/src/plan.rs", ""),
            File::new("storage/src/keys/mod.rs", ""),
        ];
        let says = [
            "ARCHITECTURE.md:2: there is no `raft/src/gone.rs`",
            "`an.rs`",
            "`lost/`",
        ];
        assert_findings(&check(&files), &says);
    }

    #[test]
    fn a_page_that_is_not_there() {
        assert_findings(&check(&[]), &["ARCHITECTURE.md: is missing"]);
    }
}
