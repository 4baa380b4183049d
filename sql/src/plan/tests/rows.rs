//! Rows, keys, indexes, constraints.

use storage::keys::{Kind, encoding, rows as keys};
use types::ErrorCode;
use types::value::{DataType, Value};

use super::fixture::{Database, assert_error, rows_of, text};

fn shared(columns: &str) -> Database {
    let database = Database::new();
    database.ok("root", "CREATE NAMESPACE demo");
    database.ok("root", &format!("CREATE TABLE demo.t ({columns})"));
    database
}

#[test]
fn defaults_are_evaluated_once_and_stored() {
    let database = shared(
        "id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), u UUID DEFAULT UUID_V7(),
         d DECIMAL(5,2) DEFAULT -1.5, t TEXT DEFAULT 'x''y', b BOOLEAN DEFAULT true,
         at DATETIME DEFAULT NOW(), who TEXT DEFAULT CURRENT_USER(), nothing INT",
    );
    let row = database
        .rows("root", "INSERT INTO demo.t DEFAULT VALUES RETURNING *")
        .remove(0);
    assert_eq!(
        row[2],
        Value::Decimal {
            unscaled: -150,
            scale: 2
        }
    );
    assert_eq!(row[3..5], [text("x'y"), Value::Boolean(true)]);
    assert_eq!(row[5], Value::DateTime(super::fixture::NOW));
    assert_eq!(row[6..], [text("root"), Value::Null]);
    assert_eq!(database.rows("root", "SELECT * FROM demo.t"), [row]);
}

#[test]
fn several_rows_in_order() {
    let database = shared("id INT PRIMARY KEY, v TEXT DEFAULT 'd'");
    let returned = database.texts(
        "root",
        "INSERT INTO demo.t VALUES (3, 'c'), (1, DEFAULT), (2, NULL) RETURNING id, v",
    );
    assert_eq!(returned, ["3|c", "1|d", "2|"]);
    assert_eq!(
        database.done("root", "INSERT INTO demo.t (id) SELECT id + 10 FROM demo.t"),
        "Inserted 3 row(s)"
    );
    assert_eq!(
        database.texts("root", "SELECT id, v FROM demo.t ORDER BY id"),
        ["1|d", "2|", "3|c", "11|d", "12|d", "13|d"]
    );
    // As in PostgreSQL, values may stop before the last column.
    database.ok("root", "INSERT INTO demo.t VALUES (4)");
    database.ok("root", "INSERT INTO demo.t SELECT 5");
    assert_eq!(
        database.texts("root", "SELECT * FROM demo.t WHERE id = 5"),
        ["5|d"]
    );
    let error = database.refused("root", "INSERT INTO demo.t SELECT 6, 'v', 0");
    assert_error(&error, ErrorCode::InvalidSql, "3 value(s) for 2 column(s)");
}

#[test]
fn parameters_take_the_columns_type() {
    let database = shared("id INT PRIMARY KEY, at TIMESTAMP, d DECIMAL(6,2), j JSON, n BIGINT");
    let params = [
        Value::BigInt(7),
        text("2026-04-18T12:00:00Z"),
        Value::Double(1.25),
        text("{\"a\":1}"),
        Value::Null,
    ];
    database
        .run_with(
            "root",
            "INSERT INTO demo.t VALUES ($1, $2, $3, $4, $5)",
            &params,
        )
        .unwrap();
    assert_eq!(
        database.rows("root", "SELECT * FROM demo.t"),
        [[
            Value::Int(7),
            Value::Timestamp(1_776_513_600_000_000),
            Value::Decimal {
                unscaled: 125,
                scale: 2
            },
            Value::Json("{\"a\":1}".to_owned()),
            Value::Null
        ]]
    );
    let update = "UPDATE demo.t SET n = $2 WHERE id = $1";
    database
        .run_with("root", update, &[Value::BigInt(7), Value::BigInt(9)])
        .unwrap();
    assert_eq!(database.texts("root", "SELECT n FROM demo.t"), ["9"]);
    for params in [
        &[][..],
        &[Value::BigInt(1)],
        &[Value::Null, Value::Null, Value::Null],
    ] {
        let error = database.run_with("root", update, params).unwrap_err();
        assert_error(&error, ErrorCode::InvalidParameter, "parameter");
    }
}

