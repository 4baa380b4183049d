//! W2: a group whose members work on any node, are sometimes slow and sometimes vanish. A member
//! writes its result and acknowledges its input in one transaction, so each message has its effect
//! exactly once, whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::RequestOptions;
use client::api::topics::{ConsumeRequest, ConsumeResponse, StartPosition};
use rand::RngExt;
use serde_json::Value;
use tokio::sync::watch;

use super::{Crowd, Kind, Notes, REQUEST_MAX, Running, Verdict, pause, whole};
use crate::chaos::Task;
use crate::chaos::history::{History, Outcome, Voice};
use crate::check::Fate;
use crate::{Cluster, User, wait};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "W2-groups",
    start: |cluster, root, history| {
        Box::pin(async {
            Box::new(Groups::start(cluster, root, history).await) as Box<dyn Running>
        })
    },
}];

const PRODUCERS: u32 = 2;
const MEMBERS: u32 = 4;
/// A lease's length, short enough that slow members lose theirs.
const LEASE_SECONDS: u64 = 2;
/// Pause of a producer after each job: the members do more for one than it does.
const PRODUCER_PAUSE: Duration = Duration::from_millis(40);
/// How long a slow member takes.
const SLOW: Duration = Duration::from_millis(2_500);
/// How long the members may take for what is left when nothing is broken any more.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// The running workload.
#[derive(Debug)]
struct Groups {
    producers: Crowd,
    members: Crowd,
    produced: Notes<(String, Fate)>,
}

impl Groups {
    /// Makes its tables and topic, and starts producers and members.
    async fn start(cluster: &Cluster, root: &User, history: &History) -> Groups {
        for sql in [
            "CREATE NAMESPACE chaos_groups",
            "CREATE TABLE chaos_groups.jobs (id TEXT PRIMARY KEY)",
            "CREATE TABLE chaos_groups.done \
             (id TEXT PRIMARY KEY DEFAULT ULID(), job TEXT NOT NULL, member INT NOT NULL)",
            "CREATE TOPIC chaos_groups.work PARTITIONS 4",
            "ALTER TOPIC chaos_groups.work ADD SOURCE chaos_groups.jobs ON INSERT",
        ] {
            root.ok(sql).await;
        }
        let produced = Notes::default();
        let (mut producers, mut members) = (Crowd::new(), Crowd::new());
        for producer in 0..PRODUCERS {
            let stopped = producers.stopped();
            producers.add(produce(
                history.voice(format!("groups-producer-{producer}"), cluster.client()),
                producer,
                produced.clone(),
                stopped,
            ));
        }
        for member in 0..MEMBERS {
            let stopped = members.stopped();
            let voice = history.voice(format!("groups-{member}"), cluster.client());
            members.add(work(voice, member, stopped));
        }
        Groups {
            producers,
            members,
            produced,
        }
    }

    /// Lets the members finish what there is, and compares results with jobs.
    async fn verdict(self, root: &User) -> Verdict {
        self.producers.finish().await;
        let count = "SELECT (SELECT COUNT(*) FROM chaos_groups.jobs) - \
                     (SELECT COUNT(DISTINCT job) FROM chaos_groups.done)";
        wait::until("all jobs are done", DRAIN_MAX, async || {
            let left = root.cells(count).await;
            (whole(&left[0][0]) == Some(0)).then_some(())
        })
        .await;
        self.members.finish().await;
        let jobs = column(root, "SELECT id FROM chaos_groups.jobs").await;
        let done = column(root, "SELECT job FROM chaos_groups.done").await;
        let produced = self.produced.take();
        Verdict {
            checked: vec![("jobs", jobs.len() as u64), ("effects", done.len() as u64)],
            violations: violations(&produced, &jobs, &done),
        }
    }
}

impl Running for Groups {
    fn finish<'a>(self: Box<Self>, _: &'a Cluster, root: &'a User) -> Task<'a, Verdict> {
        Box::pin(self.verdict(root))
    }
}

async fn column(root: &User, sql: &str) -> Vec<String> {
    let cells = root.cells(sql).await;
    let rows = cells.as_array().into_iter().flatten();
    rows.filter_map(|row| Some(row[0].as_str()?.to_owned()))
        .collect()
}

