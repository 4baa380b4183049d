//! Acks, nacks and extensions that are sent twice, because the first answer was lost.

use cluster_tests::{Reply, User};
use serde_json::{Value, json};

use crate::groups::Jobs;
use crate::own::Own;

async fn jobs(count: u32) -> (Own, Jobs) {
    let own = Own::new().await;
    let jobs = Jobs::create(&own.root, &own.ns, 1).await;
    jobs.add(&own.root, 0..count).await;
    (own, jobs)
}

/// A POST under an idempotency key, to another node each time.
async fn keyed(user: &User, path: &str, key: &str, body: &Value) -> Reply {
    let headers = [("Idempotency-Key", key)];
    user.post_with(user.api().next_url(), path, body, &headers)
        .await
}

#[tokio::test]
async fn under_a_key_a_repeat_gets_the_first_answer_and_changes_nothing() {
    let (own, jobs) = jobs(2).await;
    let agent = &own.agent;
    let key = |name: &str| own.name(name);
    let of = |lease: &str| json!({"topic_id": jobs.topic, "group_id": "g", "lease_id": lease});

    let lease = jobs.take(agent, json!({"limit": 1})).await.lease();
    let nack = of(&lease);
    let nacked = keyed(agent, "/v1/api/topics/nack", &key("nack"), &nack).await;
    assert_eq!(nacked.status, 200, "{nacked:?}");
    let second = jobs.take(agent, json!({"limit": 1})).await;
    assert_eq!(second.messages()[0]["deliveries"], 2, "{second:?}");
    let again = keyed(agent, "/v1/api/topics/nack", &key("nack"), &nack).await;
    assert_eq!(
        (again.status, &again.body, again.index()),
        (200, &nacked.body, nacked.index())
    );
    let third = jobs.take(agent, json!({})).await;
    assert_eq!(third.offsets(), [1], "0 is still held by the second");

    let mut extend = of(&second.lease());
    extend["lease_seconds"] = json!(120);
    let extended = keyed(agent, "/v1/api/topics/extend", &key("extend"), &extend).await;
    assert!(extended.body["lease_expires_ms"].is_u64(), "{extended:?}");
    let again = keyed(agent, "/v1/api/topics/extend", &key("extend"), &extend).await;
    assert_eq!((again.status, again.body), (200, extended.body));

    let ack = of(&second.lease());
    let acked = keyed(agent, "/v1/api/topics/ack", &key("ack"), &ack).await;
    assert_eq!(acked.status, 200, "{acked:?}");
    let again = keyed(agent, "/v1/api/topics/ack", &key("ack"), &ack).await;
    assert_eq!((again.status, again.index()), (200, acked.index()));

    // A key stands for one request, whatever route it came by.
    for (path, body) in [("ack", of(&third.lease())), ("nack", ack)] {
        let path = format!("/v1/api/topics/{path}");
        keyed(agent, &path, &key("ack"), &body)
            .await
            .refused(400, "INVALID_INPUT");
    }
    let sql = json!({"sql": own.sql("INSERT INTO {ns}.jobs VALUES (9, 'x')")});
    keyed(&own.root, "/v1/api/sql", &key("root"), &sql).await;
    let ack = of(&third.lease());
    keyed(&own.root, "/v1/api/topics/ack", &key("root"), &ack)
        .await
        .refused(400, "INVALID_INPUT");
}

#[tokio::test]
async fn without_a_key_an_ack_may_be_repeated_until_somebody_else_has_the_messages() {
    let (own, jobs) = jobs(2).await;
    let lease = jobs.take(&own.agent, json!({})).await.lease();
    for _ in 0..2 {
        let ack = jobs.ack_lease(&own.agent, &lease, json!({})).await;
        assert_eq!(ack.status, 200, "{ack:?}");
        let ack = jobs
            .ack_lease(&own.agent, &lease, json!({"offsets": [0, 1]}))
            .await;
        assert_eq!(
            (ack.status, &ack.body["acknowledged_offset"]),
            (200, &json!(1)),
            "{ack:?}"
        );
    }
    let reset = own.sql("RESET CONSUMER GROUP 'g' ON {ns}.work TO EARLIEST");
    own.agent.ok(&reset).await;
    assert_eq!(jobs.take(&own.agent, json!({})).await.offsets(), [0, 1]);
    jobs.ack_lease(&own.agent, &lease, json!({}))
        .await
        .refused(409, "LEASE_LOST");
}

#[tokio::test]
async fn numbers_that_no_message_has_are_refused_and_harm_no_node() {
    let (own, jobs) = jobs(1).await;
    let lease = jobs.take(&own.agent, json!({})).await.lease();
    let most = u64::MAX;
    for offsets in [json!([most]), json!([0, most]), json!([most - 1, most])] {
        for path in ["/v1/api/topics/ack", "/v1/api/topics/nack"] {
            let body = json!({
                "topic_id": jobs.topic, "group_id": "g", "lease_id": lease, "offsets": offsets,
            });
            own.agent
                .post(path, &body)
                .await
                .refused(400, "INVALID_INPUT");
        }
    }
    for statement in ["ACK", "NACK"] {
        let sql = format!(
            "{statement} {} GROUP 'g' LEASE '{lease}' OFFSETS ({most})",
            jobs.topic
        );
        let reply = own.agent.sql(&sql).await;
        assert_eq!(reply.status, 400, "{reply:?}");
    }
    let upto = json!({"topic_id": jobs.topic, "group_id": "g", "upto_offset": most});
    own.agent.ack(upto).await.refused(400, "INVALID_INPUT");
    let start = json!({"topic_id": jobs.topic, "start": {"Offset": most}});
    own.agent
        .consume(start)
        .await
        .refused(416, "OFFSET_OUT_OF_RANGE");
    // Whatever an apply chokes on, all nodes choke on: all still serve.
    for url in own.cluster.urls() {
        let reply = own.agent.sql_on(&url, "SELECT 1", &[]).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let ack = jobs.ack_lease(&own.agent, &lease, json!({})).await;
    assert_eq!(ack.status, 200, "{ack:?}");
}

#[tokio::test]
async fn a_transaction_says_which_of_its_statements_was_refused() {
    let (own, jobs) = jobs(1).await;
    let lease = jobs.take(&own.agent, json!({})).await.lease();
    let ack = jobs.ack_lease(&own.agent, &lease, json!({})).await;
    assert_eq!(ack.status, 200, "{ack:?}");
    let insert = |id: u32| format!("INSERT INTO {{ns}}.done (id, worker) VALUES ({id}, 'w')");
    let (first, last) = (insert(1), insert(2));
    let sql = own.sql(&format!(
        "SELECT 1; BEGIN; {first}; ACK {{ns}}.work GROUP 'g' LEASE '{lease}' OFFSETS (0); {last}; \
         COMMIT"
    ));
    let reply = own.agent.refused(&sql, 409, "LEASE_LOST").await;
    assert_eq!(reply.body["error"]["details"]["statement"], 3, "{reply:?}");
    let rows = own.agent.cells(&own.sql("SELECT id FROM {ns}.done")).await;
    assert_eq!(rows, json!([]));
}