#[test]
fn a_primary_key_update_moves_the_row() {
    let database = shared("id INT PRIMARY KEY, email TEXT UNIQUE");
    database.ok(
        "root",
        "INSERT INTO demo.t VALUES (1, 'a'), (2, 'b'), (3, NULL)",
    );
    // Every id is taken by the row before it in the set; after the statement all are unique.
    assert_eq!(
        database.done("root", "UPDATE demo.t SET id = id + 1"),
        "Updated 3 row(s)"
    );
    assert_eq!(
        database.texts("root", "SELECT id, email FROM demo.t ORDER BY id"),
        ["2|a", "3|b", "4|"]
    );
    check_indexes(&database, &[("a", 2), ("b", 3)]);
    // Two rows swap what both must have alone.
    database.ok(
        "root",
        "UPDATE demo.t SET email = CASE email WHEN 'a' THEN 'b' ELSE 'a' END WHERE id < 4",
    );
    check_indexes(&database, &[("a", 3), ("b", 2)]);
    database.ok("root", "DELETE FROM demo.t WHERE email = 'a'");
    check_indexes(&database, &[("b", 2)]);
    database.ok("root", "INSERT INTO demo.t VALUES (9, 'a')");
}

/// Are the entries of the one UNIQUE index exactly these? Nulls, which conflict with nothing, have
/// entries of their own and are not looked at.
fn check_indexes(database: &Database, expected: &[(&str, i32)]) {
    let prefix = keys::index_table_prefix(Kind::UniqueIndex, 1);
    let found: Vec<_> = database
        .under(&prefix)
        .into_iter()
        .filter(|(key, _)| {
            let null = keys::index_entry(1, 1, true, None, [&Value::Null], &[]);
            !key.starts_with(&null)
        })
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(email, id)| {
            let mut primary_key = Vec::new();
            encoding::put_value(&mut primary_key, &Value::Int(*id));
            (
                keys::index_entry(1, 1, true, None, [&text(email)], &primary_key),
                primary_key,
            )
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn entries_of_nulls_stay_with_their_rows() {
    let database = shared("id INT PRIMARY KEY, email TEXT UNIQUE, n INT");
    database.ok(
        "root",
        "INSERT INTO demo.t VALUES (1, NULL, 0), (2, NULL, 0)",
    );
    let entries = || {
        database
            .under(&keys::index_table_prefix(Kind::UniqueIndex, 1))
            .len()
    };
    assert_eq!(entries(), 2);
    database.ok("root", "UPDATE demo.t SET n = 1");
    assert_eq!(entries(), 2);
    database.ok("root", "UPDATE demo.t SET id = id + 1");
    assert_eq!(entries(), 2);
    database.ok("root", "DELETE FROM demo.t WHERE id = 2");
    assert_eq!(entries(), 1);
}

#[test]
fn unique_holds() {
    let database = shared("id INT PRIMARY KEY, a TEXT, b INT, UNIQUE (a, b)");
    database.ok(
        "root",
        "INSERT INTO demo.t VALUES (1, 'x', 1), (2, 'x', NULL), (3, 'x', NULL)",
    );
    for (statement, part) in [
        ("INSERT INTO demo.t VALUES (1, 'y', 1)", "(id) = (1)"),
        (
            "INSERT INTO demo.t VALUES (4, 'y', 1), (4, 'z', 1)",
            "(id) = (4)",
        ),
        ("INSERT INTO demo.t VALUES (4, 'x', 1)", "(a, b) = (x, 1)"),
        (
            "INSERT INTO demo.t VALUES (4, 'y', 1), (5, 'y', 1)",
            "(a, b) = (y, 1)",
        ),
        ("UPDATE demo.t SET b = 1 WHERE id = 2", "(a, b) = (x, 1)"),
        ("UPDATE demo.t SET id = 1", "(id) = (1)"),
        ("UPDATE demo.t SET id = 3 WHERE id = 1", "(id) = (3)"),
    ] {
        assert_error(
            &database.refused("root", statement),
            ErrorCode::UniqueViolation,
            part,
        );
    }
}

#[test]
fn each_user_has_own_keys() {
    let database = Database::seeded();
    for user in ["alice", "bob"] {
        database.ok(
            user,
            "INSERT INTO demo.messages (id, author, msg) VALUES ('1', 'u', 'm')",
        );
    }
    let again = database.refused(
        "bob",
        "INSERT INTO demo.messages (id, author, msg) VALUES ('1', 'u', 'm')",
    );
    assert_error(&again, ErrorCode::UniqueViolation, "(id) = (1)");
    assert_eq!(
        database.done("bob", "DELETE FROM demo.messages"),
        "Deleted 1 row(s)"
    );
    assert_eq!(
        database.texts("alice", "SELECT id FROM demo.messages"),
        ["1"]
    );
}

#[test]
fn values_that_do_not_fit() {
    let database = shared(
        "id INT PRIMARY KEY, n SMALLINT NOT NULL DEFAULT 0, t TEXT, j JSON, d DATE, f FILE,
         x DECIMAL(4,1)",
    );
    for (set, code, part) in [
        ("n) VALUES (1, 70000", ErrorCode::TypeMismatch, "\"n\""),
        ("n) VALUES (1, 'many'", ErrorCode::TypeMismatch, "\"n\""),
        (
            "n) VALUES (1, NULL",
            ErrorCode::NotNullViolation,
            "\"n\" of demo.t",
        ),
        ("j) VALUES (1, '{'", ErrorCode::TypeMismatch, "\"j\""),
        (
            "d) VALUES (1, '2026-02-30'",
            ErrorCode::TypeMismatch,
            "\"d\"",
        ),
        ("x) VALUES (1, 1000.5", ErrorCode::TypeMismatch, "\"x\""),
        (
            "t) VALUES (NULL, 'x'",
            ErrorCode::NotNullViolation,
            "\"id\"",
        ),
        (
            "nope) VALUES (1, 1",
            ErrorCode::InvalidSql,
            "no column \"nope\"",
        ),
        ("n) VALUES (1, other", ErrorCode::InvalidSql, "other"),
    ] {
        let text = format!("INSERT INTO demo.t (id, {set})");
        assert_error(&database.refused("root", &text), code, part);
    }
    database.ok("root", "INSERT INTO demo.t (id) VALUES (1)");
    for (set, code) in [
        ("n = n + 70000", ErrorCode::TypeMismatch),
        ("n = NULL", ErrorCode::NotNullViolation),
        ("n = 1 / (id - 1)", ErrorCode::SqlExecutionError),
        ("nope = 1", ErrorCode::InvalidSql),
        ("n = nope", ErrorCode::InvalidSql),
    ] {
        let error = database.refused("root", &format!("UPDATE demo.t SET {set}"));
        assert_error(&error, code, "");
    }
}

#[test]
fn sizes_are_bounded() {
    let database = shared("id TEXT PRIMARY KEY, t TEXT");
    let long = |bytes: usize| text(&"x".repeat(bytes));
    let insert = "INSERT INTO demo.t VALUES ($1, $2)";
    for (id, t) in [
        (long(5_000), long(1)),
        (long(1), long(types::limits::ROW_MAX_BYTES)),
    ] {
        let error = database.run_with("root", insert, &[id, t]).unwrap_err();
        assert_error(&error, ErrorCode::ValueTooLarge, "at most");
    }
    database
        .run_with("root", insert, &[long(1), long(1_000_000)])
        .unwrap();
    let many =
        "INSERT INTO demo.t SELECT id || n, t FROM demo.t, (VALUES (1), (2), (3), (4), (5)) v(n)";
    assert_error(
        &database.refused("root", many),
        ErrorCode::ValueTooLarge,
        "divide it",
    );
}

#[test]
fn returning_shows_rows_and_expressions() {
    let database = shared("id INT PRIMARY KEY, v TEXT NOT NULL");
    let answer = database.ok(
        "root",
        "INSERT INTO demo.t VALUES (1, 'a') RETURNING *, id + 1 AS next, upper(v), V AS again",
    );
    let rows = rows_of(answer);
    let columns: Vec<_> = rows
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.data_type, c.flags.clone()))
        .collect();
    assert_eq!(columns[0], ("id", DataType::Int, vec!["pk", "nn"]));
    assert_eq!(columns[1], ("v", DataType::Text, vec!["nn"]));
    assert_eq!(columns[2].0, "next");
    assert_eq!(columns[4], ("again", DataType::Text, vec!["nn"]));
    assert_eq!(types::cell::to_text(&rows.rows[0][2]), "2");
    assert_eq!(rows.rows[0][3..], [text("A"), text("a")]);
    assert_eq!(
        database.texts("root", "UPDATE demo.t SET v = v || 'b' RETURNING v"),
        ["ab"]
    );
    assert_eq!(
        database.texts("root", "DELETE FROM demo.t RETURNING id, v"),
        ["1|ab"]
    );
}

