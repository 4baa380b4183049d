//! W5, for one writer: a value that only grows. A linearizable read on any node shows at least what
//! was answered, or read, before it began.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use client::{Client, RequestOptions};
use tokio::sync::watch;

use super::{Crowd, Kind, Notes, REQUEST_MAX, Running, Verdict, anywhere, cell, pause, whole};
use crate::chaos::Task;
use crate::chaos::history::{History, Voice};
use crate::{Cluster, User};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "W5-register",
    start: |cluster, root, history| {
        Box::pin(async {
            Box::new(Register::start(cluster, root, history).await) as Box<dyn Running>
        })
    },
}];

const READERS: usize = 3;

/// A read, and what it had to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// What was answered or read before it began.
    at_least: i64,
    /// What had been tried by the time it ended.
    at_most: i64,
    value: i64,
}

/// The running workload.
#[derive(Debug)]
struct Register {
    crowd: Crowd,
    reads: Notes<Seen>,
}

/// What the clients know together.
#[derive(Debug, Default)]
struct Known {
    /// The highest value that was answered or read.
    certain: AtomicI64,
    /// The highest value that was tried.
    tried: AtomicI64,
}

impl Register {
    /// Makes the register, and starts its writer and its readers.
    async fn start(cluster: &Cluster, root: &User, history: &History) -> Register {
        root.ok("CREATE NAMESPACE chaos_register").await;
        root.ok("CREATE TABLE chaos_register.r (id INT PRIMARY KEY, v BIGINT NOT NULL)")
            .await;
        root.ok("INSERT INTO chaos_register.r VALUES (1, 0)").await;
        let (mut crowd, reads) = (Crowd::new(), Notes::default());
        let known = Arc::new(Known::default());
        let voice = history.voice("register", cluster.client());
        crowd.add(write(voice, Arc::clone(&known), crowd.stopped()));
        for _ in 0..READERS {
            crowd.add(read(
                cluster.client(),
                Arc::clone(&known),
                reads.clone(),
                crowd.stopped(),
            ));
        }
        Register { crowd, reads }
    }

    /// Ends it.
    async fn verdict(self) -> Verdict {
        self.crowd.finish().await;
        let reads = self.reads.take();
        Verdict {
            checked: vec![("linearizable reads", reads.len() as u64)],
            violations: violations(&reads),
        }
    }
}

impl Running for Register {
    fn finish<'a>(self: Box<Self>, _: &'a Cluster, _: &'a User) -> Task<'a, Verdict> {
        Box::pin(self.verdict())
    }
}

fn violations(reads: &[Seen]) -> Vec<String> {
    let wrong = reads
        .iter()
        .filter(|seen| seen.value < seen.at_least || seen.value > seen.at_most);
    wrong
        .map(|seen| {
            format!(
                "register: a read showed {}, outside of {} to {}",
                seen.value, seen.at_least, seen.at_most
            )
        })
        .collect()
}

async fn write(voice: Voice, known: Arc<Known>, stopped: watch::Receiver<bool>) {
    let mut next = 0;
    while !*stopped.borrow() {
        next += 1;
        known.tried.store(next, Ordering::SeqCst);
        // An answer that was lost may come true later, over a higher value: the condition keeps the
        // value growing.
        let sql = format!("UPDATE chaos_register.r SET v = {next} WHERE id = 1 AND v < {next}");
        let options = RequestOptions::default().timeout(REQUEST_MAX);
        let told = voice.sql("write", &next.to_string(), sql, &options).await;
        match told.answer {
            Ok(_) => {
                known.certain.fetch_max(next, Ordering::SeqCst);
            }
            Err(_) => pause().await,
        }
    }
}

async fn read(
    client: Client,
    known: Arc<Known>,
    reads: Notes<Seen>,
    stopped: watch::Receiver<bool>,
) {
    let options = RequestOptions::read().timeout(REQUEST_MAX);
    while !*stopped.borrow() {
        let at_least = known.certain.load(Ordering::SeqCst);
        let sql = "SELECT v FROM chaos_register.r WHERE id = 1";
        let Some(cell) = cell(&anywhere(&client), sql, &options).await else {
            pause().await;
            continue;
        };
        let value = whole(&cell).unwrap_or(i64::MIN);
        known.certain.fetch_max(value, Ordering::SeqCst);
        let at_most = known.tried.load(Ordering::SeqCst);
        reads.add(Seen {
            at_least,
            at_most,
            value,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_value_and_one_from_nowhere_are_seen() {
        let seen = |value| Seen {
            at_least: 3,
            at_most: 5,
            value,
        };
        assert_eq!(violations(&[seen(3), seen(5)]), [""; 0]);
        assert_eq!(violations(&[seen(2)]).len(), 1);
        assert_eq!(violations(&[seen(6)]).len(), 1);
    }
}
