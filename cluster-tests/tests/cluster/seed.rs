//! The chat-and-agent flow of the getting-started page, each step through another node.

use cluster_tests::cluster::Ask;
use cluster_tests::user::payload;
use cluster_tests::{Api, Cluster, User};
use serde_json::{Value, json};

const PROMPT: &str = "Write a short summary of this support ticket.";
const TOPIC: &str = "demo.message_events";

struct People {
    root: User,
    alice: User,
    bob: User,
    agent: User,
}

#[tokio::test]
async fn a_user_writes_an_agent_answers_and_every_node_tells_the_same() {
    let cluster = Cluster::start(3).await;
    let people = people(&cluster).await;
    definitions(&people.root).await;
    let index = the_user_writes(&people.alice).await;
    sql_shows_the_message(&people.agent, index).await;
    the_agent_gets_it(&people.agent).await;
    the_agent_answers(&people.agent).await;
    everybody_sees_their_own(&people).await;
    changes_become_messages(&cluster, &people).await;
    bad_input_changes_nothing(&people).await;
}

async fn people(cluster: &Cluster) -> People {
    let root = cluster.root().await;
    let alice = root.create("user_123", "user").await;
    let bob = root.create("bob", "user").await;
    let agent = root.create("agent", "service").await;
    People {
        root,
        alice,
        bob,
        agent,
    }
}

async fn definitions(root: &User) {
    root.ok("CREATE NAMESPACE demo").await;
    root.ok("CREATE USER TABLE demo.messages (
           id TEXT PRIMARY KEY DEFAULT ULID(), author TEXT NOT NULL, msg TEXT NOT NULL,
           attachment FILE, created TIMESTAMP NOT NULL DEFAULT NOW())")
        .await;
    root.ok("CREATE TOPIC demo.message_events PARTITIONS 1")
        .await;
    for op in ["INSERT", "UPDATE", "DELETE"] {
        root.ok(&format!(
            "ALTER TOPIC demo.message_events ADD SOURCE demo.messages ON {op} \
             WITH (payload = 'full')"
        ))
        .await;
    }
}

async fn the_user_writes(alice: &User) -> u64 {
    let sql = format!("INSERT INTO demo.messages (author, msg) VALUES ('user', '{PROMPT}')");
    let result = alice.ok(&sql).await;
    assert_eq!(result["row_count"], 1);
    assert_eq!(result["message"], "Inserted 1 row(s)");
    assert_eq!(result["as_user"], "user_123");
    let expected = json!([{
        "topic_id": TOPIC, "partition_id": 0, "first_offset": 0, "count": 1,
    }]);
    assert_eq!(result["receipt"]["messages"], expected);
    result["receipt"]["index"].as_u64().unwrap()
}

async fn sql_shows_the_message(agent: &User, index: u64) {
    let reply = agent
        .sql("CONSUME FROM demo.message_events FROM EARLIEST LIMIT 1")
        .await;
    assert!(reply.index() >= index, "{reply:?}");
    let columns: Vec<&str> = reply.results()[0]["schema"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["name"].as_str().unwrap())
        .collect();
    let expected = [
        "topic_id",
        "partition_id",
        "offset",
        "key",
        "payload",
        "timestamp_ms",
        "user_id",
        "op",
    ];
    assert_eq!(columns, expected);
    let row = &reply.rows()[0];
    assert_eq!(
        (&row["op"], &row["user_id"]),
        (&json!("insert"), &json!("user_123"))
    );
    assert_eq!(row["offset"], "0", "BIGINT is a string");
    let bytes: Vec<u8> = serde_json::from_value(row["payload"].clone()).unwrap();
    let payload: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(payload["msg"], PROMPT);
}

async fn consume(agent: &User) -> cluster_tests::Reply {
    agent
        .consume(json!({
            "topic_id": TOPIC, "group_id": "ai-worker", "start": "Earliest", "limit": 10,
            "partition_id": 0, "timeout_seconds": 5,
        }))
        .await
}