#[test]
fn composite_keys() {
    let database = shared("a TEXT, b INT, v INT, PRIMARY KEY (b, a)");
    database.ok("root", "INSERT INTO demo.t VALUES ('x', 2, 0), ('y', 1, 0)");
    let all = database.under(&keys::table_prefix(1));
    assert_eq!(
        all[0].0,
        keys::row(1, None, [&Value::Int(1), &text("y")]),
        "ordered by b first"
    );
    database.ok("root", "UPDATE demo.t SET v = 1 WHERE a = 'x' AND b = 2");
    assert_eq!(
        database.texts("root", "SELECT a, v FROM demo.t ORDER BY a"),
        ["x|1", "y|0"]
    );
}

#[test]
fn decimals_keep_their_digits_in_updates_and_deletes() {
    let database = shared("id INT PRIMARY KEY, price DECIMAL(10,2), n INT");
    database.ok(
        "root",
        "INSERT INTO demo.t VALUES (1, 99999.99, 2147483647)",
    );
    let update = "UPDATE demo.t SET price = price + 0.01 WHERE price = 99999.99";
    assert_eq!(database.done("root", update), "Updated 1 row(s)");
    assert_eq!(
        database.texts("root", "SELECT price FROM demo.t"),
        ["100000.00"]
    );
    let error = database.refused("root", "UPDATE demo.t SET n = n * n");
    assert_error(&error, ErrorCode::SqlExecutionError, "out of range");
    let delete = "DELETE FROM demo.t WHERE price = 100000.00";
    assert_eq!(database.done("root", delete), "Deleted 1 row(s)");
}

