//! The token stream of a text: sqlparser's, with words that are ours and errors with positions.

use datafusion::sql::sqlparser::ast::{Expr, Query, SelectItem};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{
    Location, Token, TokenWithSpan, Tokenizer, TokenizerError, Word,
};
use types::limits::SQL_DEPTH_MAX;
use types::{Error, ErrorCode, Result};

use super::depth;
use super::dialect::BoundedDialect;
use crate::names::QualifiedName;

/// sqlparser counts up to three steps for one level of nesting that a reader sees (a subquery is
/// a query, a table factor and an expression), so its own bound is wider than ours, which
/// [`depth::check`] applies first.
const PARSER_STEPS_PER_LEVEL: usize = 3;

/// Words that cannot be names without quotes, as in PostgreSQL: a table or column called by one
/// could not be named in a query.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_date",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

/// Tokens, and where we are in them.
pub(super) struct Tokens<'a> {
    parser: Parser<'a>,
    dialect: &'a BoundedDialect,
    /// Just behind the last token: where errors about a missing one point.
    end: Location,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &str, dialect: &'a BoundedDialect) -> Result<Self> {
        let tokens = Tokenizer::new(dialect, text)
            .tokenize_with_location()
            .map_err(lexical)?;
        let tokens = plain_user_functions(tokens);
        depth::check(&tokens)?;
        dialect.allow(tokens.len());
        let end = tokens
            .last()
            .map_or(Location { line: 1, column: 1 }, |last| last.span.end);
        let parser = Parser::new(dialect)
            .with_recursion_limit(SQL_DEPTH_MAX * PARSER_STEPS_PER_LEVEL)
            .with_tokens_with_locations(tokens);
        Ok(Tokens {
            parser,
            dialect,
            end,
        })
    }

    // ---- Errors ------------------------------------------------------------------------------

    /// An error at the next token.
    pub(super) fn error(&self, message: &str) -> Error {
        let at = self.parser.peek_token_ref().span.start;
        invalid(message, if at.line == 0 { self.end } else { at })
    }

    /// The error that something else stands here.
    pub(super) fn expected(&self, what: &str) -> Error {
        self.error(&format!("expected {what}, found {}", self.found()))
    }

    fn found(&self) -> String {
        match &self.parser.peek_token_ref().token {
            Token::EOF => "the end".to_owned(),
            token => token.to_string(),
        }
    }

    /// Where the next token stands.
    pub(super) fn here(&self) -> Location {
        let at = self.parser.peek_token_ref().span.start;
        if at.line == 0 { self.end } else { at }
    }

    // ---- Single tokens -----------------------------------------------------------------------

    pub(super) fn at_end(&self) -> bool {
        self.parser.peek_token_ref().token == Token::EOF
    }

    pub(super) fn semicolon(&mut self) -> bool {
        self.take(&Token::SemiColon)
    }

    pub(super) fn take(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(super) fn expect(&mut self, token: &Token) -> Result<()> {
        if self.take(token) {
            Ok(())
        } else {
            Err(self.expected(&token.to_string()))
        }
    }

    /// Takes back the last token taken.
    pub(super) fn back(&mut self) {
        self.parser.prev_token();
    }

    /// Do the next tokens spell these words? Words are unquoted and of any case.
    pub(super) fn peek_words(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(n, word)| {
            unquoted(self.parser.peek_nth_token_ref(n))
                .is_some_and(|found| found.value.eq_ignore_ascii_case(word))
        })
    }

    /// Takes these words if they are next.
    pub(super) fn words(&mut self, words: &[&str]) -> bool {
        let found = self.peek_words(words);
        if found {
            words.iter().for_each(|_| self.parser.advance_token());
        }
        found
    }

    pub(super) fn expect_words(&mut self, words: &[&str]) -> Result<()> {
        for word in words {
            if !self.words(&[word]) {
                return Err(self.expected(word));
            }
        }
        Ok(())
    }

    /// The word a statement starts with, in upper case, taken.
    pub(super) fn statement_word(&mut self) -> Option<String> {
        let word = unquoted(self.parser.peek_token_ref())?
            .value
            .to_ascii_uppercase();
        self.parser.advance_token();
        Some(word)
    }

    /// Does a query start here?
    pub(super) fn at_query(&self) -> bool {
        match &self.parser.peek_token_ref().token {
            Token::LParen => true,
            Token::Word(word) => {
                matches!(
                    word.keyword,
                    Keyword::SELECT | Keyword::WITH | Keyword::VALUES
                ) && word.quote_style.is_none()
            }
            _ => false,
        }
    }

    // ---- Names and literals ------------------------------------------------------------------

    /// A name, folded; `what` says of what.
    pub(super) fn name(&mut self, what: &str) -> Result<String> {
        let name = match &self.parser.peek_token_ref().token {
            Token::Word(Word {
                value,
                quote_style: Some(_),
                ..
            }) => value.clone(),
            Token::Word(Word { value, .. }) => value.to_ascii_lowercase(),
            _ => return Err(self.expected(what)),
        };
        let quoted = unquoted(self.parser.peek_token_ref()).is_none();
        if !quoted && RESERVED.contains(&name.as_str()) {
            return Err(self.error(&format!(
                "{name} is a reserved word; as {what} it needs double quotes"
            )));
        }
        self.parser.advance_token();
        Ok(name)
    }

    /// `name` or `namespace.name`.
    pub(super) fn qualified_name(&mut self, what: &str) -> Result<QualifiedName> {
        let first = self.name(what)?;
        if !self.take(&Token::Period) {
            return Ok(QualifiedName {
                namespace: None,
                name: first,
            });
        }
        let name = self.name(what)?;
        if self.parser.peek_token_ref().token == Token::Period {
            return Err(self.error(&format!("{what} has at most two parts: namespace.name")));
        }
        Ok(QualifiedName {
            namespace: Some(first),
            name,
        })
    }

    /// A string literal; `what` says of what.
    pub(super) fn string(&mut self, what: &str) -> Result<String> {
        match self.peek_string() {
            Some(text) => {
                self.parser.advance_token();
                Ok(text)
            }
            None => Err(self.expected(&format!("{what} in single quotes"))),
        }
    }

    pub(super) fn peek_string(&self) -> Option<String> {
        match &self.parser.peek_token_ref().token {
            Token::SingleQuotedString(text)
            | Token::EscapedStringLiteral(text)
            | Token::UnicodeStringLiteral(text) => Some(text.clone()),
            Token::DollarQuotedString(text) => Some(text.value.clone()),
            _ => None,
        }
    }

    /// A name or a string literal: how users are named.
    pub(super) fn name_or_string(&mut self, what: &str) -> Result<String> {
        match self.peek_string() {
            Some(_) => self.string(what),
            None => self.name(what),
        }
    }

    /// A string literal or any word, reserved or not, as it is written.
    pub(super) fn name_or_string_any(&mut self, what: &str) -> Result<String> {
        if let Some(text) = self.peek_string() {
            self.parser.advance_token();
            return Ok(text);
        }
        let Token::Word(word) = &self.parser.peek_token_ref().token else {
            return Err(self.expected(what));
        };
        let text = word.value.clone();
        self.parser.advance_token();
        Ok(text)
    }

    /// A whole number from 0; `what` says of what.
    pub(super) fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T> {
        let Token::Number(digits, _) = &self.parser.peek_token_ref().token else {
            return Err(self.expected(&format!("{what}, a whole number from 0")));
        };
        match digits.parse() {
            Ok(number) => {
                self.parser.advance_token();
                Ok(number)
            }
            Err(_) => Err(self.error(&format!("{digits} is out of range for {what}"))),
        }
    }

    pub(super) fn at_number(&self) -> bool {
        matches!(self.parser.peek_token_ref().token, Token::Number(..))
    }

    /// One or more, separated by commas.
    pub(super) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.take(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// One or more in parentheses.
    pub(super) fn parenthesized<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.expect(&Token::LParen)?;
        let items = self.list(item)?;
        self.expect(&Token::RParen)?;
        Ok(items)
    }

    // ---- What sqlparser parses ---------------------------------------------------------------

    pub(super) fn expr(&mut self) -> Result<Expr> {
        let parsed = self.parser.parse_expr();
        self.parsed(parsed)
    }

    /// An operand: a literal, a sign and a literal, a function call, something in parentheses.
    pub(super) fn operand(&mut self) -> Result<Expr> {
        let parsed = self.parser.parse_prefix();
        self.parsed(parsed)
    }

    pub(super) fn query(&mut self) -> Result<Box<Query>> {
        let parsed = self.parser.parse_query();
        self.parsed(parsed)
    }

    pub(super) fn select_item(&mut self) -> Result<SelectItem> {
        let parsed = self.parser.parse_select_item();
        self.parsed(parsed)
    }

    fn parsed<T>(&self, parsed: Result<T, ParserError>) -> Result<T> {
        parsed.map_err(|error| match error {
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
                self.located(&message)
            }
            ParserError::RecursionLimitExceeded if self.dialect.is_exhausted() => {
                self.error("the statement takes too many attempts to understand")
            }
            ParserError::RecursionLimitExceeded => depth::too_deep(self.here()),
        })
    }

    /// sqlparser puts the position behind its message and nowhere else.
    fn located(&self, message: &str) -> Error {
        let position = message
            .rsplit_once(" at Line: ")
            .and_then(|(before, position)| {
                let (line, column) = position.split_once(", Column: ")?;
                Some((
                    before,
                    Location {
                        line: line.parse().ok()?,
                        column: column.parse().ok()?,
                    },
                ))
            });
        let (message, at) = position.unwrap_or((message, self.end));
        let message = message.replacen("Expected: ", "expected ", 1);
        invalid(
            &message
                .replacen("found: EOF", "found the end", 1)
                .replacen("found: ", "found ", 1),
            at,
        )
    }
}

