//! Where a group starts, what it is refused, and how it waits.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::groups::Jobs;
use crate::own::Own;

async fn jobs(count: u32) -> (Own, Jobs) {
    let own = Own::new().await;
    let jobs = Jobs::create(&own.root, &own.ns, 1).await;
    if count > 0 {
        jobs.add(&own.root, 0..count).await;
    }
    (own, jobs)
}

#[tokio::test]
async fn start_counts_only_for_a_group_without_a_position() {
    let (own, jobs) = jobs(3).await;
    let topic = &jobs.topic;
    let from = |group: &str, start: Value| json!({"topic_id": topic, "group_id": group, "start": start, "timeout_seconds": 0});
    let agent = &own.agent;
    assert_eq!(
        agent
            .consume(from("early", json!("earliest")))
            .await
            .offsets(),
        [0, 1, 2]
    );
    assert_eq!(
        agent.consume(from("late", json!("LATEST"))).await.offsets(),
        [0; 0]
    );
    assert_eq!(
        agent
            .consume(from("at", json!({"Offset": 2})))
            .await
            .offsets(),
        [2]
    );
    let past = json!({"Timestamp": "2020-01-01T00:00:00Z"});
    assert_eq!(agent.consume(from("then", past)).await.offsets(), [0, 1, 2]);
    let body = json!({"topic_id": jobs.topic, "group_id": "default", "timeout_seconds": 0});
    assert_eq!(
        agent.consume(body).await.offsets(),
        [0; 0],
        "left out: latest"
    );

    // Empty as it was, the first poll fixed where the group starts.
    jobs.add(&own.root, 3..4).await;
    assert_eq!(
        agent.consume(from("late", json!("Latest"))).await.offsets(),
        [3]
    );
    assert_eq!(
        agent
            .consume(from("early", json!("Earliest")))
            .await
            .offsets(),
        [3]
    );
    assert_eq!(
        agent
            .consume(from("default", json!({"Offset": 0})))
            .await
            .offsets(),
        [3]
    );
}

#[tokio::test]
async fn offsets_out_of_range_say_what_the_range_is() {
    let (own, jobs) = jobs(3).await;
    let at = |offset: u64, group: Option<&str>| {
        json!({
            "topic_id": jobs.topic, "group_id": group, "start": {"Offset": offset},
            "timeout_seconds": 0,
        })
    };
    for group in [None, Some("g1")] {
        assert_eq!(
            own.agent.consume(at(3, group)).await.offsets(),
            [0; 0],
            "at the end"
        );
    }
    for group in [None, Some("g2")] {
        let reply = own.agent.consume(at(4, group)).await;
        reply.refused(416, "OFFSET_OUT_OF_RANGE");
        let range = (&reply.body["earliest"], &reply.body["latest"]);
        assert_eq!(range, (&json!(0), &json!(3)), "{reply:?}");
    }
    let huge = own.agent.consume(at(u64::MAX, None)).await;
    huge.refused(416, "OFFSET_OUT_OF_RANGE");
}

#[tokio::test]
async fn an_ack_covers_only_what_was_delivered() {
    let (own, jobs) = jobs(5).await;
    let topic = &jobs.topic;
    let ack = |group: &str, upto: u64| json!({"topic_id": topic, "group_id": group, "partition_id": 0, "upto_offset": upto});
    let agent = &own.agent;
    jobs.take(agent, json!({"limit": 3})).await;
    let reply = agent.ack(ack("g", 4)).await;
    assert_eq!(reply.status, 400, "3 and 4 were not delivered: {reply:?}");
    assert_eq!(
        agent.ack(ack("g", 5)).await.status,
        400,
        "beyond the last message"
    );
    let reply = agent.ack(ack("g", 2)).await;
    assert_eq!(
        reply.body,
        json!({"success": true, "acknowledged_offset": 2}),
        "{reply:?}"
    );
    let again = agent.ack(ack("g", 0)).await;
    assert_eq!(
        again.status, 200,
        "lower than before has no effect: {again:?}"
    );
    assert_eq!(jobs.take(agent, json!({})).await.offsets(), [3, 4]);

    let fresh = agent.ack(ack("fresh", 1)).await;
    assert_eq!(fresh.status, 200, "it makes the group: {fresh:?}");
    let body = json!({"topic_id": jobs.topic, "group_id": "fresh", "timeout_seconds": 0});
    assert_eq!(agent.consume(body).await.offsets(), [2, 3, 4]);
    assert_eq!(
        agent.ack(ack("fresh2", 5)).await.status,
        400,
        "beyond the last message"
    );
}

