//! The interactive prompt: history, completion, statements over several lines.

use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper};

use super::Session;
use super::split::Script;
use crate::cli::error::CliError;
use crate::cli::output::text;

const HELP: &str = "\
Statements end with `;` and may span lines. From BEGIN to COMMIT they are sent together.
  \\d          tables and topics      \\d NAME     columns of a table
  \\?          this help              \\q          leave (also Ctrl-D)";

/// Words completed beside the names of tables, topics and namespaces.
const KEYWORDS: &[&str] = &[
    "ACK",
    "ADD SOURCE",
    "ALTER TABLE",
    "ALTER TOPIC",
    "AND",
    "BEGIN",
    "CLEAR TOPIC",
    "COMMIT",
    "CONSUME FROM",
    "COUNT(*)",
    "CREATE INDEX",
    "CREATE NAMESPACE",
    "CREATE SHARED TABLE",
    "CREATE TABLE",
    "CREATE TOPIC",
    "CREATE USER",
    "CREATE USER TABLE",
    "DEFAULT",
    "DELETE FROM",
    "DESCRIBE",
    "DROP NAMESPACE",
    "DROP TABLE",
    "DROP TOPIC",
    "EARLIEST",
    "EXECUTE AS USER",
    "EXPLAIN",
    "FROM",
    "GROUP BY",
    "INSERT INTO",
    "JOIN",
    "LATEST",
    "LIMIT",
    "NOT NULL",
    "ORDER BY",
    "PARTITIONS",
    "PRIMARY KEY",
    "RESET CONSUMER GROUP",
    "RETURNING",
    "ROLLBACK",
    "SELECT",
    "SET",
    "SHOW NAMESPACES",
    "SHOW TABLES",
    "UPDATE",
    "USE",
    "VALUES",
    "WHERE",
];

/// Asks for statements until the person leaves. An error of a statement is shown, not the end.
pub async fn run(mut session: Session) -> Result<(), CliError> {
    eprintln!(
        "duet {}. \\? for help, \\q to leave.",
        env!("CARGO_PKG_VERSION")
    );
    let names = names(&session).await?;
    let mut editor = Editor::<PromptHelper, FileHistory>::new().map_err(failed)?;
    editor.set_helper(Some(PromptHelper { names }));
    let history = history_file();
    if let Some(path) = &history {
        // A first start has no history yet; a broken one is no reason not to work.
        let _ = editor.load_history(path);
    }
    loop {
        let prompt = format!("{}> ", session.namespace.as_deref().unwrap_or("duet"));
        let (line, back) = read_line(editor, prompt).await?;
        editor = back;
        let Some(line) = line else { break };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        // Only an entry that repeats the last one is not added.
        let _ = editor.add_history_entry(line);
        if line == "\\q" {
            break;
        }
        if let Err(error) = entered(&mut session, line).await {
            eprintln!("{error}");
        }
    }
    if let Some(path) = &history {
        // Losing the history of one session is not worth an error code.
        let _ = editor.save_history(path);
    }
    Ok(())
}

async fn entered(session: &mut Session, line: &str) -> Result<(), CliError> {
    match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["\\?"] => {
            eprintln!("{HELP}");
            Ok(())
        }
        ["\\d"] => {
            session
                .run_text(
                    "SELECT namespace_id, table_name, table_type FROM system.tables \
                              ORDER BY namespace_id, table_name",
                )
                .await?;
            session
                .run_text("SELECT topic_id, partitions FROM system.topics ORDER BY topic_id")
                .await
        }
        ["\\d", table] => session.run_text(&format!("DESCRIBE {table}")).await,
        [command, ..] if command.starts_with('\\') => Err(CliError::Usage(format!(
            "{command} is not known; \\? shows what is"
        ))),
        _ => session.run_script(line).await,
    }
}

