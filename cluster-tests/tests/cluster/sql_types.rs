//! Types: what goes in, how it comes out, what is refused.

use cluster_tests::user::payload;
use serde_json::{Value, json};

use crate::own::Own;

const ALL_TYPES: &str = "CREATE TABLE {ns}.everything (
    id INT PRIMARY KEY, a BOOLEAN, b SMALLINT, c BIGINT, d FLOAT, e DOUBLE, f DECIMAL(10, 2),
    g TEXT, h TIMESTAMP, i DATETIME, j DATE, k TIME, l UUID, m JSON, n BYTES, o FILE)";

const ROW: &str = "INSERT INTO {ns}.everything (id, a, b, c, d, e, f, g, h, i, j, k, l, m, n)
    VALUES (-7, true, -32768, 9007199254740993, 1.5, 0.1, 12.5, 'it''s; WITH (x)',
    '2026-04-18T12:00:00Z', '2026-04-18T14:00:00.123456+02:00', '2026-04-18', '12:00:00',
    '0195F6A0-0000-7000-8000-000000000001', '{\"a\": [1, null]}', X'00ff')";

/// The cells of `ROW`, with JSON still as text.
fn cells() -> Value {
    json!([
        -7, true, -32768, "9007199254740993", 1.5, 0.1, "12.50", "it's; WITH (x)",
        "2026-04-18T12:00:00Z", "2026-04-18T12:00:00.123456Z", "2026-04-18", "12:00:00.000000",
        "0195f6a0-0000-7000-8000-000000000001", {"a": [1, null]}, [0, 255], null,
    ])
}

/// A row with its JSON cell parsed, since spaces inside JSON text are nobody's promise.
fn parsed(mut row: Value) -> Value {
    let text = row[13].as_str().expect("JSON is text in a cell").to_owned();
    row[13] = serde_json::from_str(&text).unwrap();
    row
}

