//! Do rows and messages say what the writers were told? (Invariants of durability, of the pair of
//! row and message, and of dense offsets.)

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::user::payload;

/// What must be true of rows once everything has settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All are there: the write was answered with success.
    Present,
    /// None is there: it was refused, rolled back or never sent.
    Absent,
    /// All or none: the outcome is unknown. It stays unknown; it is never counted as failed.
    AllOrNothing,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// The rows it writes.
    pub ids: Vec<String>,
    /// What must be true of them.
    pub fate: Fate,
}

/// The messages of one topic, by partition.
pub type Topic = Vec<Vec<Value>>;

/// Columns of a row that its message must repeat.
const COLUMNS: [&str; 4] = ["id", "writer", "seq", "note"];

/// What is wrong, each with the promise that it breaks in front; nothing if all promises hold.
pub fn violations(ops: &[Op], rows: &[Value], topics: &[Topic]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut table: BTreeMap<&str, &Value> = BTreeMap::new();
    for row in rows {
        let id = row["id"].as_str().unwrap_or_default();
        if table.insert(id, row).is_some() {
            wrong.push(format!("rows: {id} is there twice"));
        }
    }
    fates(ops, &table, &mut wrong);
    for (number, topic) in topics.iter().enumerate() {
        for (partition, messages) in topic.iter().enumerate() {
            order(
                &format!("topic {number}[{partition}]"),
                messages,
                &mut wrong,
            );
        }
        pairs(
            &format!("topic {number}"),
            &topic.concat(),
            &table,
            &mut wrong,
        );
    }
    wrong
}

fn fates(ops: &[Op], table: &BTreeMap<&str, &Value>, wrong: &mut Vec<String>) {
    let mut known = BTreeSet::new();
    for op in ops {
        known.extend(op.ids.iter().map(String::as_str));
        let there = op
            .ids
            .iter()
            .filter(|id| table.contains_key(id.as_str()))
            .count();
        let (promise, holds) = match op.fate {
            Fate::Present => ("durability", there == op.ids.len()),
            Fate::Absent => ("honesty", there == 0),
            Fate::AllOrNothing => ("atomicity", there == 0 || there == op.ids.len()),
        };
        if !holds {
            wrong.push(format!(
                "{promise}: {op:?}: {there} of {} rows are there",
                op.ids.len()
            ));
        }
    }
    for id in table.keys().filter(|id| !known.contains(**id)) {
        wrong.push(format!("honesty: row {id} was written by nobody"));
    }
}

/// Offsets are 0, 1, 2 …, and the log index never falls.
fn order(name: &str, messages: &[Value], wrong: &mut Vec<String>) {
    let mut last_index = 0;
    for (expected, message) in (0_u64..).zip(messages) {
        if message["offset"] != expected {
            wrong.push(format!(
                "order: {name}: offset {} where {expected} must be",
                message["offset"]
            ));
            return;
        }
        if let Some(index) = message["index"].as_u64() {
            if index < last_index {
                wrong.push(format!(
                    "order: {name}: offset {expected} is out of commit order"
                ));
            }
            last_index = index;
        }
    }
}

