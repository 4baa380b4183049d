//! Consumer groups: who holds what, and until when.

use std::time::{Duration, Instant};

use cluster_tests::{Cluster, Reply, User};
use serde_json::{Value, json};

use crate::own::Own;

/// A table whose every insert is a job for a group.
pub struct Jobs {
    pub topic: String,
    pub table: String,
}

impl Jobs {
    pub async fn create(root: &User, namespace: &str, partitions: u32) -> Jobs {
        let table = format!("{namespace}.jobs");
        let topic = format!("{namespace}.work");
        root.ok(&format!(
            "CREATE TABLE {table} (id INT PRIMARY KEY, body TEXT)"
        ))
        .await;
        let done = format!("{namespace}.done (id INT PRIMARY KEY, worker TEXT)");
        root.ok(&format!("CREATE USER TABLE {done}")).await;
        root.ok(&format!("CREATE TOPIC {topic} PARTITIONS {partitions}"))
            .await;
        root.ok(&format!("ALTER TOPIC {topic} ADD SOURCE {table} ON INSERT"))
            .await;
        Jobs { topic, table }
    }

    /// Inserts rows with these ids.
    pub async fn add(&self, root: &User, ids: std::ops::Range<u32>) {
        let rows: Vec<String> = ids.map(|id| format!("({id}, 'job {id}')")).collect();
        root.ok(&format!(
            "INSERT INTO {} (id, body) VALUES {}",
            self.table,
            rows.join(", ")
        ))
        .await;
    }

    /// A consume of group `g` from the earliest message on, with further fields.
    pub async fn take(&self, user: &User, more: Value) -> Reply {
        let mut body = json!({
            "topic_id": self.topic, "group_id": "g", "start": "Earliest", "timeout_seconds": 0,
        });
        let fields = body.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        user.consume(body).await
    }

    /// Takes until nothing is left; the offsets in the order they came.
    pub async fn take_all(&self, user: &User) -> Vec<u64> {
        let mut all = Vec::new();
        loop {
            let offsets = self.take(user, json!({})).await.offsets();
            if offsets.is_empty() {
                return all;
            }
            all.extend(offsets);
        }
    }

    /// An ack by lease, with further fields.
    pub async fn ack_lease(&self, user: &User, lease: &str, more: Value) -> Reply {
        let mut body = json!({"topic_id": self.topic, "group_id": "g", "lease_id": lease});
        let fields = body.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        user.ack(body).await
    }
}

async fn jobs(count: u32) -> (Own, Jobs) {
    let own = Own::new().await;
    let jobs = Jobs::create(&own.root, &own.ns, 1).await;
    jobs.add(&own.root, 0..count).await;
    (own, jobs)
}

#[tokio::test]
async fn consumers_of_a_group_share_the_work_and_no_message() {
    let (own, jobs) = jobs(40).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (agent, topic) = (own.agent.clone(), jobs.topic.clone());
        tasks.spawn(async move {
            let jobs = Jobs {
                topic,
                table: String::new(),
            };
            let mut mine = Vec::new();
            let consumer = json!({"consumer_id": format!("c{number}"), "limit": 3});
            loop {
                let reply = jobs.take(&agent, consumer.clone()).await;
                if reply.messages().is_empty() {
                    return mine;
                }
                mine.extend(reply.offsets());
            }
        });
    }
    let mut all: Vec<u64> = tasks.join_all().await.concat();
    all.sort_unstable();
    assert_eq!(
        all,
        (0..40).collect::<Vec<_>>(),
        "each message once, and none left"
    );
}

#[tokio::test]
async fn a_cumulative_ack_leaves_alone_what_another_consumer_holds() {
    let (own, jobs) = jobs(6).await;
    let slow = jobs
        .take(&own.agent, json!({"consumer_id": "slow", "limit": 2}))
        .await;
    assert_eq!(slow.offsets(), [0, 1]);
    let quick = jobs
        .take(&own.agent, json!({"consumer_id": "quick", "limit": 2}))
        .await;
    assert_eq!(quick.offsets(), [2, 3]);
    let ack = json!({
        "topic_id": jobs.topic, "group_id": "g", "upto_offset": 3, "consumer_id": "quick",
    });
    assert_eq!(own.agent.ack(ack).await.status, 200);
    // Given back, the slow one's two are there again; the quick one's are done.
    let nack = json!({"topic_id": jobs.topic, "group_id": "g", "lease_id": slow.lease()});
    assert_eq!(
        own.agent.post("/v1/api/topics/nack", &nack).await.status,
        200
    );
    assert_eq!(
        jobs.take_all(&own.agent).await,
        [0, 1, 4, 5],
        "what was given back first"
    );
}

