//! What an answer to a consume holds, what becomes of what it does not hold, and what a wait sees.

use std::time::{Duration, Instant};

use cluster_tests::{Cluster, Reply, User, wait};
use serde_json::{Value, json};

use crate::groups::Jobs;
use crate::own::Own;

async fn jobs(count: u32, partitions: u32) -> (Own, Jobs) {
    let own = Own::new().await;
    let jobs = Jobs::create(&own.root, &own.ns, partitions).await;
    if count > 0 {
        jobs.add(&own.root, 0..count).await;
    }
    (own, jobs)
}

#[tokio::test]
async fn what_does_not_fit_comes_next_and_in_order() {
    let (own, jobs) = jobs(5, 1).await;
    for offset in 0..5 {
        let reply = jobs.take(&own.agent, json!({"max_bytes": 1})).await;
        assert_eq!(reply.offsets(), [offset]);
        assert_eq!(reply.body["has_more"], offset < 4, "{reply:?}");
        assert_eq!(reply.messages()[0]["deliveries"], 1, "{reply:?}");
    }
    assert_eq!(jobs.take(&own.agent, json!({})).await.offsets(), [0; 0]);
}

#[tokio::test]
async fn sql_shows_as_many_messages_as_an_answer_holds_and_the_rest_next_time() {
    let (own, _) = jobs(0, 1).await;
    // As arrays of numbers these are several times their size.
    let body = "x".repeat(700_000);
    for id in 0..8 {
        let sql = own.sql(&format!("INSERT INTO {{ns}}.jobs VALUES ({id}, '{body}')"));
        own.root.ok(&sql).await;
    }
    let consume = own.sql("CONSUME FROM {ns}.work GROUP 'g' FROM EARLIEST LIMIT 100");
    let mut seen = Vec::new();
    let mut answers = 0;
    while seen.len() < 8 {
        let reply = own.agent.sql(&consume).await;
        let offsets: Vec<Value> = reply.rows().iter().map(|r| r["offset"].clone()).collect();
        assert!(!offsets.is_empty(), "an answer without messages");
        assert!(reply.results()[0]["lease_id"].is_string());
        seen.extend(offsets);
        answers += 1;
    }
    let expected: Vec<Value> = (0..8).map(|offset| json!(offset.to_string())).collect();
    assert_eq!(seen, expected, "each once, in order");
    assert!(answers > 1, "all of them in one answer");
}

#[tokio::test]
async fn what_sql_consumed_is_given_back_if_the_batch_fails_later() {
    let (own, jobs) = jobs(2, 1).await;
    let sql = own.sql("CONSUME FROM {ns}.work GROUP 'g' FROM EARLIEST; SELECT nope FROM {ns}.jobs");
    let reply = own.agent.sql(&sql).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    let reply = jobs.take(&own.agent, json!({"timeout_seconds": 5})).await;
    assert_eq!(reply.offsets(), [0, 1]);
    assert_eq!(reply.messages()[0]["deliveries"], 1, "it was no delivery");
}

#[tokio::test]
async fn who_waits_for_one_partition_is_in_nobodys_way() {
    let (own, jobs) = jobs(1, 2).await;
    let agent = &own.agent;
    let read = |partition: u32| {
        agent.consume(json!({
            "topic_id": jobs.topic, "partition_id": partition, "start": "Earliest",
            "timeout_seconds": 0,
        }))
    };
    let busy = u32::from(read(0).await.offsets().is_empty());
    let poll = |partition: u32, seconds: u64| {
        let more = json!({"partition_id": partition, "timeout_seconds": seconds});
        jobs.take(agent, more)
    };
    let idle = poll(1 - busy, 5);
    let work = async {
        // The first poll of a group leaves its position, and waits from then on.
        let position = own.sql(&format!(
            "SELECT group_id FROM system.topic_offsets \
             WHERE topic_id = '{{ns}}.work' AND partition_id = {}",
            1 - busy
        ));
        wait::until("a poll waits", Duration::from_secs(20), async || {
            let rows = own.root.rows(&position).await;
            (!rows.is_empty()).then_some(())
        })
        .await;
        poll(busy, 5).await
    };
    let (idle, work) = tokio::join!(idle, work);
    assert_eq!(work.offsets(), [0]);
    assert_eq!(idle.offsets(), [0; 0]);
    assert!(
        work.took + Duration::from_secs(1) < idle.took,
        "{:?} of {:?}",
        work.took,
        idle.took
    );
}

