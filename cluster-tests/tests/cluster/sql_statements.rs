//! Statements, batches and transactions.

use cluster_tests::user::payload;
use serde_json::{Value, json};

use crate::own::Own;

async fn own() -> Own {
    let own = Own::new().await;
    own.given(&[
        "CREATE TABLE {ns}.t (id INT PRIMARY KEY, v TEXT NOT NULL DEFAULT 'v', n INT)",
        "CREATE TOPIC {ns}.out",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON INSERT",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON UPDATE",
    ])
    .await;
    own
}

/// Ids in the table, and the number of messages.
async fn state(own: &Own) -> (Value, usize) {
    let ids = own
        .root
        .rows(&own.sql("SELECT id FROM {ns}.t ORDER BY id"))
        .await;
    let ids = ids.iter().map(|row| row["id"].clone()).collect();
    let messages = own.read("out").await.messages().len();
    (ids, messages)
}

#[tokio::test]
async fn a_batch_has_a_result_per_statement_and_stops_at_the_first_error() {
    let own = own().await;
    let sql = "INSERT INTO {ns}.t (id) VALUES (1); SELECT 'a;b' AS x; UPDATE {ns}.t SET n = 1;";
    let reply = own.root.sql(&own.sql(sql)).await;
    let results = reply.results();
    assert_eq!(results.len(), 3);
    assert_eq!(results[0]["message"], "Inserted 1 row(s)");
    assert_eq!(results[1]["rows"], json!([["a;b"]]));
    assert_eq!(results[2]["message"], "Updated 1 row(s)");

    let sql = "INSERT INTO {ns}.t (id) VALUES (2); INSERT INTO {ns}.t (id) VALUES (1); \
               INSERT INTO {ns}.t (id) VALUES (3)";
    let reply = own
        .root
        .refused(&own.sql(sql), 400, "UNIQUE_VIOLATION")
        .await;
    assert_eq!(reply.body["error"]["details"]["statement"], 1, "{reply:?}");
    assert_eq!(reply.body["results"], json!([]));
    assert_eq!(
        state(&own).await,
        (json!([1, 2]), 3),
        "what came before stays"
    );
}

#[tokio::test]
async fn a_text_that_does_not_parse_runs_no_part_of_it() {
    let own = own().await;
    let sql = "INSERT INTO {ns}.t (id) VALUES (1); SELEC 2";
    let reply = own.root.sql(&own.sql(sql)).await;
    reply.refused(400, "INVALID_SQL");
    assert_eq!(reply.body["error"]["details"]["statement"], 1, "{reply:?}");
}

#[tokio::test]
async fn a_transaction_is_one_entry() {
    let own = own().await;
    let sql = "BEGIN; INSERT INTO {ns}.t (id) VALUES (1), (2); UPDATE {ns}.t SET n = 5 \
               WHERE id = 1; DELETE FROM {ns}.t WHERE id = 2; COMMIT";
    let reply = own.root.sql(&own.sql(sql)).await;
    let results = reply.results();
    assert_eq!(results.len(), 5);
    let counts: Vec<&Value> = results[1..4]
        .iter()
        .map(|result| &result["row_count"])
        .collect();
    assert_eq!(counts, [2, 1, 1], "statements see what came before them");
    let receipt = &results[4]["receipt"];
    assert_eq!(
        receipt["messages"],
        json!([{"topic_id": own.name("out"), "partition_id": 0, "first_offset": 0, "count": 3}])
    );
    assert_eq!(reply.index(), receipt["index"].as_u64().unwrap());
    assert_eq!(state(&own).await, (json!([1]), 3));
}

