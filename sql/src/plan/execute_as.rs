//! EXECUTE AS USER: one statement on the rows of somebody else.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{ObjectName, ObjectNamePart, Query, Visit, Visitor};
use storage::Read;
use types::command::Command;
use types::schema::Role;
use types::{Error, ErrorCode};

use super::context::{Context, not_found, refuse_system};
use super::draft::{AuditEntry, Draft};
use super::{Plan, Planner};
use super::{delete, insert, update};
use crate::answer::Answer;
use crate::failure::Result;
use crate::names::{QualifiedName, check_new, fold};
use crate::session::Session;
use crate::statement::{ExecuteAs, InsertSource, Statement};

/// Plans the inner statement with the target as whose rows are meant. The caller keeps their own
/// role; every use is audited, also one that reads, or changes nothing.
pub(super) async fn plan(context: &Context<'_>, execute: &ExecuteAs) -> Result<Plan> {
    may_act_as(
        context.planner,
        context.snapshot(),
        &context.session,
        &execute.user,
    )?;
    let inner = Context {
        planner: context.planner,
        read: std::sync::Arc::clone(&context.read),
        session: Session {
            effective_user: &execute.user,
            ..context.session
        },
        params: context.params,
        in_transaction: context.in_transaction,
    };
    let tables = tables_of(&execute.statement);
    for table in &tables {
        check_table(&inner, table)?;
    }
    let mut plan = match &*execute.statement {
        Statement::Select(query) => {
            let engine = &context.planner.engine;
            let rows = engine
                .select(
                    std::sync::Arc::clone(&inner.read),
                    query,
                    &inner.session,
                    inner.params,
                )
                .await?;
            Plan::nothing(Answer::Rows(rows))
        }
        Statement::Insert(statement) => insert::plan(&inner, statement).await?,
        Statement::Update(statement) => update::plan(&inner, statement).await?,
        Statement::Delete(statement) => delete::plan(&inner, statement).await?,
        other => {
            let message = format!("EXECUTE AS USER does not take {}", other.kind());
            return Err(Error::new(ErrorCode::InvalidSql, message).into());
        }
    };
    plan.commands.push(audit(&context.session, execute)?);
    plan.writes = true;
    Ok(plan)
}

/// The line for the audit log.
pub(super) fn audit(session: &Session<'_>, execute: &ExecuteAs) -> Result<Command> {
    let names: Vec<String> = tables_of(&execute.statement)
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut audit = Draft::default();
    audit.audit(
        session,
        AuditEntry {
            action: "EXECUTE AS USER",
            target: &names.join(", "),
            details: execute.statement.kind(),
            subject: Some(&execute.user),
        },
    );
    let mut plan = audit.into_plan(Answer::done(""))?;
    let line = plan.commands.pop();
    Ok(line.ok_or_else(|| Error::new(ErrorCode::InternalError, "a line was not made"))?)
}

/// system → anyone, dba → dba and below, service → service and below, user → self. Who has no
/// account counts as a user.
pub(super) fn may_act_as(
    planner: &Planner,
    read: &dyn Read,
    session: &Session<'_>,
    target: &str,
) -> Result<()> {
    check_new("user's id", target)?;
    if target == session.user {
        return Ok(());
    }
    let account = planner.engine.catalog().user(read, target)?;
    let target_role = account.map_or(Role::User, |user| user.record.role);
    if session.role.may_act_as(target_role) {
        return Ok(());
    }
    let message = format!(
        "role {} may not act as user {target}",
        session.role.as_str()
    );
    Err(Error::new(ErrorCode::PermissionDenied, message).into())
}

/// Only tables whose rows belong to users.
fn check_table(context: &Context<'_>, name: &QualifiedName) -> Result<()> {
    let namespace = name.namespace_in(&context.session)?;
    refuse_system(namespace)?;
    let table = context
        .catalog()
        .table(context.snapshot(), namespace, &name.name)?;
    let table = table.ok_or_else(|| not_found("table", namespace, &name.name))?;
    if table.record.kind.has_owner() {
        return Ok(());
    }
    let message = format!(
        "EXECUTE AS USER is for USER and STREAM tables; {} is {}",
        table.record.qualified_name(),
        table.record.kind.as_str()
    );
    Err(Error::new(ErrorCode::PermissionDenied, message).into())
}

/// The tables a statement names, wherever in it.
fn tables_of(statement: &Statement) -> Vec<QualifiedName> {
    let mut relations = Relations::default();
    match statement {
        Statement::Select(query) => relations.of(&**query),
        Statement::Insert(insert) => {
            relations.found.push(insert.table.clone());
            match &insert.source {
                InsertSource::Query(query) => relations.of(&**query),
                InsertSource::Values(rows) => {
                    rows.iter()
                        .flatten()
                        .for_each(|value| relations.of_value(value));
                }
                InsertSource::DefaultValues => {}
            }
        }
        Statement::Update(update) => {
            relations.found.push(update.table.clone());
            update
                .assignments
                .iter()
                .for_each(|set| relations.of_value(&set.value));
            update
                .selection
                .iter()
                .for_each(|selection| relations.of(selection));
        }
        Statement::Delete(delete) => {
            relations.found.push(delete.table.clone());
            delete
                .selection
                .iter()
                .for_each(|selection| relations.of(selection));
        }
        _ => {}
    }
    relations.found
}

/// Gathers names of tables; those that a WITH defines are none.
#[derive(Default)]
struct Relations {
    found: Vec<QualifiedName>,
    with: BTreeSet<String>,
}

impl Relations {
    fn of(&mut self, node: &impl Visit) {
        let ControlFlow::Continue(()) = node.visit(self);
    }

    fn of_value(&mut self, value: &crate::statement::InsertValue) {
        if let crate::statement::InsertValue::Expr(expr) = value {
            self.of(expr);
        }
    }
}

impl Visitor for Relations {
    type Break = std::convert::Infallible;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.with.insert(fold(&table.alias.name));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Self::Break> {
        let mut parts: Vec<String> = relation
            .0
            .iter()
            .filter_map(|part| match part {
                ObjectNamePart::Identifier(ident) => Some(fold(ident)),
                ObjectNamePart::Function(_) => None,
            })
            .collect();
        let name = parts.pop().unwrap_or_default();
        let namespace = parts.pop();
        if namespace.is_none() && self.with.contains(&name) {
            return ControlFlow::Continue(());
        }
        let name = QualifiedName { namespace, name };
        if !self.found.contains(&name) {
            self.found.push(name);
        }
        ControlFlow::Continue(())
    }
}
