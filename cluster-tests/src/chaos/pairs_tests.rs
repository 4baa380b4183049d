//! Pairs as they must not be, and as they may.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;

const T: &str = "n.t";

fn change(id: &str, kind: Act, v: i64, seq: i64) -> Change {
    Change {
        table: T,
        id: id.into(),
        kind,
        row: Row { v, seq },
    }
}

fn op(outcome: Outcome, index: u64, changes: Vec<Change>) -> Op {
    Op {
        changes,
        outcome,
        index: (outcome == Outcome::Ok).then_some(index),
    }
}

fn route(topic: &str, kind: Act, filter: Filter, span: Span) -> Route {
    Route {
        table: T,
        topic: topic.into(),
        kind,
        filter,
        span,
    }
}

fn message(offset: u64, index: u64, change: &Change) -> Value {
    let content = json!({
        "id": change.id, "v": change.row.v.to_string(), "seq": change.row.seq.to_string(),
    });
    with(offset, index, change, &content)
}

fn with(offset: u64, index: u64, change: &Change, content: &Value) -> Value {
    json!({
        "offset": offset, "index": index, "op": change.kind.name(), "key": change.id,
        "payload": STANDARD.encode(content.to_string()),
    })
}

/// An insert, an update of it that no route takes, a delete, a refused insert, and one of which
/// nobody knows.
fn good() -> Facts {
    let insert = change("a", Act::Insert, 60, 1);
    let other = change("b", Act::Insert, 5, 1);
    let update = change("a", Act::Update, 3, 2);
    let delete = change("b", Act::Delete, 5, 1);
    let span = Span::ALWAYS;
    Facts {
        ops: vec![
            op(Outcome::Ok, 10, vec![insert.clone(), other.clone()]),
            op(Outcome::Ok, 11, vec![update]),
            op(Outcome::Ok, 12, vec![delete.clone()]),
            op(Outcome::Fail, 0, vec![change("x", Act::Insert, 70, 1)]),
            op(
                Outcome::Unknown,
                0,
                vec![
                    change("y", Act::Insert, 70, 1),
                    change("z", Act::Insert, 70, 1),
                ],
            ),
        ],
        routes: vec![
            route("all", Act::Insert, Filter::All, span),
            route("all", Act::Delete, Filter::All, span),
            route("some", Act::Insert, Filter::AtLeast(50), span),
            route("some", Act::Update, Filter::Even, span),
        ],
        columns: Vec::new(),
        rows: [((T, "a".to_owned()), Row { v: 3, seq: 2 })].into(),
        topics: [
            (
                "all".to_owned(),
                vec![vec![
                    message(0, 10, &insert),
                    message(1, 10, &other),
                    message(2, 12, &delete),
                ]],
            ),
            ("some".to_owned(), vec![vec![message(0, 10, &insert)]]),
        ]
        .into(),
    }
}

fn add(facts: &mut Facts, topic: &str, index: u64, change: &Change) {
    let partition = &mut facts.topics.get_mut(topic).unwrap()[0];
    let offset = partition.len() as u64;
    partition.push(message(offset, index, change));
}

fn put(facts: &mut Facts, id: &str, v: i64) {
    facts.rows.insert((T, id.to_owned()), Row { v, seq: 1 });
}

#[track_caller]
fn objects(alter: impl FnOnce(&mut Facts), says: &str) {
    let mut facts = good();
    alter(&mut facts);
    let found = violations(&facts);
    assert!(
        found.iter().any(|text| text.contains(says)),
        "{says}: {found:?}"
    );
}

#[track_caller]
fn passes(alter: impl FnOnce(&mut Facts)) {
    let mut facts = good();
    alter(&mut facts);
    assert_eq!(violations(&facts), [""; 0]);
}

/// What nobody knows of, as it happened.
fn unknown_happened(facts: &mut Facts) {
    for change in facts.ops[4].changes.clone() {
        add(facts, "all", 13, &change);
        add(facts, "some", 13, &change);
        facts.rows.insert((T, change.id.clone()), change.row);
    }
}

#[test]
fn good_pairs_pass() {
    passes(|_| {});
    passes(unknown_happened);
}

#[test]
fn a_missing_a_second_and_a_wrong_message_are_seen() {
    let delete = change("b", Act::Delete, 5, 1);
    objects(
        |f| drop(f.topics.get_mut("all").unwrap()[0].pop()),
        "0 messages in all",
    );
    objects(|f| add(f, "all", 12, &delete), "2 messages in all");
    // The update's condition does not hold, nor does the delete go there at all.
    objects(
        |f| add(f, "some", 11, &change("a", Act::Update, 3, 2)),
        "1 messages in some",
    );
    objects(|f| add(f, "some", 12, &delete), "1 messages in some");
    objects(
        |f| add(f, "all", 12, &change("q", Act::Insert, 1, 1)),
        "of no change",
    );
    objects(
        |f| f.topics.get_mut("some").unwrap()[0][0]["index"] = json!(9),
        "log index 9",
    );
    let lie = json!({"v": "61", "seq": "1"});
    let insert = change("a", Act::Insert, 60, 1);
    objects(
        |f| f.topics.get_mut("some").unwrap()[0][0] = with(0, 10, &insert, &lie),
        "says",
    );
    objects(
        |f| f.topics.get_mut("all").unwrap()[0][2]["offset"] = json!(3),
        "where 2 after 10 must be",
    );
}

