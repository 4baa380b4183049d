//! Expressions over the rows of one table, constants, and the rows a condition means.

use types::ErrorCode;
use types::schema::TableKind;
use types::value::{DataType, Value};

use super::fixture::{Database, NOW, alice, chat, column, expr, run, text};
use crate::query::{Keep, Meant};

fn constant(database: &Database, sql: &str, params: &[Value]) -> Value {
    database
        .engine
        .constant(&expr(sql), &alice(), params)
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[test]
fn constants_are_what_they_say() {
    let database = Database::new();
    for (sql, expected) in [
        ("NULL", Value::Null),
        ("true", Value::Boolean(true)),
        ("7", Value::BigInt(7)),
        ("-7", Value::BigInt(-7)),
        ("-9223372036854775808", Value::BigInt(i64::MIN)),
        (
            "12.50",
            Value::Decimal {
                unscaled: 1250,
                scale: 2,
            },
        ),
        (
            "99999999999999999999",
            Value::Decimal {
                unscaled: 99_999_999_999_999_999_999,
                scale: 0,
            },
        ),
        ("1e3", Value::Double(1000.0)),
        ("'it''s'", text("it's")),
        ("('x')", text("x")),
        ("1 + 2 * 3", Value::BigInt(7)),
        ("'a' || 'b'", text("ab")),
        ("upper('a')", text("A")),
        ("NOW()", Value::Timestamp(NOW)),
        ("CURRENT_TIMESTAMP", Value::Timestamp(NOW)),
        ("CURRENT_USER", text("alice")),
        ("CURRENT_USER()", text("alice")),
        ("CAST(NOW() AS DATE)", Value::Date(20_561)),
        ("CURRENT_DATE", Value::Date(20_561)),
        ("CASE WHEN 1 > 2 THEN 'a' ELSE 'b' END", text("b")),
        (
            "CAST('550E8400-E29B-41D4-A716-446655440000' AS UUID)",
            Value::Uuid(0x550e8400_e29b_41d4_a716_446655440000_u128.to_be_bytes()),
        ),
        ("CAST('{}' AS JSON)", Value::Json("{}".to_owned())),
        ("TIMESTAMP '2026-04-18T12:00:00Z'", Value::Timestamp(NOW)),
    ] {
        assert_eq!(constant(&database, sql, &[]), expected, "{sql}");
    }
    assert_eq!(
        constant(&database, "$2", &[Value::Null, text("p")]),
        text("p")
    );
    assert_eq!(constant(&database, "$1 || '!'", &[text("p")]), text("p!"));
    assert_eq!(
        constant(&database, "ULID()", &[]),
        text(&format!("{:026}", 0))
    );
    assert_eq!(
        constant(&database, "lower(ULID())", &[]),
        text(&format!("{:026}", 1))
    );
    assert_eq!(
        constant(&database, "UUID_V7()", &[]),
        Value::Uuid(2_u128.to_be_bytes())
    );
    assert_eq!(constant(&database, "SNOWFLAKE_ID()", &[]), Value::BigInt(3));
    for (sql, code) in [
        ("x", ErrorCode::InvalidSql),
        ("nothing()", ErrorCode::InvalidSql),
        ("$1", ErrorCode::InvalidParameter),
        ("$1 + 1", ErrorCode::InvalidParameter),
        ("1 / 0", ErrorCode::SqlExecutionError),
        ("(SELECT 1)", ErrorCode::InvalidSql),
        ("count(*)", ErrorCode::InvalidSql),
        ("CAST('{' AS JSON)", ErrorCode::TypeMismatch),
        ("CAST('x' AS INT)", ErrorCode::SqlExecutionError),
    ] {
        let error = database
            .engine
            .constant(&expr(sql), &alice(), &[])
            .expect_err(sql);
        assert_eq!(error.code, code, "{sql}: {error}");
    }
}

#[test]
fn compiled_expressions_see_the_row() {
    let (database, _, messages) = chat();
    let compile = |sql: &str| {
        database
            .engine
            .compile(&messages, &expr(sql), &alice(), &[])
            .expect(sql)
    };
    let rows = [
        vec![Value::BigInt(1), text("ann"), Value::Null],
        vec![Value::BigInt(2), text("bob"), text("hi")],
    ];
    for (sql, expected) in [
        ("id", [Value::BigInt(1), Value::BigInt(2)]),
        ("messages.id + 1", [Value::BigInt(2), Value::BigInt(3)]),
        ("demo.messages.author", [text("ann"), text("bob")]),
        ("MSG", [Value::Null, text("hi")]),
        ("msg || '!'", [Value::Null, text("hi!")]),
        ("coalesce(msg, author)", [text("ann"), text("hi")]),
        (
            "author = 'bob' AND id > 1",
            [Value::Boolean(false), Value::Boolean(true)],
        ),
        ("msg IS NULL", [Value::Boolean(true), Value::Boolean(false)]),
        (
            "author IN ('ann', 'x')",
            [Value::Boolean(true), Value::Boolean(false)],
        ),
        ("7", [Value::BigInt(7), Value::BigInt(7)]),
        ("NULL", [Value::Null, Value::Null]),
    ] {
        assert_eq!(compile(sql).eval(&rows), Ok(expected.to_vec()), "{sql}");
    }
    assert_eq!(compile("id").data_type(), DataType::BigInt);
    assert_eq!(compile("messages.id").name(), "id");
    assert_eq!(compile("LENGTH(msg) + id").name(), "length(msg) + id");
}

#[test]
fn conditions_are_boolean_and_null_does_not_match() {
    let (database, _, messages) = chat();
    let compile = |sql: &str| {
        database
            .engine
            .compile(&messages, &expr(sql), &alice(), &[])
    };
    let row = [Value::BigInt(1), text("ann"), Value::Null];
    let condition = compile("msg = 'x'").expect("a condition");
    assert_eq!(condition.eval_row(&row), Ok(Value::Null));
    assert_eq!(condition.matches(&row), Ok(false));
    assert_eq!(
        compile("author = 'ann'")
            .expect("a condition")
            .matches(&row),
        Ok(true)
    );
    let number = compile("id").expect("a number");
    assert_eq!(
        number.check_condition("WHERE").expect_err("no").code,
        ErrorCode::InvalidSql
    );
    assert_eq!(
        compile("NULL").expect("NULL").check_condition("WHERE"),
        Ok(())
    );
    assert_eq!(
        compile("other.id = 1").expect_err("no such table").code,
        ErrorCode::InvalidSql
    );
}

#[test]
fn what_depends_on_the_session_says_so() {
    let (database, _, messages) = chat();
    for (sql, depends) in [
        ("author = 'ann'", false),
        ("upper(author) = 'ANN'", false),
        ("author = CURRENT_USER", true),
        ("msg < CAST(NOW() AS TEXT)", true),
        ("random() < 0.5", true),
        ("ULID() = author", true),
    ] {
        let compiled = database
            .engine
            .compile(&messages, &expr(sql), &alice(), &[]);
        assert_eq!(compiled.expect(sql).depends_on_session(), depends, "{sql}");
    }
}

#[test]
fn upserts_see_both_rows() {
    let (database, _, messages) = chat();
    let compile = |sql: &str| {
        database
            .engine
            .compile_upsert(&messages, &expr(sql), &alice(), &[])
    };
    let row = [
        [Value::BigInt(1), text("ann"), text("old")],
        [Value::BigInt(1), text("bob"), text("new")],
    ]
    .concat();
    for (sql, expected) in [
        ("excluded.msg", text("new")),
        ("msg", text("old")),
        ("messages.msg || EXCLUDED.msg", text("oldnew")),
        ("author = excluded.author", Value::Boolean(false)),
    ] {
        assert_eq!(
            compile(sql).expect(sql).eval_row(&row),
            Ok(expected),
            "{sql}"
        );
    }
    assert_eq!(
        compile("excluded.nothing").expect_err("no").code,
        ErrorCode::InvalidSql
    );
}

#[test]
fn typed_columns_compare_with_text() {
    let database = Database::new();
    let table = database.table(
        3,
        "typed",
        TableKind::Shared,
        vec![
            column(1, "id", DataType::Uuid),
            column(2, "at", DataType::Timestamp),
            column(
                3,
                "price",
                DataType::Decimal {
                    precision: 10,
                    scale: 2,
                },
            ),
            column(4, "day", DataType::Date),
        ],
    );
    let id = 0xabcdef00_0000_4000_8000_000000000001_u128.to_be_bytes();
    let row = [
        Value::Uuid(id),
        Value::Timestamp(NOW),
        Value::Decimal {
            unscaled: 1010,
            scale: 2,
        },
        Value::Date(20_561),
    ];
    database.insert(&table, None, &row);
    for condition in [
        "id = 'ABCDEF00-0000-4000-8000-000000000001'",
        "id IN ('ABCDEF00-0000-4000-8000-000000000001', '00000000-0000-0000-0000-000000000000')",
        "id BETWEEN 'ABCDEF00-0000-4000-8000-000000000000' AND 'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        "at = '2026-04-18T12:00:00Z'",
        "at >= '2026-04-18'",
        "at = '2026-04-18T14:00:00+02:00'",
        "at < NOW() + INTERVAL '1 day'",
        "price = 10.10",
        "price = '10.10'",
        "price > 10",
        "day = '2026-04-18'",
    ] {
        let compiled = database
            .engine
            .compile(&table, &expr(condition), &alice(), &[]);
        assert_eq!(
            compiled.expect(condition).matches(&row),
            Ok(true),
            "{condition}"
        );
        let sql = format!("SELECT * FROM typed WHERE {condition}");
        assert_eq!(database.rows(&sql), std::slice::from_ref(&row), "{sql}");
    }
    let bad = "SELECT * FROM typed WHERE id = 'abc'";
    assert_eq!(database.code(bad, &[]), ErrorCode::TypeMismatch);
}

#[test]
fn matching_rows_are_those_of_the_condition() {
    let (database, _, messages) = chat();
    let matching = |condition: Option<&str>, params: &[Value]| {
        let condition = condition.map(expr);
        run(database.engine.matching_rows(
            database.snapshot(),
            Meant {
                table: &messages,
                owner: Some("alice"),
                selection: condition.as_ref(),
                keep: Keep::Rows,
            },
            &alice(),
            params,
        ))
        .map(|rows| {
            rows.into_iter()
                .map(|row| {
                    let stored = database
                        .snapshot()
                        .get(&row.key)
                        .expect("memory")
                        .expect("row");
                    let again =
                        crate::query::StoredRow::decode(&messages, row.key.clone(), &stored);
                    assert_eq!(row, again.expect("a row"));
                    row.values[0].clone()
                })
                .collect::<Vec<_>>()
        })
    };
    let ids = |ids: &[i64]| Ok(ids.iter().map(|id| Value::BigInt(*id)).collect::<Vec<_>>());
    assert_eq!(matching(None, &[]), ids(&[1, 2, 3, 4]));
    assert_eq!(matching(Some("id = 2"), &[]), ids(&[2]));
    assert_eq!(matching(Some("id = $1"), &[Value::BigInt(3)]), ids(&[3]));
    assert_eq!(matching(Some("id = 9"), &[]), ids(&[]));
    assert_eq!(matching(Some("id = 2 AND author = 'ann'"), &[]), ids(&[]));
    assert_eq!(matching(Some("id > 1 AND author = 'ann'"), &[]), ids(&[3]));
    assert_eq!(matching(Some("id >= 2 AND id < 4"), &[]), ids(&[2, 3]));
    assert_eq!(
        matching(Some("msg = 'hi' OR msg IS NULL"), &[]),
        ids(&[1, 3])
    );
    assert_eq!(matching(Some("NULL"), &[]), ids(&[]));
    let known = "author IN (SELECT name FROM demo.authors)";
    assert_eq!(matching(Some(known), &[]), ids(&[1, 2, 3]));
    let code = |sql: &str| matching(Some(sql), &[]).expect_err(sql).code;
    assert_eq!(code("id"), ErrorCode::InvalidSql);
    assert_eq!(code("nothing = 1"), ErrorCode::InvalidSql);
    assert_eq!(code("1 / (id - 1) = 1"), ErrorCode::SqlExecutionError);
    assert_eq!(code("id = $1"), ErrorCode::InvalidParameter);
}
