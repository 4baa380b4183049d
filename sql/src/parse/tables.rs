//! Namespaces and tables: CREATE, DROP, USE, SHOW, DESCRIBE.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArguments, ObjectNamePart, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::tokenizer::Location;
use types::Result;
use types::schema::{AccessLevel, DefaultExpr, TableKind};

use super::column_types::column_type;
use super::expression_text;
use super::options::{OptionValue, Options};
use super::tokens::{Tokens, invalid};
use crate::statement::{
    ColumnDefinition, CreateNamespace, CreateTable, DropNamespace, DropObject, Statement,
    UniqueConstraint,
};

// ---- Namespaces
// ----------------------------------------------------------------------------------

pub(super) fn create_namespace(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let if_not_exists = if_not_exists(tokens)?;
    let name = tokens.name("a namespace")?;
    Ok(Statement::CreateNamespace(CreateNamespace {
        name,
        if_not_exists,
    }))
}

pub(super) fn drop_namespace(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let if_exists = if_exists(tokens)?;
    let name = tokens.name("a namespace")?;
    let cascade = cascade(tokens);
    Ok(Statement::DropNamespace(DropNamespace {
        name,
        if_exists,
        cascade,
    }))
}

pub(super) fn use_namespace(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let _noise = tokens.words(&["NAMESPACE"]);
    Ok(Statement::Use(tokens.name("a namespace")?))
}

pub(super) fn show(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.words(&["NAMESPACES"]) {
        return Ok(Statement::ShowNamespaces);
    }
    if !tokens.words(&["TABLES"]) {
        return Err(tokens.expected("NAMESPACES or TABLES"));
    }
    let named = tokens.words(&["IN"]) || tokens.words(&["FROM"]);
    let namespace = if named {
        Some(tokens.name("a namespace")?)
    } else {
        None
    };
    Ok(Statement::ShowTables { namespace })
}

pub(super) fn describe(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let _noise = tokens.words(&["TABLE"]);
    Ok(Statement::Describe(tokens.qualified_name("a table")?))
}

pub(super) fn if_not_exists(tokens: &mut Tokens<'_>) -> Result<bool> {
    let found = tokens.words(&["IF"]);
    if found {
        tokens.expect_words(&["NOT", "EXISTS"])?;
    }
    Ok(found)
}

pub(super) fn if_exists(tokens: &mut Tokens<'_>) -> Result<bool> {
    let found = tokens.words(&["IF"]);
    if found {
        tokens.expect_words(&["EXISTS"])?;
    }
    Ok(found)
}

/// CASCADE, or RESTRICT, which is what happens without either.
fn cascade(tokens: &mut Tokens<'_>) -> bool {
    tokens.words(&["CASCADE"]) || {
        let _restrict = tokens.words(&["RESTRICT"]);
        false
    }
}

// ---- DROP TABLE
// ----------------------------------------------------------------------------------

pub(super) fn drop_table(tokens: &mut Tokens<'_>) -> Result<Statement> {
    Ok(Statement::DropTable(drop_object(tokens, "a table")?))
}

pub(super) fn drop_object(tokens: &mut Tokens<'_>, what: &str) -> Result<DropObject> {
    let if_exists = if_exists(tokens)?;
    let name = tokens.qualified_name(what)?;
    let cascade = cascade(tokens);
    Ok(DropObject {
        name,
        if_exists,
        cascade,
    })
}

// ---- CREATE TABLE
// --------------------------------------------------------------------------------

/// `[USER|SHARED|STREAM] TABLE`, taken; the kind it names.
pub(super) fn kind_before_table(tokens: &mut Tokens<'_>) -> Option<Option<TableKind>> {
    [
        (["USER", "TABLE"].as_slice(), Some(TableKind::User)),
        (&["SHARED", "TABLE"], Some(TableKind::Shared)),
        (&["STREAM", "TABLE"], Some(TableKind::Stream)),
        (&["TABLE"], None),
    ]
    .into_iter()
    .find_map(|(words, kind)| tokens.words(words).then_some(kind))
}

/// What the parentheses of CREATE TABLE say, gathered.
#[derive(Default)]
struct Elements {
    columns: Vec<ColumnDefinition>,
    primary_key: Option<Vec<String>>,
    unique: Vec<UniqueConstraint>,
}