#[tokio::test]
async fn a_lease_is_acked_in_parts_and_given_back_in_parts() {
    let (own, jobs) = jobs(4).await;
    let first = jobs.take(&own.agent, json!({})).await;
    assert_eq!(first.offsets(), [0, 1, 2, 3]);
    assert!(
        first
            .messages()
            .iter()
            .all(|message| message["deliveries"] == 1),
        "{first:?}"
    );
    let ack = jobs
        .ack_lease(&own.agent, &first.lease(), json!({"offsets": [0, 2]}))
        .await;
    assert_eq!(
        (ack.status, &ack.body["success"]),
        (200, &json!(true)),
        "{ack:?}"
    );
    let nack = json!({
        "topic_id": jobs.topic, "group_id": "g", "lease_id": first.lease(), "offsets": [3],
    });
    assert_eq!(
        own.agent.post("/v1/api/topics/nack", &nack).await.status,
        200
    );
    let second = jobs.take(&own.agent, json!({})).await;
    assert_eq!(second.offsets(), [3], "0 and 2 are done, 1 is still held");
    assert_eq!(second.messages()[0]["deliveries"], 2);
    let ack = jobs
        .ack_lease(&own.agent, &first.lease(), json!({"offsets": [1]}))
        .await;
    assert_eq!(
        ack.status, 200,
        "what was not given away is still its own: {ack:?}"
    );
}

#[tokio::test]
async fn when_a_lease_ends_its_messages_come_again_to_whoever_waits() {
    let (own, jobs) = jobs(2).await;
    let taken = Instant::now();
    let first = jobs
        .take(&own.agent, json!({"lease_seconds": 1, "consumer_id": "a"}))
        .await;
    assert_eq!(first.offsets(), [0, 1]);
    assert!(first.body["lease_expires_ms"].is_u64(), "{first:?}");
    let waits = json!({"timeout_seconds": 5, "consumer_id": "b"});
    let second = jobs.take(&own.agent, waits).await;
    assert_eq!(second.offsets(), [0, 1]);
    assert_eq!(second.messages()[0]["deliveries"], 2);
    let waited = taken.elapsed();
    assert!(
        waited > Duration::from_millis(950),
        "a lease of 1 s ended after {waited:?}"
    );
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    jobs.ack_lease(&own.agent, &first.lease(), json!({}))
        .await
        .refused(409, "LEASE_LOST");
    assert_eq!(
        jobs.ack_lease(&own.agent, &second.lease(), json!({}))
            .await
            .status,
        200
    );
    let rest = jobs.take(&own.agent, json!({})).await;
    assert_eq!(rest.offsets(), [0; 0]);
}

#[tokio::test]
async fn a_lease_that_ran_out_may_still_ack_what_nobody_else_was_given() {
    let (own, jobs) = jobs(1).await;
    let first = jobs.take(&own.agent, json!({"lease_seconds": 1})).await;
    // sleep: the lease must be over, and nobody may ask for its message meanwhile
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let ack = jobs.ack_lease(&own.agent, &first.lease(), json!({})).await;
    assert_eq!(ack.status, 200, "{ack:?}");
    assert_eq!(jobs.take(&own.agent, json!({})).await.offsets(), [0; 0]);
}

