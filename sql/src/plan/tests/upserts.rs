//! ON CONFLICT.

use types::ErrorCode;

use super::fixture::{Database, assert_error};

fn shared() -> Database {
    let database = Database::new();
    database.ok("root", "CREATE NAMESPACE demo");
    database.ok(
        "root",
        "CREATE TABLE t (id INT PRIMARY KEY, email TEXT UNIQUE, n INT DEFAULT 0)",
    );
    database.ok("root", "CREATE TOPIC e");
    database.ok("root", "ALTER TOPIC e ADD SOURCE t ON INSERT");
    database.ok("root", "ALTER TOPIC e ADD SOURCE t ON UPDATE");
    database.ok("root", "INSERT INTO t VALUES (1, 'a', 10), (2, 'b', 20)");
    database.told();
    database
}

fn all(database: &Database) -> String {
    database
        .texts("root", "SELECT id, email, n FROM t ORDER BY id")
        .join(" ")
}

#[test]
fn nothing() {
    let database = shared();
    for (insert, message) in [
        (
            "(1, 'x', 0), (3, 'c', 30) ON CONFLICT DO NOTHING",
            "Inserted 1 row(s)",
        ),
        ("(4, 'a', 0) ON CONFLICT DO NOTHING", "Inserted 0 row(s)"),
        (
            "(4, 'd', 0), (4, 'e', 0), (5, 'd', 0) ON CONFLICT DO NOTHING",
            "Inserted 1 row(s)",
        ),
        (
            "(1, 'x', 0) ON CONFLICT (id) DO NOTHING",
            "Inserted 0 row(s)",
        ),
    ] {
        assert_eq!(
            database.done("root", &format!("INSERT INTO t VALUES {insert}")),
            message
        );
    }
    assert_eq!(all(&database), "1|a|10 2|b|20 3|c|30 4|d|0");
    assert_eq!(database.told_keys(), ["insert 3", "insert 4"]);
    // Another key than the one named is a violation as ever.
    let error = database.refused(
        "root",
        "INSERT INTO t VALUES (9, 'a', 0) ON CONFLICT (id) DO NOTHING",
    );
    assert_error(&error, ErrorCode::UniqueViolation, "(email) = (a)");
}

#[test]
fn update() {
    let database = shared();
    let returned = database.texts(
        "root",
        "INSERT INTO t (id, email, n) VALUES (1, 'x', 5), (3, 'c', 7) \
         ON CONFLICT (id) DO UPDATE SET n = t.n + excluded.n RETURNING id, n",
    );
    assert_eq!(returned, ["1|15", "3|7"]);
    assert_eq!(all(&database), "1|a|15 2|b|20 3|c|7");
    assert_eq!(database.told_keys(), ["update 1", "insert 3"]);
    // By a UNIQUE column; the row found keeps its primary key.
    database.ok(
        "root",
        "INSERT INTO t VALUES (9, 'b', 1) ON CONFLICT (email) DO UPDATE SET n = excluded.n + n * 2",
    );
    assert_eq!(all(&database), "1|a|15 2|b|41 3|c|7");
    let unmet =
        "INSERT INTO t VALUES (1, 'a', 0) ON CONFLICT (id) DO UPDATE SET n = 0 WHERE t.n > 99";
    assert_eq!(database.done("root", unmet), "Inserted 0 row(s)");
    database.ok(
        "root",
        "INSERT INTO t VALUES (3, 'c', 0) ON CONFLICT (id) DO UPDATE SET n = DEFAULT",
    );
    assert_eq!(all(&database), "1|a|15 2|b|41 3|c|0");
}

#[test]
fn one_that_changes_nothing_counts_and_tells_nobody() {
    let database = shared();
    let same = "INSERT INTO t VALUES (1, 'a', 10) ON CONFLICT (id) DO UPDATE SET n = excluded.n";
    assert_eq!(database.done("root", same), "Inserted 1 row(s)");
    assert_eq!(database.told(), []);
    assert!(!database.plan("root", same).unwrap().writes);
}

#[test]
fn refused() {
    let database = shared();
    for (insert, code, part) in [
        (
            "(1, 'x', 0), (1, 'y', 0) ON CONFLICT (id) DO UPDATE SET n = 1",
            ErrorCode::SqlExecutionError,
            "second time",
        ),
        (
            "(7, 'x', 0), (7, 'y', 0) ON CONFLICT (id) DO UPDATE SET n = 1",
            ErrorCode::SqlExecutionError,
            "second time",
        ),
        (
            "(1, 'x', 0) ON CONFLICT (n) DO NOTHING",
            ErrorCode::InvalidSql,
            "no PRIMARY KEY or UNIQUE",
        ),
        (
            "(1, 'x', 0) ON CONFLICT (id) DO UPDATE SET z = 1",
            ErrorCode::InvalidSql,
            "\"z\"",
        ),
        (
            "(1, 'x', 0) ON CONFLICT (id) DO UPDATE SET email = 'b'",
            ErrorCode::UniqueViolation,
            "(email) = (b)",
        ),
        (
            "(1, 'x', 0) ON CONFLICT (id) DO UPDATE SET n = 1 WHERE n",
            ErrorCode::InvalidSql,
            "BOOLEAN",
        ),
    ] {
        let error = database.refused("root", &format!("INSERT INTO t VALUES {insert}"));
        assert_error(&error, code, part);
    }
}
