//! F17 and F4: answers are lost or late, and whoever waited for them is told the truth.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::api::SqlRequest;
use client::{Client, Error, RequestOptions};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Scene, examine, reads};
use crate::check::Fate;
use crate::{Cluster, User};

const WRITERS: u32 = 8;
const TIMES: u32 = 3;
/// Deadline of an insert where answers are lost, and where they are late.
const PATIENT: Duration = Duration::from_secs(10);
const IMPATIENT: Duration = Duration::from_millis(1_500);
/// How long no node reaches another: longer than a deadline.
const CUT: Duration = Duration::from_secs(3);
/// How long all is well afterwards.
const CALM: Duration = Duration::from_secs(3);

/// Inserts of rows that nothing but their number tells apart: sent twice, they are there twice.
struct Inserts {
    stop: watch::Sender<bool>,
    writers: JoinSet<()>,
    told: Arc<Mutex<Vec<(String, Fate)>>>,
}

/// Leaders are killed: answers are lost that the other nodes know.
pub(super) async fn lost_answers(scene: Scene) -> Vec<String> {
    let mut cluster = scene.plain(&[]).await;
    let root = cluster.root().await;
    let inserts = Inserts::start(&cluster, &root, PATIENT).await;
    for _ in 0..TIMES {
        reads::hold(CALM).await;
        let leader = cluster.leader().await;
        cluster.nodes_mut()[leader].kill9();
        reads::hold(CUT).await;
        cluster.restart(&[leader]).await;
    }
    reads::hold(CALM).await;
    let wrong = inserts.finish(&root).await;
    examine::end(cluster, wrong)
}

/// Nobody reaches anybody for longer than clients wait; later everybody does again.
pub(super) async fn timeouts(scene: Scene) -> Vec<String> {
    let cluster = scene.lab().await;
    let root = cluster.root().await;
    let inserts = Inserts::start(&cluster, &root, IMPATIENT).await;
    for _ in 0..TIMES {
        reads::hold(CALM).await;
        for host in 0..3 {
            cluster.network().isolate(host);
        }
        reads::hold(CUT).await;
        cluster.network().heal();
    }
    reads::hold(CALM).await;
    let wrong = inserts.finish(&root).await;
    examine::end(cluster, wrong)
}

impl Inserts {
    async fn start(cluster: &Cluster, root: &User, deadline: Duration) -> Inserts {
        for sql in [
            "CREATE NAMESPACE planted",
            "CREATE TABLE planted.once (id TEXT PRIMARY KEY DEFAULT ULID(), token TEXT NOT NULL)",
        ] {
            root.ok(sql).await;
        }
        let (stop, stopped) = watch::channel(false);
        let told = Arc::default();
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let client = cluster.client().pinned_to(writer as usize);
            let (told, stopped) = (Arc::clone(&told), stopped.clone());
            writers.spawn(insert(client, writer, deadline, told, stopped));
        }
        Inserts {
            stop,
            writers,
            told,
        }
    }

    async fn finish(mut self, root: &User) -> Vec<String> {
        self.stop.send_replace(true);
        while let Some(writer) = self.writers.join_next().await {
            writer.expect("a writer does not panic");
        }
        let cells = root.cells("SELECT token FROM planted.once").await;
        let rows = cells.as_array().into_iter().flatten();
        let tokens: Vec<String> = rows
            .filter_map(|row| Some(row[0].as_str()?.to_owned()))
            .collect();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        violations(&told, &tokens)
    }
}

async fn insert(
    client: Client,
    writer: u32,
    deadline: Duration,
    told: Arc<Mutex<Vec<(String, Fate)>>>,
    stopped: watch::Receiver<bool>,
) {
    let mut number = 0;
    while !*stopped.borrow() {
        number += 1;
        let token = format!("w{writer}-{number}");
        let sql = format!("INSERT INTO planted.once (token) VALUES ('{token}')");
        let options = RequestOptions::default().timeout(deadline);
        let outcome = client.execute(&SqlRequest::new(sql), &options).await;
        let fate = match &outcome {
            Ok(_) => Fate::Present,
            Err(Error::Unknown(_)) => Fate::AllOrNothing,
            Err(_) => Fate::Absent,
        };
        told.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((token, fate));
        if outcome.is_err() {
            // sleep: a client's own pause, so that it does not spin while its node is down
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// An insert that was answered happened once, one that was refused never, any other at most once.
fn violations(told: &[(String, Fate)], tokens: &[String]) -> Vec<String> {
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    for token in tokens {
        *times.entry(token).or_default() += 1;
    }
    let wrong = told.iter().filter_map(|(token, fate)| {
        let times = times.get(token.as_str()).copied().unwrap_or(0);
        match (fate, times) {
            (Fate::Absent, 1..) => Some(format!("honesty: {token} was refused and is there")),
            (Fate::Present, 0) => Some(format!("durability: {token} was answered and is lost")),
            (_, 2..) => Some(format!("once: {token} happened {times} times")),
            _ => None,
        }
    });
    wrong.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserts_that_are_lost_denied_or_done_twice_are_seen() {
        let told = |fate| [("a".to_owned(), fate)];
        let there = |count| vec!["a".to_owned(); count];
        for (fate, count) in [
            (Fate::Present, 1),
            (Fate::Absent, 0),
            (Fate::AllOrNothing, 0),
            (Fate::AllOrNothing, 1),
        ] {
            assert_eq!(violations(&told(fate), &there(count)), [""; 0]);
        }
        for (fate, count, says) in [
            (Fate::Present, 0, "durability"),
            (Fate::Present, 2, "once"),
            (Fate::AllOrNothing, 2, "once"),
            (Fate::Absent, 1, "honesty"),
        ] {
            let found = violations(&told(fate), &there(count));
            assert!(found[0].starts_with(says), "{found:?}");
        }
    }
}
