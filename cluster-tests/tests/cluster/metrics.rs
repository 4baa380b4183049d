//! What `/metrics` says is well formed and true.

use std::time::Duration;

use cluster_tests::{Api, Cluster, Metrics, wait};
use serde_json::json;

/// How long counters may take to show what has happened: the text is kept for a moment.
const SHOWN_MAX: Duration = Duration::from_secs(10);
const INSERTS: u64 = 7;

async fn scrape(api: &Api, url: &str) -> Metrics {
    let text = api.text_from(url, "/metrics").await;
    Metrics::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"))
}

/// Waits until the metrics of a node say so.
async fn shows(api: &Api, url: &str, what: &str, met: impl Fn(&Metrics) -> bool) -> Metrics {
    wait::until(what, SHOWN_MAX, async || {
        Some(scrape(api, url).await).filter(&met)
    })
    .await
}

#[tokio::test]
async fn counters_move_on_the_nodes_that_did_the_work() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let urls = cluster.urls();
    let follower = (leader + 1) % urls.len();
    let (api, root) = (cluster.api(), cluster.root().await);
    for sql in [
        "CREATE NAMESPACE m",
        "CREATE TABLE m.t (id INT PRIMARY KEY)",
        "CREATE TOPIC m.events",
        "ALTER TOPIC m.events ADD SOURCE m.t ON INSERT",
    ] {
        root.ok(sql).await;
    }
    let asked = "duet_http_request_duration_seconds_count{operation=\"sql\",status=\"200\"}";
    let before = scrape(&api, &urls[follower])
        .await
        .find(asked)
        .unwrap_or(0.0);
    for id in 0..INSERTS {
        let sql = format!("INSERT INTO m.t VALUES ({id})");
        root.sql_on(&urls[follower], &sql, &[]).await.results();
    }
    let again = root
        .sql_on(&urls[follower], "INSERT INTO m.t VALUES (0)", &[])
        .await;
    again.refused(400, "UNIQUE_VIOLATION");

    // Asked at the follower, run at the leader, applied by all.
    let inserts = INSERTS as f64;
    let kind = "duet_sql_statements_total{kind=\"INSERT\"}";
    let error = "duet_sql_errors_total{kind=\"INSERT\",code=\"UNIQUE_VIOLATION\"}";
    let at_leader = shows(&api, &urls[leader], "the leader counts", |metrics| {
        metrics.find(kind) == Some(inserts)
    })
    .await;
    assert_eq!(at_leader.get(error), 1.0);
    assert_eq!(at_leader.get("duet_raft_is_leader"), 1.0);
    assert_eq!(at_leader.get("duet_raft_voters"), 3.0);
    assert!(at_leader.get("duet_raft_elections_won_total") >= 1.0);
    let at_follower = shows(&api, &urls[follower], "the follower counts", |metrics| {
        metrics.get(asked) >= before + inserts
    })
    .await;
    assert_eq!(at_follower.find(kind), None);
    assert_eq!(at_follower.get("duet_raft_is_leader"), 0.0);
    let appended = "duet_topic_messages_appended_total{topic=\"m.events\"}";
    for url in &urls {
        let metrics = shows(&api, url, "the messages are applied", |metrics| {
            metrics.find(appended) == Some(inserts)
        })
        .await;
        let leader_id = at_leader.get("duet_raft_leader_id");
        assert_eq!(metrics.get("duet_raft_leader_id"), leader_id);
        assert!(metrics.get("duet_raft_log_fsync_duration_seconds_count") > 0.0);
        assert!(metrics.get("duet_raft_apply_entries_sum") >= inserts);
        assert!(metrics.get("duet_storage_disk_bytes{area=\"log\"}") > 0.0);
        assert!(metrics.get("duet_storage_disk_free_bytes") > 0.0);
        assert!(metrics.get("process_resident_memory_bytes") > 0.0);
        assert!(metrics.get("process_open_fds") > 0.0);
    }
    // Only a leader knows how far the others are.
    let lags = |metrics: &Metrics| metrics.find("duet_raft_peer_lag_entries{peer=\"2\"}");
    let leads_as_two = at_leader.get("duet_raft_leader_id") == 2.0;
    assert_eq!(lags(&at_leader).is_some(), !leads_as_two);
    assert_eq!(lags(&at_follower), None);
}

#[tokio::test]
async fn lag_and_leases_follow_a_group() {
    let cluster = Cluster::start(1).await;
    let (api, root) = (cluster.api(), cluster.root().await);
    let url = cluster.urls()[0].clone();
    for sql in [
        "CREATE NAMESPACE m",
        "CREATE TABLE m.t (id INT PRIMARY KEY)",
        "CREATE TOPIC m.events",
        "ALTER TOPIC m.events ADD SOURCE m.t ON INSERT",
        "INSERT INTO m.t VALUES (1), (2), (3), (4)",
    ] {
        root.ok(sql).await;
    }
    let body = json!({
        "topic_id": "m.events", "group_id": "a \"worker\"", "start": "Earliest", "limit": 3,
    });
    let taken = root.consume(body).await;
    assert_eq!(taken.offsets(), [0, 1, 2]);
    let labels = "{topic=\"m.events\",group=\"a \\\"worker\\\"\",partition=\"0\"}";
    let lag = format!("duet_topic_group_lag_messages{labels}");
    let in_flight = format!("duet_topic_group_in_flight_messages{labels}");
    let metrics = shows(&api, &url, "the messages are leased", |metrics| {
        metrics.find(&in_flight) == Some(3.0)
    })
    .await;
    assert_eq!(metrics.get(&lag), 4.0);
    assert_eq!(metrics.get("duet_topic_leases"), 1.0);
    assert_eq!(metrics.get("duet_topic_messages_delivered_total"), 3.0);
    assert_eq!(metrics.get("duet_topic_groups_left_out"), 0.0);

    let ack = json!({
        "topic_id": "m.events", "group_id": "a \"worker\"", "partition_id": 0, "upto_offset": 2,
    });
    assert_eq!(root.ack(ack).await.status, 200);
    let metrics = shows(&api, &url, "the messages are done", |metrics| {
        metrics.find(&lag) == Some(1.0)
    })
    .await;
    assert_eq!(metrics.get(&in_flight), 0.0);
    assert_eq!(metrics.get("duet_topic_leases"), 0.0);

    let bearer = root.bearer();
    let headers = [("Authorization", bearer.as_str())];
    let path = "/v1/api/topics/m.events/stream?from=earliest";
    let mut events = api.events(&url, path, &headers).await;
    events.take(4).await;
    let metrics = shows(&api, &url, "the stream's messages are counted", |metrics| {
        metrics.find("duet_topic_messages_delivered_total") == Some(7.0)
    })
    .await;
    let opened = "duet_http_request_duration_seconds_count{operation=\"stream\",status=\"200\"}";
    assert_eq!(metrics.get(opened), 1.0);
}