async fn the_agent_gets_it(agent: &User) {
    let reply = consume(agent).await;
    let message = &reply.messages()[0];
    assert_eq!(reply.messages().len(), 1);
    let field = |name: &str| message[name].clone();
    assert_eq!(
        json!([
            field("topic_id"),
            field("partition_id"),
            field("offset"),
            field("user"),
            field("op")
        ]),
        json!([TOPIC, 0, 0, "user_123", "Insert"])
    );
    let row = payload(message);
    assert_eq!(
        json!([
            row["author"],
            row["msg"],
            row["attachment"],
            row["_table"],
            row["_deleted"]
        ]),
        json!(["user", PROMPT, null, "demo.messages", false])
    );
    let id = row["id"].as_str().unwrap();
    let crockford = |c: char| c.is_ascii_digit() || (c.is_ascii_uppercase() && !"ILOU".contains(c));
    assert!(
        id.len() == 26 && id.chars().all(crockford),
        "{id} is no ULID"
    );
    let created = row["created"].as_str().unwrap();
    assert!(
        created.len() >= 20 && created.ends_with('Z') && &created[10..11] == "T",
        "{created}"
    );
    assert_eq!(field("key"), row["id"]);
    assert_eq!(
        (&reply.body["next_offset"], &reply.body["has_more"]),
        (&json!(1), &json!(false))
    );
}

async fn the_agent_answers(agent: &User) {
    agent
        .ok(
            "EXECUTE AS USER 'user_123' (INSERT INTO demo.messages (author, msg) \
             VALUES ('assistant', 'Here is a short summary of the ticket...'))",
        )
        .await;
    let body =
        json!({"topic_id": TOPIC, "group_id": "ai-worker", "partition_id": 0, "upto_offset": 0});
    let reply = agent.ack(body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.body,
        json!({"success": true, "acknowledged_offset": 0})
    );
    let reply = consume(agent).await;
    assert_eq!(reply.offsets(), [1]);
    assert_eq!(payload(&reply.messages()[0])["author"], "assistant");
}

async fn everybody_sees_their_own(people: &People) {
    let sql = "SELECT id, author, msg, created FROM demo.messages ORDER BY created";
    let authors: Vec<Value> = people
        .alice
        .rows(sql)
        .await
        .iter()
        .map(|row| row["author"].clone())
        .collect();
    assert_eq!(authors, ["user", "assistant"]);
    assert_eq!(
        people.bob.rows("SELECT * FROM demo.messages").await,
        [Value::Null; 0]
    );
    let as_bob = "EXECUTE AS USER 'bob' (SELECT * FROM demo.messages)";
    people.alice.refused(as_bob, 403, "PERMISSION_DENIED").await;
    let reply = people.alice.consume(json!({"topic_id": TOPIC})).await;
    reply.refused(403, "FORBIDDEN");
}

async fn changes_become_messages(cluster: &Cluster, people: &People) {
    let alice = &people.alice;
    alice
        .ok("UPDATE demo.messages SET msg = 'edited' WHERE author = 'user'")
        .await;
    alice
        .ok("UPDATE demo.messages SET msg = msg WHERE author = 'user'")
        .await;
    let last = alice
        .ok("DELETE FROM demo.messages WHERE author = 'assistant'")
        .await;
    let index = last["receipt"]["index"].as_u64().unwrap();
    let ask = Ask::Messages {
        topic: TOPIC.into(),
        partition: 0,
    };
    let messages = cluster.same_everywhere(&people.agent, index, &ask).await;
    let messages = messages.as_array().unwrap();
    let ops: Vec<&Value> = messages.iter().map(|message| &message["op"]).collect();
    assert_eq!(
        ops,
        ["Insert", "Insert", "Update", "Delete"],
        "none for the update of nothing"
    );
    let offsets: Vec<&Value> = messages.iter().map(|message| &message["offset"]).collect();
    assert_eq!(offsets, [0, 1, 2, 3]);
    let gone = payload(&messages[3]);
    assert_eq!(
        (&gone["author"], &gone["_deleted"]),
        (&json!("assistant"), &json!(true))
    );
    let ask = Ask::Rows("SELECT * FROM demo.messages ORDER BY id".into());
    let rows = cluster.same_everywhere(alice, index, &ask).await;
    assert_eq!(rows.as_array().unwrap().len(), 1);
}

async fn bad_input_changes_nothing(people: &People) {
    let alice = &people.alice;
    alice.refused("SELEC 1", 400, "INVALID_SQL").await;
    alice
        .refused("SELECT * FROM demo.nope", 400, "TABLE_NOT_FOUND")
        .await;
    let half = "INSERT INTO demo.messages (author) VALUES ('x')";
    alice.refused(half, 400, "NOT_NULL_VIOLATION").await;
    people
        .agent
        .consume(json!({"topic_id": "demo.nope"}))
        .await
        .refused(404, "NOT_FOUND");
    let api: &Api = alice.api();
    let reply = api
        .post("/v1/api/sql", &json!({"sql": "SELECT 1"}), &[])
        .await;
    reply.refused(401, "MISSING_AUTHORIZATION");
    assert_eq!(alice.rows("SELECT * FROM demo.messages").await.len(), 1);
}
