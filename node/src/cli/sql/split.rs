//! Where a statement ends: enough of SQL's lexical rules to cut a script, nothing of its grammar.
//!
//! The server parses; here it only has to be known which `;` is inside a string, a name or a
//! comment, so that a prompt knows when to send and a file can be sent piece by piece.

/// One statement without its `;`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The text, comments included.
    pub text: String,
    /// Its first words outside of comments, in upper case, at most [`HEAD_WORDS`].
    head: Vec<String>,
    /// Its first words as they were written.
    words: Vec<String>,
}

/// Words that are looked at to know what a statement does to the session.
const HEAD_WORDS: usize = 2;

impl Statement {
    /// Whether it opens a transaction.
    pub fn begins(&self) -> bool {
        match self.head.first().map(String::as_str) {
            Some("BEGIN") => true,
            Some("START") => self.head.get(1).is_some_and(|word| word == "TRANSACTION"),
            _ => false,
        }
    }

    /// Whether it closes a transaction.
    pub fn ends(&self) -> bool {
        matches!(
            self.head.first().map(String::as_str),
            Some("COMMIT" | "ROLLBACK" | "END")
        )
    }

    /// The namespace that `USE name` changes to.
    pub fn uses(&self) -> Option<String> {
        if self.head.first().map(String::as_str) != Some("USE") {
            return None;
        }
        let name = self.words.get(1)?;
        Some(
            match name
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
            {
                Some(quoted) => quoted.replace("\"\"", "\""),
                None => name.to_lowercase(),
            },
        )
    }
}

/// A text cut into statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Those that end with `;`.
    pub statements: Vec<Statement>,
    /// What stands behind the last `;`, if it is more than spaces and comments.
    pub rest: Option<Statement>,
}

impl Script {
    /// Cuts a text.
    pub fn cut(text: &str) -> Script {
        let mut script = Script::default();
        let mut lexer = Lexer { text, at: 0 };
        let mut start = 0;
        let mut words: Vec<String> = Vec::new();
        let mut empty = true;
        while let Some(token) = lexer.next() {
            match token {
                Token::Semicolon => {
                    if !empty {
                        let text = &text[start..lexer.at - 1];
                        script
                            .statements
                            .push(statement(text, std::mem::take(&mut words)));
                    }
                    (start, empty) = (lexer.at, true);
                }
                Token::Blank => {}
                Token::Word(word) => {
                    empty = false;
                    if words.len() < HEAD_WORDS {
                        words.push(word.to_owned());
                    }
                }
                Token::Other => empty = false,
            }
        }
        if !empty {
            script.rest = Some(statement(&text[start..], words));
        }
        script
    }

    /// Whether a prompt should send now: something is there, nothing is unfinished, and no
    /// transaction is open (the server runs a transaction within one request).
    pub fn is_complete(&self) -> bool {
        let mut open = false;
        for statement in &self.statements {
            open = (open || statement.begins()) && !statement.ends();
        }
        self.rest.is_none() && !open
    }

    /// The pieces to send one after the other: single statements, and whole transactions.
    pub fn into_requests(self) -> Vec<Vec<Statement>> {
        let mut requests: Vec<Vec<Statement>> = Vec::new();
        let mut open = false;
        for statement in self.statements.into_iter().chain(self.rest) {
            let begins = statement.begins();
            let ends = statement.ends();
            match requests.last_mut() {
                Some(transaction) if open => transaction.push(statement),
                _ => requests.push(vec![statement]),
            }
            open = (open || begins) && !ends;
        }
        requests
    }
}

fn statement(text: &str, words: Vec<String>) -> Statement {
    let head = words.iter().map(|word| word.to_uppercase()).collect();
    Statement {
        text: text.trim().to_owned(),
        head,
        words,
    }
}

