//! The direct path answers what the long one does.

use types::schema::TableKind;
use types::value::{DataType, Value};

use super::fixture::{alice, chat, column, query, text};
use crate::query::lookup;

#[test]
#[expect(clippy::too_many_lines, reason = "a table of statements")]
fn both_paths_answer_alike() {
    let (database, ..) = chat();
    let uuids = database.table(
        9,
        "uuids",
        TableKind::Shared,
        vec![
            column(1, "id", DataType::Uuid),
            column(2, "n", DataType::SmallInt),
        ],
    );
    let id = 0xabcdef00_0000_4000_8000_000000000001_u128.to_be_bytes();
    database.insert(&uuids, None, &[Value::Uuid(id), Value::SmallInt(1)]);
    let pairs = database.table_with_key(
        10,
        "pairs",
        TableKind::User,
        vec![
            column(7, "b", DataType::Int),
            column(3, "a", DataType::Text),
            column(5, "c", DataType::Boolean),
        ],
        2,
    );
    let row = [Value::Int(1), text("x"), Value::Boolean(true)];
    database.insert(&pairs, Some("alice"), &row);
    for (sql, params, direct) in [
        ("SELECT * FROM messages WHERE id = 1", vec![], true),
        ("SELECT * FROM messages WHERE 1 = id", vec![], true),
        (
            "SELECT id, msg FROM demo.messages WHERE id = $1",
            vec![Value::BigInt(3)],
            true,
        ),
        (
            "SELECT msg, id FROM demo.messages WHERE ((id = $1))",
            vec![Value::BigInt(3)],
            true,
        ),
        (
            "SELECT m.msg AS said FROM messages m WHERE m.id = 2",
            vec![],
            true,
        ),
        (
            "SELECT messages.msg FROM messages WHERE messages.id = 2",
            vec![],
            true,
        ),
        ("SELECT \"msg\" FROM MESSAGES WHERE ID = 2", vec![], true),
        ("SELECT * FROM messages WHERE id = 99", vec![], true),
        ("SELECT author FROM messages WHERE id = 1", vec![], true),
        ("SELECT * FROM authors WHERE name = 'ann'", vec![], true),
        (
            "SELECT age FROM authors WHERE name = $1",
            vec![text("bob")],
            true,
        ),
        ("SELECT * FROM pairs WHERE a = 'x' AND b = 1", vec![], true),
        (
            "SELECT c FROM pairs WHERE b = 1 AND a = $1",
            vec![text("x")],
            true,
        ),
        (
            "SELECT n FROM uuids WHERE id = 'ABCDEF00-0000-4000-8000-000000000001'",
            vec![],
            true,
        ),
        // What has to go the long way.
        ("SELECT * FROM pairs WHERE a = 'x'", vec![], false),
        (
            "SELECT * FROM pairs WHERE a = 'x' AND b = 1 AND c",
            vec![],
            false,
        ),
        (
            "SELECT * FROM pairs WHERE a = 'x' AND b = 1 AND b = 1",
            vec![],
            false,
        ),
        ("SELECT * FROM pairs WHERE a = 'x' OR b = 1", vec![], false),
        (
            "SELECT * FROM pairs WHERE b = 99999999999 AND a = 'x'",
            vec![],
            false,
        ),
        ("SELECT * FROM messages WHERE id = '1'", vec![], false),
        ("SELECT * FROM messages WHERE id = 1.0", vec![], false),
        ("SELECT * FROM messages WHERE id = NULL", vec![], false),
        ("SELECT * FROM messages WHERE id = id", vec![], false),
        ("SELECT * FROM messages WHERE id = 1 LIMIT 0", vec![], false),
        (
            "SELECT DISTINCT * FROM messages WHERE id = 1",
            vec![],
            false,
        ),
        ("SELECT count(*) FROM messages WHERE id = 1", vec![], false),
        (
            "SELECT id, id + 1 FROM messages WHERE id = 1",
            vec![],
            false,
        ),
        (
            "SELECT id FROM messages m WHERE messages.id = 1",
            vec![],
            false,
        ),
        ("SELECT id, id FROM messages WHERE id = 1", vec![], false),
        ("SELECT nothing FROM messages WHERE id = 1", vec![], false),
        ("SELECT * FROM nothing WHERE id = 1", vec![], false),
        ("SELECT * FROM uuids WHERE id = 'abc'", vec![], false),
    ] {
        let snapshot = database.snapshot();
        let found = lookup::select(&database.engine, &snapshot, &query(sql), &alice(), &params);
        let found = found.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(found.is_some(), direct, "{sql}");
        let slow = database.select_slowly(sql, &params);
        assert_eq!(database.select(sql, &params), slow, "{sql}");
        if let Some(found) = found {
            assert_eq!(Ok(found), slow, "{sql}");
        }
    }
}

#[test]
fn tables_called_alike_in_other_namespaces_are_others() {
    let (database, mut authors, _) = chat();
    authors.id = 20;
    authors.namespace = "other".to_owned();
    authors.namespace_id = 2;
    database.define(&authors);
    database.insert(&authors, None, &[text("ann"), Value::Int(99)]);
    let other = database.rows("SELECT age FROM other.authors WHERE name = 'ann'");
    assert_eq!(other, [[Value::Int(99)]]);
    assert_eq!(
        database.rows("SELECT age FROM authors WHERE name = 'ann'"),
        [[Value::Int(30)]]
    );
}
