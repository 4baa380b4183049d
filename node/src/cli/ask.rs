//! Asking before a step that cannot be taken back.

use std::io::{self, BufRead, IsTerminal, Write};

use super::error::CliError;

/// Returns if `yes` was given on the command line or the person at the terminal agrees. Without a
/// terminal there is nobody to ask, and `--yes` is required.
pub fn confirm(question: &str, yes: bool) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(format!(
            "{question} Add --yes to do it without a terminal."
        )));
    }
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(CliError::Declined)
    }
}