#[tokio::test]
async fn a_transaction_that_fails_or_is_left_open_changes_nothing() {
    let own = own().await;
    let failing = own.sql(
        "BEGIN; INSERT INTO {ns}.t (id) VALUES (1); INSERT INTO {ns}.t (id) VALUES (1); COMMIT",
    );
    let reply = own.root.refused(&failing, 400, "UNIQUE_VIOLATION").await;
    assert_eq!(reply.body["error"]["details"]["statement"], 2, "{reply:?}");
    let rolled_back = own.sql("BEGIN; INSERT INTO {ns}.t (id) VALUES (1); ROLLBACK");
    assert_eq!(own.root.sql(&rolled_back).await.status, 200);
    let open = own.sql("BEGIN; INSERT INTO {ns}.t (id) VALUES (1)");
    let reply = own.root.sql(&open).await;
    assert_eq!(
        (reply.status, &reply.body["status"]),
        (400, &json!("error")),
        "{reply:?}"
    );
    assert_eq!(state(&own).await, (json!([]), 0));
}

#[tokio::test]
async fn a_transaction_has_one_time_and_use_holds_within_it() {
    let own = own().await;
    let sql = "BEGIN; SELECT NOW(); SELECT count(*) FROM {ns}.t, {ns}.t AS u; SELECT NOW(); \
               USE {ns}; INSERT INTO t (id) VALUES (1); COMMIT; SELECT id FROM t";
    let reply = own.root.sql(&own.sql(sql)).await;
    let results = reply.results();
    assert_eq!(results[1]["rows"], results[3]["rows"]);
    assert_eq!(results[5]["message"], "Inserted 1 row(s)");
    assert_eq!(results[7]["rows"], json!([[1]]), "USE holds after COMMIT");
    let sql = own.sql("BEGIN; USE {ns}; ROLLBACK; SELECT id FROM t");
    own.root.refused(&sql, 400, "TABLE_NOT_FOUND").await;
}

#[tokio::test]
async fn a_repeated_transaction_has_a_result_per_statement() {
    let own = own().await;
    let sql = "BEGIN; INSERT INTO {ns}.t (id) VALUES (1); SELECT repeat('x', 100000); COMMIT";
    let headers = [("Idempotency-Key", "large")];
    let url = own.root.api().next_url();
    let first = own.root.sql_on(url, &own.sql(sql), &headers).await;
    assert_eq!(first.results().len(), 4, "{first:?}");
    let again = own.root.sql_on(url, &own.sql(sql), &headers).await;
    assert_eq!(again.results().len(), 4, "{again:?}");
    assert_eq!(again.results()[3]["receipt"], first.results()[3]["receipt"]);
}

#[tokio::test]
async fn a_message_keeps_the_names_its_row_was_written_under() {
    let own = own().await;
    own.given(&[
        "INSERT INTO {ns}.t (id, n) VALUES (1, 5)",
        "ALTER TABLE {ns}.t RENAME COLUMN n TO amount",
        "ALTER TABLE {ns}.t ADD COLUMN unit TEXT NOT NULL DEFAULT 'kg'",
        "ALTER TABLE {ns}.t DROP COLUMN v",
        "CREATE INDEX by_amount ON {ns}.t (amount)",
        "INSERT INTO {ns}.t (id, amount) VALUES (2, 6)",
        "UPDATE {ns}.t SET amount = 7 WHERE amount = 5",
    ])
    .await;
    let reply = own.read("out").await;
    let name = own.name("t");
    let payloads: Vec<Value> = reply.messages().iter().map(payload).collect();
    assert_eq!(
        Value::from(payloads),
        json!([
            {"id": 1, "v": "v", "n": 5, "_table": name, "_deleted": false},
            {"id": 2, "amount": 6, "unit": "kg", "_table": name, "_deleted": false},
            {"id": 1, "amount": 7, "unit": "kg", "_table": name, "_deleted": false},
        ])
    );
    let select = own.sql("SELECT * FROM {ns}.t WHERE amount = 7");
    for url in own.root.api().urls() {
        let reply = own.root.sql_on(url, &select, &[]).await;
        assert_eq!(
            reply.results()[0]["rows"],
            json!([[1, 7, "kg"]]),
            "{reply:?}"
        );
    }
    let twice = own.sql("CREATE UNIQUE INDEX u ON {ns}.t (unit)");
    own.root.refused(&twice, 400, "UNIQUE_VIOLATION").await;
}

