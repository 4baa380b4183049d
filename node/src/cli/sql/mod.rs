//! `duet sql`: statements from the command line, a file, a pipe or a prompt.

mod prompt;
mod split;

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use client::api::{SqlRequest, SqlResponse};
use client::{Answer, Client, RequestOptions};

use self::split::{Script, Statement};
use super::connection::ConnectionArgs;
use super::error::CliError;
use super::output::{self, Format};

/// Arguments of `duet sql`.
#[derive(Args, Debug)]
pub struct SqlArgs {
    /// Run this and leave; may be repeated
    #[arg(short, long = "command", value_name = "SQL")]
    commands: Vec<String>,
    /// Run the statements of this file and leave; `-` reads them from stdin
    #[arg(short, long, value_name = "FILE", conflicts_with = "commands")]
    file: Option<PathBuf>,
    /// How results are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `duet sql`.
pub async fn run(args: SqlArgs) -> Result<(), CliError> {
    let mut session = Session::new(args.connection.client()?, args.format);
    if !args.commands.is_empty() {
        for command in &args.commands {
            session.run_text(command).await?;
        }
        return Ok(());
    }
    match &args.file {
        Some(path) => session.run_script(&read_file(path)?).await,
        None if io::stdin().is_terminal() => prompt::run(session).await,
        None => session.run_script(&read_file(Path::new("-"))?).await,
    }
}

fn read_file(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::File {
        path: path.to_owned(),
        source,
    };
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin()
            .lock()
            .read_to_string(&mut text)
            .map_err(failed)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// What lasts from one statement to the next. The server keeps nothing between requests, so the
/// namespace that `USE` chose is kept here.
struct Session {
    client: Client,
    namespace: Option<String>,
    format: Format,
}

impl Session {
    fn new(client: Client, format: Format) -> Session {
        Session {
            client,
            namespace: None,
            format,
        }
    }

    /// Runs a script piece by piece, so that its length has no limit; stops at the first error.
    async fn run_script(&mut self, text: &str) -> Result<(), CliError> {
        for statements in Script::cut(text).into_requests() {
            let texts: Vec<&str> = statements
                .iter()
                .map(|statement| statement.text.as_str())
                .collect();
            // A comment to the end of the line would swallow the semicolon.
            let answer = self.send(&texts.join("\n;\n")).await?;
            self.note(&statements);
            self.print(&answer)?;
        }
        Ok(())
    }

    /// Runs a text as one request.
    async fn run_text(&mut self, text: &str) -> Result<(), CliError> {
        let answer = self.send(text).await?;
        let script = Script::cut(text);
        self.note(&script.statements);
        self.note(script.rest.as_slice());
        self.print(&answer)
    }

    async fn send(&self, text: &str) -> Result<Answer<SqlResponse>, CliError> {
        let request = SqlRequest {
            namespace_id: self.namespace.clone(),
            ..SqlRequest::new(text)
        };
        Ok(self
            .client
            .execute(&request, &RequestOptions::default())
            .await?)
    }

    /// Remembers what statements that ran changed in the session.
    fn note(&mut self, statements: &[Statement]) {
        if let Some(namespace) = statements.iter().rev().find_map(Statement::uses) {
            self.namespace = Some(namespace);
        }
    }

    fn print(&self, answer: &SqlResponse) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        for result in &answer.results {
            output::result(&mut out, result, self.format)?;
        }
        out.flush()?;
        Ok(())
    }
}
