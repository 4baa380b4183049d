//! Row changes become messages, in the batch that holds the row.

use storage::keys;
use storage::{Batch, Error};
use types::command::{RouteTarget, RowEvent};
use types::outcome::AppendedRange;
use types::schema::{PayloadMode, RowOp};

use crate::message::Message;
use crate::render::RENDERER_VERSION;
use crate::{ApplyContext, Tail};

/// Appends the messages of one row change, one a target, and adds them to `appended`.
///
/// `after` is the row after the change, `event.before` the row before it, both without the version
/// that apply puts in front of stored rows.
///
/// # Errors
/// Fatal only: storage's own, and [`Error::Foreign`] for an event that this version of apply does
/// not understand.
pub fn append(
    batch: &mut Batch,
    at: ApplyContext,
    event: &RowEvent,
    after: Option<&[u8]>,
    appended: &mut Vec<AppendedRange>,
) -> storage::Result<()> {
    let op = RowOp::try_from(event.op).map_err(|_| unknown("row operation", event.op))?;
    for target in &event.targets {
        let payload = PayloadMode::try_from(target.payload)
            .map_err(|_| unknown("payload mode", target.payload))?;
        let (before, after) = images(op, payload, event.before.as_deref(), after)?;
        let mut message = Message {
            renderer: RENDERER_VERSION,
            op,
            payload,
            version: at.version,
            wall_time: at.wall_time,
            table_id: event.table_id,
            user: &event.user,
            key: &event.message_key,
            before,
            after,
            chain: 0,
        };
        append_one(batch, target, &mut message, appended)?;
    }
    Ok(())
}

/// Message and tail go together, so offsets stay dense whatever happens to the batch.
fn append_one(
    batch: &mut Batch,
    target: &RouteTarget,
    message: &mut Message<'_>,
    appended: &mut Vec<AppendedRange>,
) -> storage::Result<()> {
    let RouteTarget {
        topic_id,
        partition,
        ..
    } = *target;
    let mut tail = Tail::load(batch, topic_id, partition)?;
    let offset = tail.next;
    let key = keys::topics::message(topic_id, partition, offset);
    let stored = message.encode_after(&key, tail.chain);
    tail.next += 1;
    tail.bytes += stored.len() as u64;
    tail.chain = message.chain;
    batch.put(key, stored);
    tail.store(batch, topic_id, partition);
    note(appended, target, offset);
    Ok(())
}

/// Adds the offset to the range it continues, or starts a new one. An Envelope writes to few
/// partitions, and mostly to the one it wrote to last.
fn note(appended: &mut Vec<AppendedRange>, target: &RouteTarget, offset: u64) {
    let continued = appended.iter_mut().rev().find(|range| {
        range.topic_id == target.topic_id
            && range.partition == target.partition
            && range.first_offset + range.count == offset
    });
    match continued {
        Some(range) => range.count += 1,
        None => appended.push(AppendedRange {
            topic_id: target.topic_id,
            partition: target.partition,
            first_offset: offset,
            count: 1,
        }),
    }
}

type Image<'a> = Option<&'a [u8]>;

/// The images the payload needs. A missing one means that planner and apply disagree, which no node
/// can mend on its own.
fn images<'a>(
    op: RowOp,
    payload: PayloadMode,
    before: Image<'a>,
    after: Image<'a>,
) -> storage::Result<(Image<'a>, Image<'a>)> {
    let (before, after) = match (op, payload) {
        (RowOp::Insert, _) | (RowOp::Update, PayloadMode::Full | PayloadMode::Key) => (None, after),
        (RowOp::Update, PayloadMode::Diff) => (before, after),
        (RowOp::Delete, _) => (before, None),
    };
    let needs_before = op == RowOp::Delete || (op, payload) == (RowOp::Update, PayloadMode::Diff);
    let needs_after = op != RowOp::Delete;
    if (needs_before && before.is_none()) || (needs_after && after.is_none()) {
        return Err(Error::Foreign {
            what: format!("the log has a row event ({op:?}, {payload:?}) without the row's image"),
        });
    }
    Ok((before, after))
}

fn unknown(what: &str, number: i32) -> Error {
    Error::Foreign {
        what: format!("the log has a {what} this version does not know: {number}"),
    }
}
