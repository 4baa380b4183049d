//! The server's own tables.

use types::ErrorCode;
use types::schema::{AccessLevel, DefaultExpr, PayloadMode, Role, Route, RowOp, TableKind};
use types::value::{DataType, Value};

use super::fixture::{NOW, chat, column, session, text, with_catalog};

#[test]
fn the_catalog_is_readable() {
    let (database, _, messages) = chat();
    with_catalog(&database, &messages);
    assert_eq!(
        database.rows("SELECT name, created_at FROM system.namespaces ORDER BY name"),
        [
            [text("demo"), Value::Timestamp(NOW)],
            [text("other"), Value::Timestamp(NOW)]
        ]
    );
    assert_eq!(
        database.rows(
            "SELECT namespace_id, table_name, table_type FROM system.tables \
                       ORDER BY table_name"
        ),
        [
            [text("demo"), text("authors"), text("SHARED")],
            [text("demo"), text("messages"), text("USER")],
        ]
    );
    assert_eq!(
        database.rows(
            "SELECT column_name, data_type, is_nullable, is_primary_key, column_default \
                       FROM system.columns WHERE table_name = 'messages' ORDER BY ordinal_position"
        ),
        [
            [
                text("id"),
                text("BIGINT"),
                Value::Boolean(false),
                Value::Boolean(true),
                text("ULID()")
            ],
            [
                text("author"),
                text("TEXT"),
                Value::Boolean(false),
                Value::Boolean(false),
                Value::Null
            ],
            [
                text("msg"),
                text("TEXT"),
                Value::Boolean(true),
                Value::Boolean(false),
                Value::Null
            ],
        ]
    );
    assert_eq!(
        database.rows("SELECT topic_id, partitions, retention_seconds FROM system.topics"),
        [[text("demo.events"), Value::Int(1), Value::BigInt(60)]]
    );
    let routes = database.rows("SELECT routes FROM system.topics");
    let [Value::Text(routes)] = routes[0].as_slice() else {
        panic!("{routes:?}")
    };
    let routes: serde_json::Value = serde_json::from_str(routes).expect("JSON");
    let route = serde_json::json!([{
        "table_id": "demo.messages",
        "op": "Insert",
        "payload_mode": "full",
        "filter_expr": "author = 'ann'",
    }]);
    assert_eq!(routes, route);
    assert_eq!(
        database.rows("SELECT node_id, is_leader FROM system.cluster"),
        [[Value::BigInt(1), Value::Boolean(true)]]
    );
    assert_eq!(
        database.rows("SELECT topic_id, group_id, last_acked_offset FROM system.topic_offsets"),
        [[text("demo.events"), text("g"), Value::BigInt(4)]]
    );
}

#[test]
fn roles_see_what_they_may() {
    let (database, _, messages) = chat();
    with_catalog(&database, &messages);
    let users = |role: Role| {
        let sql = "SELECT user_id FROM system.users ORDER BY user_id";
        database
            .select_as(&session("alice", role), sql, &[])
            .expect(sql)
            .rows
    };
    assert_eq!(users(Role::User), [[text("alice")]]);
    assert_eq!(users(Role::Service), [[text("alice")]]);
    assert_eq!(users(Role::Dba), [[text("alice")], [text("root")]]);
    let audit = "SELECT * FROM system.audit_log";
    assert_eq!(database.code(audit, &[]), ErrorCode::PermissionDenied);
    let log = database
        .select_as(&session("alice", Role::Dba), audit, &[])
        .expect(audit);
    assert_eq!(log.columns.len(), 8);
    let all = database.select_as(
        &session("alice", Role::System),
        "SELECT * FROM system.users",
        &[],
    );
    let shown = format!("{all:?}");
    assert!(!shown.contains("argon2id"), "{shown}");
}

#[test]
fn what_describe_refuses_is_not_in_the_catalog_either() {
    let (database, _, messages) = chat();
    with_catalog(&database, &messages);
    let mut secret = database.table(
        9,
        "secret",
        TableKind::Shared,
        vec![column(1, "id", DataType::Int)],
    );
    secret.access = AccessLevel::Dba;
    secret.columns[0].default = Some(DefaultExpr::Literal("4711".to_owned()));
    secret.routes.push(Route {
        topic_id: 7,
        partitions: 1,
        op: RowOp::Insert,
        filter: Some("id = 4711".to_owned()),
        payload: PayloadMode::Full,
    });
    database.define(&secret);
    for sql in [
        "SELECT count(*) FROM system.columns WHERE column_default = '4711'",
        "SELECT count(*) FROM system.topics WHERE routes LIKE '%4711%'",
    ] {
        assert_eq!(database.rows(sql), [[Value::BigInt(0)]], "{sql}");
        let shown = database.select_as(&session("root", Role::System), sql, &[]);
        assert_eq!(shown.expect(sql).rows, [[Value::BigInt(1)]], "{sql}");
    }
}