#[tokio::test]
async fn positions_are_shown_in_the_system_table() {
    let (own, jobs) = jobs(3).await;
    jobs.take(&own.agent, json!({})).await;
    let ack = json!({"topic_id": jobs.topic, "group_id": "g", "upto_offset": 1});
    own.agent.ack(ack).await;
    let sql = format!(
        "SELECT group_id, partition_id, last_acked_offset FROM system.topic_offsets \
         WHERE topic_id = '{}'",
        jobs.topic
    );
    assert_eq!(own.root.cells(&sql).await, json!([["g", 0, "1"]]));
}

#[tokio::test]
async fn sql_consumes_and_acks_like_http() {
    let (own, jobs) = jobs(3).await;
    let consume = own.sql("CONSUME FROM {ns}.work GROUP 'g' FROM EARLIEST LIMIT 2");
    let reply = own.agent.sql(&consume).await;
    let offsets: Vec<Value> = reply
        .rows()
        .iter()
        .map(|row| row["offset"].clone())
        .collect();
    assert_eq!(offsets, ["0", "1"]);
    let lease = reply.results()[0]["lease_id"].as_str().unwrap().to_owned();
    own.agent
        .ok(&own.sql("ACK {ns}.work GROUP 'g' UPTO OFFSET 0"))
        .await;
    own.agent
        .ok(&own.sql(&format!("NACK {{ns}}.work GROUP 'g' LEASE '{lease}'")))
        .await;
    assert_eq!(jobs.take(&own.agent, json!({})).await.offsets(), [1, 2]);
    let beyond = own
        .agent
        .sql(&own.sql("ACK {ns}.work GROUP 'g' UPTO OFFSET 9"))
        .await;
    assert_eq!(beyond.status, 400, "{beyond:?}");
    let far = own.sql("CONSUME FROM {ns}.work FROM 9");
    let reply = own.agent.refused(&far, 416, "OFFSET_OUT_OF_RANGE").await;
    let details = &reply.body["error"]["details"];
    assert_eq!(
        (&details["earliest"], &details["latest"]),
        (&json!(0), &json!(3)),
        "{reply:?}"
    );
}

#[tokio::test]
async fn a_long_poll_wakes_on_a_write_through_another_node() {
    let (own, jobs) = jobs(1).await;
    let urls = own.cluster.urls();
    for (number, group) in [(1_u32, None), (2, Some("g"))] {
        let body = json!({
            "topic_id": jobs.topic, "group_id": group, "start": {"Offset": number},
            "timeout_seconds": 5,
        });
        let waiting = {
            let (agent, url) = (own.agent.clone(), urls[0].clone());
            tokio::spawn(async move {
                agent
                    .post_with(&url, "/v1/api/topics/consume", &body, &[])
                    .await
            })
        };
        // sleep: lets the poll wait first; were it slower, it would find the message at once
        tokio::time::sleep(Duration::from_millis(500)).await;
        let written = Instant::now();
        let sql = format!("INSERT INTO {} (id) VALUES ({number})", jobs.table);
        assert_eq!(own.root.sql_on(&urls[1], &sql, &[]).await.status, 200);
        let reply = waiting.await.unwrap();
        assert_eq!(reply.offsets(), [u64::from(number)]);
        assert!(
            written.elapsed() < Duration::from_secs(1),
            "{:?}",
            written.elapsed()
        );
    }
}

