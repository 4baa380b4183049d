//! DDL: what it leaves, and what it removes.

use storage::Engine;
use storage::keys::{Kind, topics as topic_keys};

use types::ErrorCode;

use super::fixture::{Database, assert_error};
use crate::answer::Answer;

#[test]
fn if_exists_and_if_not_exists() {
    let database = Database::seeded();
    for statement in [
        "CREATE NAMESPACE IF NOT EXISTS demo",
        "CREATE TABLE IF NOT EXISTS messages (id INT PRIMARY KEY)",
        "CREATE TOPIC IF NOT EXISTS message_events",
        "DROP NAMESPACE IF EXISTS nope",
        "DROP TABLE IF EXISTS nope",
        "DROP TABLE IF EXISTS nope.nope",
        "DROP TOPIC IF EXISTS nope",
        "DROP USER IF EXISTS nope",
    ] {
        let plan = database.plan("root", statement).unwrap();
        assert!(!plan.writes && plan.commands.is_empty(), "{statement}");
    }
    for (statement, code) in [
        ("CREATE NAMESPACE demo", ErrorCode::SqlExecutionError),
        (
            "CREATE TABLE messages (id INT PRIMARY KEY)",
            ErrorCode::SqlExecutionError,
        ),
        ("CREATE TOPIC message_events", ErrorCode::SqlExecutionError),
        ("DROP NAMESPACE nope", ErrorCode::TableNotFound),
        ("DROP TABLE nope", ErrorCode::TableNotFound),
        ("DROP TOPIC nope", ErrorCode::TableNotFound),
        ("DROP USER nope", ErrorCode::NotFound),
    ] {
        assert_eq!(
            database.refused("root", statement).code,
            code,
            "{statement}"
        );
    }
}

#[test]
fn ids_are_never_used_again() {
    let database = Database::new();
    database.ok("root", "CREATE NAMESPACE demo");
    let id = || {
        let catalog = database.planner.engine().catalog();
        catalog
            .table(&*database.storage.snapshot(), "demo", "t")
            .unwrap()
            .unwrap()
            .record
            .id
    };
    database.ok("root", "CREATE TABLE t (id INT PRIMARY KEY)");
    let first = id();
    database.ok("root", "DROP TABLE t");
    database.ok("root", "CREATE TABLE t (id INT PRIMARY KEY)");
    assert_eq!((first, id()), (1, 2));
}

#[test]
fn dropping_a_table_leaves_only_its_old_definitions() {
    let database = Database::seeded();
    database.ok("root", "CREATE TABLE t (id INT PRIMARY KEY, a TEXT UNIQUE)");
    database.ok("root", "INSERT INTO t VALUES (1, 'x'), (2, NULL)");
    database.ok("u", "INSERT INTO messages (author, msg) VALUES ('a', 'b')");
    database.ok("root", "DROP TABLE t");
    let error = database.refused("root", "DROP TABLE messages");
    assert_error(&error, ErrorCode::SqlExecutionError, "3 route(s)");
    database.ok("root", "DROP TABLE messages CASCADE");
    for kind in [
        Kind::Table,
        Kind::TableName,
        Kind::IndexName,
        Kind::Row,
        Kind::Index,
        Kind::UniqueIndex,
    ] {
        assert_eq!(database.under(&kind.prefix()), [], "{kind:?}");
    }
    assert_eq!(
        database.under(&Kind::TableVersion.prefix()).len(),
        2,
        "messages refer to them"
    );
    let catalog = database.planner.engine().catalog();
    let topics = catalog.all_topics(&*database.storage.snapshot()).unwrap();
    assert!(topics[0].record.sources.is_empty());
}

#[test]
fn dropping_a_topic_takes_its_routes_and_messages() {
    let database = Database::seeded();
    let put = |key: Vec<u8>| {
        let change = types::command::Change {
            key: key.into(),
            after: Some("x".into()),
            event: None,
        };
        let write = types::command::Write {
            delete_ranges: vec![],
            changes: vec![change],
        };
        database
            .apply(&[], &[types::command::CommandKind::Write(write).into()])
            .unwrap();
    };
    for topic in [1, 2] {
        put(topic_keys::message(topic, 0, 0));
        put(topic_keys::tail(topic, 0));
        put(topic_keys::group(topic, "g"));
        put(topic_keys::cursor(topic, "g", 0));
        put(topic_keys::segment(topic, "g", 0, 0));
        put(topic_keys::lease(topic, "g", "l"));
        put(topic_keys::deadline(topic, "g", 0, 1, 0));
        put(topic_keys::lease_end(topic, "g", 1, "l"));
    }
    database.ok("root", "DROP TOPIC message_events");
    for kind in [
        Kind::Message,
        Kind::Tail,
        Kind::Group,
        Kind::Cursor,
        Kind::Segment,
        Kind::Lease,
        Kind::Deadline,
        Kind::LeaseEnd,
    ] {
        assert_eq!(
            database.under(&kind.prefix()).len(),
            1,
            "another topic's {kind:?} stays"
        );
    }
    assert_eq!(database.under(&Kind::Topic.prefix()), []);
    database.ok("u", "INSERT INTO messages (author, msg) VALUES ('a', 'b')");
    assert_eq!(database.told(), []);
    database.ok("root", "DROP TABLE messages");
}

