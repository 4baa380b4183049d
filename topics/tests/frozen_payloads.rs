//! The JSON of payloads. Consumers saw it: for a message of renderer 1 it never changes.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use storage::memory::MemoryEngine;
use storage::{Durability, Engine, Error, Op, keys};
use topics::message::Message;
use topics::render::Renderer;
use types::ids::Version;
use types::row;
use types::schema::{AccessLevel, Column, PayloadMode, RowOp, Table, TableKind};
use types::value::{DataType, Value};

fn column(id: u32, name: &str, data_type: DataType) -> Column {
    Column {
        id,
        name: name.to_owned(),
        data_type,
        nullable: true,
        default: None,
        missing: None,
    }
}

fn table(schema_version: u32, columns: Vec<Column>, primary_key: Vec<u32>) -> Table {
    Table {
        id: 9,
        namespace_id: 1,
        namespace: "demo".to_owned(),
        name: "messages".to_owned(),
        kind: TableKind::User,
        access: AccessLevel::Private,
        ttl_seconds: None,
        schema_version,
        next_column_id: 100,
        columns,
        primary_key,
        indexes: vec![],
        routes: vec![],
        created_at: 0,
    }
}

/// The table of the getting-started page; and a later version of it with a column added in front
/// of the others, one renamed and one dropped.
fn engine() -> MemoryEngine {
    let first = vec![
        column(1, "id", DataType::Text),
        column(2, "author", DataType::Text),
        column(3, "msg", DataType::Text),
        column(4, "attachment", DataType::File),
        column(5, "created", DataType::Timestamp),
    ];
    let mut added = column(6, "stars", DataType::Int);
    added.missing = Some(row::encode_field(6, &Value::Int(3)));
    let second = vec![
        added,
        column(1, "id", DataType::Text),
        column(2, "writer", DataType::Text),
        column(3, "msg", DataType::Text),
        column(7, "note", DataType::Text),
        column(5, "created", DataType::Timestamp),
    ];
    let engine = MemoryEngine::new();
    let ops: Vec<Op> = [table(1, first, vec![1]), table(2, second, vec![1, 6])]
        .iter()
        .map(|table| {
            let mut value = Version {
                index: 1,
                ordinal: 0,
            }
            .to_bytes()
            .to_vec();
            value.extend_from_slice(&serde_json::to_vec(table).unwrap());
            Op::Put {
                key: keys::catalog::table_version(table.id, table.schema_version),
                value,
            }
        })
        .collect();
    engine.write(&ops, Durability::Flushed).unwrap();
    engine
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

/// A row of the first version.
fn old_row(msg: &str) -> Vec<u8> {
    row::encode(
        1,
        [
            (1, &text("01HS")),
            (2, &text("user")),
            (3, &text(msg)),
            (4, &Value::Null),
            (5, &Value::Timestamp(1_776_513_600_000_000)),
        ],
    )
}

/// A row of the second version.
fn new_row(msg: &str, stars: i32) -> Vec<u8> {
    row::encode(
        2,
        [
            (1, &text("01HS")),
            (2, &text("user")),
            (3, &text(msg)),
            (5, &Value::Timestamp(1_776_513_600_500_000)),
            (6, &Value::Int(stars)),
            (7, &text("n")),
        ],
    )
}

fn render(
    op: RowOp,
    payload: PayloadMode,
    before: Option<&[u8]>,
    after: Option<&[u8]>,
) -> storage::Result<String> {
    let message = Message {
        renderer: 1,
        op,
        payload,
        version: Version {
            index: 5,
            ordinal: 0,
        },
        wall_time: 0,
        table_id: 9,
        user: "user_123",
        key: "01HS",
        before,
        after,
        chain: 0,
    };
    Renderer::new(&*engine().snapshot()).payload(&message)
}

#[test]
fn full_is_the_row_after_the_change_and_before_a_delete() {
    let row = old_row("Write a \"short\"\nsummary.");
    let columns = "\"id\":\"01HS\",\"author\":\"user\",\"msg\":\"Write a \\\"short\\\"\\nsummary.\",\
                   \"attachment\":null,\"created\":\"2026-04-18T12:00:00Z\"";
    let full = PayloadMode::Full;
    assert_eq!(
        render(RowOp::Insert, full, None, Some(&row)).unwrap(),
        format!("{{{columns},\"_table\":\"demo.messages\",\"_deleted\":false}}")
    );
    assert_eq!(
        render(RowOp::Update, full, None, Some(&row)).unwrap(),
        format!("{{{columns},\"_table\":\"demo.messages\",\"_deleted\":false}}")
    );
    assert_eq!(
        render(RowOp::Delete, full, Some(&row), None).unwrap(),
        format!("{{{columns},\"_table\":\"demo.messages\",\"_deleted\":true}}")
    );
}

#[test]
fn key_is_the_primary_key_in_its_order() {
    let key = PayloadMode::Key;
    assert_eq!(
        render(RowOp::Update, key, None, Some(&old_row("m"))).unwrap(),
        "{\"id\":\"01HS\",\"_table\":\"demo.messages\"}"
    );
    assert_eq!(
        render(RowOp::Delete, key, Some(&new_row("m", 5)), None).unwrap(),
        "{\"id\":\"01HS\",\"stars\":5,\"_table\":\"demo.messages\"}"
    );
}

#[test]
fn diff_is_what_changed() {
    let diff = PayloadMode::Diff;
    assert_eq!(
        render(
            RowOp::Update,
            diff,
            Some(&old_row("a")),
            Some(&old_row("b"))
        )
        .unwrap(),
        "{\"before\":{\"msg\":\"a\"},\"after\":{\"msg\":\"b\"},\"_table\":\"demo.messages\"}"
    );
    let all = "{\"id\":\"01HS\",\"author\":\"user\",\"msg\":\"a\",\"attachment\":null,\
               \"created\":\"2026-04-18T12:00:00Z\"}";
    assert_eq!(
        render(RowOp::Insert, diff, None, Some(&old_row("a"))).unwrap(),
        format!("{{\"before\":null,\"after\":{all},\"_table\":\"demo.messages\"}}")
    );
    assert_eq!(
        render(RowOp::Delete, diff, Some(&old_row("a")), None).unwrap(),
        format!("{{\"before\":{all},\"after\":null,\"_table\":\"demo.messages\"}}")
    );
}

#[test]
fn a_diff_over_a_change_of_columns_speaks_the_newer_names() {
    // `stars` is 3 for rows older than it; `note` has no default; `attachment` is gone.
    assert_eq!(
        render(
            RowOp::Update,
            PayloadMode::Diff,
            Some(&old_row("a")),
            Some(&new_row("b", 3))
        )
        .unwrap(),
        "{\"before\":{\"msg\":\"a\",\"note\":null,\"created\":\"2026-04-18T12:00:00Z\"},\
         \"after\":{\"msg\":\"b\",\"note\":\"n\",\"created\":\"2026-04-18T12:00:00.500000Z\"},\
         \"_table\":\"demo.messages\"}"
    );
}

#[test]
fn a_column_the_row_does_not_name_reads_as_its_default() {
    let bare = row::encode(2, [(1, &text("01HS"))]);
    assert_eq!(
        render(RowOp::Insert, PayloadMode::Full, None, Some(&bare)).unwrap(),
        "{\"stars\":3,\"id\":\"01HS\",\"writer\":null,\"msg\":null,\"note\":null,\"created\":null,\
         \"_table\":\"demo.messages\",\"_deleted\":false}"
    );
}

#[test]
fn values_of_every_type() {
    let values = [
        ("boolean", DataType::Boolean, Value::Boolean(true)),
        ("small_int", DataType::SmallInt, Value::SmallInt(-7)),
        ("int", DataType::Int, Value::Int(7)),
        (
            "big_int",
            DataType::BigInt,
            Value::BigInt(9_007_199_254_740_993),
        ),
        ("float", DataType::Float, Value::Float(1.5)),
        ("double", DataType::Double, Value::Double(f64::NAN)),
        (
            "decimal",
            DataType::Decimal {
                precision: 5,
                scale: 2,
            },
            Value::Decimal {
                unscaled: -5,
                scale: 2,
            },
        ),
        ("text", DataType::Text, text("é\u{1}")),
        ("date", DataType::Date, Value::Date(20_561)),
        ("time", DataType::Time, Value::Time(43_200_000_000)),
        ("date_time", DataType::DateTime, Value::DateTime(1)),
        ("uuid", DataType::Uuid, Value::Uuid([0xab; 16])),
        (
            "json",
            DataType::Json,
            Value::Json("{\"a\": [1]}".to_owned()),
        ),
        ("bytes", DataType::Bytes, Value::Bytes(vec![0, 255])),
        (
            "file",
            DataType::File,
            Value::File("{\"name\":\"f\"}".to_owned()),
        ),
        ("_we\"ird", DataType::Int, Value::Null),
    ];
    let columns = (1..)
        .zip(&values)
        .map(|(id, (name, kind, _))| column(id, name, *kind));
    let table = table(1, columns.collect(), vec![1]);
    let mut value = Version::default().to_bytes().to_vec();
    value.extend_from_slice(&serde_json::to_vec(&table).unwrap());
    let engine = MemoryEngine::new();
    let put = Op::Put {
        key: keys::catalog::table_version(9, 1),
        value,
    };
    engine.write(&[put], Durability::Flushed).unwrap();
    let image = row::encode(1, (1..).zip(&values).map(|(id, (_, _, value))| (id, value)));
    let message = Message {
        renderer: 1,
        op: RowOp::Insert,
        payload: PayloadMode::Full,
        version: Version::default(),
        wall_time: 0,
        table_id: 9,
        user: "",
        key: "true",
        before: None,
        after: Some(&image),
        chain: 0,
    };
    assert_eq!(
        Renderer::new(&*engine.snapshot())
            .payload(&message)
            .unwrap(),
        "{\"boolean\":true,\"small_int\":-7,\"int\":7,\"big_int\":\"9007199254740993\",\
         \"float\":1.5,\"double\":\"NaN\",\"decimal\":\"-0.05\",\"text\":\"é\\u0001\",\
         \"date\":\"2026-04-18\",\"time\":\"12:00:00.000000\",\
         \"date_time\":\"1970-01-01T00:00:00.000001Z\",\
         \"uuid\":\"abababab-abab-abab-abab-abababababab\",\"json\":{\"a\": [1]},\
         \"bytes\":[0,255],\"file\":{\"name\":\"f\"},\"_we\\\"ird\":null,\
         \"_table\":\"demo.messages\",\"_deleted\":false}"
    );
}

#[test]
fn what_cannot_be_rendered_ends_the_node_and_says_why() {
    let unknown = row::encode(3, [(1, &text("01HS"))]);
    let (insert, full) = (RowOp::Insert, PayloadMode::Full);
    let error = render(insert, full, None, Some(&unknown)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "storage is corrupt: definition 3 of table 9, which a message needs, is missing"
    );
    let damaged = [&old_row("m")[..], &[1, 99]].concat();
    for image in [&damaged[..], &[0, 0]] {
        let error = render(insert, full, None, Some(image)).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
    assert!(matches!(
        render(insert, full, None, None),
        Err(Error::Corrupt { .. })
    ));

    let message = Message {
        renderer: 2,
        op: insert,
        payload: full,
        version: Version::default(),
        wall_time: 0,
        table_id: 9,
        user: "",
        key: "",
        before: None,
        after: None,
        chain: 0,
    };
    let error = Renderer::new(&*engine().snapshot())
        .payload(&message)
        .unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
}
