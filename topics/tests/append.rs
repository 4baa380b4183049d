//! What an append stores of a row change, what it refuses, and what damage a read finds.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use storage::memory::MemoryEngine;
use storage::{Batch, Durability, Engine, Error, Op, keys};
use topics::{ApplyContext, append, chain, fetch, retention};
use types::command::{ClearTopic, Retain, RouteTarget, RowEvent};
use types::ids::Version;
use types::schema::{PayloadMode, RowOp};

const BEFORE: &[u8] = b"before";
const AFTER: &[u8] = b"after";

fn at() -> ApplyContext {
    ApplyContext {
        version: Version {
            index: 8,
            ordinal: 2,
        },
        lease_time: 5,
        wall_time: 1_234,
    }
}

fn event(op: RowOp, payloads: &[PayloadMode]) -> RowEvent {
    let target = |payload: &PayloadMode| RouteTarget {
        topic_id: 1,
        partition: 0,
        payload: *payload as i32,
    };
    RowEvent {
        table_id: 9,
        op: op.into(),
        user: "u".to_owned(),
        message_key: "k".to_owned(),
        before: (op != RowOp::Insert).then(|| BEFORE.into()),
        targets: payloads.iter().map(target).collect(),
    }
}

fn appended(event: &RowEvent, after: Option<&[u8]>) -> storage::Result<Batch> {
    let mut batch = Batch::new(MemoryEngine::new().snapshot());
    append::append(&mut batch, at(), event, after, &mut Vec::new())?;
    Ok(batch)
}

/// The images of the messages in the batch.
fn images(batch: &Batch) -> Vec<(bool, bool)> {
    let messages = fetch::fetch(batch, 1, 0, 0, 100, usize::MAX).unwrap();
    let image = |fetched: &fetch::Fetched| {
        let message = fetched.message().unwrap();
        assert_eq!(
            (message.version, message.wall_time),
            (at().version, at().wall_time)
        );
        assert_eq!((message.table_id, message.user, message.key), (9, "u", "k"));
        assert!(message.before.is_none_or(|image| image == BEFORE));
        assert!(message.after.is_none_or(|image| image == AFTER));
        (message.before.is_some(), message.after.is_some())
    };
    messages.iter().map(image).collect()
}

#[test]
fn a_message_holds_the_images_its_payload_needs() {
    let modes = [PayloadMode::Full, PayloadMode::Key, PayloadMode::Diff];
    let insert = appended(&event(RowOp::Insert, &modes), Some(AFTER)).unwrap();
    assert_eq!(images(&insert), [(false, true); 3]);
    let update = appended(&event(RowOp::Update, &modes), Some(AFTER)).unwrap();
    assert_eq!(
        images(&update),
        [(false, true), (false, true), (true, true)]
    );
    let delete = appended(&event(RowOp::Delete, &modes), None).unwrap();
    assert_eq!(images(&delete), [(true, false); 3]);
}

#[test]
fn an_event_without_its_image_or_of_an_unknown_kind_ends_the_node() {
    let foreign = |event: &RowEvent, after| {
        assert!(
            matches!(appended(event, after).err(), Some(Error::Foreign { .. })),
            "{event:?}"
        );
    };
    foreign(&event(RowOp::Insert, &[PayloadMode::Full]), None);
    let bare = |op, payload| RowEvent {
        before: None,
        ..event(op, &[payload])
    };
    foreign(&bare(RowOp::Delete, PayloadMode::Key), Some(AFTER));
    foreign(&bare(RowOp::Update, PayloadMode::Diff), Some(AFTER));
    let mut unknown = event(RowOp::Insert, &[PayloadMode::Full]);
    unknown.op = 3;
    foreign(&unknown, Some(AFTER));
    let mut unknown = event(RowOp::Insert, &[PayloadMode::Full]);
    unknown.targets[0].payload = 3;
    foreign(&unknown, Some(AFTER));
}

#[test]
fn an_undone_append_leaves_no_gap() {
    let mut batch = Batch::new(MemoryEngine::new().snapshot());
    let event = event(RowOp::Insert, &[PayloadMode::Full]);
    let mut ranges = Vec::new();
    append::append(&mut batch, at(), &event, Some(AFTER), &mut ranges).unwrap();
    let savepoint = batch.savepoint();
    append::append(&mut batch, at(), &event, Some(AFTER), &mut Vec::new()).unwrap();
    batch.rollback(savepoint);
    append::append(&mut batch, at(), &event, Some(AFTER), &mut ranges).unwrap();
    let tail = fetch::tail(&batch, 1, 0).unwrap();
    let stored = fetch::fetch(&batch, 1, 0, 0, 2, usize::MAX).unwrap();
    let bytes: usize = stored.iter().map(|message| message.raw().len()).sum();
    assert_eq!((tail.earliest, tail.next, tail.bytes), (0, 2, bytes as u64));
    assert_eq!(
        (ranges.len(), ranges[0].first_offset, ranges[0].count),
        (1, 0, 2)
    );
}

