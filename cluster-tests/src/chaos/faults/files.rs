//! F19: a node may open hardly another file, and more connections are opened to it than that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Kind, Seen, hold};
use crate::chaos::Step;
use crate::lab::process::{self, FileLimit};
use crate::{Cluster, wait};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "F19-fd-limit",
        changes_leader: false,
        mending: Duration::from_secs(3),
        play: |cluster, step| Box::pin(few_files(cluster, step)),
    },
    Kind {
        name: "F19-fd-none",
        changes_leader: false,
        mending: Duration::from_secs(6),
        play: |cluster, step| Box::pin(no_files(cluster, step)),
    },
];

/// Files that a node may open beyond those that it has open.
const MARGIN: u64 = 16;
/// Connections, several times what may be opened.
const CONNECTIONS: usize = 64;
/// How long the last file may take to be opened, and a node to end that needed another.
const EFFECT_MAX: Duration = Duration::from_secs(30);
/// In how long a request that waited is answered once files may be opened again, or refused.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// What the system says of a file that is one too many.
const TOO_MANY: &str = "Too many open files";

/// Clients connect: the node keeps files for itself, so they wait, and it goes on. It may still end
/// where its storage alone needs more than it may open.
async fn few_files(cluster: &mut Cluster, step: &Step) -> Seen {
    let which = step.pick(cluster.nodes().len());
    cluster.nodes_mut()[which].expect_failure(TOO_MANY);
    let (process, http) = place(cluster, which);
    let limit = lower(process);
    let mut crowd = Crowd::of(CONNECTIONS);
    crowd.ask(http);
    hold(step).await;
    let at_once = crowd.answered();
    let wait = CONNECTIONS as u64 - at_once;
    assert!(
        wait >= CONNECTIONS as u64 - MARGIN,
        "{wait} connections wait"
    );
    drop(limit);
    let mut seen = Seen {
        counted: vec![("connections that waited for a file", wait)],
        violations: Vec::new(),
    };
    if ended(cluster, which).await {
        seen.counted
            .push(("nodes that ended for want of a file", 1));
        return seen;
    }
    let answered = crowd.finish().await;
    if answered < CONNECTIONS as u64 {
        let unanswered = CONNECTIONS as u64 - answered;
        seen.violations.push(format!(
            "few files: {unanswered} of {CONNECTIONS} connections were not answered afterwards"
        ));
    }
    seen
}

/// Other nodes, or who takes himself for one, take the last file. What needs one fails: the node
/// goes on without, or ends and says why.
async fn no_files(cluster: &mut Cluster, step: &Step) -> Seen {
    let which = step.pick(cluster.nodes().len());
    cluster.nodes_mut()[which].expect_failure(TOO_MANY);
    let rpc = cluster.nodes()[which].rpc;
    let (process, _) = place(cluster, which);
    let limit = lower(process);
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.extend(TcpStream::connect(rpc).await);
    }
    let node = &mut cluster.nodes_mut()[which];
    let allowed = limit.files();
    wait::until("a node has no files left", EFFECT_MAX, async || {
        let is_out = process::open_files(process) as u64 >= allowed;
        (is_out || !node.is_running()).then_some(())
    })
    .await;
    hold(step).await;
    drop(limit);
    drop(open);
    let did_end = ended(cluster, which).await;
    Seen {
        counted: vec![
            ("nodes without any file left", 1),
            ("nodes that ended for want of a file", did_end.into()),
        ],
        violations: Vec::new(),
    }
}

/// A node's process, and where clients reach it.
fn place(cluster: &Cluster, which: usize) -> (u32, SocketAddr) {
    let node = &cluster.nodes()[which];
    (node.pid(), node.http)
}

fn lower(process: u32) -> FileLimit {
    let open = process::open_files(process) as u64;
    FileLimit::set(process, open + MARGIN).expect("root may limit a process")
}

/// Did the node end? Then it said that it has no files, and is started again.
async fn ended(cluster: &mut Cluster, which: usize) -> bool {
    let node = &mut cluster.nodes_mut()[which];
    if node.is_running() {
        return false;
    }
    let status = node.ends(EFFECT_MAX).await;
    let last = node.last_words();
    let is_clear = last.contains("had to stop") && last.contains(TOO_MANY);
    assert!(status.code() == Some(1) && is_clear, "{status}: {last}");
    cluster.restart(&[which]).await;
    true
}

/// Clients that connect, ask one thing, and stay.
struct Crowd {
    size: usize,
    tasks: JoinSet<()>,
    answered: Arc<AtomicU64>,
}

impl Crowd {
    fn of(size: usize) -> Crowd {
        Crowd {
            size,
            tasks: JoinSet::new(),
            answered: Arc::default(),
        }
    }

    fn ask(&mut self, http: SocketAddr) {
        for _ in 0..self.size {
            let answered = Arc::clone(&self.answered);
            self.tasks.spawn(async move {
                // Who is not answered is counted by that.
                drop(ask(http, &answered).await);
            });
        }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits for the answers that are still to come; how many there were in all.
    async fn finish(mut self) -> u64 {
        let expected = self.size as u64;
        let all = async {
            while self.answered.load(Ordering::Relaxed) < expected && !self.tasks.is_empty() {
                // sleep: between two looks at what was answered
                tokio::time::sleep(Duration::from_millis(20)).await;
                while self.tasks.try_join_next().is_some() {}
            }
        };
        // What is missing then is counted as such.
        drop(tokio::time::timeout(ANSWER_MAX, all).await);
        self.answered()
    }
}

/// Connects, asks, counts the answer, and holds the connection until it is closed.
async fn ask(http: SocketAddr, answered: &AtomicU64) -> std::io::Result<()> {
    let mut connection = TcpStream::connect(http).await?;
    let request = format!("GET /ready HTTP/1.1\r\nHost: {http}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = [0; 4_096];
    if connection.read(&mut answer).await? > 0 {
        answered.fetch_add(1, Ordering::Relaxed);
    }
    while connection.read(&mut answer).await? > 0 {}
    Ok(())
}
