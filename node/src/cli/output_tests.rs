use client::api::sql::Receipt;
use serde_json::json;

use super::*;

fn field(index: u32, name: &str, data_type: DataType) -> SchemaField {
    SchemaField {
        name: name.into(),
        data_type,
        index,
        flags: Vec::new(),
    }
}

fn messages() -> ResultSet {
    ResultSet {
        schema: vec![
            field(0, "id", DataType::BigInt),
            field(1, "author", DataType::Text),
            field(2, "payload", DataType::Bytes),
        ],
        rows: Some(vec![
            vec![json!("7"), json!("Jörg, \"J\""), json!([123, 125])],
            vec![json!("1234"), json!(null), json!([255, 0])],
            vec![json!("5"), json!("two\nlines"), json!([])],
        ]),
        row_count: 3,
        ..ResultSet::default()
    }
}

fn print(set: &ResultSet, format: Format) -> String {
    let mut out = Vec::new();
    result(&mut out, set, format).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_table_is_aligned_and_cannot_steer_the_terminal() {
    let lines = [
        "   id | author     | payload",
        "------+------------+---------",
        "    7 | Jörg, \"J\"  | {}",
        " 1234 | null       | \\xff00",
        "    5 | two\\nlines |",
        "(3 rows)",
        "",
    ];
    assert_eq!(print(&messages(), Format::Table), lines.join("\n"));
    assert_eq!(one_line("\u{1b}[2Jgone"), "\\u{1b}[2Jgone");
}

#[test]
fn json_is_an_array_of_objects_in_the_columns_order() {
    let text = print(&messages(), Format::Json);
    assert!(
        text.starts_with(r#"[{"id":"7","author":"Jörg, \"J\"","payload":[123,125]},"#),
        "{text}"
    );
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        value[0],
        json!({"id": "7", "author": "Jörg, \"J\"", "payload": [123, 125]})
    );
    assert_eq!(value.as_array().unwrap().len(), 3);
    assert!(text.ends_with('\n') && text.lines().count() == 1);
}

#[test]
fn csv_quotes_what_it_must_and_tells_null_from_empty() {
    let lines = [
        "id,author,payload",
        "7,\"Jörg, \"\"J\"\"\",\\x7b7d",
        "1234,,\\xff00",
        "5,\"two\nlines\",\\x",
        "",
    ];
    assert_eq!(print(&messages(), Format::Csv), lines.join("\r\n"));
    assert_eq!(csv_cell(Some(String::new())), "\"\"");
}

#[test]
fn a_write_says_what_it_did() {
    let write = ResultSet {
        row_count: 1,
        message: Some("Inserted 1 row(s)".into()),
        receipt: Some(Receipt {
            index: 9,
            messages: Vec::new(),
        }),
        ..ResultSet::default()
    };
    assert_eq!(print(&write, Format::Table), "Inserted 1 row(s)\n");
    let value: Value = serde_json::from_str(&print(&write, Format::Json)).unwrap();
    assert_eq!(value["message"], "Inserted 1 row(s)");
    assert_eq!(value["receipt"]["index"], 9);
    assert_eq!(print(&write, Format::Csv), "");
}
