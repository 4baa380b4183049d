//! `cargo xtask`: everything one does to this repository, as subcommands of one small program.
//!
//! It knows cargo and the layout of the tree, and nothing of Duet itself: what it starts, it starts
//! as a process. It needs no library but `anyhow`, so it is there before the large dependencies.

mod cargo;
mod readme;
mod setup;
mod test;
mod tidy;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cargo::Workspace;
use crate::test::Pinned;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  setup                 check this machine, install what is missing or name the command that does
  demo [ARGS]           build, then run `duet demo ARGS`: three nodes, a chat, a killed leader
  test [--fast|--slow] [-- FILTER]
                        build, then run every test; --fast leaves out those that start a cluster,
                        --slow adds those marked `#[ignore]`, and optimises; FILTER goes to the
                        test runner
  chaos [ARGS]          build, then break a cluster under load and check every promise (without
                        root: processes and connections alone); --minutes N, --seed S,
                        --faults F1,F2-power-all, --workloads W2,
                        --nodes N, --history FILE, --plan
  planted [ARGS]        plant bugs, and see that the check meant for each notices it (needs root);
                        --bugs NAME,NAME, --list, --no-control, --points --times N
  readme                run the commands of README.md's flow against a cluster, as written
  verify                formatting, lints and tidy; changes nothing
  fix                   format, and apply what clippy can mend by itself
  tidy                  the house rules that no other tool checks
  ci                    verify and test, with Cargo.lock as it stands
";

/// Exit status for a command line that makes no sense, as for `duet` itself.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, args)) = args.split_first() else {
        eprint!("{USAGE}");
        return ExitCode::from(EXIT_USAGE);
    };
    if matches!(command.as_str(), "help" | "--help" | "-h") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match run(command, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            let usage = error.is::<Usage>();
            if usage {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(command: &str, args: &[String]) -> Result<()> {
    let takes_args = matches!(command, "demo" | "test" | "chaos" | "planted");
    if !takes_args && !args.is_empty() {
        return Err(Usage(format!("`{command}` takes no arguments")).into());
    }
    let workspace = Workspace::locate()?;
    match command {
        "setup" => setup::report()?,
        "demo" => {
            setup::ensure()?;
            demo(&workspace, args)?;
        }
        "test" => {
            setup::ensure()?;
            test::run(&workspace, &test::Options::parse(args)?)?;
        }
        "chaos" => {
            setup::ensure()?;
            setup::ensure_lab()?;
            chaos(&workspace, args)?;
        }
        "planted" => {
            setup::ensure()?;
            setup::ensure_lab()?;
            planted(&workspace, args)?;
        }
        "readme" => {
            setup::ensure()?;
            readme::run(&workspace)?;
        }
        "verify" => {
            setup::ensure()?;
            verify(&workspace)?;
        }
        "fix" => {
            setup::ensure()?;
            fix(&workspace)?;
        }
        "tidy" => tidy::run(workspace.root())?,
        "ci" => {
            setup::ensure()?;
            setup::ensure_lab()?;
            ci(&workspace.locked())?;
        }
        other => return Err(Usage(format!("no command `{other}`\n\n{USAGE}")).into()),
    }
    Ok(())
}

/// A command line that makes no sense: reported with [`EXIT_USAGE`].
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Becomes `duet demo`, so that its exit status and its signals are this process's.
fn demo(workspace: &Workspace, args: &[String]) -> Result<()> {
    use std::os::unix::process::CommandExt;

    workspace.build("build", &["--package", "node"])?;
    let mut duet = std::process::Command::new(workspace.duet()?);
    duet.arg("demo").args(args);
    Err(anyhow::Error::new(duet.exec()).context("cannot start duet"))
}

/// Becomes the program that breaks clusters, so that its exit status is this process's.
fn chaos(workspace: &Workspace, args: &[String]) -> Result<()> {
    use std::os::unix::process::CommandExt;

    let packages = ["--package", "node", "--package", "cluster-tests"];
    let mut build = workspace.build_command("build", &packages)?;
    cargo::run(cargo::optimised(&mut build))?;
    let mut chaos = std::process::Command::new(workspace.bin_dir().join("chaos"));
    chaos.args(args).env("DUET_BIN", workspace.duet()?);
    Err(anyhow::Error::new(chaos.exec()).context("cannot start chaos"))
}

/// Runs the cases of planted bugs. The server with the bugs gets a name of its own, and the usual
/// one is built again, so that nothing else starts it.
fn planted(workspace: &Workspace, args: &[String]) -> Result<()> {
    let packages = ["--package", "node", "--package", "cluster-tests"];
    let with_bugs = [&packages[..], &["--features", "node/planted"]].concat();
    workspace.build("build", &with_bugs)?;
    let duet = Pinned::new(&workspace.duet()?, workspace.bin_dir())?;
    workspace.build("build", &packages)?;
    let mut cases = std::process::Command::new(workspace.bin_dir().join("planted"));
    cargo::run(cases.args(args).env("DUET_BIN", duet.path()))
}

/// Runs every check even after one failed: one run tells all there is to mend.
fn verify(workspace: &Workspace) -> Result<()> {
    cargo::ensure_component("fmt", "rustfmt")?;
    cargo::ensure_component("clippy", "clippy")?;
    // rustfmt colours its differences even where nobody can see colours.
    let color = if std::io::stdout().is_terminal() {
        "auto"
    } else {
        "never"
    };
    let format = ["--all", "--check", "--", "--color", color];
    let lints = ["--workspace", "--all-targets", "--", "-D", "warnings"];
    all(&[
        ("tidy", &|| tidy::run(workspace.root())),
        ("formatting", &|| workspace.cargo("fmt", &format)),
        ("clippy", &|| workspace.build("clippy", &lints)),
    ])
}

fn fix(workspace: &Workspace) -> Result<()> {
    cargo::ensure_component("fmt", "rustfmt")?;
    cargo::ensure_component("clippy", "clippy")?;
    // The work in progress is what one wants mended, so a dirty tree is no reason to refuse.
    workspace.build(
        "clippy",
        &["--workspace", "--all-targets", "--fix", "--allow-dirty"],
    )?;
    workspace.cargo("fmt", &["--all"])
}

fn ci(workspace: &Workspace) -> Result<()> {
    all(&[
        ("verify", &|| verify(workspace)),
        ("test", &|| test::run(workspace, &test::Options::default())),
    ])
}

/// One step of a run: what it is called in the verdict, and what it does.
type Step<'a> = (&'a str, &'a dyn Fn() -> Result<()>);

fn all(steps: &[Step<'_>]) -> Result<()> {
    let mut failed = Vec::new();
    for (name, step) in steps {
        if let Err(error) = step() {
            println!("xtask: {name}: {error:#}");
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}
