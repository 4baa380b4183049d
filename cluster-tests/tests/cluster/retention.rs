//! Messages that are too old or too many go, on all nodes, and their offsets with them.

use std::time::Duration;

use cluster_tests::{Cluster, Reply, User, wait};
use serde_json::json;

/// Retention looks every second; a loaded machine may be late.
const SOON: Duration = Duration::from_secs(40);

struct Fixture {
    cluster: Cluster,
    root: User,
}

impl Fixture {
    async fn new(topics: &[&str]) -> Fixture {
        let cluster = Cluster::start(3).await;
        let root = cluster.root().await;
        root.ok("CREATE NAMESPACE t").await;
        root.ok("CREATE TABLE t.rows (id INT PRIMARY KEY, body TEXT)")
            .await;
        for topic in topics {
            root.ok(&format!("CREATE TOPIC {topic}")).await;
            let name = topic.split(' ').next().unwrap();
            root.ok(&format!("ALTER TOPIC {name} ADD SOURCE t.rows ON INSERT"))
                .await;
        }
        Fixture { cluster, root }
    }

    async fn insert(&self, ids: std::ops::Range<u32>) {
        let body = "x".repeat(500);
        for id in ids {
            self.root
                .ok(&format!("INSERT INTO t.rows VALUES ({id}, '{body}')"))
                .await;
        }
    }

    /// What a node has of a topic from an offset on, as it is.
    async fn local(&self, url: &str, topic: &str, from: u64) -> Reply {
        let body = json!({"topic_id": topic, "start": {"Offset": from}, "timeout_seconds": 0});
        let headers = [("Duet-Consistency", "local")];
        let path = "/v1/api/topics/consume";
        self.root.post_with(url, path, &body, &headers).await
    }

    /// Waits until the first offset that every node keeps is `earliest`.
    async fn wait_for_earliest(&self, topic: &str, earliest: u64) {
        for url in self.cluster.urls() {
            let what = format!("{url} keeps {topic} from {earliest} on");
            wait::until(&what, SOON, async || {
                let reply = self.local(&url, topic, 0).await;
                let gone = reply.status == 416 && reply.body["earliest"] == earliest;
                gone.then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn messages_older_than_their_time_go_on_all_nodes() {
    let fixture = Fixture::new(&["t.short WITH (retention_seconds = 1)", "t.kept"]).await;
    fixture.insert(0..3).await;
    fixture.wait_for_earliest("t.short", 3).await;
    let root = &fixture.root;
    let below = json!({"topic_id": "t.short", "start": {"Offset": 2}, "timeout_seconds": 0});
    let below = root.consume(below).await;
    below.refused(416, "OFFSET_OUT_OF_RANGE");
    assert_eq!(
        (&below.body["earliest"], &below.body["latest"]),
        (&json!(3), &json!(3))
    );

    // Kept for ever from now on; and offsets go on where they were.
    root.ok("ALTER TOPIC t.short SET RETENTION WITH (retention_seconds = NULL)")
        .await;
    root.ok("CREATE TOPIC t.clock WITH (retention_seconds = 1)")
        .await;
    root.ok("ALTER TOPIC t.clock ADD SOURCE t.rows ON INSERT")
        .await;
    fixture.insert(3..5).await;
    // Looked at later than the others, so they were looked at too.
    fixture.wait_for_earliest("t.clock", 2).await;
    for url in fixture.cluster.urls() {
        let index = root.sql("SELECT 1").await.index().to_string();
        let body = json!({"topic_id": "t.short", "start": "Earliest", "timeout_seconds": 0});
        let headers = [("Duet-Min-Index", index.as_str())];
        let path = "/v1/api/topics/consume";
        let reply = root.post_with(&url, path, &body, &headers).await;
        assert_eq!(reply.offsets(), [3, 4], "{url}");
        let reply = fixture.local(&url, "t.kept", 0).await;
        assert_eq!(reply.offsets(), [0, 1, 2, 3, 4], "{url}");
    }
}

#[tokio::test]
async fn the_oldest_go_when_a_partition_has_too_many_bytes() {
    // About 560 bytes each: three fit.
    let fixture = Fixture::new(&[
        "t.small WITH (retention_max_bytes = 2000)",
        "t.loose WITH (retention_max_bytes = 2000)",
    ])
    .await;
    let root = &fixture.root;
    fixture.insert(0..10).await;
    fixture.wait_for_earliest("t.small", 7).await;
    fixture.wait_for_earliest("t.loose", 7).await;
    root.ok("ALTER TOPIC t.small CLEAR RETENTION").await;
    fixture.insert(10..20).await;
    fixture.wait_for_earliest("t.loose", 17).await;
    for url in fixture.cluster.urls() {
        let reply = fixture.local(&url, "t.small", 7).await;
        assert_eq!(reply.offsets(), (7..20).collect::<Vec<_>>(), "{url}");
        let reply = fixture.local(&url, "t.loose", 17).await;
        assert_eq!(reply.offsets(), [17, 18, 19], "{url}");
    }
}
