//! Routes, payloads, partitions, and the messages that come of a change.

use cluster_tests::cluster::Ask;
use cluster_tests::user::payload;
use serde_json::{Value, json};

use crate::own::Own;

async fn payloads(own: &Own, topic: &str) -> Vec<Value> {
    own.read(topic)
        .await
        .messages()
        .iter()
        .map(payload)
        .collect()
}

#[tokio::test]
async fn payload_modes() {
    let own = Own::new().await;
    own.given(&["CREATE TABLE {ns}.t (id INT PRIMARY KEY, a TEXT, b BIGINT)"])
        .await;
    for mode in ["full", "key", "diff"] {
        own.given(&[&format!("CREATE TOPIC {{ns}}.{mode}_out")])
            .await;
        for op in ["INSERT", "UPDATE", "DELETE"] {
            let route = format!(
                "ALTER TOPIC {{ns}}.{mode}_out ADD SOURCE {{ns}}.t ON {op} \
                 WITH (payload = '{mode}')"
            );
            own.given(&[&route]).await;
        }
    }
    own.given(&[
        "INSERT INTO {ns}.t VALUES (1, 'x', 5)",
        "UPDATE {ns}.t SET a = 'y'",
        "DELETE FROM {ns}.t",
    ])
    .await;
    let table = own.name("t");
    let full = |a: &str, deleted: bool| json!({"id": 1, "a": a, "b": "5", "_table": table, "_deleted": deleted});
    let expected = [full("x", false), full("y", false), full("y", true)];
    assert_eq!(payloads(&own, "full_out").await, expected);
    let key = json!({"id": 1, "_table": table});
    assert_eq!(
        payloads(&own, "key_out").await,
        [key.clone(), key.clone(), key]
    );
    let diff = payloads(&own, "diff_out").await;
    let row = |a: &str| json!({"id": 1, "a": a, "b": "5"});
    assert_eq!(
        diff[0],
        json!({"before": null, "after": row("x"), "_table": table})
    );
    assert_eq!(
        (&diff[1]["before"]["a"], &diff[1]["after"]["a"]),
        (&json!("x"), &json!("y"))
    );
    assert!(
        diff[1]["after"].get("b").is_none(),
        "only what changed: {}",
        diff[1]
    );
    assert_eq!(
        diff[2],
        json!({"before": row("y"), "after": null, "_table": table})
    );
    let reply = own.read("full_out").await;
    let ops: Vec<&Value> = reply
        .messages()
        .iter()
        .map(|message| &message["op"])
        .collect();
    assert_eq!(ops, ["Insert", "Update", "Delete"]);
    assert!(
        reply.messages()[0].get("user").is_none(),
        "a SHARED table's rows have no owner"
    );
}

#[tokio::test]
async fn a_route_takes_only_what_its_condition_holds_for() {
    let own = Own::new().await;
    own.given(&[
        "CREATE TABLE {ns}.t (id INT PRIMARY KEY, state TEXT, n INT)",
        "CREATE TOPIC {ns}.out",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON INSERT WHERE state = 'open' AND n > 1",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON UPDATE WHERE state = 'open'",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON DELETE WHERE state = 'open'",
        "INSERT INTO {ns}.t VALUES (1, 'open', 1), (2, 'open', 2), (3, 'shut', 3), (4, NULL, 4)",
        // The new row counts for an update, the old one for a delete.
        "UPDATE {ns}.t SET state = 'shut' WHERE id = 2",
        "UPDATE {ns}.t SET state = 'open' WHERE id = 3",
        "DELETE FROM {ns}.t",
    ])
    .await;
    let reply = own.read("out").await;
    let seen: Vec<(Value, Value)> = reply
        .messages()
        .iter()
        .map(|message| (message["op"].clone(), payload(message)["id"].clone()))
        .collect();
    let expected = [("Insert", 2), ("Update", 3), ("Delete", 1), ("Delete", 3)];
    assert_eq!(seen, expected.map(|(op, id)| (json!(op), json!(id))));
    for wrong in [
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON INSERT WHERE nope = 1",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.none ON INSERT",
        "ALTER TOPIC {ns}.none ADD SOURCE {ns}.t ON INSERT",
    ] {
        let reply = own.root.sql(&own.sql(wrong)).await;
        assert!((400..500).contains(&reply.status), "{wrong}: {reply:?}");
    }
}

#[tokio::test]
async fn an_update_that_changes_nothing_makes_no_message_but_counts_its_rows() {
    let own = Own::new().await;
    own.given(&[
        "CREATE TABLE {ns}.t (id INT PRIMARY KEY, a TEXT)",
        "CREATE TOPIC {ns}.out",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON UPDATE",
        "INSERT INTO {ns}.t VALUES (1, 'x'), (2, 'y')",
    ])
    .await;
    let result = own.root.ok(&own.sql("UPDATE {ns}.t SET a = 'x'")).await;
    assert_eq!(result["row_count"], 2);
    let messages = payloads(&own, "out").await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["id"], 2);
    let result = own.root.ok(&own.sql("UPDATE {ns}.t SET a = a")).await;
    assert_eq!(
        (&result["row_count"], &result["message"]),
        (&json!(2), &json!("Updated 2 row(s)"))
    );
    assert_eq!(payloads(&own, "out").await.len(), 1);
}