/// What was answered is a job, and each job has its effect exactly once.
fn violations(produced: &[(String, Fate)], jobs: &[String], done: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    let jobs: BTreeSet<&String> = jobs.iter().collect();
    for (job, fate) in produced {
        match (fate, jobs.contains(job)) {
            (Fate::Present, false) => wrong.push(format!("groups: job {job} is lost")),
            (Fate::Absent, true) => {
                wrong.push(format!("groups: job {job} was refused and is there"));
            }
            _ => {}
        }
    }
    let mut effects: BTreeMap<&String, u32> = BTreeMap::new();
    for job in done {
        *effects.entry(job).or_default() += 1;
    }
    for job in &jobs {
        let times = effects.remove(job).unwrap_or(0);
        if times != 1 {
            wrong.push(format!("groups: job {job} has its effect {times} times"));
        }
    }
    for job in effects.keys() {
        wrong.push(format!("groups: an effect of {job}, which is no job"));
    }
    wrong
}

async fn produce(
    voice: Voice,
    producer: u32,
    produced: Notes<(String, Fate)>,
    stopped: watch::Receiver<bool>,
) {
    let mut number = 0;
    while !*stopped.borrow() {
        number += 1;
        let job = format!("p{producer}-{number}");
        let sql = format!("INSERT INTO chaos_groups.jobs (id) VALUES ('{job}')");
        let options = RequestOptions::default().timeout(REQUEST_MAX);
        let fate = match voice.sql("produce", &job, sql, &options).await.outcome() {
            Outcome::Ok => Fate::Present,
            Outcome::Unknown => Fate::AllOrNothing,
            Outcome::Fail => Fate::Absent,
        };
        produced.add((job, fate));
        // sleep: the rate of a producer
        tokio::time::sleep(PRODUCER_PAUSE).await;
    }
}

async fn work(voice: Voice, member: u32, stopped: watch::Receiver<bool>) {
    let request = ConsumeRequest {
        topic_id: "chaos_groups.work".into(),
        group_id: Some("members".into()),
        start: Some(StartPosition::Earliest),
        limit: Some(5),
        timeout_seconds: Some(1),
        consumer_id: Some(format!("member-{member}")),
        lease_seconds: Some(LEASE_SECONDS),
        ..ConsumeRequest::default()
    };
    let options = RequestOptions::read().timeout(REQUEST_MAX);
    while !*stopped.borrow() {
        let client = voice.anywhere();
        let asked = client.consume_with(&request, &options);
        match voice.tell("consume", "", asked).await.answer {
            Ok(batch) if batch.messages.is_empty() => {}
            Ok(batch) => handle(&voice, member, &batch.body).await,
            Err(_) => pause().await,
        }
    }
}

/// Most batches are done at once; some are forgotten, and some are done when their lease is over.
async fn handle(voice: &Voice, member: u32, batch: &ConsumeResponse) {
    let fate = rand::rng().random_range(0..100);
    if fate < 5 {
        return;
    }
    if fate < 15 {
        // sleep: a member that is slower than its lease
        tokio::time::sleep(SLOW).await;
    }
    let options = RequestOptions::default().timeout(REQUEST_MAX);
    if let Some(sql) = transaction(member, batch) {
        // Done, lost to another member, or unknown: then it is done or comes again.
        let told = voice.sql("done", &sql, sql.clone(), &options).await;
        if told.answer.is_err() {
            pause().await;
        }
    }
}

/// The results and the ack, together.
fn transaction(member: u32, batch: &ConsumeResponse) -> Option<String> {
    let lease = batch.lease_id.as_ref()?;
    let partition = batch.messages.first()?.partition_id;
    let mut values = Vec::new();
    for message in &batch.messages {
        let payload = STANDARD.decode(&message.payload).ok()?;
        let payload: Value = serde_json::from_slice(&payload).ok()?;
        values.push(format!("('{}', {member})", payload["id"].as_str()?));
    }
    Some(format!(
        "BEGIN; INSERT INTO chaos_groups.done (job, member) VALUES {}; \
         ACK chaos_groups.work GROUP 'members' PARTITION {partition} LEASE '{lease}'; COMMIT",
        values.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_jobs_and_effects_that_are_missing_twice_or_from_nowhere_are_seen() {
        let own = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let produced = [
            ("a".to_owned(), Fate::Present),
            ("b".to_owned(), Fate::AllOrNothing),
            ("c".to_owned(), Fate::Absent),
        ];
        let found =
            |jobs: &[&str], done: &[&str]| violations(&produced, &own(jobs), &own(done)).join("; ");
        assert_eq!(found(&["a"], &["a"]), "");
        assert_eq!(found(&["a", "b"], &["b", "a"]), "");
        assert!(found(&[], &[]).contains("job a is lost"));
        assert!(found(&["a", "c"], &["a", "c"]).contains("job c was refused"));
        assert!(found(&["a"], &[]).contains("job a has its effect 0 times"));
        assert!(found(&["a"], &["a", "a"]).contains("job a has its effect 2 times"));
        assert!(found(&["a"], &["a", "b"]).contains("an effect of b"));
    }
}