#[tokio::test]
async fn a_poll_waits_as_long_as_it_was_asked_to() {
    let (own, jobs) = jobs(0).await;
    for (seconds, group) in [(0, None), (0, Some("g")), (1, None), (1, Some("g"))] {
        let body = json!({
            "topic_id": jobs.topic, "group_id": group, "timeout_seconds": seconds,
        });
        let reply = own.agent.consume(body).await;
        assert_eq!(reply.offsets(), [0; 0]);
        let asked = Duration::from_secs(seconds);
        assert!(
            reply.took + Duration::from_millis(50) >= asked,
            "{:?}",
            reply.took
        );
        assert!(
            reply.took < asked + Duration::from_secs(1),
            "{:?}",
            reply.took
        );
    }
}

#[tokio::test]
async fn a_client_that_went_away_while_waiting_holds_nothing() {
    let (own, jobs) = jobs(0).await;
    let body = json!({
        "topic_id": jobs.topic, "group_id": "g", "start": "Earliest", "timeout_seconds": 5,
    });
    let gone = own.agent.consume(body);
    // Dropping the request closes its connection.
    let gone = tokio::time::timeout(Duration::from_millis(500), gone).await;
    assert!(gone.is_err(), "there was nothing to answer");
    jobs.add(&own.root, 0..1).await;
    let reply = jobs.take(&own.agent, json!({"timeout_seconds": 5})).await;
    assert_eq!(reply.offsets(), [0]);
    assert_eq!(
        reply.messages()[0]["deliveries"],
        1,
        "what nobody read was not delivered"
    );
}

#[tokio::test]
async fn an_answer_is_bounded_and_says_whether_there_is_more() {
    let (own, jobs) = jobs(10).await;
    let read = |more: Value| {
        let mut body = json!({"topic_id": jobs.topic, "start": "Earliest", "timeout_seconds": 0});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        own.agent.consume(body)
    };
    let reply = read(json!({"limit": 4})).await;
    assert_eq!(reply.offsets(), [0, 1, 2, 3]);
    assert_eq!(
        (&reply.body["next_offset"], &reply.body["has_more"]),
        (&json!(4), &json!(true))
    );
    let reply = read(json!({"limit": 10})).await;
    assert_eq!(reply.body["has_more"], false, "{reply:?}");
    let reply = read(json!({"max_bytes": 1})).await;
    assert_eq!(reply.offsets(), [0], "at least one");
    assert_eq!(reply.body["has_more"], true);
    let group = jobs.take(&own.agent, json!({"limit": 4})).await;
    assert_eq!(
        (group.offsets().len(), &group.body["has_more"]),
        (4, &json!(true))
    );
}

#[tokio::test]
async fn a_group_finds_the_work_in_every_partition() {
    let own = Own::new().await;
    let jobs = Jobs::create(&own.root, &own.ns, 4).await;
    jobs.add(&own.root, 0..32).await;
    let mut seen = std::collections::BTreeSet::new();
    let mut count = 0;
    loop {
        let reply = jobs.take(&own.agent, json!({})).await;
        if reply.messages().is_empty() {
            break;
        }
        let partitions: std::collections::BTreeSet<u64> = reply
            .messages()
            .iter()
            .map(|message| message["partition_id"].as_u64().unwrap())
            .collect();
        assert_eq!(
            partitions.len(),
            1,
            "an answer holds one partition: {reply:?}"
        );
        count += reply.messages().len();
        seen.extend(partitions);
    }
    assert_eq!(count, 32);
    assert!(
        seen.len() > 1,
        "32 keys over 4 partitions fell into {seen:?}"
    );
}

#[tokio::test]
async fn latest_offsets_tell_where_partitions_end() {
    let (own, jobs) = jobs(3).await;
    own.given(&["CREATE TOPIC {ns}.empty PARTITIONS 2"]).await;
    let empty = own.name("empty");
    let body = json!({"partitions": [
        {"topic_id": jobs.topic, "partition_id": 0}, {"topic_id": empty, "partition_id": 1},
    ]});
    let reply = own.agent.post("/v1/api/topics/latest-offsets", &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.body,
        json!({"offsets": [
            {"topic_id": jobs.topic, "partition_id": 0, "next_offset": 3, "last_offset": 2},
            {"topic_id": empty, "partition_id": 1, "next_offset": 0, "last_offset": null},
        ]})
    );
}
