//! The workspace as seen from outside: where it lies, where its builds go, how cargo is called.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;
use std::{env, fs, io};

use anyhow::{Context, Result, bail};

/// A file in the target directory that names the checkout which built there last.
const CHECKOUT_MARK: &str = ".duet-checkout";

pub struct Workspace {
    root: PathBuf,
    /// Where this profile's binaries are: the directory this program itself was started from.
    bin_dir: PathBuf,
    locked: bool,
}

impl Workspace {
    /// Found through the environment that `cargo run` sets: the path compiled into this binary may
    /// be another checkout's, when several share a target directory.
    pub fn locate() -> Result<Workspace> {
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
            .context("start it as `cargo xtask`, which tells it where the workspace is")?;
        let root = Path::new(&manifest_dir)
            .parent()
            .context("xtask lies in no workspace")?
            .to_path_buf();
        let exe = env::current_exe().context("cannot find this program's own path")?;
        let bin_dir = exe
            .parent()
            .context("this program lies in no directory")?
            .to_path_buf();
        Ok(Workspace {
            root,
            bin_dir,
            locked: false,
        })
    }

    /// The same workspace, with a Cargo.lock that must be complete as it stands.
    pub fn locked(self) -> Workspace {
        Workspace {
            locked: true,
            ..self
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The server's binary, as built last.
    pub fn duet(&self) -> Result<PathBuf> {
        let path = self.bin_dir.join("duet");
        if !path.is_file() {
            bail!("the build left no binary at {}", path.display());
        }
        Ok(path)
    }

    /// A cargo command that compiles. `subcommand` may be of two words (`nextest run`).
    pub fn build_command(&self, subcommand: &str, args: &[&str]) -> Result<Command> {
        self.claim_target_dir()?;
        let mut command = self.command(subcommand);
        if self.locked {
            command.arg("--locked");
        }
        command.args(args);
        Ok(command)
    }

    pub fn build(&self, subcommand: &str, args: &[&str]) -> Result<()> {
        run(&mut self.build_command(subcommand, args)?)
    }

    /// A cargo command that compiles nothing.
    pub fn cargo(&self, subcommand: &str, args: &[&str]) -> Result<()> {
        run(self.command(subcommand).args(args))
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(cargo_program());
        command.args(subcommand.split(' ')).current_dir(&self.root);
        command
    }

    /// Makes sure that a build uses this checkout's sources.
    ///
    /// Cargo names what it builds by the path *within* the workspace and judges freshness by file
    /// times alone. So two checkouts that share a target directory are given each other's results
    /// when their files are older than the last build. When another checkout built here last, this
    /// one's sources are therefore marked as just changed.
    fn claim_target_dir(&self) -> Result<()> {
        let mark = self.bin_dir.join(CHECKOUT_MARK);
        let here = self.root.to_string_lossy();
        match fs::read_to_string(&mark) {
            Ok(last) if last == here => return Ok(()),
            Ok(_) => touch_sources(&self.root)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => touch_sources(&self.root)?,
            Err(error) => return Err(error).context(format!("cannot read {}", mark.display())),
        }
        fs::write(&mark, here.as_bytes())
            .with_context(|| format!("cannot write {}", mark.display()))
    }
}

fn touch_sources(root: &Path) -> Result<()> {
    let now = SystemTime::now();
    for path in source_files(root)? {
        let path = root.join(path);
        fs::File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(now))
            .with_context(|| format!("cannot mark {} as changed", path.display()))?;
    }
    Ok(())
}

/// All files of the tree but the ignored ones, as paths below the root with `/` between the parts.
pub fn source_files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .context("cannot start git")?;
    if !output.status.success() {
        bail!(
            "git ls-files: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let listing = String::from_utf8(output.stdout).context("a file name that is not UTF-8")?;
    let mut paths: Vec<String> = listing
        .split('\0')
        // What is deleted but not committed is still listed.
        .filter(|path| !path.is_empty() && root.join(path).is_file())
        .map(str::to_owned)
        .collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}

fn cargo_program() -> std::ffi::OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Optimises our own crates too where clusters run for long or are measured, with every assertion
/// still in: twice the writes in the same time, for minutes of compilation that the gate cannot
/// spare.
pub fn optimised(command: &mut Command) -> &mut Command {
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
}

/// Runs a command to its end; a status other than 0 is an error that names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", describe(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", describe(command));
    }
    Ok(())
}

/// A command as one would type it.
pub fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// Whether `cargo NAME` exists on this machine.
pub fn has_subcommand(name: &str) -> bool {
    Command::new(cargo_program())
        .args([name, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// rustfmt and clippy come with most toolchains, but a minimal one lacks them.
pub fn ensure_component(subcommand: &str, component: &str) -> Result<()> {
    if has_subcommand(subcommand) {
        return Ok(());
    }
    run(Command::new("rustup").args(["component", "add", component]))
        .with_context(|| format!("`cargo {subcommand}` is missing: install {component}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_checkout_that_did_not_build_here_last_has_its_sources_marked() {
        let dir = env::temp_dir().join(format!("xtask-claim-{}", std::process::id()));
        let source = dir.join("checkout/lib.rs");
        fs::create_dir_all(dir.join("checkout")).unwrap();
        fs::write(&source, "").unwrap();
        run(Command::new("git")
            .args(["init", "-q"])
            .current_dir(dir.join("checkout")))
        .unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let open = |file: &Path| fs::File::options().append(true).open(file).unwrap();
        let modified = || fs::metadata(&source).unwrap().modified().unwrap();
        let workspace = Workspace {
            root: dir.join("checkout"),
            bin_dir: dir.clone(),
            locked: false,
        };

        for last in [None, Some("elsewhere")] {
            if let Some(last) = last {
                fs::write(dir.join(CHECKOUT_MARK), last).unwrap();
            }
            open(&source).set_modified(old).unwrap();
            workspace.claim_target_dir().unwrap();
            assert!(modified() > old, "{last:?}");
        }
        open(&source).set_modified(old).unwrap();
        workspace.claim_target_dir().unwrap();
        assert_eq!(modified(), old);
        fs::remove_dir_all(&dir).unwrap();
    }
}
