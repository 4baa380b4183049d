//! ACK, NACK, RESET CONSUMER GROUP: statements that are commands as they stand.

use types::command::{Ack, CommandKind, Nack, ResetGroup};
use types::ids::PartitionId;
use types::limits::{ACK_OFFSETS_MAX, NACK_DELAY_MAX_MS, NAME_MAX_BYTES};
use types::schema::{Role, Topic};

use super::Plan;
use super::context::{Context, invalid};
use super::draft::{AuditEntry, Draft};
use super::topics::still_exists;
use crate::answer::Answer;
use crate::failure::Result;
use crate::statement::{self, AckTarget};

pub(super) fn ack(context: &Context<'_>, ack: &statement::Ack) -> Result<Plan> {
    context.require(Role::Service, "ACK")?;
    let topic = context.topic(&ack.topic)?;
    check_name("group's name", &ack.group)?;
    check_partition(&topic.record, Some(ack.partition))?;
    let (upto_offset, lease_id, offsets, message) = match &ack.what {
        AckTarget::Upto(offset) => (
            Some(*offset),
            String::new(),
            Vec::new(),
            format!("Acknowledged up to offset {offset}"),
        ),
        AckTarget::Lease { id, offsets } => {
            check_name("lease's id", id)?;
            check_offsets(offsets)?;
            (
                None,
                id.clone(),
                offsets.clone(),
                format!("Acknowledged of lease {id}"),
            )
        }
    };
    let mut draft = Draft::default();
    draft.expect(still_exists(&topic));
    draft.command(CommandKind::Ack(Ack {
        topic_id: topic.record.id,
        group: ack.group.clone(),
        partition: ack.partition,
        upto_offset,
        lease_id,
        offsets,
        consumer_id: String::new(),
        strict: context.in_transaction,
    }));
    Ok(draft.into_plan(Answer::done(message))?)
}

pub(super) fn nack(context: &Context<'_>, nack: &statement::Nack) -> Result<Plan> {
    context.require(Role::Service, "NACK")?;
    let topic = context.topic(&nack.topic)?;
    check_name("group's name", &nack.group)?;
    check_name("lease's id", &nack.lease_id)?;
    check_partition(&topic.record, nack.partition)?;
    check_offsets(&nack.offsets)?;
    if nack.delay_ms > NACK_DELAY_MAX_MS {
        return Err(invalid(format!("DELAY is at most {NACK_DELAY_MAX_MS} ms")).into());
    }
    let mut draft = Draft::default();
    draft.expect(still_exists(&topic));
    draft.command(CommandKind::Nack(Nack {
        topic_id: topic.record.id,
        group: nack.group.clone(),
        lease_id: nack.lease_id.clone(),
        offsets: nack.offsets.clone(),
        delay_ms: nack.delay_ms,
        strict: context.in_transaction,
    }));
    let message = format!("Released of lease {}", nack.lease_id);
    Ok(draft.into_plan(Answer::done(message))?)
}

pub(super) fn reset(context: &Context<'_>, reset: &statement::ResetGroup) -> Result<Plan> {
    context.require(Role::Service, "RESET CONSUMER GROUP")?;
    let topic = context.topic(&reset.topic)?;
    check_name("group's name", &reset.group)?;
    check_partition(&topic.record, reset.partition)?;
    let mut draft = Draft::default();
    draft.expect(still_exists(&topic));
    draft.command(CommandKind::Reset(ResetGroup {
        topic_id: topic.record.id,
        group: reset.group.clone(),
        partition: reset.partition,
        partitions: topic.record.partitions,
        to: Some(reset.to.into()),
    }));
    let target = topic.record.qualified_name();
    let entry = AuditEntry {
        action: "RESET CONSUMER GROUP",
        target: &target,
        details: &reset.group,
        subject: None,
    };
    draft.audit(&context.session, entry);
    Ok(draft.into_plan(Answer::done(format!(
        "Group {} of {target} reset",
        reset.group
    )))?)
}

fn check_name(what: &str, name: &str) -> types::Result<()> {
    if name.is_empty() || name.len() > NAME_MAX_BYTES {
        return Err(invalid(format!(
            "the {what} has 1 to {NAME_MAX_BYTES} bytes"
        )));
    }
    Ok(())
}

fn check_partition(topic: &Topic, partition: Option<PartitionId>) -> types::Result<()> {
    match partition {
        Some(partition) if partition >= topic.partitions => Err(invalid(format!(
            "topic {} has partitions 0 to {}",
            topic.qualified_name(),
            topic.partitions - 1
        ))),
        _ => Ok(()),
    }
}

fn check_offsets(offsets: &[u64]) -> types::Result<()> {
    if offsets.len() > ACK_OFFSETS_MAX {
        return Err(invalid(format!(
            "OFFSETS names at most {ACK_OFFSETS_MAX} offsets"
        )));
    }
    Ok(())
}
