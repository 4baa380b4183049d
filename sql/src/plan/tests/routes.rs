//! What becomes a message, of what, where.

use storage::Engine;
use types::ErrorCode;
use types::partition::partition_of;
use types::row;
use types::schema::PayloadMode;
use types::value::Value;

use super::fixture::{Database, assert_error, text};

fn shared() -> Database {
    let database = Database::new();
    database.ok("root", "CREATE NAMESPACE demo");
    database.ok(
        "root",
        "CREATE TABLE t (id INT PRIMARY KEY, author TEXT, n INT)",
    );
    database.ok("root", "CREATE TOPIC e PARTITIONS 8");
    database
}

#[test]
fn where_looks_at_the_new_row_and_for_a_delete_at_the_old() {
    let database = shared();
    for op in ["INSERT", "UPDATE", "DELETE"] {
        database.ok(
            "root",
            &format!("ALTER TOPIC e ADD SOURCE t ON {op} WHERE author = 'user'"),
        );
    }
    database.ok(
        "root",
        "INSERT INTO t VALUES (1, 'user', 0), (2, 'assistant', 0), (3, NULL, 0)",
    );
    assert_eq!(database.told_keys(), ["insert 1"]);
    database.ok(
        "root",
        "UPDATE t SET author = CASE id WHEN 1 THEN 'other' ELSE 'user' END",
    );
    assert_eq!(database.told_keys(), ["update 2", "update 3"]);
    database.ok("root", "DELETE FROM t");
    assert_eq!(database.told_keys(), ["delete 2", "delete 3"]);
}

#[test]
fn each_change_is_told_once_per_topic() {
    let database = shared();
    database.ok("root", "CREATE TOPIC f PARTITIONS 3");
    database.ok(
        "root",
        "ALTER TOPIC e ADD SOURCE t ON UPDATE WITH (payload = 'key')",
    );
    database.ok(
        "root",
        "ALTER TOPIC f ADD SOURCE t ON UPDATE WHERE n > 0 WITH (payload = 'diff')",
    );
    database.ok("root", "INSERT INTO t VALUES (1, 'a', 0)");
    assert_eq!(database.told(), [], "no route ON INSERT");

    database.ok("root", "UPDATE t SET author = 'b'");
    let told = database.told().remove(0);
    assert_eq!(told.event.targets.len(), 1);
    assert_eq!(told.event.before, None, "nobody shows the row before");

    database.ok("root", "UPDATE t SET n = 1");
    let told = database.told().remove(0);
    let targets: Vec<_> = told
        .event
        .targets
        .iter()
        .map(|t| (t.topic_id, t.partition, t.payload))
        .collect();
    let key_mode = i32::from(PayloadMode::Key);
    let diff_mode = i32::from(PayloadMode::Diff);
    assert_eq!(
        targets,
        [
            (1, partition_of("", "1", 8), key_mode),
            (2, partition_of("", "1", 3), diff_mode)
        ]
    );
    let before = told.event.before.expect("diff shows the row before");
    let after = told.after.expect("an update leaves a row");
    assert!(row::decode(&before).unwrap().contains(&(3, Value::Int(0))));
    assert!(row::decode(&after).unwrap().contains(&(3, Value::Int(1))));
}

#[test]
fn keys_are_the_primary_key_as_text() {
    let database = Database::new();
    database.ok("root", "CREATE NAMESPACE demo");
    database.ok(
        "root",
        "CREATE TABLE t (a TEXT, b BIGINT, v INT, PRIMARY KEY (b, a))",
    );
    database.ok("root", "CREATE TOPIC e");
    database.ok("root", "ALTER TOPIC e ADD SOURCE t ON INSERT");
    database.ok(
        "root",
        "ALTER TOPIC e ADD SOURCE t ON UPDATE WITH (payload = 'diff')",
    );
    database.ok("root", "INSERT INTO t VALUES ('x', -2, 0)");
    assert_eq!(database.told_keys(), ["insert -2,x"]);
    // A row that moves to another key is an update under its new one.
    database.ok("root", "UPDATE t SET a = 'y'");
    let told = database.told().remove(0);
    assert_eq!(told.event.message_key, "-2,y");
    assert!(
        row::decode(&told.event.before.unwrap())
            .unwrap()
            .contains(&(1, text("x")))
    );
}

