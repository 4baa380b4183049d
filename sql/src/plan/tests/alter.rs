//! ALTER TABLE and indexes.

use storage::Engine;
use storage::keys::{Kind, rows as keys};
use types::ErrorCode;
use types::row;
use types::value::Value;

use super::fixture::{Database, assert_error};

fn shared() -> Database {
    let database = Database::new();
    database.ok("root", "CREATE NAMESPACE demo");
    database.ok("root", "CREATE TABLE t (id INT PRIMARY KEY, a TEXT, b INT)");
    database.ok("root", "INSERT INTO t VALUES (1, 'x', 10), (2, 'y', NULL)");
    database
}

#[test]
fn older_rows_have_the_default_of_a_new_column() {
    let database = shared();
    database.ok(
        "root",
        "ALTER TABLE t ADD COLUMN c TEXT NOT NULL DEFAULT 'new'",
    );
    database.ok("root", "ALTER TABLE t ADD d INT");
    database.ok(
        "root",
        "ALTER TABLE t ADD COLUMN at TIMESTAMP DEFAULT NOW()",
    );
    let rows = [
        "1|x|10|new||2026-04-18T12:00:00Z",
        "2|y||new||2026-04-18T12:00:00Z",
    ];
    assert_eq!(database.texts("root", "SELECT * FROM t"), rows);
    assert_eq!(
        database.texts("root", "SELECT * FROM t WHERE id = 1"),
        rows[..1]
    );
    // A default that is dropped later stays what older rows read as.
    database.ok("root", "ALTER TABLE t ALTER COLUMN c DROP DEFAULT");
    database.ok("root", "UPDATE t SET d = 5 WHERE c = 'new' AND id = 1");
    assert_eq!(
        database.texts("root", "SELECT c, d FROM t"),
        ["new|5", "new|"]
    );
    let error = database.refused("root", "INSERT INTO t (id) VALUES (3)");
    assert_error(&error, ErrorCode::NotNullViolation, "\"c\"");
    assert_eq!(
        database.texts(
            "root",
            "ALTER TABLE t ADD COLUMN IF NOT EXISTS c INT; SELECT c FROM t"
        ),
        ["new", "new"]
    );
    for (statement, part) in [
        ("ALTER TABLE t ADD a INT", "already"),
        ("ALTER TABLE t ADD e INT NOT NULL", "has rows"),
        ("ALTER TABLE t ADD e INT DEFAULT 'x'", "DEFAULT of column"),
        ("ALTER TABLE t ADD e TEXT DEFAULT ULID()", "the same id"),
        ("ALTER TABLE t ADD _table INT", "messages use"),
    ] {
        let error = database.refused("root", statement);
        assert!(error.message.contains(part), "{statement}: {error}");
    }
    database.ok("root", "DELETE FROM t");
    database.ok("root", "ALTER TABLE t ADD e INT NOT NULL");
}

#[test]
fn a_row_inserted_meanwhile_keeps_a_column_from_becoming_not_null() {
    let database = shared();
    database.ok("root", "DELETE FROM t WHERE b IS NULL");
    let set = database
        .plan("root", "ALTER TABLE t ALTER b SET NOT NULL")
        .unwrap();
    let add = database.plan("root", "CREATE INDEX i ON t (b)").unwrap();
    database.ok("root", "INSERT INTO t VALUES (3, 'z', NULL)");
    let rows = keys::table_prefix(1);
    for plan in [set, add] {
        let missed = database.apply(&plan.expectations, &plan.commands);
        assert_eq!(missed, Err(rows.clone()));
    }
    let error = database.refused("root", "ALTER TABLE t ALTER COLUMN b SET NOT NULL");
    assert_error(&error, ErrorCode::NotNullViolation, "\"b\"");
    database.ok("root", "UPDATE t SET b = 0 WHERE b IS NULL");
    database.ok("root", "ALTER TABLE t ALTER COLUMN b SET NOT NULL");
    let error = database.refused("root", "INSERT INTO t (id) VALUES (4)");
    assert_error(&error, ErrorCode::NotNullViolation, "\"b\"");
    database.ok("root", "ALTER TABLE t ALTER COLUMN b DROP NOT NULL");
    database.ok("root", "INSERT INTO t (id) VALUES (4)");
    let error = database.refused("root", "ALTER TABLE t ALTER id DROP NOT NULL");
    assert_error(&error, ErrorCode::SqlExecutionError, "PRIMARY KEY");
}

