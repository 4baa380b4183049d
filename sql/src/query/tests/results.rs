//! Values of every type, there and back; names and flags of columns.

use proptest::prelude::*;
use types::cell::{JsonStyle, write_json};
use types::schema::{Column, TableKind};
use types::value::{DataType, Value};

use super::fixture::{Database, chat, column, text};

const PRICE: DataType = DataType::Decimal {
    precision: 20,
    scale: 4,
};

fn every_type() -> Vec<Column> {
    [
        ("id", DataType::BigInt),
        ("boolean", DataType::Boolean),
        ("smallint_", DataType::SmallInt),
        ("int_", DataType::Int),
        ("bigint_", DataType::BigInt),
        ("float_", DataType::Float),
        ("double_", DataType::Double),
        ("decimal_", PRICE),
        ("text_", DataType::Text),
        ("timestamp_", DataType::Timestamp),
        ("datetime_", DataType::DateTime),
        ("date_", DataType::Date),
        ("time_", DataType::Time),
        ("uuid_", DataType::Uuid),
        ("json_", DataType::Json),
        ("bytes_", DataType::Bytes),
        ("file_", DataType::File),
    ]
    .into_iter()
    .zip(1..)
    .map(|((name, data_type), id)| column(id, name, data_type))
    .collect()
}

fn value(data_type: DataType) -> BoxedStrategy<Value> {
    match data_type {
        DataType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        DataType::SmallInt => any::<i16>().prop_map(Value::SmallInt).boxed(),
        DataType::Int => any::<i32>().prop_map(Value::Int).boxed(),
        DataType::BigInt => any::<i64>().prop_map(Value::BigInt).boxed(),
        DataType::Float => any::<f32>().prop_map(Value::Float).boxed(),
        DataType::Double => any::<f64>().prop_map(Value::Double).boxed(),
        DataType::Decimal { scale, .. } => any::<i64>()
            .prop_map(move |v| Value::Decimal {
                unscaled: v.into(),
                scale,
            })
            .boxed(),
        DataType::Text => any::<String>().prop_map(Value::Text).boxed(),
        DataType::Timestamp => any::<i64>().prop_map(Value::Timestamp).boxed(),
        DataType::DateTime => any::<i64>().prop_map(Value::DateTime).boxed(),
        DataType::Date => any::<i32>().prop_map(Value::Date).boxed(),
        DataType::Time => (0..86_400_000_000_i64).prop_map(Value::Time).boxed(),
        DataType::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        DataType::Json => any::<String>()
            .prop_map(|s| Value::Json(serde_json::json!([s]).to_string()))
            .boxed(),
        DataType::Bytes => any::<Vec<u8>>().prop_map(Value::Bytes).boxed(),
        DataType::File => any::<u8>()
            .prop_map(|n| Value::File(format!("{{\"n\": {n}}}")))
            .boxed(),
    }
}

fn row() -> impl Strategy<Value = Vec<Value>> {
    let columns = every_type();
    columns
        .into_iter()
        .skip(1)
        .map(|column| prop_oneof![1 => Just(Value::Null), 8 => value(column.data_type)].boxed())
        .collect::<Vec<_>>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn values_come_back_as_they_are(row in row()) {
        let database = Database::new();
        let table = database.table(3, "every", TableKind::Shared, every_type());
        let row = [vec![Value::BigInt(1)], row].concat();
        database.insert(&table, None, &row);
        let types: Vec<DataType> = table.columns.iter().map(|c| c.data_type).collect();
        for sql in [
            "SELECT * FROM every",
            "SELECT * FROM every WHERE id = 1",
            "SELECT * FROM (SELECT * FROM every ORDER BY id LIMIT 5) AS e",
            "SELECT l.* FROM every l JOIN every r ON l.id = r.id",
        ] {
            let answer = database.select(sql, &[]).expect(sql);
            let answered: Vec<DataType> = answer.columns.iter().map(|c| c.data_type).collect();
            prop_assert_eq!(&answered, &types, "{}", sql);
            let cells = |rows: &[Vec<Value>]| {
                let mut out = String::new();
                for value in rows.iter().flatten() {
                    write_json(value, JsonStyle::Cell, &mut out);
                }
                out
            };
            // As cells, because NaN is not equal to itself.
            prop_assert_eq!(cells(&answer.rows), cells(std::slice::from_ref(&row)), "{}", sql);
            prop_assert_eq!(answer.rows[0].len(), row.len());
        }
    }
}