#[test]
fn an_update_that_changes_nothing_tells_nobody() {
    let database = shared();
    database.ok("root", "ALTER TOPIC e ADD SOURCE t ON UPDATE");
    database.ok("root", "INSERT INTO t VALUES (1, 'a', 0), (2, 'b', 0)");
    let plan = database.plan("root", "UPDATE t SET n = n").unwrap();
    assert!(!plan.writes && plan.commands.is_empty());
    assert_eq!(
        database.done("root", "UPDATE t SET author = 'b'"),
        "Updated 2 row(s)"
    );
    assert_eq!(database.told_keys(), ["update 1"]);
}

#[test]
fn a_route_is_checked_when_it_is_made() {
    let database = shared();
    for (filter, code) in [
        ("nope = 1", ErrorCode::InvalidSql),
        ("n", ErrorCode::InvalidSql),
        ("n > (SELECT 1)", ErrorCode::InvalidSql),
        ("n IN (SELECT n FROM t)", ErrorCode::InvalidSql),
        ("author = CURRENT_USER()", ErrorCode::InvalidSql),
        ("random() > 0.5", ErrorCode::InvalidSql),
        ("NOW() > '2026-01-01'", ErrorCode::InvalidSql),
        ("sum(n) > 1", ErrorCode::InvalidSql),
        ("n = $1", ErrorCode::InvalidParameter),
    ] {
        let text = format!("ALTER TOPIC e ADD SOURCE t ON INSERT WHERE {filter}");
        let error = database.run("root", &text).expect_err(filter);
        assert_eq!(error.code, code, "{filter}: {error}");
    }
    database.ok(
        "root",
        "ALTER TOPIC e ADD SOURCE t ON INSERT WHERE n BETWEEN 1 AND 2 OR author LIKE 'x%'",
    );
    let again = database.refused("root", "ALTER TOPIC e ADD SOURCE t ON INSERT");
    assert_error(&again, ErrorCode::SqlExecutionError, "already");
}

#[test]
fn sources_come_and_go() {
    let database = shared();
    database.ok("root", "ALTER TOPIC demo.e ADD SOURCE demo.t ON INSERT");
    database.ok("root", "ALTER TOPIC demo.e ADD SOURCE t ON DELETE");
    let catalog = database.planner.engine().catalog().clone();
    let sources = || {
        let topic = catalog
            .topic(&*database.storage.snapshot(), "demo", "e")
            .unwrap()
            .unwrap();
        topic.record.sources.clone()
    };
    database.ok("root", "ALTER TOPIC demo.e DROP SOURCE t ON INSERT");
    assert_eq!(sources(), [1]);
    database.ok("root", "ALTER TOPIC demo.e DROP SOURCE t ON DELETE");
    assert_eq!(sources(), [0; 0]);
    let error = database.refused("root", "ALTER TOPIC demo.e DROP SOURCE t ON DELETE");
    assert_error(&error, ErrorCode::SqlExecutionError, "no route");
    database.ok("root", "INSERT INTO t VALUES (1, 'a', 0)");
    assert_eq!(database.told(), []);
}

#[test]
fn a_table_has_so_many_routes() {
    let database = shared();
    for number in 0..types::limits::ROUTES_MAX {
        database.ok("root", &format!("CREATE TOPIC e{number}"));
        database.ok(
            "root",
            &format!("ALTER TOPIC e{number} ADD SOURCE t ON INSERT"),
        );
    }
    let error = database.refused("root", "ALTER TOPIC e ADD SOURCE t ON INSERT");
    assert_error(&error, ErrorCode::InvalidInput, "at most 16 routes");
}

#[test]
fn a_filter_is_kept_as_it_was_written() {
    let database = shared();
    database.ok(
        "root",
        r"ALTER TOPIC e ADD SOURCE t ON INSERT WHERE author = 'it''''s \''s'",
    );
    database.ok(
        "root",
        r"INSERT INTO t VALUES (1, 'it''''s \''s', 0), (2, 'it''s \''s', 0)",
    );
    assert_eq!(database.told_keys(), ["insert 1"]);
}
