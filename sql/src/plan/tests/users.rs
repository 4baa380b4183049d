//! Accounts, roles, acting as others.

use storage::Engine;
use types::ErrorCode;

use super::fixture::{Database, NOW, assert_error};

fn with_users() -> Database {
    let database = Database::seeded();
    database.ok("root", "CREATE TABLE public (id INT PRIMARY KEY)");
    database.ok(
        "root",
        "CREATE TABLE private (id INT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PRIVATE')",
    );
    database.ok(
        "root",
        "CREATE TABLE secret (id INT PRIMARY KEY) WITH (ACCESS_LEVEL = 'DBA')",
    );
    for (name, role) in [
        ("admin", "dba"),
        ("agent", "service"),
        ("worker", "service"),
        ("alice", "user"),
    ] {
        database.ok(
            "root",
            &format!("CREATE USER {name} WITH PASSWORD 'password' ROLE '{role}'"),
        );
    }
    database.audited();
    database
}

#[test]
fn passwords_are_hashed_and_change() {
    let database = with_users();
    let user = |name: &str| {
        let catalog = database.planner.engine().catalog();
        catalog
            .user(&*database.storage.snapshot(), name)
            .unwrap()
            .unwrap()
            .record
    };
    assert_eq!(user("alice").password_hash, "drowssap");
    assert_eq!(user("alice").tokens_valid_from, NOW / 1_000_000);
    database.ok("alice", "ALTER USER alice SET PASSWORD 'another1'");
    assert_eq!(user("alice").password_hash, "1rehtona");
    database.ok("alice", "ALTER USER alice SET EMAIL 'a@example.org'");
    assert_eq!(user("alice").email.as_deref(), Some("a@example.org"));
    database.ok("root", "ALTER USER alice SET ROLE 'service'");
    assert_eq!(user("alice").role.as_str(), "service");
    let text = format!("{:?}", database.audited());
    assert!(
        !text.contains("another1") && !text.contains("1rehtona"),
        "{text}"
    );
}

#[test]
fn who_may_do_what() {
    let database = with_users();
    let insert_message = "INSERT INTO messages (author, msg) VALUES ('a', 'b')";
    for (statement, least) in [
        ("CREATE NAMESPACE x", "admin"),
        ("DROP NAMESPACE demo CASCADE", "admin"),
        ("CREATE TABLE x (id INT PRIMARY KEY)", "admin"),
        ("DROP TABLE public", "admin"),
        ("CREATE TOPIC x", "admin"),
        ("DROP TOPIC message_events", "admin"),
        ("CLEAR TOPIC message_events", "admin"),
        ("ALTER TOPIC message_events CLEAR RETENTION", "admin"),
        (
            "ALTER TOPIC message_events ADD SOURCE public ON INSERT",
            "admin",
        ),
        (
            "ALTER TOPIC message_events DROP SOURCE messages ON INSERT",
            "admin",
        ),
        ("CREATE USER x WITH PASSWORD 'password' ROLE 'dba'", "admin"),
        (
            "CREATE USER x WITH PASSWORD 'password' ROLE 'system'",
            "root",
        ),
        ("ALTER USER worker SET PASSWORD 'password2'", "admin"),
        ("DROP USER worker", "admin"),
        ("ACK message_events GROUP 'g' UPTO OFFSET 1", "agent"),
        ("NACK message_events GROUP 'g' LEASE 'l'", "agent"),
        (
            "RESET CONSUMER GROUP 'g' ON message_events TO LATEST",
            "agent",
        ),
        ("INSERT INTO public VALUES (1)", "agent"),
        ("DELETE FROM public", "agent"),
        ("SELECT * FROM public", "alice"),
        ("INSERT INTO private VALUES (1)", "agent"),
        ("SELECT * FROM private", "agent"),
        ("UPDATE private SET id = 1", "agent"),
        ("INSERT INTO secret VALUES (1)", "admin"),
        ("SELECT * FROM secret", "admin"),
        ("DESCRIBE secret", "admin"),
        (insert_message, "alice"),
        ("EXECUTE AS USER 'nobody' (SELECT * FROM messages)", "agent"),
        ("EXECUTE AS USER 'worker' (SELECT * FROM messages)", "agent"),
        ("EXECUTE AS USER 'admin' (SELECT * FROM messages)", "admin"),
        ("EXECUTE AS USER 'alice' (SELECT * FROM messages)", "alice"),
    ] {
        let order = ["alice", "agent", "admin", "root"];
        let first = order.iter().position(|who| *who == least).unwrap();
        for (at, who) in order.iter().enumerate() {
            match database.plan_or_read(who, statement) {
                Ok(()) => assert!(at >= first, "{who} may do {statement}"),
                Err(error) => {
                    assert!(at < first, "{who} may not do {statement}: {error}");
                    assert_eq!(
                        error.code,
                        ErrorCode::PermissionDenied,
                        "{statement}: {error}"
                    );
                }
            }
        }
    }
}