#[tokio::test]
async fn a_wait_sees_its_topic_go_and_another_one_come_under_its_name() {
    let (own, jobs) = jobs(0, 1).await;
    let poll = |start: Value| {
        let body = json!({"topic_id": jobs.topic, "start": start, "timeout_seconds": 5});
        own.agent.consume(body)
    };
    let drop = async { own.root.ok(&own.sql("DROP TOPIC {ns}.work")).await };
    let (gone, _) = tokio::join!(poll(json!("Latest")), drop);
    gone.refused(404, "NOT_FOUND");

    own.given(&[
        "CREATE TOPIC {ns}.work",
        "ALTER TOPIC {ns}.work ADD SOURCE {ns}.jobs ON INSERT",
    ])
    .await;
    // Within one transaction, so that there is no moment without a topic of that name.
    let again = async {
        own.root
            .ok(&own.sql(
                "BEGIN; DROP TOPIC {ns}.work; CREATE TOPIC {ns}.work; \
                 ALTER TOPIC {ns}.work ADD SOURCE {ns}.jobs ON INSERT; COMMIT",
            ))
            .await;
        jobs.add(&own.root, 2..3).await;
    };
    let (reply, ()) = tokio::join!(poll(json!({"Offset": 0})), again);
    assert_eq!(reply.offsets(), [0]);
    assert_eq!(cluster_tests::user::payload(&reply.messages()[0])["id"], 2);
}

