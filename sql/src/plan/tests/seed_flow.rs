//! The flow of the getting-started page: which keys and bytes it leaves, what it expects, what the
//! topic is told.

use storage::Engine;
use storage::keys::{Kind, catalog as catalog_keys, rows};
use types::command::{Expectation, RouteTarget};
use types::ids::Version;
use types::partition::partition_of;
use types::row;
use types::schema::{PayloadMode, Table, Topic};
use types::value::Value;

use super::fixture::{Database, NOW, text};
use crate::answer::Answer;

pub const SCHEMA: &[&str] = &[
    "CREATE NAMESPACE demo",
    "CREATE USER TABLE demo.messages (
       id TEXT PRIMARY KEY DEFAULT ULID(), author TEXT NOT NULL, msg TEXT NOT NULL,
       attachment FILE, created TIMESTAMP NOT NULL DEFAULT NOW())",
    "CREATE TOPIC demo.message_events PARTITIONS 1",
    "ALTER TOPIC demo.message_events ADD SOURCE demo.messages ON INSERT WITH (payload = 'full')",
    "ALTER TOPIC demo.message_events ADD SOURCE demo.messages ON UPDATE WITH (payload = 'full')",
    "ALTER TOPIC demo.message_events ADD SOURCE demo.messages ON DELETE WITH (payload = 'full')",
];

#[test]
fn the_schema_is_in_its_keys() {
    let database = Database::seeded();
    let catalog = database.planner.engine().catalog();
    let state = database.storage.snapshot();
    let namespace = catalog.namespace(&*state, "demo").unwrap().unwrap();
    assert_eq!((namespace.record.id, namespace.record.created_at), (1, NOW));
    let table = catalog.table(&*state, "demo", "messages").unwrap().unwrap();
    assert_eq!(table.key, catalog_keys::table(1));
    assert_eq!(table.record.primary_key, [1]);
    assert!(
        !table.record.columns[0].nullable,
        "a primary key is NOT NULL"
    );
    let ops: Vec<_> = table
        .record
        .routes
        .iter()
        .map(|route| route.op.as_str())
        .collect();
    assert_eq!(ops, ["Insert", "Update", "Delete"]);
    let topic = catalog
        .topic_qualified(&*state, "demo.message_events")
        .unwrap()
        .unwrap();
    assert_eq!(topic.record.sources, [1]);
    // The definition of schema version 1 is there for rows and messages that refer to it.
    let old = catalog.table_version(&*state, 1, 1).unwrap().unwrap();
    assert_eq!(old.record.columns, table.record.columns);
    for (kind, records) in [
        (Kind::Counter, 3),
        (Kind::Namespace, 1),
        (Kind::Table, 1),
        (Kind::TableName, 1),
        (Kind::TableVersion, 1),
        (Kind::Topic, 1),
        (Kind::TopicName, 1),
    ] {
        assert_eq!(database.under(&kind.prefix()).len(), records, "{kind:?}");
    }
    let json = &database.under(&Kind::Table.prefix())[0].1;
    assert_eq!(
        &serde_json::from_slice::<Table>(json).unwrap(),
        &*table.record
    );
    let json = &database.under(&Kind::Topic.prefix())[0].1;
    assert_eq!(
        &serde_json::from_slice::<Topic>(json).unwrap(),
        &*topic.record
    );
}

#[test]
fn an_insert_plans_one_row_and_its_message() {
    let database = Database::seeded();
    let catalog = database.planner.engine().catalog();
    let table = catalog
        .table(&*database.storage.snapshot(), "demo", "messages")
        .unwrap()
        .unwrap();
    let plan = database
        .plan(
            "user_123",
            "INSERT INTO demo.messages (author, msg) VALUES ('user', 'hi')",
        )
        .unwrap();
    assert_eq!(
        plan.answer,
        Answer::Done {
            message: "Inserted 1 row(s)".to_owned(),
            row_count: 1,
            returning: None
        }
    );
    let id = text("01HS0000000000000000000001");
    let key = rows::row(1, Some("user_123"), [&id]);
    assert_eq!(
        plan.expectations,
        [
            Expectation::version(table.key.clone(), table.version),
            Expectation::absent(key.clone())
        ]
    );
    let [command] = plan.commands.as_slice() else {
        panic!("{:?}", plan.commands)
    };
    let Some(types::command::CommandKind::Write(write)) = &command.kind else {
        panic!()
    };
    let [change] = write.changes.as_slice() else {
        panic!("{write:?}")
    };
    assert_eq!(change.key, key);
    let values = [
        id,
        text("user"),
        text("hi"),
        Value::Null,
        Value::Timestamp(NOW),
    ];
    let bytes = row::encode(1, (1..).zip(&values));
    assert_eq!(change.after.as_deref(), Some(bytes.as_slice()));
    let event = change.event.as_ref().expect("a route takes it");
    assert_eq!(event.user, "user_123");
    assert_eq!(event.message_key, "01HS0000000000000000000001");
    assert_eq!(event.before, None);
    assert_eq!(
        event.targets,
        [RouteTarget {
            topic_id: 1,
            partition: partition_of("user_123", &event.message_key, 1),
            payload: PayloadMode::Full.into(),
        }]
    );
}