#[test]
fn nobody_acts_above_their_role() {
    let database = with_users();
    database.ok(
        "root",
        "CREATE USER boss WITH PASSWORD 'password' ROLE 'system'",
    );
    for (who, statement) in [
        ("admin", "EXECUTE AS USER 'boss' (SELECT * FROM messages)"),
        ("admin", "DROP USER boss"),
        ("admin", "ALTER USER boss SET PASSWORD 'password2'"),
        ("admin", "ALTER USER admin SET ROLE 'system'"),
        ("alice", "ALTER USER alice SET ROLE 'service'"),
        ("alice", "EXECUTE AS USER 'bob' (SELECT * FROM messages)"),
        ("root", "EXECUTE AS USER 'alice' (SELECT * FROM public)"),
        (
            "root",
            "EXECUTE AS USER 'alice' (INSERT INTO public VALUES (1))",
        ),
        (
            "root",
            "EXECUTE AS USER 'alice' (SELECT * FROM system.users)",
        ),
        (
            "root",
            "EXECUTE AS USER 'alice' (SELECT * FROM messages WHERE id IN (SELECT role FROM system.users))",
        ),
        (
            "root",
            "EXECUTE AS USER 'alice' (INSERT INTO messages (author, msg) SELECT 'a', id FROM public)",
        ),
        ("alice", "EXECUTE AS USER 'alice' (SELECT * FROM public)"),
    ] {
        let error = database.refused(who, statement);
        assert_eq!(
            error.code,
            ErrorCode::PermissionDenied,
            "{statement}: {error}"
        );
    }
    let error = database.refused("root", "DROP USER nope");
    assert_error(&error, ErrorCode::NotFound, "nope");
}

#[test]
fn acting_as_somebody_reads_their_rows_and_is_audited() {
    let database = with_users();
    database.ok(
        "alice",
        "INSERT INTO messages (id, author, msg) VALUES ('1', 'alice', 'hers')",
    );
    database.ok(
        "agent",
        "INSERT INTO messages (id, author, msg) VALUES ('1', 'agent', 'its own')",
    );
    let read = "EXECUTE AS USER 'alice' (WITH m AS (SELECT * FROM messages) SELECT msg FROM m)";
    assert_eq!(database.texts("agent", read), ["hers"]);
    database.ok(
        "agent",
        "EXECUTE AS USER 'alice' (UPDATE messages SET msg = 'seen')",
    );
    // One that changes nothing is audited too.
    database.ok(
        "agent",
        "EXECUTE AS USER 'alice' (DELETE FROM messages WHERE id = 'nope')",
    );
    assert_eq!(
        database.texts("alice", "SELECT msg FROM messages"),
        ["seen"]
    );
    assert_eq!(
        database.texts("agent", "SELECT msg FROM messages"),
        ["its own"]
    );
    let audited: Vec<String> = database
        .audited()
        .iter()
        .map(|line| {
            format!(
                "{} {} {} {}",
                line.actor_user_id, line.action, line.details, line.target
            )
        })
        .collect();
    assert_eq!(
        audited,
        [
            "agent EXECUTE AS USER SELECT messages",
            "agent EXECUTE AS USER UPDATE messages",
            "agent EXECUTE AS USER DELETE messages",
        ]
    );
}

#[test]
fn names_and_passwords_have_bounds() {
    let database = with_users();
    for statement in [
        "CREATE USER '' WITH PASSWORD 'password'",
        "CREATE USER x WITH PASSWORD 'short'",
        "CREATE USER x WITH PASSWORD 'password' EMAIL 'nowhere'",
        "ALTER USER alice SET PASSWORD ''",
        "EXECUTE AS USER '' (SELECT * FROM messages)",
        "ACK message_events GROUP '' UPTO OFFSET 1",
        "ACK message_events GROUP 'g' PARTITION 1 UPTO OFFSET 1",
        "NACK message_events GROUP 'g' LEASE 'l' DELAY 43200001",
    ] {
        assert_eq!(
            database.refused("root", statement).code,
            ErrorCode::InvalidInput,
            "{statement}"
        );
    }
}

#[test]
fn a_use_leaves_its_line_also_if_it_fails() {
    let database = with_users();
    let state = database.storage.snapshot();
    let session = crate::session::Session {
        user: "agent",
        role: types::schema::Role::Service,
        effective_user: "agent",
        namespace: Some("demo"),
        now: super::fixture::NOW,
        ip: None,
    };
    let line = |text: &str| {
        let statement = crate::parse(text).expect(text).remove(0);
        database.planner.audit(&*state, &statement, &session)
    };
    for text in [
        "EXECUTE AS USER 'alice' (SELECT * FROM messages)",
        "EXECUTE AS USER 'alice' (SELECT CAST(msg AS INT) FROM messages)",
        "EXECUTE AS USER 'alice' (SELECT * FROM nothing)",
    ] {
        assert!(line(text).expect(text).is_some(), "{text}");
    }
    assert!(line("SELECT 1").expect("SELECT").is_none());
    assert!(line("EXECUTE AS USER 'admin' (SELECT * FROM messages)").is_err());
}