/// Reads one statement. The editor blocks, so it goes to a thread of its own and comes back.
async fn read_line(
    mut editor: Editor<PromptHelper, FileHistory>,
    prompt: String,
) -> Result<(Option<String>, Editor<PromptHelper, FileHistory>), CliError> {
    let read = tokio::task::spawn_blocking(move || (editor.readline(&prompt), editor));
    let (line, editor) = read.await.map_err(std::io::Error::other)?;
    match line {
        Ok(line) => Ok((Some(line), editor)),
        // Ctrl-C drops what was typed, as shells do.
        Err(ReadlineError::Interrupted) => Ok((Some(String::new()), editor)),
        Err(ReadlineError::Eof) => Ok((None, editor)),
        Err(error) => Err(failed(error)),
    }
}

/// Names that can be completed; none if this user may not list them.
async fn names(session: &Session) -> Result<Vec<String>, CliError> {
    let mut names = Vec::new();
    let queries = [
        "SELECT namespace_id || '.' || table_name FROM system.tables",
        "SELECT topic_id FROM system.topics",
    ];
    for query in queries {
        match session.client.query(query).await {
            Ok(answer) => {
                let rows = answer
                    .body
                    .results
                    .into_iter()
                    .filter_map(|result| result.rows);
                names.extend(rows.flatten().filter_map(|row| row.first().map(text)));
            }
            Err(client::Error::Refused(error)) if error.status != 401 => {}
            // Better now than after a long statement was typed.
            Err(error) => return Err(error.into()),
        }
    }
    Ok(names)
}

fn history_file() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    Some(PathBuf::from(home).join(".duet_history"))
}

fn failed(error: ReadlineError) -> CliError {
    CliError::Terminal(std::io::Error::other(error))
}

struct PromptHelper {
    names: Vec<String>,
}

impl Helper for PromptHelper {}

impl Hinter for PromptHelper {
    type Hint = String;
}

impl Highlighter for PromptHelper {}

impl Validator for PromptHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_whole(context.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

/// Whether Enter sends what was typed; otherwise it starts another line.
fn is_whole(input: &str) -> bool {
    input.trim_start().starts_with('\\') || Script::cut(input).is_complete()
}

impl Completer for PromptHelper {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(complete(&line[..at], &self.names))
    }
}

/// Where the word before the cursor starts, and what it may become.
fn complete(before: &str, names: &[String]) -> (usize, Vec<String>) {
    let in_word = |c: char| c.is_alphanumeric() || "._".contains(c);
    let start = before.rfind(|c| !in_word(c)).map_or(0, |at| {
        at + before[at..].chars().next().map_or(0, char::len_utf8)
    });
    let word = &before[start..];
    if word.is_empty() {
        return (start, Vec::new());
    }
    let starts = |candidate: &str| {
        candidate
            .get(..word.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(word))
    };
    let lower = word.chars().all(|c| !c.is_uppercase());
    let keywords = KEYWORDS
        .iter()
        .filter(|keyword| starts(keyword))
        .map(|keyword| {
            if lower {
                keyword.to_lowercase()
            } else {
                (*keyword).to_owned()
            }
        });
    let names = names.iter().filter(|name| starts(name)).cloned();
    (start, names.chain(keywords).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_completed_in_the_case_they_were_begun() {
        let names = ["demo.messages".to_owned(), "demo.events".to_owned()];
        assert_eq!(complete("sel", &names), (0, vec!["select".into()]));
        assert_eq!(complete("SEL", &names), (0, vec!["SELECT".into()]));
        assert_eq!(
            complete("SELECT * FROM demo.m", &names),
            (14, vec!["demo.messages".into()])
        );
        assert_eq!(complete("é", &names), (0, vec![]));
        assert_eq!(complete("SELECT ", &names), (7, vec![]));
    }

    #[test]
    fn enter_sends_commands_and_whole_statements() {
        for whole in ["\\d", "SELECT 1;", "", "  "] {
            assert!(is_whole(whole), "{whole}");
        }
        for part in ["SELECT 1", "BEGIN;"] {
            assert!(!is_whole(part), "{part}");
        }
    }
}
