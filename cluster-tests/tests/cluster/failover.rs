//! The leader dies: writes go on through the others, and nothing differs afterwards.

use std::time::{Duration, Instant};

use client::RequestOptions;
use client::api::SqlRequest;
use cluster_tests::cluster::Ask;
use cluster_tests::load::Table;
use cluster_tests::{Cluster, wait};
use serde_json::json;
use tokio::task::JoinSet;

use crate::groups::Jobs;

/// What is promised with the default configuration.
const FAILOVER_MAX: Duration = Duration::from_secs(3);

/// How long a leader stands still, what it is asked meanwhile, and how long a lease lasts.
const STOOD_STILL: Duration = Duration::from_secs(5);
const ASKED_MEANWHILE: usize = 8;
const LEASE: Duration = Duration::from_secs(4);

/// How long a node may take to learn that it was removed.
const REMOVED_MAX: Duration = Duration::from_secs(20);

#[tokio::test]
async fn after_kill_9_of_the_leader_a_follower_takes_a_write_within_three_seconds() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    root.ok("INSERT INTO shop.events (id, writer, seq) VALUES ('before', 0, 1)")
        .await;

    let leader = cluster.leader().await;
    let follower = cluster.client().pinned_to((leader + 1) % 3);
    // Connects and logs in, as a client in the middle of its work has.
    follower.query("SELECT 1").await.unwrap();
    cluster.nodes_mut()[leader].kill9();
    let killed = Instant::now();
    let sql = "INSERT INTO shop.events (id, writer, seq) VALUES ('after', 0, 2)";
    let options = RequestOptions::idempotent("after").timeout(Duration::from_secs(20));
    let answer = follower
        .execute(&SqlRequest::new(sql), &options)
        .await
        .unwrap();
    let took = killed.elapsed();
    println!(
        "a write succeeded {} ms after the leader was killed",
        took.as_millis()
    );
    assert!(took < FAILOVER_MAX, "{took:?}");

    cluster.restart(&[leader]).await;
    cluster.wait_for_voters(3).await;
    let index = answer.results[0].receipt.as_ref().unwrap().index;
    let rows = Ask::Rows("SELECT * FROM shop.events ORDER BY id".into());
    let rows = cluster.same_everywhere(&root, index, &rows).await;
    assert_eq!(rows.as_array().unwrap().len(), 2);
    for (topic, partitions) in table.topics() {
        let mut messages = 0;
        for partition in 0..partitions {
            let ask = Ask::Messages {
                topic: topic.clone(),
                partition,
            };
            let same = cluster.same_everywhere(&root, index, &ask).await;
            messages += same.as_array().unwrap().len();
        }
        assert_eq!(messages, 2, "{topic}");
    }
}

#[tokio::test]
async fn a_follower_that_was_down_catches_up_and_serves() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    Table::create(&root, "shop").await;
    let leader = cluster.leader().await;
    let down = (leader + 1) % 3;
    cluster.nodes_mut()[down].kill9();
    let client = cluster.client().pinned_to(leader);
    let mut index = 0;
    for number in 0..50 {
        let sql = format!("INSERT INTO shop.events (id, writer, seq) VALUES ('{number}', 0, 1)");
        let answer = client.sql(sql).await.unwrap();
        index = answer.results[0].receipt.as_ref().unwrap().index;
    }
    cluster.restart(&[down]).await;
    let ask = Ask::Messages {
        topic: "shop.single".into(),
        partition: 0,
    };
    let messages = cluster.same_everywhere(&root, index, &ask).await;
    assert_eq!(messages.as_array().unwrap().len(), 50);
}

#[tokio::test]
async fn a_minority_refuses_instead_of_answering() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    Table::create(&root, "shop").await;
    let api = cluster.api();
    let login = json!({"user": "root", "password": cluster_tests::ROOT_PASSWORD});
    let tokens = api.post("/v1/api/auth/login", &login, &[]).await;
    let alone = cluster.leader().await;
    for node in (0..3).filter(|node| *node != alone) {
        cluster.nodes_mut()[node].kill9();
    }
    let url = cluster.urls()[alone].clone();
    // Long enough to tell that nobody follows this leader any more.
    let soon = [("Duet-Timeout-Ms", "4000")];
    let insert = "INSERT INTO shop.events (id, writer, seq) VALUES ('lonely', 0, 1)";
    for sql in [insert, "SELECT COUNT(*) FROM shop.events"] {
        let started = Instant::now();
        let reply = root.sql_on(&url, sql, &soon).await;
        reply.refused(503, "CLUSTER_UNAVAILABLE");
        assert_eq!(reply.body["error"]["retryable"], true, "{reply:?}");
        assert!(
            started.elapsed() < Duration::from_secs(8),
            "{sql}: {:?}",
            started.elapsed()
        );
    }
    // It does not know whether a password was changed meanwhile.
    let soon = ("Duet-Timeout-Ms", "1500");
    let refresh = format!("Bearer {}", tokens.body["refresh_token"].as_str().unwrap());
    let refresh = [soon, ("Authorization", refresh.as_str())];
    let reply = api
        .post_to(&url, "/v1/api/auth/refresh", &json!({}), &refresh)
        .await;
    reply.refused(503, "CLUSTER_UNAVAILABLE");
    let reply = api
        .post_to(&url, "/v1/api/auth/login", &login, &[soon])
        .await;
    reply.refused(503, "CLUSTER_UNAVAILABLE");
    let bearer = root.bearer();
    let me = [soon, ("Authorization", bearer.as_str())];
    let reply = api.get_from(&url, "/v1/api/auth/me", &me).await;
    reply.refused(503, "CLUSTER_UNAVAILABLE");
    // What it has applied may still be read by those who ask for no more.
    let local = [("Duet-Consistency", "local")];
    let reply = root
        .sql_on(&url, "SELECT COUNT(*) AS n FROM shop.events", &local)
        .await;
    assert_eq!(reply.rows(), [json!({"n": "0"})]);
}