#[test]
fn a_missing_or_damaged_message_is_found_when_it_is_read() {
    let engine = MemoryEngine::new();
    let mut batch = Batch::new(engine.snapshot());
    let event = event(RowOp::Insert, &[PayloadMode::Full]);
    for _ in 0..5 {
        append::append(&mut batch, at(), &event, Some(AFTER), &mut Vec::new()).unwrap();
    }
    engine
        .write(&batch.into_ops(), Durability::Flushed)
        .unwrap();

    let key = keys::topics::message(1, 0, 3);
    let mut value = engine.snapshot().get(&key).unwrap().unwrap();
    value[20] ^= 1;
    engine
        .write(
            &[Op::Put {
                key: key.clone(),
                value,
            }],
            Durability::Flushed,
        )
        .unwrap();
    let messages = fetch::fetch(&*engine.snapshot(), 1, 0, 0, 100, usize::MAX).unwrap();
    let readable: Vec<bool> = messages.iter().map(|m| m.message().is_ok()).collect();
    assert_eq!(readable, [true, true, true, false, true]);

    for lost in [3, 4] {
        let key = keys::topics::message(1, 0, lost);
        engine
            .write(&[Op::Delete { key }], Durability::Flushed)
            .unwrap();
        let error = fetch::fetch(&*engine.snapshot(), 1, 0, 0, 100, usize::MAX).unwrap_err();
        assert!(error.to_string().contains("offset 3 is missing"), "{error}");
    }
}

#[test]
fn all_that_belongs_to_a_topic_lies_under_its_prefixes() {
    let engine = MemoryEngine::new();
    let mut batch = Batch::new(engine.snapshot());
    let event = event(RowOp::Insert, &[PayloadMode::Full]);
    append::append(&mut batch, at(), &event, Some(AFTER), &mut Vec::new()).unwrap();
    let claim = types::command::Claim {
        topic_id: 1,
        group: "g".to_owned(),
        partition: None,
        partitions: 1,
        start: Some(types::command::Position::Earliest(true).into()),
        consumer_id: String::new(),
        limit: 1,
        lease_ms: 1,
    };
    topics::groups::claim(&mut batch, at(), &claim)
        .unwrap()
        .unwrap();
    let ops = batch.into_ops();
    let prefixes = keys::topics::all_prefixes(1);
    let under = |key: &[u8]| prefixes.iter().filter(|p| key.starts_with(p)).count();
    for op in &ops {
        let Op::Put { key, .. } = op else {
            panic!("only puts: {op:?}")
        };
        assert_eq!(under(key), 1);
    }
    // Message, tail, group, cursor, segment, lease, deadline: one of each; a lease's end comes when
    // it is acked.
    assert_eq!(under(&keys::topics::lease_end(1, "g", 0, "l")), 1);
    assert_eq!(ops.len() + 1, prefixes.len());
}

/// A partition with `count` messages whose rows are numbered from `first`.
fn partition(first: u8, count: u8) -> Batch {
    let mut batch = Batch::new(MemoryEngine::new().snapshot());
    let event = event(RowOp::Insert, &[PayloadMode::Full]);
    for row in first..first + count {
        append::append(&mut batch, at(), &event, Some(&[row]), &mut Vec::new()).unwrap();
    }
    batch
}

fn link(batch: &Batch, offset: Option<u64>) -> Result<chain::Link, types::Error> {
    chain::ask(batch, 1, 0, offset).unwrap()
}

#[test]
fn the_chain_at_an_offset_tells_what_came_before_it() {
    let (all, same, other) = (partition(0, 5), partition(0, 5), partition(1, 5));
    let values = |batch: &Batch| -> Vec<u64> {
        let value = |offset| link(batch, Some(offset)).unwrap().value;
        (0..5).map(value).collect()
    };
    assert_eq!(values(&all), values(&same));
    let differ = values(&all)
        .into_iter()
        .zip(values(&other))
        .all(|(a, b)| a != b);
    assert!(
        differ,
        "the first message differs, so every value after it does"
    );
    let last = link(&all, None).unwrap();
    assert_eq!((last.offset, last.value), (Some(4), values(&all)[4]));
    assert_eq!(last, link(&all, Some(4)).unwrap());
    let empty = chain::Link {
        offset: None,
        value: 0,
    };
    assert_eq!(chain::ask(&all, 1, 7, None).unwrap().unwrap(), empty);
    for beyond in [5, u64::MAX] {
        let refused = link(&all, Some(beyond)).unwrap_err();
        assert_eq!(refused.code, types::ErrorCode::OffsetOutOfRange);
    }
}

#[test]
fn the_chain_goes_on_over_retention_and_clear() {
    let whole = partition(0, 5);
    let mut cut = partition(0, 3);
    let retain = Retain {
        topic_id: 1,
        partition: 0,
        earliest: 2,
        from: 0,
        bytes: 0,
    };
    retention::retain(&mut cut, &retain).unwrap();
    // Below the floor only the last one is known still.
    assert_eq!(link(&cut, Some(1)), link(&whole, Some(1)));
    assert_eq!(link(&cut, Some(2)), link(&whole, Some(2)));
    assert!(link(&cut, Some(0)).is_err());
    let clear = ClearTopic {
        topic_id: 1,
        partitions: 1,
    };
    retention::clear(&mut cut, &clear).unwrap();
    assert_eq!(link(&cut, None), link(&whole, Some(2)));
    assert!(link(&cut, Some(1)).is_err());
    let event = event(RowOp::Insert, &[PayloadMode::Full]);
    for row in 3..5 {
        append::append(&mut cut, at(), &event, Some(&[row]), &mut Vec::new()).unwrap();
    }
    assert_eq!(link(&cut, None), link(&whole, None));
    assert_eq!(link(&cut, Some(3)), link(&whole, Some(3)));
    assert_eq!(link(&cut, Some(2)), link(&whole, Some(2)));
}
