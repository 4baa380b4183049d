//! Reading one's own writes, and writing once.

use serde_json::{Value, json};

use crate::own::Own;

async fn own() -> Own {
    let own = Own::new().await;
    own.given(&[
        "CREATE TABLE {ns}.t (id INT PRIMARY KEY, n INT)",
        "CREATE TOPIC {ns}.out",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON INSERT",
    ])
    .await;
    own
}

#[tokio::test]
async fn any_node_shows_what_was_answered_before() {
    let own = own().await;
    let urls = own.cluster.urls();
    let count = own.sql("SELECT COUNT(*) AS n FROM {ns}.t");
    for id in 0..30 {
        let insert = own.sql(&format!("INSERT INTO {{ns}}.t VALUES ({id}, 0)"));
        let written = own.root.sql_on(&urls[id % 3], &insert, &[]).await;
        assert_eq!(written.status, 200, "{written:?}");
        let reply = own.root.sql_on(&urls[(id + 1) % 3], &count, &[]).await;
        assert_eq!(reply.rows(), [json!({"n": (id + 1).to_string()})]);
        assert!(reply.index() >= written.index());
        let index = written.results()[0]["receipt"]["index"]
            .as_u64()
            .unwrap()
            .to_string();
        let headers = [
            ("Duet-Consistency", "local"),
            ("Duet-Min-Index", index.as_str()),
        ];
        let reply = own.root.sql_on(&urls[(id + 2) % 3], &count, &headers).await;
        assert_eq!(reply.rows(), [json!({"n": (id + 1).to_string()})]);
    }
}

#[tokio::test]
async fn an_index_that_never_comes_ends_with_the_deadline() {
    let own = own().await;
    let headers = [("Duet-Min-Index", "999999999"), ("Duet-Timeout-Ms", "300")];
    let reply = own
        .root
        .sql_on(&own.cluster.urls()[0], "SELECT 1", &headers)
        .await;
    reply.refused(504, "DEADLINE_EXCEEDED");
    assert_eq!(reply.body["error"]["maybe_applied"], false, "{reply:?}");
    assert!(reply.took.as_millis() < 1500, "{:?}", reply.took);
}

#[tokio::test]
async fn headers_that_make_no_sense_are_refused() {
    let own = own().await;
    let wrong = [
        ("Duet-Min-Index", "soon"),
        ("Duet-Consistency", "eventual"),
        ("Duet-Timeout-Ms", "-1"),
        ("Duet-Timeout-Ms", "long"),
    ];
    for (name, value) in wrong {
        let url = own.cluster.urls()[0].clone();
        let reply = own.root.sql_on(&url, "SELECT 1", &[(name, value)]).await;
        assert_eq!(
            (reply.status, reply.code()),
            (400, "INVALID_INPUT"),
            "{name}: {reply:?}"
        );
    }
}

#[tokio::test]
async fn a_write_repeated_under_its_key_happens_once() {
    let own = own().await;
    let key = format!("{}-key", own.ns);
    let headers = [("Idempotency-Key", key.as_str())];
    let insert = own.sql("INSERT INTO {ns}.t VALUES (1, 1)");
    let mut receipts: Vec<Value> = Vec::new();
    for url in own.cluster.urls() {
        let reply = own.root.sql_on(&url, &insert, &headers).await;
        receipts.push(reply.results()[0]["receipt"].clone());
    }
    assert!(receipts[0]["index"].is_u64());
    assert!(
        receipts.iter().all(|receipt| *receipt == receipts[0]),
        "{receipts:?}"
    );
    assert_eq!(
        own.root.cells(&own.sql("SELECT id FROM {ns}.t")).await,
        json!([[1]])
    );

    let url = own.cluster.urls()[0].clone();
    let other = own.sql("INSERT INTO {ns}.t VALUES (2, 2)");
    let reply = own.root.sql_on(&url, &other, &headers).await;
    assert_eq!(
        (reply.status, reply.code()),
        (400, "INVALID_INPUT"),
        "another request: {reply:?}"
    );
    let reply = own.agent.sql_on(&url, "SELECT 1", &headers).await;
    assert_eq!(
        reply.status, 200,
        "another user's key is another key: {reply:?}"
    );
}

#[tokio::test]
async fn under_its_key_nothing_to_do_stays_nothing_to_do() {
    let own = own().await;
    let key = format!("{}-nothing", own.ns);
    let headers = [("Idempotency-Key", key.as_str())];
    let batch = own.sql(
        "UPDATE {ns}.t SET n = 7 WHERE id = 1; CREATE TABLE IF NOT EXISTS {ns}.t (id INT PRIMARY KEY)",
    );
    let mut answers = Vec::new();
    for url in own.cluster.urls() {
        let mut results = own
            .root
            .sql_on(&url, &batch, &headers)
            .await
            .results()
            .to_vec();
        assert_eq!(results[0]["row_count"], 0, "{results:?}");
        answers.append(&mut results);
        own.given(&["DELETE FROM {ns}.t", "INSERT INTO {ns}.t VALUES (1, 1)"])
            .await;
    }
    let rows = own.root.cells(&own.sql("SELECT n FROM {ns}.t")).await;
    assert_eq!(rows, json!([[1]]), "the same request changed a row later");
    let (first, others) = answers.split_at(2);
    assert!(others.chunks(2).all(|other| other == first), "{answers:?}");
}