#[tokio::test]
async fn an_extended_lease_lasts_longer() {
    let (own, jobs) = jobs(1).await;
    let first = jobs
        .take(&own.agent, json!({"lease_seconds": 1, "consumer_id": "a"}))
        .await;
    let extend = json!({
        "topic_id": jobs.topic, "group_id": "g", "lease_id": first.lease(), "lease_seconds": 60,
    });
    let reply = own.agent.post("/v1/api/topics/extend", &extend).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let later = json!({"timeout_seconds": 2, "consumer_id": "b"});
    assert_eq!(jobs.take(&own.agent, later).await.offsets(), [0; 0]);
    assert_eq!(
        jobs.ack_lease(&own.agent, &first.lease(), json!({}))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_nack_may_ask_for_a_delay() {
    let (own, jobs) = jobs(1).await;
    let first = jobs.take(&own.agent, json!({})).await;
    let given_back = Instant::now();
    let nack = json!({
        "topic_id": jobs.topic, "group_id": "g", "lease_id": first.lease(), "delay_ms": 1000,
    });
    assert_eq!(
        own.agent.post("/v1/api/topics/nack", &nack).await.status,
        200
    );
    assert_eq!(jobs.take(&own.agent, json!({})).await.offsets(), [0; 0]);
    assert_eq!(
        jobs.take(&own.agent, json!({"timeout_seconds": 5}))
            .await
            .offsets(),
        [0]
    );
    assert!(
        given_back.elapsed() > Duration::from_millis(950),
        "{:?}",
        given_back.elapsed()
    );
}

#[tokio::test]
async fn an_ack_in_a_transaction_happens_with_its_rows_or_not_at_all() {
    let (own, jobs) = jobs(3).await;
    let lease = jobs.take(&own.agent, json!({"limit": 1})).await.lease();
    let work = |lease: &str, id: u32| {
        own.sql(&format!(
            "BEGIN; INSERT INTO {{ns}}.done (id, worker) VALUES ({id}, 'agent'); \
             ACK {{ns}}.work GROUP 'g' LEASE '{lease}'; COMMIT"
        ))
    };
    let reply = own.agent.sql(&work(&lease, 0)).await;
    let commit = reply.results().last().unwrap();
    assert!(commit["receipt"]["index"].is_u64(), "{reply:?}");
    assert_eq!(
        own.agent.cells(&own.sql("SELECT id FROM {ns}.done")).await,
        json!([[0]])
    );
    assert_eq!(
        jobs.take(&own.agent, json!({"limit": 1})).await.offsets(),
        [1],
        "0 is done"
    );

    // The second time the lease holds nothing, so the row must not be written either.
    own.agent.refused(&work(&lease, 1), 409, "LEASE_LOST").await;
    // A statement that fails takes the ack with it.
    let lease = jobs.take(&own.agent, json!({"limit": 1})).await.lease();
    own.agent
        .refused(&work(&lease, 0), 400, "UNIQUE_VIOLATION")
        .await;
    assert_eq!(
        own.agent.cells(&own.sql("SELECT id FROM {ns}.done")).await,
        json!([[0]])
    );
    let nack = json!({"topic_id": jobs.topic, "group_id": "g", "lease_id": lease});
    let nack = own.agent.post("/v1/api/topics/nack", &nack).await;
    assert_eq!(
        nack.status, 200,
        "the lease still holds its message: {nack:?}"
    );
}

#[tokio::test]
async fn a_transaction_whose_lease_went_to_another_consumer_changes_nothing() {
    let (own, jobs) = jobs(1).await;
    let slow = jobs
        .take(
            &own.agent,
            json!({"lease_seconds": 1, "consumer_id": "slow"}),
        )
        .await;
    let quick = json!({"timeout_seconds": 5, "consumer_id": "quick"});
    let quick = jobs.take(&own.agent, quick).await;
    assert_eq!(quick.offsets(), [0]);
    let finish = |lease: String, worker: &str| {
        own.sql(&format!(
            "BEGIN; INSERT INTO {{ns}}.done (id, worker) VALUES (0, '{worker}'); \
             ACK {{ns}}.work GROUP 'g' LEASE '{lease}' OFFSETS (0); COMMIT"
        ))
    };
    let late = finish(slow.lease(), "slow");
    own.agent.refused(&late, 409, "LEASE_LOST").await;
    own.agent.ok(&finish(quick.lease(), "quick")).await;
    let done = own.sql("SELECT worker FROM {ns}.done");
    assert_eq!(
        own.agent.cells(&done).await,
        json!([["quick"]]),
        "the effect is there once"
    );
}

#[tokio::test]
async fn leases_and_positions_survive_the_leader() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    root.ok("CREATE NAMESPACE shop").await;
    let jobs = Jobs::create(&root, "shop", 1).await;
    jobs.add(&root, 0..4).await;
    let done = jobs.take(&root, json!({"limit": 1})).await;
    assert_eq!(
        jobs.ack_lease(&root, &done.lease(), json!({})).await.status,
        200
    );
    let held = jobs
        .take(&root, json!({"limit": 2, "consumer_id": "a"}))
        .await;
    assert_eq!(held.offsets(), [1, 2]);

    let leader = cluster.leader().await;
    cluster.nodes_mut()[leader].kill9();
    let url = cluster.urls()[(leader + 1) % 3].clone();
    let path = "/v1/api/topics/consume";
    let body = json!({
        "topic_id": jobs.topic, "group_id": "g", "consumer_id": "b", "timeout_seconds": 5,
    });
    let other = root.post_with(&url, path, &body, &[]).await;
    assert_eq!(other.offsets(), [3], "0 is done, 1 and 2 are held");
    let body = json!({"topic_id": jobs.topic, "group_id": "g", "lease_id": held.lease()});
    let ack = root.post_with(&url, "/v1/api/topics/ack", &body, &[]).await;
    assert_eq!(ack.status, 200, "{ack:?}");
    cluster.restart(&[leader]).await;
}

#[tokio::test]
async fn a_reset_gives_up_what_is_held() {
    let (own, jobs) = jobs(3).await;
    let lease = jobs.take(&own.agent, json!({})).await.lease();
    let reset = |to: &str| own.sql(&format!("RESET CONSUMER GROUP 'g' ON {{ns}}.work TO {to}"));
    own.agent.ok(&reset("1")).await;
    jobs.ack_lease(&own.agent, &lease, json!({}))
        .await
        .refused(409, "LEASE_LOST");
    assert_eq!(jobs.take(&own.agent, json!({})).await.offsets(), [1, 2]);
    own.agent.ok(&reset("EARLIEST")).await;
    assert_eq!(jobs.take(&own.agent, json!({})).await.offsets(), [0, 1, 2]);
    own.agent.ok(&reset("LATEST")).await;
    assert_eq!(jobs.take(&own.agent, json!({})).await.offsets(), [0; 0]);
}