#[tokio::test]
async fn constraints_hold() {
    let own = own().await;
    own.given(&[
        "CREATE TABLE {ns}.u (a INT, b INT, mail TEXT NOT NULL UNIQUE, PRIMARY KEY (a, b))",
        "INSERT INTO {ns}.u VALUES (1, 1, 'x'), (1, 2, 'y')",
    ])
    .await;
    let refused = [
        ("INSERT INTO {ns}.u VALUES (1, 2, 'z')", "UNIQUE_VIOLATION"),
        ("INSERT INTO {ns}.u VALUES (2, 2, 'x')", "UNIQUE_VIOLATION"),
        (
            "UPDATE {ns}.u SET mail = 'x' WHERE b = 2",
            "UNIQUE_VIOLATION",
        ),
        ("UPDATE {ns}.u SET mail = NULL", "NOT_NULL_VIOLATION"),
        (
            "INSERT INTO {ns}.u (a, mail) VALUES (3, 'z')",
            "NOT_NULL_VIOLATION",
        ),
    ];
    for (sql, code) in refused {
        own.root.refused(&own.sql(sql), 400, code).await;
    }
    // Freed values may be taken again, and swapped within one statement.
    own.given(&[
        "DELETE FROM {ns}.u WHERE mail = 'x'",
        "INSERT INTO {ns}.u VALUES (9, 9, 'x')",
    ])
    .await;
    let rows = own
        .root
        .cells(&own.sql("SELECT a, b, mail FROM {ns}.u ORDER BY a"))
        .await;
    assert_eq!(rows, json!([[1, 2, "y"], [9, 9, "x"]]));
}

#[tokio::test]
async fn concurrent_writers_of_one_key_leave_one_row() {
    let own = own().await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..12 {
        let root = own.root.clone();
        let sql = own.sql(&format!(
            "INSERT INTO {{ns}}.t (id, n) VALUES (1, {number})"
        ));
        writers.spawn(async move { root.sql(&sql).await });
    }
    let replies = writers.join_all().await;
    let ok = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(ok, 1, "{replies:?}");
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        assert!(
            matches!(reply.code(), "UNIQUE_VIOLATION" | "WRITE_CONFLICT"),
            "{reply:?}"
        );
    }
    assert_eq!(state(&own).await, (json!([1]), 1));
}

#[tokio::test]
async fn concurrent_increments_are_all_counted() {
    let own = own().await;
    own.given(&["INSERT INTO {ns}.t (id, n) VALUES (1, 0)"])
        .await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let root = own.root.clone();
        let sql = own.sql("UPDATE {ns}.t SET n = n + 1 WHERE id = 1");
        writers.spawn(async move {
            let mut done = 0;
            for _ in 0..5 {
                let reply = root.sql(&sql).await;
                assert!(
                    reply.status == 200 || reply.code() == "WRITE_CONFLICT",
                    "{reply:?}"
                );
                done += u32::from(reply.status == 200);
            }
            done
        });
    }
    let done: u32 = writers.join_all().await.into_iter().sum();
    let rows = own.root.cells(&own.sql("SELECT n FROM {ns}.t")).await;
    assert_eq!(rows, json!([[done]]));
    assert_eq!(state(&own).await.1, 1 + done as usize, "a message for each");
}