#[test]
fn a_statement_changes_no_more_than_fits_into_memory() {
    let database = shared("id INT PRIMARY KEY, v TEXT");
    let (rows, bytes) = (80, 1_000_000);
    for id in 0..rows {
        let params = [Value::BigInt(id), text(&"x".repeat(bytes))];
        let insert = "INSERT INTO demo.t VALUES ($1, $2)";
        database.run_with("root", insert, &params).unwrap();
    }
    let error = database.refused("root", "UPDATE demo.t SET v = v");
    assert_error(&error, ErrorCode::ValueTooLarge, "67108864 bytes");
    // Of rows that go without anybody being told, keys are enough.
    assert_eq!(
        database.done("root", "DELETE FROM demo.t"),
        format!("Deleted {rows} row(s)")
    );
}

#[test]
fn writes_are_explained_and_not_done() {
    let database = shared("id INT PRIMARY KEY, v TEXT");
    database.ok("root", "INSERT INTO demo.t VALUES (1, 'x')");
    for (statement, parts) in [
        (
            "UPDATE demo.t SET v = 'y' WHERE id = 1",
            ["UPDATE: demo.t", "key_ranges=1"],
        ),
        ("DELETE FROM demo.t", ["DELETE: demo.t", "TableScan"]),
        (
            "INSERT INTO demo.t SELECT id + 1, v FROM demo.t",
            ["INSERT: demo.t", "TableScan"],
        ),
        ("INSERT INTO demo.t VALUES (2)", ["INSERT: demo.t", "write"]),
    ] {
        let plan = database.texts("root", &format!("EXPLAIN {statement}"));
        let plan = plan.join("\n");
        for part in parts {
            assert!(plan.contains(part), "{statement}: {plan}");
        }
    }
    assert_eq!(database.texts("root", "SELECT * FROM demo.t"), ["1|x"]);
    let error = database.refused("u", "EXPLAIN DELETE FROM demo.t");
    assert_error(&error, ErrorCode::PermissionDenied, "service");
    let error = database.refused("root", "EXPLAIN DELETE FROM demo.nothing");
    assert_eq!(error.code, ErrorCode::TableNotFound);
}

#[test]
fn names_fold_alike_in_statements_and_in_queries() {
    let database = Database::new();
    database.ok("root", "CREATE NAMESPACE demo");
    database.ok("root", "CREATE TABLE ÄB (Öl INT PRIMARY KEY, Und INT)");
    database.ok("root", "INSERT INTO Äb (ÖL, und) VALUES (1, 2)");
    for query in [
        "SELECT Öl FROM ÄB",
        "SELECT ÖL FROM demo.Äb WHERE UND = 2",
        "SELECT x.Öl FROM Äb AS x WHERE x.Öl = 1",
    ] {
        assert_eq!(database.texts("root", query), ["1"], "{query}");
    }
    let update = "UPDATE ÄB SET UND = Öl + 1 WHERE ÖL + 0 = 1";
    assert_eq!(database.done("root", update), "Updated 1 row(s)");
    let error = database.refused("root", "SELECT öl FROM Äb");
    assert_eq!(error.code, ErrorCode::InvalidSql);
}