#[tokio::test]
async fn one_table_feeds_several_topics_and_several_tables_one_topic() {
    let own = Own::new().await;
    own.given(&[
        "CREATE TABLE {ns}.a (id INT PRIMARY KEY)",
        "CREATE TABLE {ns}.b (id INT PRIMARY KEY)",
        "CREATE TOPIC {ns}.first",
        "CREATE TOPIC {ns}.second",
        "ALTER TOPIC {ns}.first ADD SOURCE {ns}.a ON INSERT",
        "ALTER TOPIC {ns}.first ADD SOURCE {ns}.b ON INSERT",
        "ALTER TOPIC {ns}.second ADD SOURCE {ns}.a ON INSERT",
    ])
    .await;
    let sql =
        own.sql("BEGIN; INSERT INTO {ns}.a VALUES (1); INSERT INTO {ns}.b VALUES (1); COMMIT");
    let reply = own.root.sql(&sql).await;
    let mut receipt: Vec<String> = reply.results()[3]["receipt"]["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|range| format!("{} {}", range["topic_id"], range["count"]))
        .collect();
    receipt.sort();
    let expected = [("first", 2), ("second", 1)];
    let expected = expected.map(|(topic, count)| format!("\"{}\" {count}", own.name(topic)));
    assert_eq!(receipt, expected);
    let tables: Vec<Value> = payloads(&own, "first")
        .await
        .iter()
        .map(|row| row["_table"].clone())
        .collect();
    assert_eq!(
        tables,
        [own.name("a"), own.name("b")],
        "in the order of the statements"
    );
    own.given(&[
        "ALTER TOPIC {ns}.first DROP SOURCE {ns}.a ON INSERT",
        "INSERT INTO {ns}.a VALUES (2)",
    ])
    .await;
    assert_eq!(payloads(&own, "first").await.len(), 2);
    assert_eq!(payloads(&own, "second").await.len(), 2);
}

#[tokio::test]
async fn a_key_keeps_its_partition_and_partitions_are_dense_on_every_node() {
    let own = Own::new().await;
    own.given(&[
        "CREATE TABLE {ns}.t (id INT PRIMARY KEY, n INT)",
        "CREATE TOPIC {ns}.out PARTITIONS 4",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON INSERT",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON UPDATE",
    ])
    .await;
    let rows: Vec<String> = (0..40).map(|id| format!("({id}, 0)")).collect();
    own.given(&[&format!("INSERT INTO {{ns}}.t VALUES {}", rows.join(", "))])
        .await;
    let last = own.root.ok(&own.sql("UPDATE {ns}.t SET n = 1")).await;
    let index = last["receipt"]["index"].as_u64().unwrap();
    let mut total = 0;
    for partition in 0..4 {
        let ask = Ask::Messages {
            topic: own.name("out"),
            partition,
        };
        let messages = own.cluster.same_everywhere(&own.root, index, &ask).await;
        let messages = messages.as_array().unwrap();
        assert!(
            !messages.is_empty(),
            "40 keys left partition {partition} empty"
        );
        for (offset, message) in messages.iter().enumerate() {
            assert_eq!(message["offset"], offset, "{message}");
            assert_eq!(message["partition_id"], partition);
        }
        let keys = |op: &str| {
            let of_op = messages.iter().filter(|message| message["op"] == op);
            let mut keys: Vec<&str> = of_op
                .map(|message| message["key"].as_str().unwrap())
                .collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(
            keys("Insert"),
            keys("Update"),
            "an update goes where its insert went"
        );
        total += messages.len();
    }
    assert_eq!(total, 80);
}

#[tokio::test]
async fn clearing_a_topic_never_uses_an_offset_again() {
    let own = Own::new().await;
    own.given(&[
        "CREATE TABLE {ns}.t (id INT PRIMARY KEY)",
        "CREATE TOPIC {ns}.out",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON INSERT",
        "INSERT INTO {ns}.t VALUES (1), (2)",
        "CLEAR TOPIC {ns}.out",
    ])
    .await;
    assert_eq!(own.read("out").await.offsets(), [0; 0]);
    own.given(&["INSERT INTO {ns}.t VALUES (3)"]).await;
    assert_eq!(own.read("out").await.offsets(), [2]);
    let body = json!({"topic_id": own.name("out"), "start": {"Offset": 0}, "timeout_seconds": 0});
    let reply = own.agent.consume(body).await;
    reply.refused(416, "OFFSET_OUT_OF_RANGE");
    assert_eq!(
        (&reply.body["earliest"], &reply.body["latest"]),
        (&json!(2), &json!(3))
    );
}
