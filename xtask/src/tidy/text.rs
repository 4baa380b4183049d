//! Rules on one file's text.

use super::{File, Finding};

/// Lines of a source file, tests included.
const FILE_LINES_MAX: usize = 800;
/// Lines of a source file before its tests: what one idea takes.
const FILE_LINES_GOAL: usize = 500;
const LINE_COLUMNS_MAX: usize = 100;

/// Work left undone. (This module is exempt from the rules whose words it must quote.)
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", "FIXME", "XXX", "HACK"];
/// Directories of one particular machine; nothing in the tree may depend on them.
const MACHINE_PATHS: &[&str] = &["/root/", "/Users/"];
/// What apply may not touch, see `clippy.toml` in the other deterministic crates.
const NOT_IN_APPLY: &[&str] = &[
    "SystemTime",
    "Instant",
    "Utc::now",
    "rand::",
    "HashMap",
    "HashSet",
    "async fn",
    ".await",
];

pub fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    trailing_whitespace(file, &mut findings);
    if file.path.starts_with("xtask/src/tidy/") {
        return findings;
    }
    machine_paths(file, &mut findings);
    if is_code(file) {
        columns(file, &mut findings);
        unfinished(file, &mut findings);
    }
    if file.is_rust() {
        length(file, &mut findings);
        ignored_tests(file, &mut findings);
        sleeps(file, &mut findings);
        discarded_results(file, &mut findings);
        apply(file, &mut findings);
    }
    findings
}

fn is_code(file: &File) -> bool {
    let path = file.path.as_str();
    file.is_rust() || path.ends_with(".proto") || path.ends_with(".sh") || path == ".ci/run"
}

fn trailing_whitespace(file: &File, findings: &mut Vec<Finding>) {
    // Golden files hold what the program printed, to the byte.
    if file.path.contains("/golden/") || file.path.ends_with(".snap") {
        return;
    }
    for (number, line) in file.lines() {
        if line.ends_with(|c: char| c.is_whitespace()) {
            findings.push(file.finding(number, "whitespace at the end of the line"));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.push(file.finding(
            file.text.lines().count(),
            "no newline at the end of the file",
        ));
    }
}

fn machine_paths(file: &File, findings: &mut Vec<Finding>) {
    for (number, line) in file.lines() {
        for path in MACHINE_PATHS {
            // Part of a longer path or of an address is something else.
            let absolute = |(at, _): (usize, &str)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "/._-~}".contains(c))
            };
            // The directory itself, without the slash behind it, counts too.
            let bare = &path[..path.len() - 1];
            let at_end = line.ends_with(bare);
            if line.match_indices(path).any(absolute)
                || (at_end && absolute((line.len() - bare.len(), bare)))
            {
                findings.push(file.finding(number, format!("names a path of one machine, {path}")));
            }
        }
    }
}

fn columns(file: &File, findings: &mut Vec<Finding>) {
    for (number, line) in file.lines() {
        let columns = line.chars().count();
        // An address cannot be broken, and a literal reads best whole.
        if columns > LINE_COLUMNS_MAX && !line.contains("://") && !line.contains('"') {
            let message = format!("{columns} columns, at most {LINE_COLUMNS_MAX}");
            findings.push(file.finding(number, message));
        }
    }
}

fn unfinished(file: &File, findings: &mut Vec<Finding>) {
    for (number, line) in file.lines() {
        for mark in UNFINISHED.iter().filter(|mark| contains_word(line, mark)) {
            findings.push(file.finding(number, format!("`{mark}` marks work that is not done")));
        }
    }
}

fn length(file: &File, findings: &mut Vec<Finding>) {
    let lines = file.text.lines().count();
    let before_tests = test_start(file).map_or(lines, |start| start - 1);
    if lines > FILE_LINES_MAX {
        let message = format!("{lines} lines, at most {FILE_LINES_MAX}: split it by idea");
        findings.push(file.finding(0, message));
    } else if before_tests > FILE_LINES_GOAL && !is_test_file(file) {
        let message = format!("{before_tests} lines before its tests: is it one idea?");
        findings.push(file.warning(0, message));
    }
}

