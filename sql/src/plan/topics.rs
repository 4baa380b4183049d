//! CREATE TOPIC, DROP TOPIC, CLEAR TOPIC, retention.

use storage::keys::catalog as keys;
use types::command::{ClearTopic, CommandKind, Expectation};
use types::schema::{Role, Topic};

use super::Plan;
use super::context::{Context, failed, not_found};
use super::draft::{AuditEntry, Draft, json};
use super::edits::Edits;
use super::tables::touch;
use crate::answer::Answer;
use crate::catalog::Found;
use crate::failure::Result;
use crate::names::{QualifiedName, check_new_dotted};
use crate::statement::{CreateTopic, DropObject, SetRetention};

pub(super) fn create(context: &Context<'_>, create: &CreateTopic) -> Result<Plan> {
    context.require(Role::Dba, "CREATE TOPIC")?;
    let namespace = create.name.namespace_in(&context.session)?;
    check_new_dotted("topic's name", &create.name.name)?;
    let namespace = context.writable_namespace(namespace)?;
    let qualified = format!("{}.{}", namespace.record.name, create.name.name);
    let name_key = keys::topic_name(namespace.record.id, &create.name.name);
    if context.snapshot().get(&name_key)?.is_some() {
        let message = format!("Topic {qualified} exists already");
        if create.if_not_exists {
            return Ok(Plan::nothing(Answer::done(message)));
        }
        return Err(failed(message).into());
    }
    let mut draft = Draft::default();
    let id = draft.next_id(context.snapshot(), keys::COUNTER_TOPIC)?;
    let topic = Topic {
        id,
        namespace_id: namespace.record.id,
        namespace: namespace.record.name.clone(),
        name: create.name.name.clone(),
        partitions: create.partitions,
        retention_seconds: create.retention.seconds.flatten(),
        retention_max_bytes: create.retention.max_bytes.flatten(),
        sources: Vec::new(),
        created_at: context.session.now,
        updated_at: context.session.now,
    };
    touch(&mut draft, namespace);
    draft.put_new(name_key, id.to_be_bytes().to_vec());
    draft.put_new(keys::topic(id), json(&topic));
    audit(context, &mut draft, "CREATE TOPIC", &qualified);
    Ok(draft.into_plan(Answer::done(format!("Topic {qualified} created")))?)
}

/// The routes to the topic go with it, as CONTRACT §3.1 has no CASCADE here.
pub(super) fn drop(context: &Context<'_>, drop: &DropObject) -> Result<Plan> {
    context.require(Role::Dba, "DROP TOPIC")?;
    let namespace = drop.name.namespace_in(&context.session)?;
    let name = &drop.name.name;
    let Some(topic) = context
        .catalog()
        .topic(context.snapshot(), namespace, name)?
    else {
        if drop.if_exists {
            let message = format!("Topic {namespace}.{name} does not exist");
            return Ok(Plan::nothing(Answer::done(message)));
        }
        return Err(not_found("topic", namespace, name).into());
    };
    let qualified = topic.record.qualified_name();
    let mut draft = Draft::default();
    let mut edits = Edits::default();
    edits.drop_topic(context, topic)?;
    edits.write(&mut draft);
    audit(context, &mut draft, "DROP TOPIC", &qualified);
    Ok(draft.into_plan(Answer::done(format!("Topic {qualified} dropped")))?)
}

pub(super) fn clear(context: &Context<'_>, name: &QualifiedName) -> Result<Plan> {
    context.require(Role::Dba, "CLEAR TOPIC")?;
    let topic = context.topic(name)?;
    let mut draft = Draft::default();
    draft.expect(still_exists(&topic));
    draft.command(CommandKind::ClearTopic(ClearTopic {
        topic_id: topic.record.id,
        partitions: topic.record.partitions,
    }));
    let qualified = topic.record.qualified_name();
    audit(context, &mut draft, "CLEAR TOPIC", &qualified);
    Ok(draft.into_plan(Answer::done(format!("Topic {qualified} cleared")))?)
}

/// The expectation that a topic was not dropped meanwhile. Ids are never used again, so a topic
/// that exists is this one; none for a topic that the transaction itself made.
pub(super) fn still_exists(topic: &Found<Topic>) -> Option<Expectation> {
    topic
        .pinned()
        .map(|_| Expectation::exists(topic.key.clone()))
}

pub(super) fn set_retention(context: &Context<'_>, set: &SetRetention) -> Result<Plan> {
    context.require(Role::Dba, "ALTER TOPIC")?;
    let found = context.topic(&set.topic)?;
    let mut topic = Topic::clone(&found.record);
    if let Some(seconds) = set.retention.seconds {
        topic.retention_seconds = seconds;
    }
    if let Some(max_bytes) = set.retention.max_bytes {
        topic.retention_max_bytes = max_bytes;
    }
    topic.updated_at = context.session.now;
    let qualified = topic.qualified_name();
    let mut draft = Draft::default();
    draft.pin(&found);
    draft.put(found.key, json(&topic));
    audit(context, &mut draft, "ALTER TOPIC", &qualified);
    Ok(draft.into_plan(Answer::done(format!("Topic {qualified} altered")))?)
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
