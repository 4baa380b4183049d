//! Server-sent events: a partition's messages, one after the other, from any node.

use std::time::Duration;

use cluster_tests::sse::{Event, Events};
use cluster_tests::{Cluster, User};
use serde_json::json;

use crate::groups::Jobs;
use crate::own::Own;

async fn open(user: &User, url: &str, path: &str, last: Option<&str>) -> Events {
    let bearer = user.bearer();
    let mut headers = vec![("Authorization", bearer.as_str())];
    headers.extend(last.map(|id| ("Last-Event-ID", id)));
    user.api().events(url, path, &headers).await
}

fn offsets(events: &[Event]) -> Vec<u64> {
    let offset = |event: &Event| event.data["offset"].as_u64().unwrap();
    events.iter().map(offset).collect()
}

#[tokio::test]
async fn a_stream_goes_on_at_another_node_without_gap_or_double() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    root.ok("CREATE NAMESPACE t").await;
    let jobs = Jobs::create(&root, "t", 1).await;
    let insert = async |url: &str, ids: std::ops::Range<u32>| {
        for id in ids {
            let sql = format!("INSERT INTO t.jobs VALUES ({id}, 'job')");
            let reply = root.sql_on(url, &sql, &[]).await;
            assert_eq!(reply.status, 200, "{reply:?}");
        }
    };
    let leader = cluster.leader().await;
    let (here, there) = ((leader + 1) % 3, (leader + 2) % 3);
    let urls = cluster.urls();
    let path = format!("/v1/api/topics/{}/stream?partition=0&from=0", jobs.topic);

    insert(&urls[leader], 0..3).await;
    let mut stream = open(&root, &urls[here], &path, None).await;
    assert_eq!(offsets(&stream.take(3).await), [0, 1, 2]);
    insert(&urls[there], 3..6).await;
    let events = stream.take(3).await;
    assert_eq!(offsets(&events), [3, 4, 5]);
    let last = events[2].id.clone();
    assert_eq!(last, "0:5");

    cluster.nodes_mut()[here].kill9();
    assert_eq!(stream.next().await, None, "the node is gone");
    insert(&urls[there], 6..9).await;
    let mut stream = open(&root, &urls[there], &path, Some(&last)).await;
    insert(&urls[leader], 9..12).await;
    let events = stream.take(6).await;
    assert_eq!(offsets(&events), [6, 7, 8, 9, 10, 11]);

    // What an event holds is what a consume says.
    let body = json!({"topic_id": jobs.topic, "start": {"Offset": 6}, "timeout_seconds": 0});
    let index = root.sql_on(&urls[leader], "SELECT 1", &[]).await.index();
    let min_index = index.to_string();
    let headers = [("Duet-Min-Index", min_index.as_str())];
    let reply = root
        .post_with(&urls[there], "/v1/api/topics/consume", &body, &headers)
        .await;
    let data: Vec<_> = events.into_iter().map(|event| event.data).collect();
    assert_eq!(reply.messages(), data);
}

#[tokio::test]
async fn before_its_first_event_a_stream_fails_as_a_consume_does() {
    let own = Own::new().await;
    let jobs = Jobs::create(&own.root, &own.ns, 2).await;
    let path = |query: &str| format!("/v1/api/topics/{}/stream?{query}", jobs.topic);
    own.alice
        .get(&path("from=0"))
        .await
        .refused(403, "FORBIDDEN");
    own.agent
        .get("/v1/api/topics/no.such/stream")
        .await
        .refused(404, "NOT_FOUND");
    own.agent
        .get(&path("partition=2"))
        .await
        .refused(404, "NOT_FOUND");
    let beyond = own.agent.get(&path("from=1")).await;
    beyond.refused(416, "OFFSET_OUT_OF_RANGE");
    assert_eq!(
        (&beyond.body["earliest"], &beyond.body["latest"]),
        (&json!(0), &json!(0))
    );
}

#[tokio::test]
async fn a_stream_says_why_it_ends_when_its_topic_is_dropped() {
    let own = Own::new().await;
    let jobs = Jobs::create(&own.root, &own.ns, 1).await;
    let path = format!("/v1/api/topics/{}/stream", jobs.topic);
    let mut streams = Vec::new();
    for url in own.cluster.urls() {
        streams.push(open(&own.agent, &url, &path, None).await);
    }
    // They began at the end.
    jobs.add(&own.root, 0..1).await;
    for stream in &mut streams {
        assert_eq!(offsets(&stream.take(1).await), [0]);
    }
    own.given(&["DROP TOPIC {ns}.work"]).await;
    for stream in &mut streams {
        let error = stream.next().await.unwrap();
        assert_eq!(
            (error.name.as_str(), &error.data["code"]),
            ("error", &json!("NOT_FOUND"))
        );
        assert!(error.data["retryable"].is_boolean(), "{error:?}");
        assert_eq!(stream.next().await, None, "it was the last event");
    }
}

#[tokio::test]
async fn a_stream_whose_reader_is_slower_than_retention_says_so() {
    let own = Own::new().await;
    let jobs = Jobs::create(&own.root, &own.ns, 1).await;
    // Together far more than what connections hold that nobody reads from.
    let body = "x".repeat(900_000);
    for id in 0..30 {
        own.given(&[&format!("INSERT INTO {{ns}}.jobs VALUES ({id}, '{body}')")])
            .await;
    }
    let path = format!("/v1/api/topics/{}/stream?from=earliest", jobs.topic);
    let url = own.cluster.urls().remove(0);
    let mut stream = open(&own.agent, &url, &path, None).await;
    own.given(&["CLEAR TOPIC {ns}.work"]).await;
    let index = own.root.sql("SELECT 1").await.index().to_string();
    let headers = [("Duet-Min-Index", index.as_str())];
    own.root.sql_on(&url, "SELECT 1", &headers).await;

    let mut seen = Vec::new();
    let error = loop {
        let event = stream.next().await.unwrap();
        match event.name.as_str() {
            "" => seen.push(event),
            _ => break event,
        }
    };
    assert_eq!(error.data["code"], "OFFSET_OUT_OF_RANGE", "{error:?}");
    assert_eq!(error.data["earliest"], 30, "{error:?}");
    let dense: Vec<u64> = (0..).take(seen.len()).collect();
    assert_eq!(offsets(&seen), dense, "up to there nothing is left out");
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_stream_ends_when_its_node_is_told_to() {
    let mut cluster = Cluster::start(1).await;
    let root = cluster.root().await;
    root.ok("CREATE NAMESPACE t").await;
    let jobs = Jobs::create(&root, "t", 1).await;
    let url = cluster.urls().remove(0);
    let path = format!("/v1/api/topics/{}/stream?from=earliest", jobs.topic);
    let mut stream = open(&root, &url, &path, None).await;
    jobs.add(&root, 0..1).await;
    assert_eq!(offsets(&stream.take(1).await), [0]);
    let began = std::time::Instant::now();
    let (status, event) = tokio::join!(cluster.nodes_mut()[0].terminate(), stream.next());
    assert!(status.success(), "{status}");
    assert_eq!(event, None, "no error: it may be resumed");
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "the node waited for its streams: {:?}",
        began.elapsed()
    );
}
