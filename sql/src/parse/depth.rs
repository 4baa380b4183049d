//! How deep a syntax tree can get, told from the tokens alone, before anything recurses.
//!
//! Parsers, destructors and planners recurse along the tree, and a thread's stack is finite. A tree
//! gets deep in two ways: by nesting, which takes brackets, and by chains of operators (`a + b + c`
//! leans to the left, one level an operator), which take operators or keywords without a comma
//! between. So the depth is at most the number of those on the way to the innermost bracket. What
//! nests without brackets (NOT, CASE, signs) passes through sqlparser's own limit; repeated words
//! that it does not count are bounded here.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use types::limits::{SQL_CHAIN_MAX, SQL_DEPTH_MAX, SQL_SET_OPERATIONS_MAX, SQL_TABLE_DEPTH_MAX};
use types::{Error, Result};

use super::tokens::invalid;

/// What is known of an open bracket, or of the statement outside all brackets.
#[derive(Default)]
struct Level {
    /// Operators and keywords since the last comma.
    chain: usize,
    /// Deepest closed bracket since the last comma.
    inner: usize,
    /// Deepest element between commas so far.
    deepest: usize,
    /// Was the bracket opened where a table's name can stand?
    is_table: bool,
    /// How many brackets are open that double the work, this one included.
    doubled: usize,
    /// Are we between FROM and the next clause?
    in_from: bool,
}

impl Level {
    fn end_element(&mut self) {
        self.deepest = self.deepest.max(self.chain + self.inner);
        self.chain = 0;
        self.inner = 0;
    }
}

/// Refuses a text whose syntax tree could be too deep to handle.
pub(super) fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut levels = vec![Level::default()];
    let mut set_operations = 0;
    let mut repeated = 0;
    let mut last_word = "";
    let mut before = &Token::EOF;
    for token in tokens {
        let at = token.span.start;
        if !matches!(token.token, Token::Whitespace(_) | Token::Word(_)) {
            last_word = "";
        }
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                if levels.len() > SQL_DEPTH_MAX {
                    return Err(too_deep(at));
                }
                if token.token == Token::LBracket {
                    count(&mut levels, at)?;
                }
                let level = opened(&mut levels, before, at)?;
                levels.push(level);
            }
            Token::RParen | Token::RBracket | Token::RBrace => close(&mut levels, at)?,
            Token::Comma => last(&mut levels).end_element(),
            Token::SemiColon => {
                levels = vec![Level::default()];
                set_operations = 0;
            }
            Token::Word(word) => {
                repeated = if word.value == last_word {
                    repeated + 1
                } else {
                    0
                };
                last_word = &word.value;
                if repeated > SQL_DEPTH_MAX {
                    return Err(too_deep(at));
                }
                if word.keyword != Keyword::NoKeyword && word.quote_style.is_none() {
                    set_operations += usize::from(joins_queries(word.keyword));
                    if set_operations > SQL_SET_OPERATIONS_MAX {
                        return Err(invalid(
                            &format!("more than {SQL_SET_OPERATIONS_MAX} joins and set operations"),
                            at,
                        ));
                    }
                    note_clause(last(&mut levels), word.keyword);
                    count(&mut levels, at)?;
                }
            }
            token if is_operator(token) => count(&mut levels, at)?,
            _ => {}
        }
        if !matches!(token.token, Token::Whitespace(_)) {
            before = &token.token;
        }
    }
    Ok(())
}

/// Functions that DataFusion turns into a CASE in which an argument stands twice.
const DOUBLING_FUNCTIONS: [&str; 4] = ["coalesce", "ifnull", "nvl", "nvl2"];

/// The level behind an opening bracket that follows the token `before`. sqlparser reads a bracket
/// in FROM as a query first and then again as a join, and DataFusion doubles the arguments of
/// COALESCE, so the work doubles with each such bracket that is open.
fn opened(levels: &mut [Level], before: &Token, at: Location) -> Result<Level> {
    let outer = last(levels);
    let is_table = match before {
        Token::Word(word) => {
            matches!(
                word.keyword,
                Keyword::FROM | Keyword::JOIN | Keyword::LATERAL
            )
        }
        Token::Comma => outer.in_from,
        Token::LParen => outer.is_table,
        _ => false,
    };
    let doubles = is_table
        || matches!(before, Token::Word(word) if DOUBLING_FUNCTIONS
            .iter()
            .any(|name| word.value.eq_ignore_ascii_case(name)));
    let doubled = outer.doubled + usize::from(doubles);
    if doubled > SQL_TABLE_DEPTH_MAX {
        let message =
            format!("more than {SQL_TABLE_DEPTH_MAX} brackets in each other, FROM or COALESCE");
        return Err(invalid(&message, at));
    }
    Ok(Level {
        is_table,
        doubled,
        ..Level::default()
    })
}

fn note_clause(level: &mut Level, keyword: Keyword) {
    match keyword {
        Keyword::FROM | Keyword::JOIN => level.in_from = true,
        Keyword::SELECT
        | Keyword::WHERE
        | Keyword::GROUP
        | Keyword::HAVING
        | Keyword::ORDER
        | Keyword::LIMIT => level.in_from = false,
        _ => {}
    }
}

/// `INVALID_SQL`: nested too deeply.
pub(super) fn too_deep(at: Location) -> Error {
    invalid(&format!("nested more than {SQL_DEPTH_MAX} levels deep"), at)
}

fn count(levels: &mut [Level], at: Location) -> Result<()> {
    let level = last(levels);
    level.chain += 1;
    within_chain(level.chain + level.inner, at)
}

fn close(levels: &mut Vec<Level>, at: Location) -> Result<()> {
    // A closing bracket without an opening one is the parser's to report.
    if levels.len() == 1 {
        return Ok(());
    }
    let mut closed = levels.pop().unwrap_or_default();
    closed.end_element();
    let outer = last(levels);
    outer.inner = outer.inner.max(closed.deepest + 1);
    within_chain(outer.chain + outer.inner, at)
}

fn within_chain(depth: usize, at: Location) -> Result<()> {
    if depth <= SQL_CHAIN_MAX {
        return Ok(());
    }
    let message = format!(
        "an expression with more than {SQL_CHAIN_MAX} operators and keywords; use IN (…) for long \
         lists of values"
    );
    Err(invalid(&message, at))
}

fn last(levels: &mut [Level]) -> &mut Level {
    levels
        .last_mut()
        .expect("the outermost level is never popped")
}

fn joins_queries(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS | Keyword::JOIN
    )
}

/// Everything that is neither a bracket, a separator nor an operand.
fn is_operator(token: &Token) -> bool {
    !matches!(
        token,
        Token::EOF
            | Token::Whitespace(_)
            | Token::Word(_)
            | Token::Number(..)
            | Token::Period
            | Token::Placeholder(_)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::HexStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
    )
}
