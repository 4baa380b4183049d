//! Two plans made on the same state: what the second one misses when the first is applied.

use super::fixture::Database;

fn shared() -> Database {
    let database = Database::new();
    database.ok("root", "CREATE NAMESPACE demo");
    database.ok(
        "root",
        "CREATE TABLE demo.t (id INT PRIMARY KEY, email TEXT UNIQUE, n INT)",
    );
    database.ok("root", "CREATE TOPIC demo.e");
    database.ok("root", "INSERT INTO demo.t VALUES (1, 'a', 0), (2, 'b', 0)");
    database
}

/// Plans both, applies the first, then the second: is the second rejected?
fn second_is_rejected(first: &str, second: &str) -> bool {
    let database = shared();
    let first_plan = database.plan("root", first).unwrap();
    let second_plan = database.plan("root", second).unwrap();
    database
        .apply(&first_plan.expectations, &first_plan.commands)
        .expect("the first holds");
    let before = database.everything();
    let rejected = database
        .apply(&second_plan.expectations, &second_plan.commands)
        .is_err();
    assert!(!rejected || database.everything() == before);
    rejected
}

#[test]
fn what_cannot_both_happen() {
    for (first, second) in [
        (
            "INSERT INTO t VALUES (3, 'c', 0)",
            "INSERT INTO t VALUES (3, 'd', 0)",
        ),
        (
            "INSERT INTO t VALUES (3, 'c', 0)",
            "INSERT INTO t VALUES (4, 'c', 0)",
        ),
        (
            "INSERT INTO t VALUES (3, 'c', 0)",
            "UPDATE t SET email = 'c' WHERE id = 1",
        ),
        (
            "UPDATE t SET n = n + 1 WHERE id = 1",
            "UPDATE t SET n = n + 1 WHERE id = 1",
        ),
        (
            "UPDATE t SET n = 1 WHERE id = 1",
            "DELETE FROM t WHERE id = 1",
        ),
        (
            "DELETE FROM t WHERE id = 1",
            "UPDATE t SET n = 1 WHERE id = 1",
        ),
        ("DELETE FROM t WHERE id = 1", "DELETE FROM t"),
        (
            "UPDATE t SET id = 9 WHERE id = 1",
            "INSERT INTO t VALUES (9, 'c', 0)",
        ),
        (
            "DELETE FROM t WHERE id = 1",
            "INSERT INTO t VALUES (1, 'x', 0), (5, 'y', 0) ON CONFLICT DO NOTHING",
        ),
        (
            "ALTER TOPIC e ADD SOURCE t ON INSERT",
            "INSERT INTO t VALUES (3, 'c', 0)",
        ),
        ("DROP TABLE t", "INSERT INTO t VALUES (3, 'c', 0)"),
        (
            "DROP NAMESPACE demo CASCADE",
            "CREATE TABLE u (id INT PRIMARY KEY)",
        ),
        (
            "CREATE TABLE u (id INT PRIMARY KEY)",
            "DROP NAMESPACE demo CASCADE",
        ),
        ("CREATE TOPIC f", "DROP NAMESPACE demo CASCADE"),
        (
            "CREATE TABLE u (id INT PRIMARY KEY)",
            "CREATE TABLE u (id INT PRIMARY KEY)",
        ),
        ("CREATE NAMESPACE a", "CREATE NAMESPACE b"),
        ("DROP TOPIC e", "ALTER TOPIC e ADD SOURCE t ON INSERT"),
        ("ALTER TOPIC e ADD SOURCE t ON INSERT", "DROP TOPIC e"),
        (
            "ALTER TOPIC e ADD SOURCE t ON INSERT",
            "ALTER TOPIC e ADD SOURCE t ON INSERT",
        ),
        ("DROP TOPIC e", "CLEAR TOPIC e"),
        ("DROP TOPIC e", "ACK e GROUP 'g' UPTO OFFSET 1"),
        ("DROP TOPIC e", "RESET CONSUMER GROUP 'g' ON e TO EARLIEST"),
        (
            "CREATE USER u WITH PASSWORD '12345678'",
            "CREATE USER u WITH PASSWORD '87654321'",
        ),
    ] {
        assert!(second_is_rejected(first, second), "{first}; {second}");
    }
}

#[test]
fn what_can_both_happen() {
    for (first, second) in [
        (
            "INSERT INTO t VALUES (3, 'c', 0)",
            "INSERT INTO t VALUES (4, 'd', 0)",
        ),
        (
            "INSERT INTO t VALUES (3, NULL, 0)",
            "INSERT INTO t VALUES (4, NULL, 0)",
        ),
        (
            "UPDATE t SET n = 1 WHERE id = 1",
            "UPDATE t SET n = 1 WHERE id = 2",
        ),
        (
            "CREATE TABLE u (id INT PRIMARY KEY)",
            "INSERT INTO t VALUES (3, 'c', 0)",
        ),
        (
            "ALTER TOPIC e SET RETENTION WITH (retention_seconds = 1)",
            "ACK e GROUP 'g' UPTO OFFSET 1",
        ),
        (
            "CREATE USER u WITH PASSWORD '12345678'",
            "INSERT INTO t VALUES (3, 'c', 0)",
        ),
    ] {
        assert!(!second_is_rejected(first, second), "{first}; {second}");
    }
}

#[test]
fn planned_again_it_sees_what_happened() {
    let database = shared();
    let increment = "UPDATE t SET n = n + 1 WHERE id = 1";
    let stale = database.plan("root", increment).unwrap();
    database.ok("root", increment);
    database
        .apply(&stale.expectations, &stale.commands)
        .expect_err("stale");
    database.ok("root", increment);
    assert_eq!(
        database.texts("root", "SELECT n FROM t WHERE id = 1"),
        ["2"]
    );
}