fn ignored_tests(file: &File, findings: &mut Vec<Finding>) {
    for (number, line) in file.lines() {
        if line.trim() == "#[ignore]" {
            findings.push(file.finding(number, "say why: `#[ignore = \"…\"]`"));
        }
    }
}

/// In a test a sleep is a guess at how long something takes; wait for the thing itself, or say
/// above the call what the time is for.
fn sleeps(file: &File, findings: &mut Vec<Finding>) {
    let start = if is_test_file(file) {
        1
    } else {
        test_start(file).unwrap_or(usize::MAX)
    };
    let mut above = "";
    for (number, line) in file.lines() {
        let code = line.split("//").next().unwrap_or_default();
        let calls = ["sleep(", "sleep_until("]
            .iter()
            .any(|call| contains_word(code, call));
        let defines = code.contains("fn sleep");
        let reasoned = above.trim_start().starts_with("// sleep:");
        if number >= start && calls && !defines && !reasoned {
            findings.push(file.finding(number, "a sleep in a test, without `// sleep: why` above"));
        }
        above = line;
    }
}

/// A result thrown away needs its reason, beside it or on the line above.
fn discarded_results(file: &File, findings: &mut Vec<Finding>) {
    let end = test_start(file).unwrap_or(usize::MAX);
    if is_test_file(file) {
        return;
    }
    let mut above = "";
    for (number, line) in file.lines().take_while(|(number, _)| *number < end) {
        let statement = line.trim();
        // With a `=` the option is kept; a leading dot continues a statement that may keep it.
        let dropped_ok = statement.ends_with(".ok();") && !statement.contains('=');
        let discards =
            statement.starts_with("let _ = ") || (dropped_ok && !statement.starts_with(['.', '}']));
        let reasoned = line.contains("//") || above.trim_start().starts_with("//");
        if discards && !reasoned {
            findings.push(file.finding(number, "a result thrown away: a comment must say why"));
        }
        above = line;
    }
}

/// Apply gives the same result on every node: no clock, no randomness, no order made up by a
/// process, nothing to wait for. (Crates that are deterministic as a whole leave this to clippy.)
fn apply(file: &File, findings: &mut Vec<Finding>) {
    if !file.path.starts_with("raft/src/apply") {
        return;
    }
    for (number, line) in file.lines() {
        let code = line.split("//").next().unwrap_or_default();
        for word in NOT_IN_APPLY.iter().filter(|word| code.contains(*word)) {
            let message = format!("`{word}` in apply, which must do the same on every node");
            findings.push(file.finding(number, message));
        }
    }
}

/// Whether all of the file is tests.
fn is_test_file(file: &File) -> bool {
    file.top() == "cluster-tests"
        || file.path.contains("/tests/")
        || file.path.ends_with("tests.rs")
}

/// The line where the file's own test module starts.
fn test_start(file: &File) -> Option<usize> {
    let mut lines = file.lines().peekable();
    while let Some((number, line)) = lines.next() {
        let module = lines.peek().map_or("", |(_, next)| next.trim());
        // `mod tests;` says that the tests are in another file.
        if line == "#[cfg(test)]" && module.contains("mod ") && module.ends_with('{') {
            return Some(number);
        }
    }
    None
}