#[tokio::test]
async fn on_conflict_and_returning() {
    let own = own().await;
    own.given(&["INSERT INTO {ns}.t (id, v) VALUES (1, 'old')"])
        .await;
    let nothing = "INSERT INTO {ns}.t (id, v) VALUES (1, 'new') ON CONFLICT DO NOTHING";
    assert_eq!(own.root.ok(&own.sql(nothing)).await["row_count"], 0);
    let update = "INSERT INTO {ns}.t (id, v) VALUES (1, 'new'), (2, 'two') \
                  ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v RETURNING id, v";
    assert_eq!(
        own.root.cells(&own.sql(update)).await,
        json!([[1, "new"], [2, "two"]])
    );
    let update = "UPDATE {ns}.t SET n = id * 10 WHERE id > 1 RETURNING *";
    assert_eq!(
        own.root.cells(&own.sql(update)).await,
        json!([[2, "two", 20]])
    );
    let delete = "DELETE FROM {ns}.t WHERE id = 1 RETURNING v";
    assert_eq!(own.root.cells(&own.sql(delete)).await, json!([["new"]]));
    assert_eq!(state(&own).await, (json!([2]), 4));
}

#[tokio::test]
async fn queries_join_group_order_and_limit() {
    let own = own().await;
    own.given(&[
        "CREATE TABLE {ns}.names (id INT PRIMARY KEY, name TEXT)",
        "INSERT INTO {ns}.t (id, v, n) VALUES (1, 'a', 10), (2, 'a', 20), (3, 'b', NULL)",
        "INSERT INTO {ns}.names VALUES (1, 'one'), (3, 'three'), (4, 'four')",
    ])
    .await;
    let cases = [
        (
            "SELECT v, COUNT(*), SUM(n), MAX(id) FROM {ns}.t GROUP BY v ORDER BY v",
            json!([["a", "2", "30", 2], ["b", "1", null, 3]]),
        ),
        (
            "SELECT t.id, name FROM {ns}.t AS t LEFT JOIN {ns}.names AS s ON t.id = s.id \
             ORDER BY t.id DESC",
            json!([[3, "three"], [2, null], [1, "one"]]),
        ),
        (
            "SELECT id FROM {ns}.t ORDER BY id LIMIT 1 OFFSET 1",
            json!([[2]]),
        ),
        (
            "SELECT id FROM {ns}.t WHERE v LIKE 'b%' OR id IN (SELECT 1)",
            json!([[1], [3]]),
        ),
        (
            "SELECT DISTINCT v FROM {ns}.t WHERE n IS NOT NULL",
            json!([["a"]]),
        ),
        (
            "WITH x AS (SELECT 1 AS one) SELECT one + 1 AS two FROM x",
            json!([["2"]]),
        ),
        ("SELECT id FROM {ns}.t WHERE 1 = 0", json!([])),
    ];
    for (sql, expected) in cases {
        let sql = own.sql(sql);
        assert_eq!(own.root.cells(&sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn names_are_looked_up_in_the_requests_namespace() {
    let own = own().await;
    own.given(&["INSERT INTO {ns}.t (id) VALUES (1)"]).await;
    let body = json!({"sql": "SELECT id FROM t", "namespace_id": own.ns});
    assert_eq!(own.root.post("/v1/api/sql", &body).await.rows().len(), 1);
    let using = own.sql("USE {ns}; SELECT ID FROM T");
    assert_eq!(
        own.root.sql(&using).await.results()[1]["rows"],
        json!([[1]]),
        "names fold"
    );
    let other = own.sql("SELECT \"ID\" FROM {ns}.t");
    assert_eq!(
        own.root.sql(&other).await.status,
        400,
        "quoted names do not"
    );
    own.root
        .refused(
            "SELECT * FROM no_such_table_anywhere",
            400,
            "TABLE_NOT_FOUND",
        )
        .await;
}

#[tokio::test]
async fn definitions_can_be_repeated_only_if_they_say_so() {
    let own = own().await;
    for sql in [
        "CREATE NAMESPACE {ns}",
        "CREATE TABLE {ns}.t (id INT PRIMARY KEY)",
        "CREATE TOPIC {ns}.out",
        "DROP TABLE {ns}.none",
        "DROP TOPIC {ns}.none",
    ] {
        let reply = own.root.sql(&own.sql(sql)).await;
        assert!((400..500).contains(&reply.status), "{sql}: {reply:?}");
    }
    own.given(&[
        "CREATE NAMESPACE IF NOT EXISTS {ns}",
        "CREATE TABLE IF NOT EXISTS {ns}.t (id INT PRIMARY KEY)",
        "CREATE TOPIC IF NOT EXISTS {ns}.out",
        "DROP TABLE IF EXISTS {ns}.none",
        "DROP TOPIC IF EXISTS {ns}.none",
        "CREATE TABLE {ns}.gone (id INT PRIMARY KEY)",
        "INSERT INTO {ns}.gone VALUES (1)",
        "DROP TABLE {ns}.gone",
        "CREATE TABLE {ns}.gone (id INT PRIMARY KEY)",
    ])
    .await;
    let count = own.sql("SELECT COUNT(*) FROM {ns}.gone");
    assert_eq!(
        own.root.cells(&count).await,
        json!([["0"]]),
        "a new table has no old rows"
    );
}

#[tokio::test]
async fn a_misspelt_clause_is_an_error_with_its_position() {
    let own = own().await;
    for sql in [
        "SELECT *\nFORM {ns}.t",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON UPSERT",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON DELETE WITH (payloads = 'full')",
        "CREATE TABLE {ns}.x (id INT PRIMARY KEY) WITH (TTL = 3)",
        "CONSUME FROM {ns}.out FROM MIDDLE",
        "CREATE TOPIC {ns}.y PARTITIONS many",
    ] {
        let reply = own.root.refused(&own.sql(sql), 400, "INVALID_SQL").await;
        let details = &reply.body["error"]["details"];
        assert!(
            details["line"].is_u64() && details["column"].is_u64(),
            "{sql}: {reply:?}"
        );
    }
    own.root.refused(" ; -- nothing", 400, "EMPTY_SQL").await;
    own.root.refused("", 400, "EMPTY_SQL").await;
}

#[tokio::test]
async fn system_tables_tell_what_there_is() {
    let own = own().await;
    let tables = own.sql(
        "SELECT table_name, table_type FROM system.tables WHERE namespace_id = '{ns}' \
         ORDER BY table_name",
    );
    let tables = own.root.rows(&tables).await;
    assert_eq!(tables[0]["table_name"], "t");
    let topics =
        own.sql("SELECT partitions, routes FROM system.topics WHERE topic_id = '{ns}.out'");
    let topics = own.root.rows(&topics).await;
    assert_eq!(topics[0]["partitions"], 1);
    let routes: Value = serde_json::from_str(topics[0]["routes"].as_str().unwrap()).unwrap();
    let mut ops: Vec<&str> = routes
        .as_array()
        .unwrap()
        .iter()
        .map(|route| route["op"].as_str().unwrap())
        .collect();
    ops.sort_unstable();
    assert!(ops[0].eq_ignore_ascii_case("insert") && ops[1].eq_ignore_ascii_case("update"));
    let cluster = "SELECT node_id, role, is_leader, is_self FROM system.cluster";
    for url in own.cluster.urls() {
        let rows = own.root.sql_on(&url, cluster, &[]).await.rows();
        assert_eq!(rows.len(), 3);
        for flag in ["is_leader", "is_self"] {
            assert_eq!(
                rows.iter().filter(|row| row[flag] == true).count(),
                1,
                "{flag}: {rows:?}"
            );
        }
    }
    let namespaces = own.root.rows("SHOW NAMESPACES").await;
    assert!(
        namespaces
            .iter()
            .any(|row| row.to_string().contains(&own.ns)),
        "{namespaces:?}"
    );
    let columns = own.root.rows(&own.sql("DESCRIBE {ns}.t")).await;
    assert_eq!(columns.len(), 3);
}