pub(super) fn create_table(tokens: &mut Tokens<'_>, kind: Option<TableKind>) -> Result<Statement> {
    let if_not_exists = if_not_exists(tokens)?;
    let name = tokens.qualified_name("a table")?;
    let mut elements = Elements::default();
    tokens.parenthesized(|tokens| element(tokens, &mut elements))?;
    let at = tokens.here();
    let options = table_options(tokens)?;
    let kind = match (kind, options.kind) {
        (Some(kind), Some(other)) if kind != other => {
            let message = format!(
                "TYPE says {}, the statement {}",
                other.as_str(),
                kind.as_str()
            );
            return Err(invalid(&message, at));
        }
        (kind, other) => kind.or(other).unwrap_or(TableKind::Shared),
    };
    if kind == TableKind::Stream {
        return Err(invalid("STREAM tables are not supported yet", at));
    }
    if options.ttl_seconds.is_some() {
        return Err(invalid(
            "TTL_SECONDS is for STREAM tables, which are not supported yet",
            at,
        ));
    }
    if options.access.is_some() && kind.has_owner() {
        return Err(invalid(
            "ACCESS_LEVEL is for SHARED tables: here every user has own rows",
            at,
        ));
    }
    Ok(Statement::CreateTable(Box::new(CreateTable {
        name,
        if_not_exists,
        kind,
        access: options.access,
        columns: elements.columns,
        primary_key: elements.primary_key.unwrap_or_default(),
        unique: elements.unique,
    })))
}

/// A column or a constraint of the table.
fn element(tokens: &mut Tokens<'_>, elements: &mut Elements) -> Result<()> {
    let constraint = if tokens.words(&["CONSTRAINT"]) {
        Some(tokens.name("a constraint")?)
    } else {
        None
    };
    let at = tokens.here();
    if tokens.words(&["PRIMARY", "KEY"]) {
        let columns = tokens.parenthesized(|tokens| tokens.name("a column"))?;
        return set_primary_key(elements, columns, at);
    }
    if tokens.words(&["UNIQUE"]) {
        let columns = tokens.parenthesized(|tokens| tokens.name("a column"))?;
        elements.unique.push(UniqueConstraint {
            name: constraint,
            columns,
        });
        return Ok(());
    }
    if tokens.peek_words(&["CHECK"]) || tokens.peek_words(&["FOREIGN", "KEY"]) {
        unsupported_constraint(tokens)?;
    }
    if constraint.is_some() {
        return Err(tokens.expected("PRIMARY KEY or UNIQUE"));
    }
    column(tokens, elements)
}

/// The column of ADD COLUMN.
pub(super) fn added_column(tokens: &mut Tokens<'_>) -> Result<ColumnDefinition> {
    let at = tokens.here();
    let mut elements = Elements::default();
    column(tokens, &mut elements)?;
    match elements.columns.pop() {
        Some(column) if elements.primary_key.is_none() && elements.unique.is_empty() => Ok(column),
        _ => Err(invalid(
            "ADD COLUMN takes neither PRIMARY KEY nor UNIQUE; CREATE UNIQUE INDEX comes after it",
            at,
        )),
    }
}

fn column(tokens: &mut Tokens<'_>, elements: &mut Elements) -> Result<()> {
    let at = tokens.here();
    let name = tokens.name("a column")?;
    if elements.columns.iter().any(|column| column.name == name) {
        return Err(invalid(&format!("column \"{name}\" is given twice"), at));
    }
    let data_type = column_type(tokens)?;
    let mut nullable = None;
    let mut default = None;
    loop {
        let at = tokens.here();
        let said_null = match () {
            () if tokens.words(&["NOT", "NULL"]) => Some(false),
            () if tokens.words(&["NULL"]) => Some(true),
            () => None,
        };
        if let Some(null) = said_null {
            if nullable.is_some_and(|before| before != null) {
                return Err(invalid("NULL and NOT NULL contradict each other", at));
            }
            nullable = Some(null);
        } else if tokens.words(&["DEFAULT"]) {
            if default.is_some() {
                return Err(invalid("a column has one DEFAULT", at));
            }
            default = Some(default_value(tokens)?);
        } else if tokens.words(&["PRIMARY", "KEY"]) {
            set_primary_key(elements, vec![name.clone()], at)?;
        } else if tokens.words(&["UNIQUE"]) {
            elements.unique.push(UniqueConstraint {
                name: None,
                columns: vec![name.clone()],
            });
        } else {
            unsupported_constraint(tokens)?;
            break;
        }
    }
    elements.columns.push(ColumnDefinition {
        name,
        data_type,
        nullable: nullable.unwrap_or(true),
        default: default.flatten(),
    });
    Ok(())
}

fn set_primary_key(elements: &mut Elements, columns: Vec<String>, at: Location) -> Result<()> {
    if elements.primary_key.is_some() {
        return Err(invalid("a table has one PRIMARY KEY", at));
    }
    elements.primary_key = Some(columns);
    Ok(())
}