#[tokio::test]
async fn every_type_comes_out_as_it_went_in() {
    let own = Own::new().await;
    own.given(&[
        ALL_TYPES,
        "CREATE TOPIC {ns}.out",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.everything ON INSERT",
        ROW,
        "INSERT INTO {ns}.everything (id) VALUES (0)",
    ])
    .await;
    let result = own
        .root
        .ok(&own.sql("SELECT * FROM {ns}.everything ORDER BY id"))
        .await;
    let types: Vec<Value> = result["schema"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["data_type"].clone())
        .collect();
    assert_eq!(
        Value::from(types),
        json!([
            "Int", "Boolean", "SmallInt", "BigInt", "Float", "Double",
            {"Decimal": {"precision": 10, "scale": 2}}, "Text", "Timestamp", "DateTime", "Date",
            "Time", "Uuid", "Json", "Bytes", "File",
        ])
    );
    assert_eq!(parsed(result["rows"][0].clone()), cells());
    let empty = result["rows"][1].as_array().unwrap();
    assert_eq!(empty[0], 0);
    assert!(empty[1..].iter().all(Value::is_null), "{empty:?}");
    let first = &result["schema"][0];
    assert_eq!((&first["name"], &first["index"]), (&json!("id"), &json!(0)));
    let flags: Vec<&str> = first["flags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|flag| flag.as_str().unwrap())
        .collect();
    assert!(flags.contains(&"pk") && flags.contains(&"nn"), "{flags:?}");

    // The message repeats the cells; JSON is inlined.
    let reply = own.read("out").await;
    let message = payload(&reply.messages()[0]);
    let names = "id a b c d e f g h i j k l m n o".split(' ');
    let in_message: Vec<Value> = names.map(|name| message[name].clone()).collect();
    assert_eq!(Value::from(in_message), cells());
    assert_eq!(reply.messages()[0]["key"], "-7");
}

#[tokio::test]
async fn the_same_values_as_parameters() {
    let own = Own::new().await;
    own.given(&[ALL_TYPES]).await;
    let sql = own.sql(
        "INSERT INTO {ns}.everything (id, a, b, c, d, e, f, g, h, i, j, k, l, m, o)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    );
    let params = json!([
        -7,
        true,
        -32768,
        "9007199254740993",
        1.5,
        0.1,
        "12.5",
        "it's; WITH (x)",
        "2026-04-18T12:00:00Z",
        "2026-04-18T14:00:00.123456+02:00",
        "2026-04-18",
        "12:00:00",
        "0195f6a0-0000-7000-8000-000000000001",
        "{\"a\": [1, null]}",
        null,
    ]);
    let reply = own.root.sql_params(&sql, params).await;
    assert_eq!(reply.results()[0]["row_count"], 1, "{reply:?}");
    let rows = own
        .root
        .cells(&own.sql("SELECT * FROM {ns}.everything"))
        .await;
    let mut expected = cells();
    expected[14] = Value::Null;
    assert_eq!(parsed(rows[0].clone()), expected);
    let sql = own.sql("SELECT g FROM {ns}.everything WHERE id = $1 AND a = $2 AND g = $3");
    let reply = own
        .root
        .sql_params(&sql, json!([-7, true, "it's; WITH (x)"]))
        .await;
    assert_eq!(reply.results()[0]["row_count"], 1, "{reply:?}");
}

#[tokio::test]
async fn parameters_must_fit_the_statement() {
    let own = Own::new().await;
    own.given(&["CREATE TABLE {ns}.t (id INT PRIMARY KEY)"])
        .await;
    let select = own.sql("SELECT * FROM {ns}.t WHERE id = $1");
    for params in [json!([]), json!([[1]]), json!([{"a": 1}])] {
        let reply = own.root.sql_params(&select, params.clone()).await;
        assert_eq!(
            (reply.status, reply.code()),
            (400, "INVALID_PARAMETER"),
            "{params}: {reply:?}"
        );
    }
    let batch = own.sql("SELECT $1; SELECT $1");
    let reply = own.root.sql_params(&batch, json!([1])).await;
    reply.refused(400, "PARAMS_WITH_BATCH");
}

#[tokio::test]
async fn values_that_do_not_fit_are_refused_and_change_nothing() {
    let own = Own::new().await;
    own.given(&[ALL_TYPES]).await;
    let wrong = [
        ("a", "'perhaps'"),
        ("b", "40000"),
        ("c", "'seven'"),
        ("c", "99999999999999999999"),
        ("d", "'x'"),
        ("f", "123456789.00"),
        ("h", "'yesterday'"),
        ("j", "'2026-13-01'"),
        ("k", "'25:00:00'"),
        ("l", "'not-a-uuid'"),
        ("m", "'{broken'"),
    ];
    for (column, value) in wrong {
        let sql = format!("INSERT INTO {{ns}}.everything (id, {column}) VALUES (1, {value})");
        own.root.refused(&own.sql(&sql), 400, "TYPE_MISMATCH").await;
    }
    own.root
        .refused(
            &own.sql("INSERT INTO {ns}.everything (id, g) VALUES (1)"),
            400,
            "INVALID_SQL",
        )
        .await;
    let count = own.sql("SELECT COUNT(*) FROM {ns}.everything");
    assert_eq!(own.root.cells(&count).await, json!([["0"]]));
}

#[tokio::test]
async fn defaults_are_made_once_and_kept() {
    let own = Own::new().await;
    own.given(&["CREATE TABLE {ns}.t (
        id TEXT PRIMARY KEY DEFAULT ULID(), u UUID DEFAULT UUID_V7(),
        s BIGINT DEFAULT SNOWFLAKE_ID(), n TIMESTAMP NOT NULL DEFAULT NOW(),
        c TIMESTAMP DEFAULT CURRENT_TIMESTAMP, w TEXT DEFAULT CURRENT_USER(),
        l TEXT NOT NULL DEFAULT 'it''s', i INT DEFAULT -5, x TEXT)"])
        .await;
    let insert = "INSERT INTO {ns}.t (x) VALUES ('a'), ('b') RETURNING id, u, s, n, c, w, l, i";
    let reply = own.root.sql(&own.sql(insert)).await;
    let rows = reply.results()[0]["rows"].clone();
    let (a, b) = (&rows[0], &rows[1]);
    for different in 0..3 {
        assert_ne!(a[different], b[different], "column {different}");
    }
    assert_eq!((&a[3], &a[3]), (&b[3], &a[4]), "one statement has one time");
    assert_eq!(
        (&a[5], &a[6], &a[7]),
        (&json!("root"), &json!("it's"), &json!(-5))
    );
    let select = own.sql("SELECT id, u, s, n, c, w, l, i FROM {ns}.t ORDER BY id");
    let mut expected: Vec<Value> = rows.as_array().unwrap().clone();
    expected.sort_by_key(|row| row[0].as_str().unwrap().to_owned());
    // The same on every node: they were evaluated once, before they were replicated.
    for url in own.cluster.urls() {
        let reply = own.root.sql_on(&url, &select, &[]).await;
        assert_eq!(reply.results()[0]["rows"], Value::from(expected.clone()));
    }
    let null = own.sql("INSERT INTO {ns}.t (x, n) VALUES ('c', NULL)");
    own.root.refused(&null, 400, "NOT_NULL_VIOLATION").await;
    let explicit = own.sql("INSERT INTO {ns}.t (x, i) VALUES ('d', NULL) RETURNING i");
    assert_eq!(
        own.root.cells(&explicit).await,
        json!([[null]]),
        "null is not left out"
    );
}