/// Each row has exactly one message, each message exactly one row, and they agree.
fn pairs(name: &str, messages: &[Value], table: &BTreeMap<&str, &Value>, wrong: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for message in messages {
        let key = message["key"].as_str().unwrap_or_default();
        if !seen.insert(key) {
            wrong.push(format!("pair: {name}: row {key} has two messages"));
        }
        if message["op"] != "Insert" {
            wrong.push(format!(
                "pair: {name}: the message of {key} says {}",
                message["op"]
            ));
        }
        let Some(row) = table.get(key) else {
            wrong.push(format!("pair: {name}: a message without its row {key}"));
            continue;
        };
        let payload = payload(message);
        for column in COLUMNS {
            if payload[column] != row[column] {
                wrong.push(format!(
                    "pair: {name}: {column} of {key} is {} in the row and {} in its message",
                    row[column], payload[column]
                ));
            }
        }
    }
    for id in table.keys().filter(|id| !seen.contains(**id)) {
        wrong.push(format!("pair: {name}: row {id} without its message"));
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    fn row(id: &str) -> Value {
        json!({"id": id, "writer": 1, "seq": "7", "note": "n"})
    }

    fn message(offset: u64, id: &str) -> Value {
        json!({
            "offset": offset, "key": id, "op": "Insert", "index": offset + 10,
            "payload": STANDARD.encode(row(id).to_string()),
        })
    }

    fn op(ids: &[&str], fate: Fate) -> Op {
        Op {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            fate,
        }
    }

    /// Two answered writes, one of two rows, and everything as it should be.
    fn good() -> (Vec<Op>, Vec<Value>, Vec<Topic>) {
        let ops = vec![
            op(&["a"], Fate::Present),
            op(&["b", "c"], Fate::Present),
            op(&["x"], Fate::Absent),
            op(&["y", "z"], Fate::AllOrNothing),
        ];
        let rows = vec![row("a"), row("b"), row("c")];
        let topics = vec![
            vec![vec![message(0, "a"), message(1, "b"), message(2, "c")]],
            vec![
                vec![message(0, "b")],
                vec![message(0, "a"), message(1, "c")],
                vec![],
            ],
        ];
        (ops, rows, topics)
    }

    #[track_caller]
    fn objects(ops: &[Op], rows: &[Value], topics: &[Topic], says: &str) {
        let found = violations(ops, rows, topics);
        assert!(
            found.iter().any(|text| text.contains(says)),
            "{says}: {found:?}"
        );
    }

    #[test]
    fn a_good_history_passes() {
        let (ops, rows, topics) = good();
        assert_eq!(violations(&ops, &rows, &topics), [""; 0]);
    }

    #[test]
    fn an_unknown_write_may_be_there_as_a_whole() {
        let (ops, mut rows, mut topics) = good();
        rows.extend([row("y"), row("z")]);
        topics[0][0].extend([message(3, "y"), message(4, "z")]);
        topics[1][2].extend([message(0, "y"), message(1, "z")]);
        assert_eq!(violations(&ops, &rows, &topics), [""; 0]);
    }

    #[test]
    fn a_lost_or_half_or_unasked_write_is_seen() {
        let (ops, rows, topics) = good();
        objects(&ops, &rows[..2], &topics, "1 of 2 rows are there");
        objects(&ops, &rows[1..], &topics, "0 of 1 rows are there");
        let with = |id: &str| [rows.clone(), vec![row(id)]].concat();
        objects(&ops, &with("x"), &topics, "1 of 1 rows are there");
        objects(&ops, &with("y"), &topics, "AllOrNothing");
        objects(&ops, &with("q"), &topics, "written by nobody");
        objects(&ops, &with("a"), &topics, "there twice");
    }

    #[test]
    fn a_broken_pair_is_seen() {
        let (ops, rows, topics) = good();
        let change = |change: fn(&mut Vec<Value>)| {
            let mut topics = topics.clone();
            change(&mut topics[0][0]);
            topics
        };
        objects(
            &ops,
            &rows,
            &change(|messages| drop(messages.pop())),
            "without its message",
        );
        objects(
            &ops,
            &rows,
            &change(|messages| messages.push(message(3, "a"))),
            "two messages",
        );
        objects(
            &ops,
            &rows,
            &change(|messages| messages.push(message(3, "x"))),
            "without its row",
        );
        let other = change(|messages| messages[1]["payload"] = message(1, "a")["payload"].clone());
        objects(&ops, &rows, &other, "id of b");
        let update = change(|messages| messages[1]["op"] = json!("Update"));
        objects(&ops, &rows, &update, "says \"Update\"");
    }

    #[test]
    fn holes_and_disorder_are_seen() {
        let (ops, rows, topics) = good();
        let change = |change: fn(&mut Vec<Value>)| {
            let mut topics = topics.clone();
            change(&mut topics[0][0]);
            topics
        };
        let hole = change(|messages| messages[2]["offset"] = json!(3));
        objects(&ops, &rows, &hole, "offset 3 where 2 must be");
        let disorder = change(|messages| messages[2]["index"] = json!(1));
        objects(&ops, &rows, &disorder, "out of commit order");
    }
}