#[test]
fn columns_go_and_change_their_names() {
    let database = shared();
    database.ok("root", "CREATE TOPIC e");
    database.ok(
        "root",
        "ALTER TOPIC e ADD SOURCE t ON INSERT WHERE a = 'x' AND t.b > 1",
    );
    database.ok("root", "ALTER TOPIC e ADD SOURCE t ON DELETE");
    let error = database.refused("root", "ALTER TABLE t DROP COLUMN a");
    assert_error(&error, ErrorCode::SqlExecutionError, "drop that source");
    database.ok("root", "ALTER TABLE t RENAME COLUMN a TO \"A b\"");
    database.ok("root", "INSERT INTO t VALUES (3, 'x', 2), (4, 'z', 2)");
    assert_eq!(
        database.told_keys(),
        ["insert 3"],
        "the route knows the new name"
    );
    database.ok("root", "ALTER TOPIC e DROP SOURCE t ON INSERT");
    database.ok("root", "ALTER TABLE t DROP COLUMN \"A b\"");
    database.ok("root", "ALTER TABLE t DROP IF EXISTS nothing");
    assert_eq!(
        database.texts("root", "SELECT * FROM t WHERE id = 1"),
        ["1|10"]
    );
    // A number is never used again, so a new column does not show an old one's values.
    database.ok("root", "ALTER TABLE t ADD a TEXT");
    assert_eq!(
        database.texts("root", "SELECT * FROM t WHERE id = 1"),
        ["1|10|"]
    );
    // A message of now shows the columns of now, whatever the row was written as.
    database.ok("root", "DELETE FROM t WHERE id = 1");
    let told = database.told();
    let before = told[0].event.before.as_ref().unwrap();
    let fields = row::decode(before).unwrap();
    assert_eq!(
        fields,
        [(1, Value::Int(1)), (3, Value::Int(10)), (4, Value::Null)]
    );
    assert_eq!(row::schema_version(before), Ok(4));
    for (statement, part) in [
        ("ALTER TABLE t DROP COLUMN id", "PRIMARY KEY"),
        ("ALTER TABLE t DROP COLUMN nothing", "has no column"),
        ("ALTER TABLE t RENAME nothing TO x", "has no column"),
        ("ALTER TABLE t RENAME a TO b", "already"),
        ("ALTER TABLE t ALTER b SET DEFAULT 'x'", "DEFAULT of column"),
    ] {
        let error = database.refused("root", statement);
        assert!(error.message.contains(part), "{statement}: {error}");
    }
    let error = database.refused("u", "ALTER TABLE t ADD x INT");
    assert_error(&error, ErrorCode::PermissionDenied, "dba");
    let lines: Vec<String> = database.audited().into_iter().map(|l| l.details).collect();
    assert!(
        lines.contains(&"RENAME COLUMN a TO A b".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn defaults_change() {
    let database = shared();
    database.ok("root", "ALTER TABLE t ALTER COLUMN b SET DEFAULT 7");
    database.ok("root", "INSERT INTO t (id) VALUES (3)");
    database.ok("root", "ALTER TABLE t ALTER COLUMN b SET DEFAULT NULL");
    database.ok("root", "INSERT INTO t (id) VALUES (4)");
    assert_eq!(
        database.texts("root", "SELECT id, b FROM t WHERE id > 2"),
        ["3|7", "4|"]
    );
}

#[test]
fn a_table_may_be_altered_within_a_transaction() {
    let database = shared();
    database.ok(
        "root",
        "BEGIN; ALTER TABLE t ADD c INT DEFAULT 1; ALTER TABLE t RENAME c TO d; \
         INSERT INTO t (id) VALUES (3); COMMIT",
    );
    assert_eq!(
        database.texts("root", "SELECT id, d FROM t"),
        ["1|1", "2|1", "3|1"]
    );
    let statement = "BEGIN; CREATE INDEX i ON t (b); COMMIT";
    let error = database.refused("root", statement);
    assert_error(&error, ErrorCode::InvalidInput, "transaction");
}

/// Entries of all indexes.
fn entries(database: &Database) -> usize {
    [Kind::Index, Kind::UniqueIndex]
        .into_iter()
        .map(|kind| database.under(&kind.prefix()).len())
        .sum()
}

#[test]
fn an_index_holds_the_rows_there_are_and_those_that_come() {
    let database = shared();
    assert_eq!(
        database.done("root", "CREATE INDEX by_b ON t (b)"),
        "Index by_b created"
    );
    assert_eq!(entries(&database), 2);
    database.ok("root", "INSERT INTO t VALUES (3, 'z', 10)");
    database.ok("root", "UPDATE t SET b = 11 WHERE id = 1");
    database.ok("root", "DELETE FROM t WHERE id = 2");
    assert_eq!(entries(&database), 2);
    assert_eq!(
        database.texts("root", "SELECT id FROM t WHERE b = 10"),
        ["3"]
    );
    database.ok("root", "CREATE INDEX IF NOT EXISTS by_b ON t (b)");
    database.ok("root", "CREATE UNIQUE INDEX once ON t (a, b)");
    let error = database.refused("root", "INSERT INTO t VALUES (4, 'z', 10)");
    assert_error(&error, ErrorCode::UniqueViolation, "(a, b) = (z, 10)");
    database.ok(
        "root",
        "INSERT INTO t VALUES (4, 'z', NULL), (5, 'z', NULL)",
    );
    assert_eq!(
        database.done(
            "root",
            "INSERT INTO t VALUES (6, 'z', 10) ON CONFLICT (a, b) DO NOTHING"
        ),
        "Inserted 0 row(s)"
    );
    for (statement, code) in [
        ("CREATE INDEX by_b ON t (a)", ErrorCode::SqlExecutionError),
        ("CREATE UNIQUE INDEX u ON t (a)", ErrorCode::UniqueViolation),
        ("CREATE INDEX i ON t (nothing)", ErrorCode::InvalidSql),
        ("CREATE INDEX i ON t (a, a)", ErrorCode::InvalidSql),
        ("CREATE INDEX i ON nothing (a)", ErrorCode::TableNotFound),
        ("DROP INDEX nothing", ErrorCode::SqlExecutionError),
    ] {
        assert_eq!(
            database.refused("root", statement).code,
            code,
            "{statement}"
        );
    }
    database.ok("root", "DROP INDEX demo.once");
    database.ok("root", "DROP INDEX IF EXISTS once");
    database.ok("root", "INSERT INTO t VALUES (7, 'z', 10)");
    // A column's indexes go with it.
    database.ok("root", "ALTER TABLE t DROP COLUMN b");
    assert_eq!(entries(&database), 0);
    database.ok("root", "ALTER TABLE t ADD b INT");
    database.ok("root", "CREATE INDEX by_b ON t (b)");
}

#[test]
fn every_owner_has_rows_of_their_own_in_an_index() {
    let database = Database::new();
    database.ok("root", "CREATE NAMESPACE demo");
    database.ok("root", "CREATE USER TABLE t (id INT PRIMARY KEY, a TEXT)");
    for who in ["alice", "bob"] {
        database.ok(who, "INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    }
    database.ok("root", "CREATE UNIQUE INDEX u ON t (a)");
    for who in ["alice", "bob"] {
        assert_eq!(database.texts(who, "SELECT id FROM t WHERE a = 'y'"), ["2"]);
        let error = database.refused(who, "INSERT INTO t VALUES (3, 'x')");
        assert_eq!(error.code, ErrorCode::UniqueViolation);
    }
    database.ok("carol", "INSERT INTO t VALUES (3, 'x')");
}

#[test]
fn lookups_use_an_index_of_which_all_columns_are_given() {
    let database = shared();
    database.ok("root", "CREATE UNIQUE INDEX once ON t (a, b)");
    database.ok("root", "CREATE INDEX by_b ON t (b)");
    for id in 3..40 {
        let insert = format!("INSERT INTO t VALUES ({id}, 'v{id}', {})", id % 7);
        database.ok("root", &insert);
    }
    let ranges = |condition: &str| {
        let sql = format!("EXPLAIN SELECT id FROM t WHERE {condition}");
        let plan = database.texts("root", &sql).join(" ");
        let (_, rest) = plan
            .split_once("key_ranges=")
            .unwrap_or_else(|| panic!("{plan}"));
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().unwrap()
    };
    assert_eq!(ranges("a = 'v5' AND b = 5"), 1);
    assert_eq!(ranges("b = 5"), 5);
    assert_eq!(ranges("b = 5 AND a LIKE 'v1%'"), 5);
    assert_eq!(ranges("a = 'v5'"), 1, "all rows");
    for (condition, ids) in [
        ("a = 'v5' AND b = 5", vec!["5"]),
        ("b = 5", vec!["5", "12", "19", "26", "33"]),
        ("b = 5 AND id > 20", vec!["26", "33"]),
        ("b = 5 AND id = 6", vec![]),
        ("b = 99", vec![]),
        (
            "b = 5 OR b = 6",
            vec!["5", "6", "12", "13", "19", "20", "26", "27", "33", "34"],
        ),
    ] {
        let sql = format!("SELECT id FROM t WHERE {condition} ORDER BY id");
        assert_eq!(database.texts("root", &sql), ids, "{condition}");
    }
    // A transaction sees its own entries.
    database.ok(
        "root",
        "BEGIN; INSERT INTO t VALUES (50, 'v', 77); UPDATE t SET a = 'seen' WHERE b = 77; COMMIT",
    );
    assert_eq!(
        database.texts("root", "SELECT a FROM t WHERE b = 77"),
        ["seen"]
    );
    assert_eq!(
        database.done("root", "DELETE FROM t WHERE b = 5"),
        "Deleted 5 row(s)"
    );
}

#[test]
fn an_index_that_no_transaction_holds_is_refused() {
    let database = Database::new();
    database.ok("root", "CREATE NAMESPACE demo");
    database.ok("root", "CREATE TABLE t (id INT PRIMARY KEY, a TEXT)");
    let wide = "x".repeat(3_000);
    for first in (0..2_000).step_by(250) {
        let rows: Vec<String> = (first..first + 250)
            .map(|id| format!("({id}, '{wide}')"))
            .collect();
        database.ok("root", &format!("INSERT INTO t VALUES {}", rows.join(", ")));
    }
    let before = database.storage.snapshot();
    let error = database.refused("root", "CREATE INDEX i ON t (a)");
    assert_error(&error, ErrorCode::ValueTooLarge, "index of 2000 rows");
    drop(before);
}
