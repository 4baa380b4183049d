//! A disk that is getting full: growth is refused first, what makes room goes on, and so does
//! everything once there is room. One that is really full ends the process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cluster_tests::{Cluster, Reply, User, logs, wait};
use serde_json::json;

/// In how long the leader must notice that a disk is full, or has room again.
const NOTICE_MAX: Duration = Duration::from_secs(20);
/// How long filling a small disk may take.
const FILL_MAX: Duration = Duration::from_secs(120);
/// No disk has so much free.
const HUGE: &str = "9000000000000000000";

/// Restarts a node with this reserve; none: the usual one.
async fn restart_with_reserve(cluster: &mut Cluster, node: usize, reserve: Option<&str>) {
    let node = &mut cluster.nodes_mut()[node];
    node.terminate().await;
    let flag = |bytes: &str| vec!["--disk-reserve-bytes".to_owned(), bytes.to_owned()];
    node.spawn(&reserve.map(flag).unwrap_or_default());
    node.ready().await;
}

/// Asserts a refusal that certainly changed nothing and may be tried again.
fn is_disk_full(reply: &Reply) {
    reply.refused(503, "DISK_FULL");
    let error = &reply.body["error"];
    assert_eq!(
        (&error["retryable"], &error["maybe_applied"]),
        (&json!(true), &json!(false))
    );
}

/// Waits until an INSERT of a fresh id is refused; those before it may succeed.
async fn until_refused(user: &User, insert: impl Fn(u64) -> String) -> Reply {
    let mut id = 1_000;
    wait::until("growth is refused", NOTICE_MAX, async || {
        id += 1;
        let reply = user.sql(&insert(id)).await;
        (reply.status != 200).then_some(reply)
    })
    .await
}

/// Waits until an INSERT succeeds, without anybody doing anything but asking.
async fn until_taken(user: &User, sql: &str) {
    wait::until("growth goes on", NOTICE_MAX, async || {
        let reply = user.sql(sql).await;
        (reply.status == 200).then_some(())
    })
    .await;
}

async fn tables(root: &User) {
    for sql in [
        "CREATE NAMESPACE d",
        "CREATE TABLE d.rows (id BIGINT PRIMARY KEY, note TEXT)",
        "CREATE TABLE d.other (id BIGINT PRIMARY KEY)",
        "CREATE TOPIC d.events PARTITIONS 1",
        "ALTER TOPIC d.events ADD SOURCE d.rows ON INSERT",
        "ALTER TOPIC d.events ADD SOURCE d.rows ON DELETE",
        "INSERT INTO d.rows VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        "INSERT INTO d.other VALUES (1)",
    ] {
        root.ok(sql).await;
    }
}

fn insert(id: u64) -> String {
    format!("INSERT INTO d.rows VALUES ({id}, 'x')")
}

async fn count(root: &User, table: &str) -> u64 {
    let cells = root.cells(&format!("SELECT count(*) FROM {table}")).await;
    cells[0][0].to_string().trim_matches('"').parse().unwrap()
}

#[tokio::test]
async fn growth_is_refused_while_too_few_voters_have_room_and_what_makes_room_goes_on() {
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    tables(&root).await;
    restart_with_reserve(&mut cluster, 1, Some(HUGE)).await;
    // One of three is no reason to stop.
    root.ok(&insert(10)).await;
    restart_with_reserve(&mut cluster, 2, Some(HUGE)).await;
    is_disk_full(&until_refused(&root, insert).await);
    let status = cluster.client().cluster_status().await.unwrap();
    let full: Vec<_> = status
        .members
        .iter()
        .map(|member| member.disk_full)
        .collect();
    assert_eq!(full, [Some(false), Some(true), Some(true)]);
    assert!(
        status
            .members
            .iter()
            .all(|member| member.disk_free_bytes.is_some())
    );

    let before = count(&root, "d.rows").await;
    let consume = json!({"topic_id": "d.events", "group_id": "g", "start": "Earliest", "limit": 2});
    let claimed = root.consume(consume.clone()).await;
    assert_eq!(claimed.offsets(), [0, 1], "claims go on");
    let lease = claimed.lease();
    for url in cluster.urls() {
        for sql in [
            insert(1).replace("(1,", "(20,"),
            "UPDATE d.rows SET note = 'longer than before' WHERE id = 1".into(),
            "CREATE TABLE d.more (id BIGINT PRIMARY KEY)".into(),
            format!(
                "BEGIN; {}; ACK d.events GROUP 'g' LEASE '{lease}'; COMMIT",
                insert(21)
            ),
        ] {
            is_disk_full(&root.sql_on(&url, &sql, &[]).await);
        }
    }
    assert_eq!(
        count(&root, "d.rows").await,
        before,
        "what was refused changed nothing"
    );
    let ack = json!({"topic_id": "d.events", "group_id": "g", "lease_id": lease});
    assert_eq!(
        root.ack(ack).await.status,
        200,
        "the refused transaction left the lease alone"
    );
    for sql in [
        "DELETE FROM d.rows WHERE id = 1",
        "ALTER TOPIC d.events SET RETENTION WITH (retention_seconds = 60)",
        "CLEAR TOPIC d.events",
        "DROP TABLE d.other",
        "DROP TOPIC d.events",
    ] {
        root.ok(sql).await;
    }
    assert_eq!(count(&root, "d.rows").await, before - 1);

    restart_with_reserve(&mut cluster, 2, None).await;
    until_taken(&root, &insert(30)).await;
}