#[test]
fn a_namespace_goes_with_everything_in_it_or_not_at_all() {
    let database = Database::seeded();
    database.ok("root", "CREATE NAMESPACE other");
    database.ok("root", "CREATE TABLE other.t (id INT PRIMARY KEY)");
    database.ok("root", "CREATE TOPIC other.e");
    database.ok(
        "root",
        "ALTER TOPIC demo.message_events ADD SOURCE other.t ON INSERT",
    );
    database.ok(
        "root",
        "ALTER TOPIC other.e ADD SOURCE demo.messages ON INSERT",
    );
    let error = database.refused("root", "DROP NAMESPACE demo");
    assert_error(
        &error,
        ErrorCode::SqlExecutionError,
        "1 table(s) and 1 topic(s)",
    );
    database.ok("root", "DROP NAMESPACE demo CASCADE");
    let catalog = database.planner.engine().catalog();
    let state = database.storage.snapshot();
    let tables = catalog.all_tables(&*state).unwrap();
    let topics = catalog.all_topics(&*state).unwrap();
    assert_eq!((tables.len(), topics.len()), (1, 1));
    assert!(tables[0].record.routes.is_empty(), "its topic is gone");
    assert!(topics[0].record.sources.is_empty(), "its table is gone");
    database.ok("root", "INSERT INTO other.t VALUES (1)");
    assert_eq!(database.told(), []);
}

#[test]
fn definitions_that_make_no_sense() {
    let database = Database::seeded();
    let long = "x".repeat(256);
    let columns: Vec<String> = (0..513).map(|n| format!("c{n} INT")).collect();
    for (definition, code, part) in [
        (
            "a INT".to_owned(),
            ErrorCode::InvalidSql,
            "needs a PRIMARY KEY",
        ),
        (
            "a INT, PRIMARY KEY (b)".to_owned(),
            ErrorCode::InvalidSql,
            "no column \"b\"",
        ),
        (
            "a INT, PRIMARY KEY (a, a)".to_owned(),
            ErrorCode::InvalidSql,
            "twice",
        ),
        (
            "a JSON PRIMARY KEY".to_owned(),
            ErrorCode::InvalidSql,
            "no order",
        ),
        (
            "a FILE PRIMARY KEY".to_owned(),
            ErrorCode::InvalidSql,
            "no order",
        ),
        (
            "a INT PRIMARY KEY, b JSON UNIQUE".to_owned(),
            ErrorCode::InvalidSql,
            "no order",
        ),
        (
            "a INT PRIMARY KEY DEFAULT 'x'".to_owned(),
            ErrorCode::TypeMismatch,
            "\"a\"",
        ),
        (
            "a INT PRIMARY KEY DEFAULT NOW()".to_owned(),
            ErrorCode::TypeMismatch,
            "\"a\"",
        ),
        (
            "a SMALLINT PRIMARY KEY, b SMALLINT DEFAULT 70000".to_owned(),
            ErrorCode::TypeMismatch,
            "\"b\"",
        ),
        (
            "_table INT PRIMARY KEY".to_owned(),
            ErrorCode::InvalidInput,
            "_table",
        ),
        (
            format!("{long} INT PRIMARY KEY"),
            ErrorCode::InvalidInput,
            "255 bytes",
        ),
        (
            format!("{}, PRIMARY KEY (c0)", columns.join(", ")),
            ErrorCode::InvalidInput,
            "512 columns",
        ),
    ] {
        let error = database.refused("root", &format!("CREATE TABLE t ({definition})"));
        assert_error(&error, code, part);
    }
    for name in ["\"\"", "\"a.b\"", "\"a\nb\"", &long] {
        let error = database.refused("root", &format!("CREATE TABLE {name} (a INT PRIMARY KEY)"));
        assert_eq!(error.code, ErrorCode::InvalidInput, "{name}");
        let error = database.refused("root", &format!("CREATE NAMESPACE {name}"));
        assert_eq!(error.code, ErrorCode::InvalidInput, "{name}");
    }
    for statement in [
        "CREATE NAMESPACE system",
        "CREATE TABLE system.t (a INT PRIMARY KEY)",
        "INSERT INTO system.users VALUES (1)",
        "DROP TABLE system.users",
    ] {
        assert_eq!(
            database.refused("root", statement).code,
            ErrorCode::PermissionDenied
        );
    }
}

