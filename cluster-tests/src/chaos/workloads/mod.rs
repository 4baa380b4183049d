//! What clients do while the cluster is broken, and what must be true of it afterwards.
//!
//! - [`rows`] (W1): rows and their messages, transactions, rollbacks, refusals
//! - [`changes`] (W1): rows that come, change and go, and conditional routes
//! - [`groups`] (W2): a consumer group whose members work, are slow, and vanish
//! - [`leases`] (W2): acks, nacks, extensions, and the positions of a group on every node
//! - [`lists`] (W3): lists that are appended to and read, alone and in transactions
//! - [`bank`] (W4): transfers, and sums that may never differ
//! - [`register`] (W5): a value that only grows, and reads that may never show an older one
//! - [`swaps`] (W5): registers that are read, written and swapped
//! - [`tail`] (W6): readers that follow a partition on each node
//! - [`churn`] (W7): routes, topics and columns that come and go under writes
//! - [`sessions`] (W9): reads that never go back, writes that are repeated, an index

pub mod bank;
pub mod changes;
pub mod churn;
pub mod groups;
pub mod leases;
pub mod lists;
pub mod register;
pub mod rows;
pub mod sessions;
pub mod swaps;
pub mod tail;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{Client, RequestOptions};
use rand::RngExt;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Task;
use super::history::History;
use crate::{Cluster, User};

/// All workloads that a run may do without, in the order in which they begin and end. [`rows`] is
/// not among them: what it is answered is how a run sees that the cluster lives.
const KINDS: [&[Kind]; 10] = [
    changes::KINDS,
    groups::KINDS,
    leases::KINDS,
    lists::KINDS,
    bank::KINDS,
    register::KINDS,
    swaps::KINDS,
    tail::KINDS,
    churn::KINDS,
    sessions::KINDS,
];

/// The name of [`rows`].
const ROWS: &str = "W1-rows";
/// Deadline of one request: long enough for an election.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// A client's time between two requests, in ms.
const PACE_MS: std::ops::Range<u64> = 20..250;
/// Pause of a client after a failure.
const PAUSE: Duration = Duration::from_millis(30);

/// A kind of workload. Whoever has one may copy it.
#[derive(Clone, Copy)]
pub struct Workload(&'static Kind);

/// What there is to know of a kind of workload.
struct Kind {
    /// Its code, as the command line and `docs/testing.md` spell it.
    name: &'static str,
    /// Makes what it works on, and lets its clients begin.
    start: for<'a> fn(&'a Cluster, &'a User, &'a History) -> Task<'a, Box<dyn Running>>,
}

/// A workload at work.
pub(super) trait Running: fmt::Debug {
    /// Ends it, and compares what was seen with what is there.
    fn finish<'a>(self: Box<Self>, cluster: &'a Cluster, root: &'a User) -> Task<'a, Verdict>;
}

impl Workload {
    /// All of them.
    pub fn all() -> Vec<Workload> {
        KINDS.into_iter().flatten().map(Workload).collect()
    }

    /// The workloads of these codes (W5) or names (W5-swaps), all for none; none if there is no
    /// such workload. W1's rows are part of every run and may be named or not.
    pub fn named(codes: &[String]) -> Option<Vec<Workload>> {
        let is = |work: &Workload, code: &String| {
            work.name() == code || work.name().starts_with(&format!("{code}-"))
        };
        let known =
            |code: &String| code == ROWS || Workload::all().iter().any(|work| is(work, code));
        let wanted = |work: &Workload| codes.is_empty() || codes.iter().any(|code| is(work, code));
        let chosen = Workload::all().into_iter().filter(wanted).collect();
        codes.iter().all(known).then_some(chosen)
    }

    /// Its code.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Makes what it works on, and lets its clients begin.
    pub(super) async fn start(
        self,
        cluster: &Cluster,
        root: &User,
        history: &History,
    ) -> Box<dyn Running> {
        (self.0.start)(cluster, root, history).await
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What came of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What was checked, for the report: name and count.
    pub checked: Vec<(&'static str, u64)>,
    /// What is wrong; nothing if all promises hold.
    pub violations: Vec<String>,
}

/// Tasks that go on until they are told to stop.
#[derive(Debug)]
struct Crowd {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Crowd {
    fn new() -> Crowd {
        let (stop, _) = watch::channel(false);
        Crowd {
            stop,
            tasks: JoinSet::new(),
        }
    }

    /// Is it time to stop? For a task of the crowd.
    fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    fn add(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Lets every task finish what it is at.
    async fn finish(mut self) {
        self.stop.send_replace(true);
        while let Some(task) = self.tasks.join_next().await {
            task.expect("a client does not panic");
        }
    }
}

/// What tasks write down together.
#[derive(Debug)]
struct Notes<T>(Arc<Mutex<Vec<T>>>);

// Derived, these two would ask the same of `T`.
impl<T> Default for Notes<T> {
    fn default() -> Notes<T> {
        Notes(Arc::default())
    }
}

impl<T> Clone for Notes<T> {
    fn clone(&self) -> Notes<T> {
        Notes(Arc::clone(&self.0))
    }
}

impl<T> Notes<T> {
    fn add(&self, note: T) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(note);
    }

    fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The same client, on a node chosen at random.
fn anywhere(client: &Client) -> Client {
    client.pinned_to(rand::rng().random_range(0..client.urls().len()))
}

/// A client's time between two requests. All workloads together must leave room for each other: a
/// cluster that is busy with one of them shows little of the others.
async fn pace() {
    let ms = rand::rng().random_range(PACE_MS);
    // sleep: how much a client asks for is part of the workload
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

async fn pause() {
    // sleep: a client's own pause, so that it does not spin while no node is up
    tokio::time::sleep(PAUSE).await;
}

/// The first cell of a query's first row.
async fn cell(client: &Client, sql: &str, options: &RequestOptions) -> Option<Value> {
    let request = client::api::SqlRequest::new(sql);
    let answer = client.execute(&request, options).await.ok()?;
    let row = answer.results.first()?.rows.as_ref()?.first()?;
    row.first().cloned()
}

/// A cell that is a whole number, which BIGINT sends as text.
fn whole(cell: &Value) -> Option<i64> {
    cell.as_i64().or_else(|| cell.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_chosen_by_code_and_rows_are_in_every_run() {
        let named = |codes: &[&str]| {
            let codes: Vec<String> = codes.iter().map(|code| (*code).to_owned()).collect();
            Workload::named(&codes).map(|chosen| chosen.len())
        };
        assert_eq!(named(&[]), Some(Workload::all().len()));
        assert_eq!(named(&["W4", "W3"]), Some(2));
        assert_eq!(named(&["W5"]), Some(2));
        assert_eq!(named(&["W5-swaps"]), Some(1));
        assert_eq!(named(&["W1-rows"]), Some(0));
        assert_eq!(named(&["W4", "W99"]), None);
    }
}