#[test]
fn what_was_refused_or_half_of_what_is_unknown_is_seen() {
    objects(
        |f| add(f, "all", 14, &change("x", Act::Insert, 70, 1)),
        "1 messages in all",
    );
    objects(
        |f| {
            unknown_happened(f);
            f.topics.get_mut("some").unwrap()[0].pop();
        },
        "0 messages in some",
    );
    objects(
        |f| {
            unknown_happened(f);
            f.rows.remove(&(T, "z".to_owned()));
        },
        "is gone",
    );
    objects(|f| put(f, "y", 70), "0 messages in all");
}

#[test]
fn lost_old_and_unasked_rows_are_seen() {
    objects(|f| f.rows.clear(), "is gone");
    objects(|f| put(f, "a", 60), "and must be");
    objects(|f| put(f, "b", 5), "and must be");
    objects(|f| put(f, "q", 5), "and must be");
}

#[test]
fn routes_count_while_they_are_there() {
    let until = |until| Span {
        from: 0,
        until: Some(until),
    };
    // In the entry that ends it, both are right.
    passes(|f| f.routes[2].span = until(10));
    objects(|f| f.routes[2].span = until(9), "1 messages in some");
    let from = Span {
        from: 11,
        until: None,
    };
    passes(|f| f.routes[1].span = Span { from: 12, ..from });
    objects(|f| f.routes[2].span = from, "1 messages in some");
}

#[test]
fn a_route_that_went_and_came_back_is_one() {
    let again = |from, until| Span { from, until };
    passes(|f| {
        f.routes[2].span = again(1, Some(5));
        let back = route("some", Act::Insert, Filter::AtLeast(50), again(8, None));
        f.routes.push(back);
    });
    objects(
        |f| {
            f.routes[2].span = again(1, Some(5));
            let back = route("some", Act::Insert, Filter::AtLeast(50), again(11, None));
            f.routes.push(back);
        },
        "1 messages in some",
    );
}

#[test]
fn a_refused_delete_does_not_stand_for_the_one_that_was_made() {
    let refused = || op(Outcome::Fail, 0, vec![change("b", Act::Delete, 5, 1)]);
    passes(|f| f.ops.insert(1, refused()));
    objects(
        |f| {
            f.ops.remove(2);
            f.ops.push(refused());
        },
        "1 messages in all",
    );
}

#[test]
fn columns_are_shown_while_they_are_there() {
    let column = |from, until| Column {
        table: T,
        name: "extra".into(),
        span: Span { from, until },
    };
    passes(|f| f.columns.push(column(12, None)));
    passes(|f| f.columns.push(column(3, Some(5))));
    objects(|f| f.columns.push(column(5, None)), "column");
    objects(
        |f| {
            let insert = change("a", Act::Insert, 60, 1);
            let content = json!({"v": "60", "seq": "1", "extra": null});
            f.topics.get_mut("some").unwrap()[0][0] = with(0, 10, &insert, &content);
            f.columns.push(column(12, None));
        },
        "column",
    );
}

#[test]
fn a_refused_operation_is_of_no_time() {
    // It meant to delete two rows, which two other operations deleted later, one under each form of
    // the table.
    let (a, b) = (
        change("a", Act::Delete, 3, 2),
        change("b", Act::Delete, 5, 1),
    );
    passes(|f| {
        let refused = op(Outcome::Fail, 0, vec![a.clone(), b]);
        f.ops.insert(2, refused);
        f.ops.push(op(Outcome::Ok, 20, vec![a.clone()]));
        f.rows.clear();
        let content = json!({"v": "3", "seq": "2", "extra": "x"});
        f.topics.get_mut("all").unwrap()[0].push(with(3, 20, &a, &content));
        f.columns.push(Column {
            table: T,
            name: "extra".into(),
            span: Span {
                from: 15,
                until: None,
            },
        });
    });
}

#[test]
fn what_changed_alone_is_understood() {
    let mut facts = good();
    facts
        .routes
        .push(route("diff", Act::Update, Filter::All, Span::ALWAYS));
    let update = change("a", Act::Update, 3, 2);
    let content = json!({"before": {"seq": "1"}, "after": {"seq": "2"}});
    let message = with(0, 11, &update, &content);
    facts.topics.insert("diff".into(), vec![vec![message]]);
    assert_eq!(violations(&facts), [""; 0]);
    facts.topics.insert("diff".into(), vec![vec![]]);
    assert_eq!(violations(&facts).len(), 1);
}