fn unsupported_constraint(tokens: &Tokens<'_>) -> Result<()> {
    let known = ["CHECK", "REFERENCES", "GENERATED", "COLLATE"];
    let foreign = tokens
        .peek_words(&["FOREIGN", "KEY"])
        .then_some("FOREIGN KEY");
    match known
        .into_iter()
        .find(|word| tokens.peek_words(&[word]))
        .or(foreign)
    {
        Some(word) => Err(tokens.error(&format!("{word} is not supported"))),
        None => Ok(()),
    }
}

// ---- DEFAULT
// -------------------------------------------------------------------------------------

/// The default of a column; none for NULL, which is what a column without one gets.
pub(super) fn default_value(tokens: &mut Tokens<'_>) -> Result<Option<DefaultExpr>> {
    let at = tokens.here();
    let expr = tokens.operand()?;
    if let Some(function) = default_function(&expr) {
        return Ok(Some(function));
    }
    match &expr {
        Expr::Value(value) if value.value == Value::Null => Ok(None),
        expr if is_literal(expr) => Ok(Some(DefaultExpr::Literal(expression_text(expr)?))),
        _ => Err(invalid(
            "DEFAULT takes a literal or one of NOW(), CURRENT_TIMESTAMP, ULID(), UUID_V7(), \
             SNOWFLAKE_ID(), CURRENT_USER()",
            at,
        )),
    }
}

fn default_function(expr: &Expr) -> Option<DefaultExpr> {
    let Expr::Function(function) = expr else {
        return None;
    };
    let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else {
        return None;
    };
    let without_arguments = match &function.args {
        FunctionArguments::None => true,
        FunctionArguments::List(list) => list.args.is_empty(),
        FunctionArguments::Subquery(_) => false,
    };
    if !without_arguments || name.quote_style.is_some() {
        return None;
    }
    match name.value.to_ascii_uppercase().as_str() {
        "NOW" | "CURRENT_TIMESTAMP" => Some(DefaultExpr::Now),
        "ULID" => Some(DefaultExpr::Ulid),
        "UUID_V7" => Some(DefaultExpr::UuidV7),
        "SNOWFLAKE_ID" => Some(DefaultExpr::SnowflakeId),
        "CURRENT_USER" => Some(DefaultExpr::CurrentUser),
        _ => None,
    }
}

fn is_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => !matches!(value.value, Value::Placeholder(_)),
        Expr::TypedString(_) => true,
        Expr::UnaryOp {
            op: UnaryOperator::Minus | UnaryOperator::Plus,
            expr,
        } => {
            matches!(&**expr, Expr::Value(value) if matches!(value.value, Value::Number(..)))
        }
        Expr::Nested(inner) => is_literal(inner),
        _ => false,
    }
}

// ---- WITH
// ----------------------------------------------------------------------------------------

struct TableOptions {
    kind: Option<TableKind>,
    access: Option<AccessLevel>,
    ttl_seconds: Option<u64>,
}

fn table_options(tokens: &mut Tokens<'_>) -> Result<TableOptions> {
    let mut options = Options::parse(tokens)?;
    let kind = options.take("type").map(|entry| match &entry.value {
        OptionValue::Text(text) => [TableKind::User, TableKind::Shared, TableKind::Stream]
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| entry.expected("'USER', 'SHARED' or 'STREAM'")),
        _ => Err(entry.expected("'USER', 'SHARED' or 'STREAM'")),
    });
    let access = options
        .take("access_level")
        .map(|entry| match &entry.value {
            OptionValue::Text(text) => access_level(text)
                .ok_or_else(|| entry.expected("'PUBLIC', 'PRIVATE', 'RESTRICTED' or 'DBA'")),
            _ => Err(entry.expected("'PUBLIC', 'PRIVATE', 'RESTRICTED' or 'DBA'")),
        });
    let ttl_seconds = options.take("ttl_seconds").map(|entry| match entry.value {
        OptionValue::Number(seconds) if seconds > 0 => Ok(seconds),
        _ => Err(entry.expected("a whole number from 1")),
    });
    options.none_left("TYPE, ACCESS_LEVEL and TTL_SECONDS")?;
    Ok(TableOptions {
        kind: kind.transpose()?,
        access: access.transpose()?,
        ttl_seconds: ttl_seconds.transpose()?,
    })
}

fn access_level(text: &str) -> Option<AccessLevel> {
    match text.to_ascii_uppercase().as_str() {
        "PUBLIC" => Some(AccessLevel::Public),
        "PRIVATE" => Some(AccessLevel::Private),
        "RESTRICTED" => Some(AccessLevel::Restricted),
        "DBA" => Some(AccessLevel::Dba),
        _ => None,
    }
}
