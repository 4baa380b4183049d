//! ALTER TOPIC … ADD SOURCE, DROP SOURCE: what becomes a message of what.

use types::limits::ROUTES_MAX;
use types::schema::{Role, Route, Table, Topic};
use types::{Error, ErrorCode};

use super::Plan;
use super::context::{Context, failed, invalid};
use super::draft::{AuditEntry, Draft, json};
use crate::answer::Answer;
use crate::catalog::Found;
use crate::failure::Result;
use crate::names::QualifiedName;
use crate::query::CompiledExpr;
use crate::statement::{AddSource, DropSource};

pub(super) fn add(context: &Context<'_>, add: &AddSource) -> Result<Plan> {
    context.require(Role::Dba, "ALTER TOPIC")?;
    let (found_topic, found_table) = ends(context, &add.topic, &add.table)?;
    let mut topic = Topic::clone(&found_topic.record);
    let mut table = Table::clone(&found_table.record);
    if position(&table, &topic, add.op).is_some() {
        let message = format!(
            "topic {} has a route from {} ON {} already",
            topic.qualified_name(),
            table.qualified_name(),
            op_name(add.op)
        );
        return Err(failed(message).into());
    }
    if table.routes.len() >= ROUTES_MAX {
        return Err(invalid(format!("a table has at most {ROUTES_MAX} routes")).into());
    }
    let filter = add.filter.as_ref().map(crate::parse::expression_text);
    let filter = filter.transpose()?;
    if let Some(text) = &filter {
        compile_filter(context, &table, text)?;
    }
    table.routes.push(Route {
        topic_id: topic.id,
        partitions: topic.partitions,
        op: add.op,
        filter,
        payload: add.payload,
    });
    if !topic.sources.contains(&table.id) {
        topic.sources.push(table.id);
        topic.sources.sort_unstable();
    }
    finish(
        context,
        (found_topic, topic),
        (found_table, table),
        "ADD SOURCE",
    )
}

pub(super) fn drop(context: &Context<'_>, drop: &DropSource) -> Result<Plan> {
    context.require(Role::Dba, "ALTER TOPIC")?;
    let (found_topic, found_table) = ends(context, &drop.topic, &drop.table)?;
    let mut topic = Topic::clone(&found_topic.record);
    let mut table = Table::clone(&found_table.record);
    let Some(at) = position(&table, &topic, drop.op) else {
        let message = format!(
            "topic {} has no route from {} ON {}",
            topic.qualified_name(),
            table.qualified_name(),
            op_name(drop.op)
        );
        return Err(failed(message).into());
    };
    table.routes.remove(at);
    if table.routes.iter().all(|route| route.topic_id != topic.id) {
        topic.sources.retain(|source| *source != table.id);
    }
    finish(
        context,
        (found_topic, topic),
        (found_table, table),
        "DROP SOURCE",
    )
}

/// The topic and the table; a table without a namespace is one of the topic's.
fn ends(
    context: &Context<'_>,
    topic: &QualifiedName,
    table: &QualifiedName,
) -> Result<(Found<Topic>, Found<Table>)> {
    let topic = context.topic(topic)?;
    let namespace = table
        .namespace
        .clone()
        .unwrap_or_else(|| topic.record.namespace.clone());
    let table = context.table(&QualifiedName {
        namespace: Some(namespace),
        name: table.name.clone(),
    })?;
    Ok((topic, table))
}

/// A table has at most one route to a topic for each kind of change: DROP SOURCE names no more.
fn position(table: &Table, topic: &Topic, op: types::schema::RowOp) -> Option<usize> {
    table
        .routes
        .iter()
        .position(|route| route.topic_id == topic.id && route.op == op)
}

fn op_name(op: types::schema::RowOp) -> String {
    op.as_str().to_uppercase()
}

/// The filter of a route, as its record holds it, ready to look at rows of `table`.
///
/// # Errors
/// `INVALID_SQL` if it is not a condition on the columns of one row alone.
pub(super) fn compile_filter(
    context: &Context<'_>,
    table: &Table,
    text: &str,
) -> types::Result<CompiledExpr> {
    let expr = crate::parse::expression(text)?;
    let filter = context
        .planner
        .engine
        .compile(table, &expr, &context.session, &[])?;
    filter.check_condition("a route's WHERE")?;
    if filter.depends_on_session() {
        return Err(Error::new(
            ErrorCode::InvalidSql,
            "a route's WHERE must say the same of a row at any time and for any user",
        ));
    }
    Ok(filter)
}

fn finish(
    context: &Context<'_>,
    (found_topic, mut topic): (Found<Topic>, Topic),
    (found_table, table): (Found<Table>, Table),
    what: &str,
) -> Result<Plan> {
    topic.updated_at = context.session.now;
    let mut draft = Draft::default();
    draft.pin(&found_topic);
    draft.pin(&found_table);
    draft.put(found_table.key, json(&table));
    draft.put(found_topic.key, json(&topic));
    let target = topic.qualified_name();
    let details = format!("{what} {}", table.qualified_name());
    let entry = AuditEntry {
        action: "ALTER TOPIC",
        target: &target,
        details: &details,
        subject: None,
    };
    draft.audit(&context.session, entry);
    Ok(draft.into_plan(Answer::done(format!("Topic {target} altered")))?)
}
