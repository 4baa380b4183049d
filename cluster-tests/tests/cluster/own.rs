//! A namespace and users of a test's own in the cluster it shares with others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cluster_tests::{Cluster, Reply, User};
use serde_json::json;

/// What a test of a healthy cluster begins with.
pub struct Own {
    pub cluster: Arc<Cluster>,
    /// Role system.
    pub root: User,
    /// Role service.
    pub agent: User,
    /// Role user.
    pub alice: User,
    /// Role user.
    pub bob: User,
    /// A namespace nobody else uses.
    pub ns: String,
}

static NEXT: AtomicU32 = AtomicU32::new(1);

impl Own {
    pub async fn new() -> Own {
        let cluster = Cluster::shared().await;
        let root = cluster.root().await;
        let ns = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        root.ok(&format!("CREATE NAMESPACE {ns}")).await;
        let agent = root.create(&format!("{ns}_agent"), "service").await;
        let alice = root.create(&format!("{ns}_alice"), "user").await;
        let bob = root.create(&format!("{ns}_bob"), "user").await;
        Own {
            cluster,
            root,
            agent,
            alice,
            bob,
            ns,
        }
    }

    /// Runs statements as root, with `{ns}` standing for the namespace; each must succeed.
    pub async fn given(&self, statements: &[&str]) {
        for sql in statements {
            self.root.ok(&self.sql(sql)).await;
        }
    }

    /// The statement with `{ns}` replaced by the namespace.
    pub fn sql(&self, sql: &str) -> String {
        sql.replace("{ns}", &self.ns)
    }

    /// Partition 0 of a topic from its beginning, with all that was written before this call.
    pub async fn read(&self, topic: &str) -> Reply {
        // A read of messages may answer with what its node has applied so far, so it is told how
        // far that must be.
        let index = self.root.sql("SELECT 1").await.index().to_string();
        let body = json!({
            "topic_id": self.name(topic), "partition_id": 0, "start": "Earliest",
            "timeout_seconds": 0,
        });
        let url = self.agent.api().next_url();
        let headers = [("Duet-Min-Index", index.as_str())];
        self.agent
            .post_with(url, "/v1/api/topics/consume", &body, &headers)
            .await
    }

    /// The full name of a table or topic.
    pub fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.ns)
    }
}
