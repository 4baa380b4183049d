//! Reads rows and messages from every node and holds them against each other.

use std::collections::BTreeMap;

use client::api::SqlRequest;
use client::api::topics::{ConsumeRequest, Message, Op, StartPosition};
use client::{Client, Record, RequestOptions};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::flow::{TOPIC, expect};
use super::{People, Screen};
use crate::cli::error::CliError;

/// Far more messages than the demonstration makes.
const MESSAGES_MAX: u32 = 1000;
/// Columns of the demonstration's table.
const COLUMNS: [&str; 5] = ["id", "author", "msg", "attachment", "created"];

/// What one node holds.
struct Copy {
    rows: Vec<Vec<Value>>,
    messages: Vec<Message>,
}

/// Fails unless all nodes hold the same bytes, and the messages, played from the first to the last,
/// give exactly the rows.
pub async fn compare(
    people: &People,
    nodes: usize,
    index: u64,
    screen: &Screen,
) -> Result<(), CliError> {
    let mut first: Option<(String, Copy)> = None;
    for node in 0..nodes {
        let copy = read(people, node, index).await?;
        let digest = digest(&copy)?;
        screen.event(&format!(
            "node {}: {} rows, {} messages, sha256 {}…",
            node + 1,
            copy.rows.len(),
            copy.messages.len(),
            &digest[..16]
        ));
        match &first {
            None => first = Some((digest, copy)),
            Some((expected, _)) => {
                expect(*expected == digest, || {
                    format!("node {} differs from node 1", node + 1)
                })?;
            }
        }
    }
    let Some((_, copy)) = first else {
        return Ok(());
    };
    replay(&copy)?;
    screen.event("playing the messages from offset 0 gives exactly these rows");
    Ok(())
}

/// What this one node has itself, once it has applied the log up to `index`.
async fn read(people: &People, node: usize, index: u64) -> Result<Copy, CliError> {
    let options = RequestOptions::local_from(index);
    let sql = format!(
        "SELECT {} FROM demo.messages ORDER BY id",
        COLUMNS.join(", ")
    );
    let user: Client = people.user.pinned_to(node);
    let answer = user.execute(&SqlRequest::new(sql), &options).await?;
    let rows = answer
        .body
        .results
        .into_iter()
        .find_map(|result| result.rows);
    let rows = rows.ok_or_else(|| CliError::Answer("SELECT gave no rows".into()))?;
    let request = ConsumeRequest {
        topic_id: TOPIC.into(),
        start: Some(StartPosition::Earliest),
        limit: Some(MESSAGES_MAX),
        partition_id: Some(0),
        timeout_seconds: Some(0),
        ..ConsumeRequest::default()
    };
    let answer = people
        .agent
        .pinned_to(node)
        .consume_with(&request, &options)
        .await?;
    Ok(Copy {
        rows,
        messages: answer.body.messages,
    })
}

fn digest(copy: &Copy) -> Result<String, CliError> {
    let bytes = serde_json::to_vec(&(&copy.rows, &copy.messages))
        .map_err(|error| CliError::Answer(error.to_string()))?;
    Ok(Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Plays the messages and compares what they leave with the rows.
fn replay(copy: &Copy) -> Result<(), CliError> {
    let mut table: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (position, message) in (0_u64..).zip(&copy.messages) {
        expect(message.offset == position, || {
            format!("offset {} is missing", position)
        })?;
        let record = Record::try_from(message)
            .map_err(|error| CliError::Demo(format!("offset {position}: {error}")))?;
        let mut row: Map<String, Value> = serde_json::from_slice(&record.payload)
            .map_err(|error| CliError::Demo(format!("offset {position}: {error}")))?;
        row.retain(|column, _| COLUMNS.contains(&column.as_str()));
        let key = record.key.unwrap_or_default();
        let existed = match message.op {
            Op::Insert | Op::Update => table.insert(key, row),
            Op::Delete => table.remove(&key),
        };
        expect(existed.is_some() == (message.op != Op::Insert), || {
            format!(
                "offset {position}: {:?} does not fit what came before",
                message.op
            )
        })?;
    }
    let rows: BTreeMap<String, Map<String, Value>> = copy
        .rows
        .iter()
        .map(|row| {
            let cells = COLUMNS
                .iter()
                .map(|name| (*name).to_owned())
                .zip(row.iter().cloned());
            (crate::cli::output::text(&row[0]), cells.collect())
        })
        .collect();
    expect(rows == table, || {
        format!(
            "the messages give {} rows, the table has {}",
            table.len(),
            rows.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    fn message(offset: u64, op: Op, msg: &str) -> Message {
        let row = json!({
            "id": "a", "author": "user", "msg": msg, "attachment": null, "created": "t",
            "_table": "demo.messages", "_deleted": op == Op::Delete,
        });
        Message {
            topic_id: TOPIC.into(),
            partition_id: 0,
            offset,
            payload: STANDARD.encode(row.to_string()),
            key: Some("a".into()),
            timestamp_ms: 0,
            user: Some("user_123".into()),
            op,
            deliveries: None,
            index: None,
        }
    }

    fn row(msg: &str) -> Vec<Value> {
        vec![
            json!("a"),
            json!("user"),
            json!(msg),
            Value::Null,
            json!("t"),
        ]
    }

    #[test]
    fn messages_that_give_the_rows_agree() {
        let messages = vec![message(0, Op::Insert, "x"), message(1, Op::Update, "y")];
        replay(&Copy {
            rows: vec![row("y")],
            messages: messages.clone(),
        })
        .unwrap();
        let mut gone = messages;
        gone.push(message(2, Op::Delete, "y"));
        replay(&Copy {
            rows: Vec::new(),
            messages: gone,
        })
        .unwrap();
    }

    #[test]
    fn every_kind_of_difference_is_seen() {
        let insert = || message(0, Op::Insert, "x");
        let wrong = [
            // A message without its row, a row without its message, other content.
            (Vec::new(), vec![insert()]),
            (vec![row("x")], Vec::new()),
            (vec![row("z")], vec![insert()]),
            // A hole, a message twice, a change of what never came.
            (vec![row("x")], vec![message(1, Op::Insert, "x")]),
            (vec![row("x")], vec![insert(), message(1, Op::Insert, "x")]),
            (vec![row("x")], vec![message(0, Op::Update, "x")]),
        ];
        for (rows, messages) in wrong {
            let text = format!("{rows:?} {messages:?}");
            assert!(replay(&Copy { rows, messages }).is_err(), "{text}");
        }
    }

    #[test]
    fn the_digest_covers_every_field() {
        let copy = |message: Message| Copy {
            rows: vec![row("x")],
            messages: vec![message],
        };
        let base = digest(&copy(message(0, Op::Insert, "x"))).unwrap();
        let mut other = message(0, Op::Insert, "x");
        other.timestamp_ms = 1;
        assert_ne!(digest(&copy(other)).unwrap(), base);
        let rows = Copy {
            rows: vec![row("y")],
            messages: vec![message(0, Op::Insert, "x")],
        };
        assert_ne!(digest(&rows).unwrap(), base);
    }
}