#[test]
fn unique_constraints_get_names_of_their_own() {
    let database = Database::new();
    database.ok("root", "CREATE NAMESPACE demo");
    database.ok(
        "root",
        "CREATE TABLE a (b_c INT UNIQUE, id INT PRIMARY KEY UNIQUE)",
    );
    database.ok(
        "root",
        "CREATE TABLE a_b (c INT UNIQUE, id INT PRIMARY KEY)",
    );
    let catalog = database.planner.engine().catalog();
    let tables = catalog.all_tables(&*database.storage.snapshot()).unwrap();
    let names: Vec<Vec<&str>> = tables
        .iter()
        .map(|t| {
            t.record
                .indexes
                .iter()
                .map(|index| index.name.as_str())
                .collect()
        })
        .collect();
    assert_eq!(
        names,
        [["a_b_c_key"], ["a_b_c_key1"]],
        "none for what the primary key says"
    );
    let error = database.refused(
        "root",
        "CREATE TABLE z (id INT PRIMARY KEY, v INT, CONSTRAINT a_b_c_key UNIQUE (v))",
    );
    assert_error(&error, ErrorCode::SqlExecutionError, "exists already");
}

#[test]
fn showing() {
    let database = Database::seeded();
    assert_eq!(
        database.texts("u", "SHOW NAMESPACES"),
        ["demo|2026-04-18T12:00:00Z", "system|"]
    );
    let tables = database.texts("u", "SHOW TABLES IN system");
    assert!(
        tables.contains(&"system|users|SYSTEM|".to_owned()),
        "{tables:?}"
    );
    assert_eq!(
        database.texts("u", "DESCRIBE system.namespaces")[1],
        "name|TEXT|true|false|"
    );
    let error = database.refused("u", "DESCRIBE system.audit_log");
    assert_error(&error, ErrorCode::PermissionDenied, "dba");
    let error = database.refused("u", "DESCRIBE system.nothing");
    assert_error(&error, ErrorCode::TableNotFound, "system.nothing");
    let table = "demo|messages|USER|2026-04-18T12:00:00Z";
    assert_eq!(database.texts("u", "SHOW TABLES"), [table]);
    assert_eq!(database.texts("u", "SHOW TABLES IN demo"), [table]);
    assert_eq!(
        database.refused("u", "SHOW TABLES IN nope").code,
        ErrorCode::TableNotFound
    );
    assert_eq!(
        database.texts("u", "DESCRIBE demo.messages"),
        [
            "id|TEXT|false|true|ULID()",
            "author|TEXT|false|false|",
            "msg|TEXT|false|false|",
            "attachment|FILE|true|false|",
            "created|TIMESTAMP|false|false|NOW()",
        ]
    );
    assert_eq!(
        database.ok("u", "USE demo"),
        Answer::done("Using namespace demo")
    );
    assert_eq!(
        database.refused("u", "USE nope").code,
        ErrorCode::TableNotFound
    );
    assert_eq!(
        database.refused("u", "DESCRIBE nope").code,
        ErrorCode::TableNotFound
    );
}

#[test]
fn topics_change() {
    let database = Database::seeded();
    database.ok(
        "root",
        "CREATE TOPIC t PARTITIONS 3 WITH (retention_seconds = 60)",
    );
    let topic = || {
        let catalog = database.planner.engine().catalog();
        let topic = catalog
            .topic(&*database.storage.snapshot(), "demo", "t")
            .unwrap()
            .unwrap();
        (
            topic.record.partitions,
            topic.record.retention_seconds,
            topic.record.retention_max_bytes,
        )
    };
    assert_eq!(topic(), (3, Some(60), None));
    database.ok(
        "root",
        "ALTER TOPIC t SET RETENTION WITH (retention_max_bytes = 5)",
    );
    assert_eq!(topic(), (3, Some(60), Some(5)));
    database.ok("root", "ALTER TOPIC t CLEAR RETENTION");
    assert_eq!(topic(), (3, None, None));
    database.ok("root", "CLEAR TOPIC t");
    let others = database.others();
    assert!(
        matches!(&others[..], [types::command::CommandKind::ClearTopic(clear)]
            if clear.topic_id == 2 && clear.partitions == 3),
        "{others:?}"
    );
}