#[test]
fn columns_are_called_as_the_query_says() {
    let (database, ..) = chat();
    for (sql, names) in [
        ("SELECT id, m.msg FROM messages m", vec!["id", "msg"]),
        (
            "SELECT COUNT(*), Count(id), sum(id) AS total FROM messages",
            vec!["count(*)", "count(id)", "total"],
        ),
        (
            "SELECT 1, 'x', id + 1 FROM messages",
            vec!["1", "'x'", "id + 1"],
        ),
        (
            "SELECT *, id + 1 FROM authors, (SELECT 1 AS id)",
            vec!["name", "age", "id", "id + 1"],
        ),
        (
            "SELECT age + 1, * FROM authors",
            vec!["age + 1", "name", "age"],
        ),
        (
            "SELECT max(age) FROM authors UNION ALL SELECT 1",
            vec!["max(age)"],
        ),
        (
            "SELECT \"Id\" FROM (SELECT id AS \"Id\" FROM messages)",
            vec!["Id"],
        ),
        (
            "SELECT now() IS NULL, CURRENT_USER",
            vec!["now() IS NULL", "current_user"],
        ),
    ] {
        let answer = database.select(sql, &[]).expect(sql);
        let answered: Vec<&str> = answer.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(answered, names, "{sql}");
    }
}

#[test]
fn flags_tell_keys_and_what_is_never_null() {
    let (database, ..) = chat();
    let flags = |sql: &str| {
        let answer = database.select(sql, &[]).expect(sql);
        answer
            .columns
            .into_iter()
            .map(|column| column.flags)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        flags("SELECT * FROM messages"),
        [vec!["pk", "nn"], vec!["nn"], vec![]]
    );
    assert_eq!(
        flags("SELECT id, id + 1 FROM messages"),
        [vec!["pk", "nn"], vec![]]
    );
    let outer = "SELECT m.id, a.name FROM messages m LEFT JOIN authors a ON a.name = m.author";
    assert_eq!(flags(outer), [vec!["pk", "nn"], vec![]]);
}

#[test]
fn what_sql_has_no_type_for_is_shown_as_the_nearest() {
    let (database, ..) = chat();
    for (sql, data_type, value) in [
        (
            "SELECT count(*) FROM messages",
            DataType::BigInt,
            Value::BigInt(4),
        ),
        (
            "SELECT avg(age) FROM authors",
            DataType::Double,
            Value::Double(40.0),
        ),
        (
            "SELECT array_agg(id ORDER BY id) FROM messages",
            DataType::Json,
            Value::Json(r#"["1","2","3","4"]"#.to_owned()),
        ),
        (
            "SELECT named_struct('a', 1, 'b', 'x')",
            DataType::Json,
            Value::Json(r#"{"a":"1","b":"x"}"#.to_owned()),
        ),
        ("SELECT NULL", DataType::Text, Value::Null),
        (
            "SELECT 18446744073709551615 > 1",
            DataType::Boolean,
            Value::Boolean(true),
        ),
        (
            "SELECT CAST('2026-04-18' AS DATE)",
            DataType::Date,
            Value::Date(20_561),
        ),
        (
            "SELECT date_trunc('day', TIMESTAMP '2026-04-18T12:00:00Z')",
            DataType::Timestamp,
            Value::Timestamp(1_776_470_400_000_000),
        ),
        ("SELECT INTERVAL '1 day'", DataType::Text, text("1 days")),
        ("SELECT round(2.5)", DataType::Double, Value::Double(3.0)),
        (
            "SELECT CAST(1 AS DECIMAL(5,2))",
            DataType::Decimal {
                precision: 5,
                scale: 2,
            },
            Value::Decimal {
                unscaled: 100,
                scale: 2,
            },
        ),
        (
            "SELECT X'00ff'",
            DataType::Bytes,
            Value::Bytes(vec![0, 255]),
        ),
    ] {
        let answer = database
            .select(sql, &[])
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(answer.columns[0].data_type, data_type, "{sql}");
        assert_eq!(answer.rows, [[value]], "{sql}");
    }
}