#[tokio::test]
async fn an_answer_larger_than_a_message_between_nodes_comes_through_any_node() {
    let own = own().await;
    for (number, url) in own.cluster.urls().iter().enumerate() {
        // A batch that writes runs at the leader as a whole.
        let sql = own.sql(&format!(
            "INSERT INTO {{ns}}.t VALUES ({number}, 1); SELECT repeat('x', 20000000) AS v"
        ));
        let reply = own.root.sql_on(url, &sql, &[]).await;
        let cell = reply.results()[1]["rows"][0][0].as_str().map(str::len);
        assert_eq!(cell, Some(20_000_000));
    }
}

#[tokio::test]
async fn the_answers_of_a_batch_share_one_bound() {
    let own = own().await;
    let sql = "SELECT repeat('x', 40000000) AS v; SELECT repeat('x', 40000000) AS v";
    let reply = own.root.sql(sql).await;
    reply.refused(400, "SQL_EXECUTION_ERROR");
    assert_eq!(reply.body["error"]["details"]["statement"], 1);
}

#[tokio::test]
async fn a_key_covers_each_statement_of_a_batch() {
    let own = own().await;
    let key = format!("{}-batch", own.ns);
    let headers = [("Idempotency-Key", key.as_str())];
    let batch = own.sql(
        "INSERT INTO {ns}.t VALUES (1, 1); UPDATE {ns}.t SET n = n + 1 WHERE id = 1; \
         BEGIN; INSERT INTO {ns}.t VALUES (2, 1); UPDATE {ns}.t SET n = n + 1; COMMIT",
    );
    for url in own.cluster.urls() {
        let reply = own.root.sql_on(&url, &batch, &headers).await;
        assert_eq!(reply.results().len(), 6, "{reply:?}");
    }
    let rows = own
        .root
        .cells(&own.sql("SELECT id, n FROM {ns}.t ORDER BY id"))
        .await;
    assert_eq!(rows, json!([[1, 3], [2, 2]]));
}

#[tokio::test]
async fn the_same_key_at_the_same_time_happens_once() {
    let own = own().await;
    let key = format!("{}-race", own.ns);
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..9 {
        let (root, key) = (own.root.clone(), key.clone());
        let url = own.cluster.urls()[number % 3].clone();
        let sql = own.sql("INSERT INTO {ns}.t VALUES (1, 1)");
        requests.spawn(async move {
            root.sql_on(&url, &sql, &[("Idempotency-Key", key.as_str())])
                .await
        });
    }
    let receipts: Vec<Value> = requests
        .join_all()
        .await
        .iter()
        .map(|reply| reply.results()[0]["receipt"]["index"].clone())
        .collect();
    assert!(
        receipts.iter().all(|index| *index == receipts[0]),
        "{receipts:?}"
    );
}

#[tokio::test]
async fn any_node_tells_the_state_of_the_cluster() {
    let own = own().await;
    let mut leaders = Vec::new();
    for url in own.cluster.urls() {
        let bearer = own.root.bearer();
        let headers = [("Authorization", bearer.as_str())];
        let reply = own
            .cluster
            .api()
            .get_from(&url, "/v1/api/cluster", &headers)
            .await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let members = reply.body["members"].as_array().unwrap();
        assert_eq!(members.len(), 3);
        let roles = |role: &str| {
            members
                .iter()
                .filter(|member| member["role"] == role)
                .count()
        };
        assert_eq!((roles("leader"), roles("follower")), (1, 2), "{reply:?}");
        leaders.push(reply.body["leader_id"].clone());
        assert!(reply.headers.contains_key("duet-node"), "{reply:?}");
        let health = own
            .cluster
            .api()
            .get_from(&url, "/v1/api/cluster/health", &[])
            .await;
        assert_eq!(health.body["status"], "healthy", "{health:?}");
        let health = own.cluster.api().get_from(&url, "/health", &[]).await;
        assert_eq!(health.body["status"], "healthy");
        let document = own.cluster.api().get_from(&url, "/openapi.json", &[]).await;
        assert!(
            document.body["paths"]["/v1/api/sql"].is_object(),
            "{:?}",
            document.status
        );
    }
    assert!(
        leaders
            .iter()
            .all(|leader| *leader == leaders[0] && leader.is_u64()),
        "{leaders:?}"
    );
}