/// A small file system in memory, mounted over a directory until it is dropped.
struct Small(PathBuf);

impl Small {
    /// None, with a printed reason, where this process may not mount.
    fn mount(at: &Path, megabytes: u32) -> Option<Small> {
        std::fs::create_dir_all(at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]);
        match command.arg(at).output() {
            Ok(output) if output.status.success() => Some(Small(at.to_owned())),
            other => {
                println!("skipped: only root may mount a small file system: {other:?}");
                None
            }
        }
    }

    fn resize(&self, megabytes: u32) {
        let options = format!("remount,size={megabytes}m");
        let output = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a node that still runs holds it.
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

/// A node alone on a small disk.
async fn alone(megabytes: u32, reserve: u64) -> Option<(Small, Cluster)> {
    let reserve = reserve.to_string();
    let mut cluster = Cluster::describe(1, &[("DUET_DISK_RESERVE_BYTES", &reserve)]);
    let small = Small::mount(&cluster.nodes()[0].data_dir(), megabytes)?;
    let node = &mut cluster.nodes_mut()[0];
    node.spawn(&["--bootstrap".into()]);
    node.ready().await;
    Some((small, cluster))
}

#[tokio::test]
async fn a_node_recovers_by_itself_when_there_is_room_again() {
    const MIB: u64 = 1024 * 1024;
    let Some((small, cluster)) = alone(512, 100 * MIB).await else {
        return;
    };
    let root = cluster.root().await;
    tables(&root).await;
    let balloon = small.0.join("balloon");
    let stat = rustix::fs::statvfs(&small.0).unwrap();
    let free_bytes = stat.f_bavail * stat.f_frsize;
    let take = free_bytes - 60 * MIB;
    std::fs::write(&balloon, vec![1; usize::try_from(take).unwrap()]).unwrap();
    is_disk_full(&until_refused(&root, insert).await);
    root.ok("DELETE FROM d.rows WHERE id = 2").await;
    std::fs::remove_file(&balloon).unwrap();
    until_taken(&root, &insert(30)).await;
}

#[tokio::test]
async fn a_disk_that_is_really_full_ends_the_process_which_comes_back_with_room() {
    let Some((small, mut cluster)) = alone(48, 0).await else {
        return;
    };
    cluster.expect_errors("No space left on device");
    let root = cluster.root().await;
    tables(&root).await;
    let note = "n".repeat(256 * 1024);
    let client = cluster.client();
    let mut acked = Vec::new();
    let mut id = 100;
    wait::until("a write fails", FILL_MAX, async || {
        id += 1;
        let sql = format!("INSERT INTO d.rows VALUES ({id}, '{note}')");
        let request = client::api::SqlRequest::new(sql);
        let options = client::RequestOptions::default().timeout(Duration::from_secs(5));
        match client.execute(&request, &options).await {
            Ok(_) => {
                acked.push(id);
                None
            }
            Err(_) => Some(()),
        }
    })
    .await;
    let node = &mut cluster.nodes_mut()[0];
    let status = node.ends(FILL_MAX).await;
    assert_eq!(status.code(), Some(1));
    let last = logs::tail(&node.log(), 1);
    assert!(last.starts_with("duet: this node had to stop"), "{last}");
    assert!(last.contains("No space left on device"), "{last}");

    small.resize(512);
    cluster.restart(&[0]).await;
    let ids = root
        .cells("SELECT id FROM d.rows WHERE id > 100 ORDER BY id")
        .await;
    let ids = ids.to_string();
    for id in &acked {
        assert!(
            ids.contains(&format!("\"{id}\"")),
            "{id} was answered and is gone: {ids}"
        );
    }
    root.ok(&insert(30)).await;
}