#[tokio::test]
async fn a_local_read_says_at_once_what_the_node_has() {
    let (own, jobs) = jobs(1, 1).await;
    let index = own.root.sql("SELECT 1").await.index().to_string();
    let headers = [
        ("Duet-Consistency", "local"),
        ("Duet-Min-Index", index.as_str()),
    ];
    for url in own.cluster.urls() {
        let ask = async |body: Value| -> Reply {
            let path = "/v1/api/topics/consume";
            own.agent.post_with(&url, path, &body, &headers).await
        };
        let all = ask(json!({"topic_id": jobs.topic, "start": "Earliest"})).await;
        assert_eq!(all.offsets(), [0]);
        let none = ask(json!({"topic_id": jobs.topic})).await;
        assert_eq!(none.offsets(), [0; 0]);
        assert!(none.took < Duration::from_secs(4), "{:?}", none.took);
        ask(json!({"topic_id": "no.such"}))
            .await
            .refused(404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn all_partitions_of_a_topic_can_be_asked_for_at_once() {
    let (own, jobs) = jobs(0, 1_024).await;
    let partition = |id: u32| json!({"topic_id": jobs.topic, "partition_id": id});
    let path = "/v1/api/topics/latest-offsets";
    let body = json!({"partitions": (0..1_024).map(partition).collect::<Vec<_>>()});
    let reply = own.agent.post(path, &body).await;
    assert_eq!(
        reply.body["offsets"].as_array().map(Vec::len),
        Some(1_024),
        "{reply:?}"
    );
    let body = json!({"partitions": (0..1_025).map(partition).collect::<Vec<_>>()});
    own.agent
        .post(path, &body)
        .await
        .refused(400, "INVALID_INPUT");
}

#[tokio::test]
async fn a_query_is_judged_once_it_is_known_who_asks() {
    let (own, jobs) = jobs(0, 1).await;
    for url in own.cluster.urls() {
        for route in ["messages", "stream"] {
            for path in [
                format!("/v1/api/topics/{}/{route}?from=x", jobs.topic),
                format!("/v1/api/topics/%ff/{route}"),
            ] {
                let api = own.agent.api();
                api.get_from(&url, &path, &[])
                    .await
                    .refused(401, "MISSING_AUTHORIZATION");
                let bearer = own.agent.bearer();
                let headers = [("Authorization", bearer.as_str())];
                api.get_from(&url, &path, &headers)
                    .await
                    .refused(400, "INVALID_INPUT");
            }
        }
        let metrics = own.agent.api().text_from(&url, "/metrics").await;
        for counted in ["consume", "stream"] {
            let line = format!("_count{{operation=\"{counted}\",status=\"401\"}}");
            assert!(metrics.contains(&line), "{line}");
        }
    }
}

#[tokio::test]
async fn a_wait_that_may_be_long_is_short_unless_asked_for() {
    let cluster = Cluster::start_with(1, &[("DUET_LONG_POLL_MAX_SECONDS", "60")]).await;
    let root = cluster.root().await;
    root.ok("CREATE NAMESPACE t").await;
    let jobs = Jobs::create(&root, "t", 1).await;
    for group in [None, Some("g")] {
        let reply = root
            .consume(json!({"topic_id": jobs.topic, "group_id": group}))
            .await;
        assert_eq!(reply.offsets(), [0; 0]);
        assert!(reply.took > Duration::from_secs(4), "{:?}", reply.took);
        assert!(reply.took < Duration::from_secs(20), "{:?}", reply.took);
    }
}

/// A cluster of three with an own topic, and who leads it.
async fn breakable() -> (Cluster, User, Jobs, usize) {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    root.ok("CREATE NAMESPACE t").await;
    let jobs = Jobs::create(&root, "t", 1).await;
    let leader = cluster.leader().await;
    (cluster, root, jobs, leader)
}

#[tokio::test]
async fn a_grant_that_comes_too_late_for_its_client_is_given_back() {
    let (cluster, root, jobs, leader) = breakable().await;
    jobs.add(&root, 0..1).await;
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    for node in &others {
        cluster.nodes()[*node].pause();
    }
    let body = json!({"topic_id": jobs.topic, "group_id": "g", "start": "Earliest"});
    let headers = [("Duet-Timeout-Ms", "500")];
    let url = &cluster.urls()[leader];
    let path = "/v1/api/topics/consume";
    let late = root.post_with(url, path, &body, &headers).await;
    assert!(late.status >= 500, "without a majority: {late:?}");
    for node in &others {
        cluster.nodes()[*node].resume();
    }
    // Well before the lease of a minute would have run out.
    let limit = Duration::from_secs(30);
    let reply = wait::until("the message comes to another client", limit, async || {
        let reply = jobs.take(&root, json!({"timeout_seconds": 1})).await;
        (reply.status == 200 && !reply.messages().is_empty()).then_some(reply)
    })
    .await;
    assert_eq!(reply.offsets(), [0]);
    assert_eq!(reply.messages()[0]["deliveries"], 1, "it was no delivery");
}

#[tokio::test]
async fn a_wait_ends_when_it_was_to_end_also_after_the_leader_was_lost() {
    let (mut cluster, root, jobs, leader) = breakable().await;
    let url = cluster.urls().remove((leader + 1) % 3);
    let body = json!({
        "topic_id": jobs.topic, "group_id": "g", "start": "Earliest", "timeout_seconds": 5,
    });
    let began = Instant::now();
    let poll = root.post_with(&url, "/v1/api/topics/consume", &body, &[]);
    let elected = async {
        let position = "SELECT group_id FROM system.topic_offsets WHERE topic_id = 't.work'";
        wait::until("the poll waits", Duration::from_secs(20), async || {
            (!root.rows(position).await.is_empty()).then_some(())
        })
        .await;
        cluster.nodes_mut()[leader].kill9();
        cluster.leader().await;
        began.elapsed()
    };
    let (reply, elected) = tokio::join!(poll, elected);
    assert_eq!(reply.offsets(), [0; 0]);
    let most = elected.max(Duration::from_secs(5)) + Duration::from_secs(2);
    assert!(
        reply.took < most,
        "{:?}, with a leader after {elected:?}",
        reply.took
    );
}
