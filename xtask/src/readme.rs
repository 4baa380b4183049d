//! `cargo xtask readme`: README.md's commands, run as they are written.
//!
//! The blocks fenced as `sh` between the two markers are joined to one script: a reader types them
//! into one shell too. It runs against the binary built last, in an empty directory.

use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::cargo::{self, Workspace};

const START: &str = "<!-- readme-check: start -->";
const END: &str = "<!-- readme-check: end -->";

pub fn run(workspace: &Workspace) -> Result<()> {
    workspace.build("build", &["--package", "node"])?;
    let duet = workspace.duet()?;
    let text = fs::read_to_string(workspace.root().join("README.md")).context("README.md")?;
    let script = script(&text)?;

    let dir = env::temp_dir().join(format!("duet-readme-{}", std::process::id()));
    fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut path = vec![
        duet.parent()
            .context("duet lies in no directory")?
            .to_path_buf(),
    ];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let flow = dir.join("flow.sh");
    fs::write(&flow, script).with_context(|| format!("cannot write {}", flow.display()))?;
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-x", "flow.sh"])
        .current_dir(&dir)
        .env("PATH", env::join_paths(path)?)
        .stdin(Stdio::null());
    let status = bash.status().context("cannot start bash")?;
    if !status.success() {
        // The nodes' data stays, for whoever looks into it.
        bail!(
            "{} ended with {status}; see {}",
            cargo::describe(&bash),
            dir.display()
        );
    }
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))
}

fn script(readme: &str) -> Result<String> {
    let (_, rest) = readme
        .split_once(START)
        .context("README.md lacks the marker of its start")?;
    let (flow, _) = rest
        .split_once(END)
        .context("README.md lacks the marker of its end")?;
    // Jobs die with the shell that started them, whether the flow went well or not.
    let mut script = "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n".to_owned();
    let mut inside = false;
    for line in flow.lines() {
        // In a numbered list the blocks are indented.
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => {
                script.push_str(line);
                script.push('\n');
            }
            _ => {}
        }
    }
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shell_blocks_between_the_markers() {
        let readme =
            format!("```sh\na\n```\n{START}\n   ```sh\n   b\nc\n   ```\n```json\nd\n```\n{END}\ne");
        assert!(script(&readme).unwrap().ends_with("\n   b\nc\n"));
        assert!(script("no marker").is_err());
    }
}