#[test]
fn the_conversation() {
    let database = Database::seeded();
    database.ok(
        "root",
        "CREATE USER agent WITH PASSWORD 'correct horse 9' ROLE 'service'",
    );
    database.audited();
    database.ok(
        "user_123",
        "INSERT INTO demo.messages (author, msg) VALUES ('user', 'prompt')",
    );
    let message = database.done(
        "agent",
        "EXECUTE AS USER 'user_123' (
           INSERT INTO demo.messages (author, msg) VALUES ('assistant', 'a summary'))",
    );
    assert_eq!(message, "Inserted 1 row(s)");
    let audited = database.audited();
    assert_eq!(audited.len(), 1);
    assert_eq!(
        (
            audited[0].actor_user_id.as_str(),
            audited[0].action.as_str()
        ),
        ("agent", "EXECUTE AS USER")
    );
    assert_eq!(audited[0].target, "demo.messages");
    assert_eq!(audited[0].subject_user_id.as_deref(), Some("user_123"));
    let users: Vec<String> = database
        .told()
        .into_iter()
        .map(|told| told.event.user)
        .collect();
    assert_eq!(users, ["user_123", "user_123"]);

    let conversation = "SELECT author, msg FROM demo.messages ORDER BY id";
    assert_eq!(
        database.texts("user_123", conversation),
        ["user|prompt", "assistant|a summary"]
    );
    assert_eq!(database.texts("bob", conversation), [""; 0]);
    assert_eq!(
        database.texts("root", conversation),
        [""; 0],
        "their own rows, for everybody"
    );

    let update = "UPDATE demo.messages SET msg = 'edited' WHERE author = 'user'";
    assert_eq!(database.done("user_123", update), "Updated 1 row(s)");
    assert_eq!(
        database.done("user_123", update),
        "Updated 1 row(s)",
        "it counts all the same"
    );
    let delete = "DELETE FROM demo.messages WHERE author = 'assistant'";
    assert_eq!(database.done("user_123", delete), "Deleted 1 row(s)");
    assert_eq!(database.done("user_123", delete), "Deleted 0 row(s)");
    let told = database.told();
    let ops: Vec<i32> = told.iter().map(|told| told.event.op).collect();
    assert_eq!(ops, [1, 2], "one update that changed something, one delete");
    assert_eq!(
        told[0].event.before, None,
        "payload full needs no row before an update"
    );
    assert!(told[0].after.is_some());
    let before = told[1]
        .event
        .before
        .as_ref()
        .expect("a delete's message shows the row");
    assert!(
        row::decode(before)
            .unwrap()
            .contains(&(3, text("a summary")))
    );
    assert_eq!(told[1].after, None);
}

#[test]
fn versions_pin_the_row() {
    let database = Database::seeded();
    database.ok(
        "u",
        "INSERT INTO demo.messages (id, author, msg) VALUES ('a', 'x', 'y')",
    );
    let plan = database
        .plan("u", "UPDATE demo.messages SET msg = 'z' WHERE id = 'a'")
        .unwrap();
    let key = rows::row(1, Some("u"), [&text("a")]);
    let stored = storage::Read::get(&*database.storage.snapshot(), &key)
        .unwrap()
        .unwrap();
    let (version, _) = Version::split(&stored).unwrap();
    assert!(
        plan.expectations
            .contains(&Expectation::version(key, version))
    );
    assert_eq!(plan.expectations.len(), 2, "the table's record and the row");
}