/// `CURRENT_USER()` as `CURRENT_USER`, which is how PostgreSQL and sqlparser spell it.
fn plain_user_functions(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(is_user_function) {
        return tokens;
    }
    let mut plain = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter();
    while let Some(token) = rest.next() {
        let called = is_user_function(&token).then(|| empty_parentheses(rest.as_slice()));
        plain.push(token);
        if let Some(Some(taken)) = called {
            rest.by_ref().take(taken).for_each(drop);
        }
    }
    plain
}

/// How many tokens `()` takes at the start of these; none if they do not start with it.
fn empty_parentheses(tokens: &[TokenWithSpan]) -> Option<usize> {
    let is_blank = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_));
    let open = tokens.iter().position(|token| !is_blank(token))?;
    let close = open
        + 1
        + tokens[open + 1..]
            .iter()
            .position(|token| !is_blank(token))?;
    let found = (&tokens[open].token, &tokens[close].token);
    (found == (&Token::LParen, &Token::RParen)).then_some(close + 1)
}

fn is_user_function(token: &TokenWithSpan) -> bool {
    unquoted(token)
        .is_some_and(|word| matches!(word.keyword, Keyword::CURRENT_USER | Keyword::SESSION_USER))
}

/// `INVALID_SQL` at a place.
pub(super) fn invalid(message: &str, at: Location) -> Error {
    let text = format!("{message} at line {}, column {}", at.line, at.column);
    Error::new(ErrorCode::InvalidSql, text).at_position(at.line, at.column)
}

fn lexical(error: TokenizerError) -> Error {
    invalid(&error.message, error.location)
}

fn unquoted(token: &TokenWithSpan) -> Option<&Word> {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word),
        _ => None,
    }
}