/// Whether `word` stands in `line`, not within a longer name.
fn contains_word(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let starts = !line[..at].ends_with(is_name);
        let ends = !word.ends_with(is_name) || !line[at + word.len()..].starts_with(is_name);
        starts && ends
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_findings;
    use super::*;

    fn check_text(path: &str, text: &str) -> Vec<Finding> {
        check(&File::new(path, text))
    }

    #[test]
    fn whitespace() {
        let findings = check_text("a.md", "a \nb\t\nc");
        assert_findings(
            &findings,
            &[
                "a.md:1: whitespace",
                "a.md:2: whitespace",
                "a.md:3: no newl",
            ],
        );
        assert_findings(&check_text("sql/tests/golden/a.txt", "a \n"), &[]);
    }

    #[test]
    fn columns_count_characters_not_bytes() {
        assert_findings(
            &check_text("a/b.rs", &format!("{}\n", "é".repeat(100))),
            &[],
        );
        let findings = check_text("a/b.rs", &format!("\n{}\n", "a".repeat(101)));
        assert_findings(&findings, &["a/b.rs:2: 101 columns"]);
        assert_findings(
            &check_text("a.rs", &format!("// https://{}\n", "a".repeat(99))),
            &[],
        );
    }

    #[test]
    fn work_not_done() {
        let text = "todo!()\nlet x = unimplemented!(\"y\");\ndbg!(x); // FIXME\n// XXX HACK\n\
                    let not_todo = my_dbg!(HACKNEYED);\n";
        let says = [
            "`todo!`",
            "`unimplemented!`",
            "`dbg!`",
            "`FIXME`",
            "`XXX`",
            "`HACK`",
        ];
        assert_findings(&check_text("a/b.rs", text), &says);
    }

    #[test]
    fn long_files() {
        let long = "let a = 1;\n".repeat(801);
        assert_findings(&check_text("a/b.rs", &long), &["801 lines, at most 800"]);
        let code = "let a = 1;\n".repeat(501);
        let findings = check_text("a/b.rs", &code);
        assert_findings(&findings, &["warning: 501 lines before its tests"]);
        let tests = format!("a\n#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert_findings(&check_text("a/b.rs", &tests), &[]);
    }

    #[test]
    fn paths_of_one_machine() {
        for line in [
            "cd /root/a",
            "\"/Users/b\"",
            "(/root/)",
            "CARGO_HOME=/root/x",
            "cd /root",
        ] {
            let findings = check_text("a/b.md", &format!("{line}\n"));
            assert_findings(&findings, &["names a path of one machine"]);
        }
        for line in [
            "at https://a.io/root/b",
            "/home/a/root/b",
            "/rootspace",
            "./root/a",
            "/rooted",
        ] {
            assert_findings(&check_text("a/b.md", &format!("{line}\n")), &[]);
        }
    }

    #[test]
    fn ignored_without_reason() {
        let text = "#[test]\n#[ignore]\nfn a() {}\n#[ignore = \"minutes\"]\nfn b() {}\n";
        assert_findings(&check_text("a/b.rs", text), &["a/b.rs:2: say why"]);
    }

    #[test]
    fn sleeps_in_tests() {
        let text = "tokio::time::sleep(d).await;\n\n// sleep: the lease must run out\n\
                    thread::sleep(d);\nsleep(d);\nfn sleep(d: u8) {}\n// no sleep(d) here\n";
        let says = ["c.rs:1: a sleep", "c.rs:5: a sleep"];
        assert_findings(&check_text("cluster-tests/tests/c.rs", text), &says);
        assert_findings(&check_text("node/src/c.rs", text), &[]);
        let text = format!("sleep(d);\n#[cfg(test)]\nmod tests {{\n{text}}}\n");
        assert_findings(
            &check_text("node/src/c.rs", &text),
            &["c.rs:4: a", "c.rs:8: a"],
        );
    }

    #[test]
    fn results_thrown_away() {
        let text = "let _ = send();\n// The receiver is gone when the client is.\nlet _ = send();\n\
                    let _ = send(); // see above\nsend().ok();\nlet a = send().ok();\n\
                    #[cfg(test)]\nmod tests {\n    let _ = send();\n}\n";
        assert_findings(
            &check_text("a/b.rs", text),
            &["b.rs:1: a result", "b.rs:5: a result"],
        );
    }

    #[test]
    fn a_clock_in_apply() {
        let text = "let now = Instant::now();\n// not SystemTime\nuse std::collections::HashMap;\n";
        let findings = check_text("raft/src/apply/rows.rs", text);
        assert_findings(
            &findings,
            &["rows.rs:1: `Instant` in apply", "rows.rs:3: `HashMap`"],
        );
        assert_findings(&check_text("raft/src/batcher.rs", text), &[]);
    }
}
