//! CREATE NAMESPACE, DROP NAMESPACE.

use storage::keys::catalog as keys;
use types::schema::{Namespace, Role};

use super::Plan;
use super::context::{Context, failed, no_namespace, refuse_system};
use super::draft::{AuditEntry, Draft, json};
use super::edits::Edits;
use crate::answer::Answer;
use crate::failure::Result;
use crate::names::check_new_dotted;
use crate::statement::{CreateNamespace, DropNamespace};

pub(super) fn create(context: &Context<'_>, create: &CreateNamespace) -> Result<Plan> {
    context.require(Role::Dba, "CREATE NAMESPACE")?;
    check_new_dotted("namespace's name", &create.name)?;
    refuse_system(&create.name)?;
    if context
        .catalog()
        .namespace(context.snapshot(), &create.name)?
        .is_some()
    {
        let message = format!("Namespace {} exists already", create.name);
        if create.if_not_exists {
            return Ok(Plan::nothing(Answer::done(message)));
        }
        return Err(failed(message).into());
    }
    let mut draft = Draft::default();
    let id = draft.next_id(context.snapshot(), keys::COUNTER_NAMESPACE)?;
    let namespace = Namespace {
        id,
        name: create.name.clone(),
        created_at: context.session.now,
    };
    draft.put_new(keys::namespace(&create.name), json(&namespace));
    audit(context, &mut draft, "CREATE NAMESPACE", &create.name);
    Ok(draft.into_plan(Answer::done(format!("Namespace {} created", create.name)))?)
}

/// CREATE TABLE and CREATE TOPIC put the namespace's record again, so that pinning it here is
/// enough to know that nothing was created in it meanwhile.
pub(super) fn drop(context: &Context<'_>, drop: &DropNamespace) -> Result<Plan> {
    context.require(Role::Dba, "DROP NAMESPACE")?;
    refuse_system(&drop.name)?;
    let Some(namespace) = context
        .catalog()
        .namespace(context.snapshot(), &drop.name)?
    else {
        if drop.if_exists {
            let message = format!("Namespace {} does not exist", drop.name);
            return Ok(Plan::nothing(Answer::done(message)));
        }
        return Err(no_namespace(&drop.name).into());
    };
    let tables = context
        .catalog()
        .tables_in(context.snapshot(), namespace.record.id)?;
    let topics = context
        .catalog()
        .topics_in(context.snapshot(), namespace.record.id)?;
    let empty = tables.is_empty() && topics.is_empty();
    if !(drop.cascade || empty) {
        let message = format!(
            "namespace {} holds {} table(s) and {} topic(s); CASCADE drops them too",
            drop.name,
            tables.len(),
            topics.len()
        );
        return Err(failed(message).into());
    }
    let mut draft = Draft::default();
    draft.pin(&namespace);
    let mut edits = Edits::default();
    for topic in topics {
        edits.drop_topic(context, topic)?;
    }
    for table in tables {
        edits.drop_table(context, table)?;
    }
    edits.write(&mut draft);
    draft.delete(namespace.key);
    audit(context, &mut draft, "DROP NAMESPACE", &drop.name);
    Ok(draft.into_plan(Answer::done(format!("Namespace {} dropped", drop.name)))?)
}

fn audit(context: &Context<'_>, draft: &mut Draft, action: &str, target: &str) {
    draft.audit(
        &context.session,
        AuditEntry {
            action,
            target,
            details: "",
            subject: None,
        },
    );
}
