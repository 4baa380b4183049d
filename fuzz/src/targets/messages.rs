//! Messages of topics, and what is shown of them.

use storage::keys;

use topics::message::{self, Message};
use topics::render::{RENDERER_VERSION, Renderer};
use types::ids::Version;
use types::row;
use types::schema::{PayloadMode, RowOp};
use types::value::Value;

use super::sql;

/// Bytes of a message's checksum.
const CRC_BYTES: usize = 4;

/// The bytes with a checksum that fits them; a payload is JSON or a refusal.
pub fn run(data: &[u8]) {
    let key = keys::topics::message(1, 0, 7);
    let mut stored = data.to_vec();
    let checked = [&key[..], data].concat();
    stored.extend_from_slice(&crc32fast::hash(&checked).to_be_bytes());
    drop(message::decode(&key, data));
    let Ok(message) = message::decode(&key, &stored) else {
        return;
    };
    let written = message.encode(&key);
    assert_eq!(message::decode(&key, &written).unwrap(), message);
    let state = sql::with_database(|database| database.state.clone());
    if let Ok(payload) = Renderer::new(&*state).payload(&message) {
        let shown = serde_json::from_str::<serde_json::Value>(&payload);
        let is_object = shown.is_ok_and(|shown| shown.is_object());
        assert!(is_object || !holds_json(&message), "{payload}");
    }
}

/// Is what is shown as it stands in the row JSON, as whoever wrote the row made sure?
fn holds_json(message: &Message<'_>) -> bool {
    let images = [message.before, message.after].into_iter().flatten();
    let mut fields = images.filter_map(|image| row::decode(image).ok()).flatten();
    fields.all(|(_, value)| match value {
        Value::Json(text) | Value::File(text) => {
            serde_json::from_str::<serde_json::Value>(&text).is_ok()
        }
        _ => true,
    })
}

pub fn seeds() -> Vec<Vec<u8>> {
    let values = [
        Value::Text("a".into()),
        Value::Int(1),
        Value::Text("\u{1}\"".into()),
    ];
    let row = row::encode(1, (1..).zip(&values));
    let other = row::encode(1, (1..).zip(&values[..2]));
    let key = keys::topics::message(1, 0, 7);
    let mut seeds = Vec::new();
    for (op, payload) in [
        (RowOp::Insert, PayloadMode::Full),
        (RowOp::Update, PayloadMode::Diff),
        (RowOp::Delete, PayloadMode::Key),
    ] {
        let message = Message {
            renderer: RENDERER_VERSION,
            op,
            payload,
            version: Version {
                index: 3,
                ordinal: 1,
            },
            wall_time: 1_000,
            table_id: 1,
            user: "ann",
            key: "a",
            before: (op != RowOp::Insert).then_some(&other[..]),
            after: (op != RowOp::Delete).then_some(&row[..]),
            chain: 5,
        };
        let mut stored = message.encode(&key);
        stored.truncate(stored.len() - CRC_BYTES);
        seeds.push(stored);
    }
    seeds
}
