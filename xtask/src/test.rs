//! `cargo xtask test`: every test of the workspace, those that start real processes among them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use anyhow::{Context, Result, bail};

use crate::Usage;
use crate::cargo::{self, Workspace};

/// Tells the tests in `cluster-tests` which binary to start.
const DUET_BIN: &str = "DUET_BIN";
const CLUSTER_TESTS: &str = "cluster-tests";

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Leaves out `cluster-tests`.
    fast: bool,
    /// Adds the tests marked `#[ignore]`: those too long for every run.
    slow: bool,
    /// Passed to the test runner.
    filter: Vec<String>,
}

impl Options {
    pub fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--fast" => options.fast = true,
                "--slow" => options.slow = true,
                "--" => options.filter.extend(args.by_ref().cloned()),
                other => return Err(Usage(format!("`test` has no option `{other}`")).into()),
            }
        }
        if options.fast && options.slow {
            return Err(Usage("--fast and --slow exclude each other".into()).into());
        }
        Ok(options)
    }

    /// A command of cargo's that builds what these tests need. The slow ones measure, or keep
    /// clusters busy for long.
    fn command(&self, workspace: &Workspace, command: &str, args: &[&str]) -> Result<Command> {
        let mut command = workspace.build_command(command, args)?;
        if self.slow {
            cargo::optimised(&mut command);
        }
        Ok(command)
    }
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    // One build of all targets, so that the tests and the binary they start share every dependency.
    cargo::run(&mut options.command(workspace, "build", &["--workspace", "--all-targets"])?)?;
    let duet = Pinned::new(&workspace.duet()?, workspace.bin_dir())?;
    if cargo::has_subcommand("nextest") {
        nextest(workspace, options, &duet.path)
    } else {
        cargo_test(workspace, options, &duet.path)
    }
}

/// nextest runs no documentation tests, so these go first and its summary closes the output.
fn nextest(workspace: &Workspace, options: &Options, duet: &Path) -> Result<()> {
    let mut docs = options.command(workspace, "test", &["--workspace", "--doc"])?;
    docs.arg("--").args(&options.filter);
    let docs = tallied(&mut docs).context("documentation tests");

    let mut tests = options.command(workspace, "nextest run", &["--workspace"])?;
    // A filter may well match nothing in most packages, and a young tree may have no tests at all.
    tests.args(["--no-fail-fast", "--no-tests", "pass"]);
    if options.fast {
        tests.args(["--exclude", CLUSTER_TESTS]);
    }
    if options.slow {
        tests.args(["--profile", "slow", "--run-ignored", "all"]);
    }
    tests.args(&options.filter).env(DUET_BIN, duet);
    // The results are this command's output, not remarks beside it.
    tests.stderr(Stdio::from(io::stdout()));
    let tests = cargo::run(&mut tests);
    docs?;
    tests
}

fn cargo_test(workspace: &Workspace, options: &Options, duet: &Path) -> Result<()> {
    let mut tests = options.command(workspace, "test", &["--workspace", "--no-fail-fast"])?;
    if options.fast {
        tests.args(["--exclude", CLUSTER_TESTS]);
    }
    tests.arg("--").args(&options.filter);
    if options.slow {
        tests.arg("--include-ignored");
    }
    tallied(tests.env(DUET_BIN, duet))
}

/// Runs `cargo test`, passing its output on as it comes, and adds up the results of all binaries
/// in one last line.
fn tallied(command: &mut Command) -> Result<()> {
    let line = cargo::describe(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {line}"))?;
    let output = child.stdout.take().context("the runner has no output")?;
    let mut tally = Tally::default();
    let mut stdout = io::stdout().lock();
    for text in BufReader::new(output).split(b'\n') {
        let text = text.context("cannot read the runner's output")?;
        stdout.write_all(&text)?;
        stdout.write_all(b"\n")?;
        stdout.flush()?;
        tally.add(&String::from_utf8_lossy(&text));
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {line}"))?;
    writeln!(stdout, "{line}: {tally}")?;
    if !status.success() {
        bail!("{line} ended with {status}");
    }
    Ok(())
}

/// The sums over libtest's lines `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|l| l.split_once(". "))
        else {
            return;
        };
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tally {
            passed,
            failed,
            ignored,
        } = self;
        write!(
            f,
            "{passed} passed, {failed} failed, {ignored} ignored in all"
        )
    }
}

/// A second name for the binary under test, so that a build beside a running test does not change
/// what the test starts next.
pub struct Pinned {
    path: PathBuf,
}

impl Pinned {
    const PREFIX: &str = "duet-under-test-";

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn new(binary: &Path, dir: &Path) -> Result<Pinned> {
        Pinned::remove_left_over(dir)?;
        let path = dir.join(format!("{}{}", Pinned::PREFIX, std::process::id()));
        fs::hard_link(binary, &path)
            .or_else(|_| fs::copy(binary, &path).map(drop))
            .with_context(|| format!("cannot keep {} aside", binary.display()))?;
        Ok(Pinned { path })
    }

    /// Removes what runs that were killed have left.
    fn remove_left_over(dir: &Path) -> Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(pid) = name
                .to_str()
                .and_then(|name| name.strip_prefix(Pinned::PREFIX))
            else {
                continue;
            };
            // Without /proc all of them look alive, and stay.
            if Path::new("/proc/self").exists() && !Path::new("/proc").join(pid).exists() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            eprintln!("xtask: cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options> {
        Options::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options() {
        assert_eq!(parse(&[]).unwrap(), Options::default());
        assert!(parse(&["--fast"]).unwrap().fast);
        assert_eq!(
            parse(&["--", "lease", "ack"]).unwrap().filter,
            ["lease", "ack"]
        );
        assert!(parse(&["--fats"]).unwrap_err().is::<Usage>());
        assert!(parse(&["--fast", "--slow"]).unwrap_err().is::<Usage>());
    }

    #[test]
    fn results_add_up() {
        let mut tally = Tally::default();
        tally.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        tally.add("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured");
        tally.add("test lease::expires ... ok");
        assert_eq!(
            tally,
            Tally {
                passed: 7,
                failed: 2,
                ignored: 1
            }
        );
    }

    #[test]
    fn a_pinned_binary_outlives_its_first_name_and_goes_with_the_run() {
        let dir = std::env::temp_dir().join(format!("xtask-pinned-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let binary = dir.join("duet");
        fs::write(&binary, "first").unwrap();
        let left_over = dir.join(format!("{}{}", Pinned::PREFIX, u32::MAX));
        fs::write(&left_over, "").unwrap();

        let pinned = Pinned::new(&binary, &dir).unwrap();
        fs::remove_file(&binary).unwrap();
        fs::write(&binary, "second").unwrap();
        assert_eq!(fs::read_to_string(&pinned.path).unwrap(), "first");
        assert!(!left_over.exists());

        let path = pinned.path.clone();
        drop(pinned);
        assert!(!path.exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