#[tokio::test]
async fn a_paused_leader_answers_no_stale_read_when_it_wakes() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    Table::create(&root, "shop").await;
    root.ok("INSERT INTO shop.events (id, writer, seq) VALUES ('one', 0, 1)")
        .await;
    let leader = cluster.leader().await;
    cluster.nodes()[leader].pause();
    let other = cluster.client().pinned_to((leader + 1) % 3);
    let options = RequestOptions::idempotent("two").timeout(Duration::from_secs(20));
    let sql = "INSERT INTO shop.events (id, writer, seq) VALUES ('two', 0, 2)";
    other
        .execute(&SqlRequest::new(sql), &options)
        .await
        .unwrap();
    cluster.nodes()[leader].resume();
    // The old leader may wait for the new one or refuse, but never shows one row.
    let url = cluster.urls()[leader].clone();
    let reply = root
        .sql_on(&url, "SELECT id FROM shop.events ORDER BY id", &[])
        .await;
    match reply.status {
        200 => assert_eq!(reply.rows(), [json!({"id": "one"}), json!({"id": "two"})]),
        _ => assert_eq!(reply.status, 503, "{reply:?}"),
    }
}

#[tokio::test]
async fn a_lease_lasts_though_a_leader_that_stood_still_leads_again() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    root.ok("CREATE NAMESPACE t").await;
    let jobs = Jobs::create(&root, "t", 1).await;
    jobs.add(&root, 0..1).await;
    let (ids, leader) = (cluster.ids().await, cluster.leader().await);
    // Connects and logs in: what is sent to a process that stands still waits at its socket.
    let at_leader = cluster.client().pinned_to(leader);
    at_leader.query("SELECT 1").await.unwrap();
    cluster.nodes()[leader].pause();
    let stood_still = Instant::now();
    let mut waiting = JoinSet::new();
    for _ in 0..ASKED_MEANWHILE {
        let at_leader = at_leader.clone();
        waiting.spawn(async move { at_leader.query("SELECT id FROM t.jobs").await.is_ok() });
    }
    let other = cluster.client().pinned_to((leader + 1) % 3);
    let options = RequestOptions::idempotent("other").timeout(Duration::from_secs(20));
    let write = SqlRequest::new("INSERT INTO t.done (id, worker) VALUES (1, 'other')");
    other.execute(&write, &options).await.unwrap();
    // sleep: how long it stands still is what it must not count
    tokio::time::sleep(STOOD_STILL.saturating_sub(stood_still.elapsed())).await;
    cluster.nodes()[leader].resume();
    // What they are told is another test's: they make it count before it hears of the new leader.
    waiting.join_all().await;

    let taken = Instant::now();
    let seconds = json!({"lease_seconds": LEASE.as_secs()});
    assert_eq!(jobs.take(&root, seconds.clone()).await.offsets(), [0]);
    other.transfer_leader(ids[leader]).await.unwrap();
    let again = wait::until("the message comes again", 3 * LEASE, async || {
        let offsets = jobs.take(&root, seconds.clone()).await.offsets();
        (!offsets.is_empty()).then_some(taken.elapsed())
    })
    .await;
    println!("a lease of {LEASE:?} lasted {again:?}");
    assert!(again >= LEASE, "{again:?}");
}

#[tokio::test]
async fn a_node_told_to_end_ends_cleanly_and_comes_back() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    Table::create(&root, "shop").await;
    let leader = cluster.leader().await;
    let status = cluster.nodes_mut()[leader].terminate().await;
    assert!(status.success(), "SIGTERM is no failure: {status}");
    let other = cluster.client().pinned_to((leader + 1) % 3);
    other
        .sql("INSERT INTO shop.events (id, writer, seq) VALUES ('on', 0, 1)")
        .await
        .unwrap();
    cluster.restart(&[leader]).await;
    cluster.wait_for_voters(3).await;
    assert_eq!(
        root.rows("SELECT id FROM shop.events").await,
        [json!({"id": "on"})]
    );
}

#[tokio::test]
async fn a_node_that_was_removed_while_it_hung_ends() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let hangs = (leader + 1) % 3;
    let id = cluster.ids().await[hangs];
    cluster.nodes()[hangs].pause();
    let client = cluster.client().pinned_to(leader);
    client.remove_member(id).await.unwrap();
    let removed = cluster.forget(hangs);
    removed.resume();
    let ended = removed.ends(REMOVED_MAX).await;
    assert!(ended.success(), "{ended}");
}
