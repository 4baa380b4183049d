//! PostgreSQL's dialect as sqlparser knows it, with a bound on the work of one text.
//!
//! sqlparser tries some constructs one way and then, from the start again, another way. Where such
//! attempts nest, its work doubles with each level: 40 function calls in each other would take
//! days. So named arguments of the form `expression => value` are off, and every operand that is
//! begun counts against a budget.

use std::any::TypeId;
use std::cell::Cell;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

/// Operands that may be begun for each token: some are looked at more than once.
const STEPS_PER_TOKEN: usize = 16;
/// What a short text may use beyond that.
const STEPS_MIN: usize = 1_000;

/// The dialect, for one text.
#[derive(Debug)]
pub(super) struct BoundedDialect {
    postgres: PostgreSqlDialect,
    steps_left: Cell<usize>,
}

impl BoundedDialect {
    pub(super) fn new() -> BoundedDialect {
        BoundedDialect {
            postgres: PostgreSqlDialect {},
            steps_left: Cell::new(STEPS_MIN),
        }
    }

    /// Sets the budget for a text of so many tokens.
    pub(super) fn allow(&self, tokens: usize) {
        self.steps_left.set(STEPS_MIN + STEPS_PER_TOKEN * tokens);
    }

    /// Was the budget used up?
    pub(super) fn is_exhausted(&self) -> bool {
        self.steps_left.get() == 0
    }
}

/// What PostgreSQL's dialect says, for everything that expressions and queries need.
impl Dialect for BoundedDialect {
    fn dialect(&self) -> TypeId {
        self.postgres.dialect()
    }

    /// Called at the start of every operand.
    fn parse_prefix(&self, _parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        match self.steps_left.get().checked_sub(1) {
            Some(left) if left > 0 => {
                self.steps_left.set(left);
                None
            }
            _ => {
                self.steps_left.set(0);
                // The one error that ends every attempt at once.
                Some(Err(ParserError::RecursionLimitExceeded))
            }
        }
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        self.postgres.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        self.postgres.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        self.postgres.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.postgres.is_identifier_part(ch)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        self.postgres.is_custom_operator_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        self.postgres.is_reserved_for_identifier(keyword)
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        self.postgres.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        self.postgres.prec_value(precedence)
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_numeric_literal_underscores(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn allow_extract_single_quotes(&self) -> bool {
        true
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    fn supports_notnull_operator(&self) -> bool {
        true
    }

    fn supports_interval_options(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }
}
