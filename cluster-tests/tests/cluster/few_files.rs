//! Whoever opens too many connections to a node waits; the node goes on.

use std::net::SocketAddr;
use std::time::Duration;

use cluster_tests::lab::process::{self, FileLimit};
use cluster_tests::{Cluster, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Files that a node may open beyond those that it has open.
const MARGIN: u64 = 128;
/// Connections, several times what may be opened.
const CONNECTIONS: usize = 300;
/// A snapshot after so much log, for which storage writes new files.
const SNAPSHOTS: (&str, &str) = ("DUET_SNAPSHOT_LOG_BYTES", "65536");
/// Rows, enough for several snapshots.
const ROWS: usize = 128;
const ROW_BYTES: usize = 8 * 1024;
/// How long anything here may take.
const STEP_MAX: Duration = Duration::from_secs(60);
/// How long a node is watched that must not spin.
const WATCHED: Duration = Duration::from_secs(3);

#[tokio::test]
async fn clients_leave_files_to_the_node() {
    let mut cluster = Cluster::start_with(1, &[SNAPSHOTS]).await;
    let root = cluster.root().await;
    root.ok("CREATE NAMESPACE shop").await;
    root.ok("CREATE TABLE shop.rows (id BIGINT PRIMARY KEY, body TEXT)")
        .await;
    let (pid, http) = (cluster.nodes()[0].pid(), cluster.nodes()[0].http);
    let limit = lower(pid);
    let mut waiting = Vec::new();
    for _ in 0..CONNECTIONS {
        waiting.push(ask(http).await);
    }
    // Whose connection was there before is served, by a node that needs files for that.
    let body = "x".repeat(ROW_BYTES);
    for id in 0..ROWS {
        root.ok(&format!("INSERT INTO shop.rows VALUES ({id}, '{body}')"))
            .await;
    }
    assert!(cluster.nodes_mut()[0].is_running(), "it ended");
    drop(limit);
    for mut connection in waiting {
        let mut answer = [0; 8];
        let read = tokio::time::timeout(STEP_MAX, connection.read_exact(&mut answer)).await;
        read.expect("it is answered").expect("it was not closed");
        assert_eq!(&answer, b"HTTP/1.1");
    }
}

#[tokio::test]
async fn a_node_without_files_for_its_neighbours_does_not_spin() {
    let cluster = Cluster::start(1).await;
    let (pid, rpc) = (cluster.nodes()[0].pid(), cluster.nodes()[0].rpc);
    let limit = lower(pid);
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(TcpStream::connect(rpc).await.unwrap());
    }
    wait::until("no file is left", STEP_MAX, async || {
        (process::open_files(pid) as u64 >= limit.files()).then_some(())
    })
    .await;
    let before = process::processor_time(pid);
    // sleep: what is measured is what is used meanwhile
    tokio::time::sleep(WATCHED).await;
    let used = process::processor_time(pid) - before;
    assert!(used < WATCHED / 5, "{used:?} of {WATCHED:?}");
    let few = limit.files();
    drop(limit);
    wait::until("who waited is accepted", STEP_MAX, async || {
        (process::open_files(pid) as u64 > few).then_some(())
    })
    .await;
}

fn lower(pid: u32) -> FileLimit {
    FileLimit::set(pid, process::open_files(pid) as u64 + MARGIN).unwrap()
}

/// A connection on which something was asked.
async fn ask(http: SocketAddr) -> TcpStream {
    let mut connection = TcpStream::connect(http).await.unwrap();
    let request = format!("GET /ready HTTP/1.1\r\nHost: {http}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    connection
}