enum Token<'a> {
    Semicolon,
    /// Space or a comment.
    Blank,
    /// A keyword or a name, with its quotes.
    Word(&'a str),
    /// A string, a number, an operator.
    Other,
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        let start = self.at;
        let rest = &self.text[start..];
        let first = rest.chars().next()?;
        let (length, blank) = match first {
            ';' => {
                self.at += 1;
                return Some(Token::Semicolon);
            }
            '\'' => (quoted(rest, '\''), false),
            '"' => {
                self.at += quoted(rest, '"');
                return Some(Token::Word(&self.text[start..self.at]));
            }
            '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), true),
            '/' if rest.starts_with("/*") => (comment(rest), true),
            '$' => (dollar_quoted(rest), false),
            c if c.is_whitespace() => (c.len_utf8(), true),
            c if is_word(c) => {
                self.at += rest.find(|c| !is_word(c) && c != '$').unwrap_or(rest.len());
                return Some(Token::Word(&self.text[start..self.at]));
            }
            c => (c.len_utf8(), false),
        };
        self.at += length;
        Some(if blank { Token::Blank } else { Token::Other })
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Length of `'…'` or `"…"`, in which the quote stands doubled; to the end if it is not closed.
fn quoted(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            match chars.peek() {
                Some((_, next)) if *next == quote => {
                    chars.next();
                }
                _ => return at + c.len_utf8(),
            }
        }
    }
    text.len()
}

/// Length of `/* … */`, which may be nested; to the end if it is not closed.
fn comment(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" if depth == 1 => return at + 2,
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    text.len()
}

/// Length of `$tag$ … $tag$`, or of a lone `$` as in `$1`.
fn dollar_quoted(text: &str) -> usize {
    let tag_end = text[1..].find('$').map(|at| at + 2);
    let Some(tag) = tag_end.map(|end| &text[..end]) else {
        return 1;
    };
    let name = &tag[1..tag.len() - 1];
    let is_tag = name.chars().all(is_word) && !name.starts_with(|c: char| c.is_ascii_digit());
    if !is_tag {
        return 1;
    }
    match text[tag.len()..].find(tag) {
        Some(at) => at + 2 * tag.len(),
        None => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &Script) -> Vec<&str> {
        script
            .statements
            .iter()
            .map(|statement| statement.text.as_str())
            .collect()
    }

    #[test]
    fn semicolons_in_strings_names_and_comments_do_not_cut() {
        let text = "SELECT 'a;''b;' ; SELECT \"x;\"\"y\" -- one; two\n;\n\
                    /* ; /* ; */ ; */ SELECT $t$ ; $$ ; $t$, $1; SELECT 4";
        let script = Script::cut(text);
        assert_eq!(
            texts(&script),
            [
                "SELECT 'a;''b;'",
                "SELECT \"x;\"\"y\" -- one; two",
                "/* ; /* ; */ ; */ SELECT $t$ ; $$ ; $t$, $1",
            ]
        );
        assert_eq!(script.rest.unwrap().text, "SELECT 4");
    }

    #[test]
    fn empty_statements_are_dropped() {
        let script = Script::cut(" ;; -- nothing\n; /* at all */ ;\n");
        assert_eq!(script, Script::default());
        assert!(script.is_complete());
    }

    #[test]
    fn a_prompt_waits_for_the_end_of_what_was_begun() {
        for unfinished in [
            "SELECT 1",
            "SELECT 'a;",
            "SELECT 1 /* ;",
            "SELECT \"a;",
            "SELECT $$ a;",
            "BEGIN;",
        ] {
            assert!(!Script::cut(unfinished).is_complete(), "{unfinished}");
        }
        for whole in [
            "SELECT 1;",
            "BEGIN; COMMIT;",
            "start transaction; ROLLBACK ;",
            "BEGIN;END;",
        ] {
            assert!(Script::cut(whole).is_complete(), "{whole}");
        }
        assert!(!Script::cut("BEGIN; INSERT INTO t VALUES (1);").is_complete());
    }

    #[test]
    fn transactions_stay_whole() {
        let text = "SELECT 1; begin; INSERT a; INSERT b; commit; SELECT 2; BEGIN; SELECT 3";
        let requests = Script::cut(text).into_requests();
        let sizes: Vec<usize> = requests.iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 4, 1, 2]);
    }

    #[test]
    fn use_names_a_namespace_as_the_server_reads_it() {
        let uses = |text: &str| Script::cut(text).statements[0].uses();
        assert_eq!(uses("USE Demo;").as_deref(), Some("demo"));
        assert_eq!(
            uses("-- first\nuse \"My \"\"ns\";").as_deref(),
            Some("My \"ns")
        );
        assert_eq!(uses("SELECT use;"), None);
    }

    #[test]
    fn any_text_is_cut_without_panic() {
        for text in [
            "'", "\"", "$", "$$", "$é$", "/*", "*/", "--", "é;ü", "$1$2", "/*/", "a$b$c;",
        ] {
            let _unused = Script::cut(text);
        }
    }
}
