//! W2, over HTTP: members of a group take leases and acknowledge, give back, keep longer, forget,
//! or come too late, on any node; watchers look at the group's positions on every node.
//!
//! A member's clock and the cluster's tick alike, but nothing tells the member when exactly its
//! request was applied. So what is checked of time is what follows from any moment between sending
//! and answer: that a message was given to two members at once is said only if it certainly was.

mod late;

use std::collections::BTreeMap;
use std::time::Duration;

use client::RequestOptions;
use client::api::topics::{AckRequest, ConsumeRequest, ExtendRequest, NackRequest, StartPosition};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::late::{Got, Poll};
use super::{Crowd, Kind, Notes, REQUEST_MAX, Running, Verdict, pause, whole};
use crate::chaos::Task;
use crate::chaos::history::{History, Outcome, Voice};
use crate::{Cluster, User, wait};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "W2-leases",
    start: |cluster, root, history| {
        Box::pin(async {
            Box::new(Leases::start(cluster, root, history).await) as Box<dyn Running>
        })
    },
}];

const TOPIC: &str = "chaos_leases.work";
const PARTITIONS: u32 = 3;
const GROUP: &str = "members";
const MEMBERS: usize = 4;
/// A lease's length.
const LEASE: Duration = Duration::from_secs(2);
/// What a member asks for that needs longer.
const LONGER: Duration = Duration::from_secs(4);
/// How long a message that was given back with a delay stays away.
const DELAY: Duration = Duration::from_secs(1);
/// How long a member takes that comes too late, or needs its lease to be longer.
const SLOW: Duration = Duration::from_millis(2_500);
/// Pause of the producer after each message.
const PRODUCER_PAUSE: Duration = Duration::from_millis(50);
/// Pause of a watcher between two looks.
const WATCH_PAUSE: Duration = Duration::from_millis(200);
/// How long the members may take for what is left when nothing is broken any more.
const DRAIN_MAX: Duration = Duration::from_secs(60);
const POSITIONS: &str = "SELECT partition_id, last_acked_offset FROM system.topic_offsets \
                         WHERE topic_id = 'chaos_leases.work' AND group_id = 'members'";

/// Messages of one partition that a member was given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Delivery {
    lease: String,
    partition: u32,
    /// Offsets, and how often each was given to anybody, this time included.
    offsets: Vec<(u64, u32)>,
    invoke_ns: u64,
    return_ns: u64,
}

/// What a member did with what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Ack,
    Nack { delay: Duration },
    Extend,
}

/// A deed with a whole lease.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Done {
    lease: String,
    deed: Deed,
    outcome: Outcome,
    invoke_ns: u64,
}

/// A position as a watcher saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    watcher: usize,
    partition: u32,
    committed: i64,
}

/// What everybody writes down.
#[derive(Clone, Debug, Default)]
struct Book {
    polls: Notes<Poll>,
    deliveries: Notes<Delivery>,
    done: Notes<Done>,
    positions: Notes<Position>,
}

/// The running workload.
#[derive(Debug)]
struct Leases {
    producers: Crowd,
    members: Crowd,
    watchers: Crowd,
    book: Book,
}

impl Leases {
    async fn start(cluster: &Cluster, root: &User, history: &History) -> Leases {
        for sql in [
            "CREATE NAMESPACE chaos_leases",
            "CREATE TABLE chaos_leases.jobs (id TEXT PRIMARY KEY DEFAULT ULID(), n BIGINT)",
            &format!("CREATE TOPIC {TOPIC} PARTITIONS {PARTITIONS}"),
            &format!("ALTER TOPIC {TOPIC} ADD SOURCE chaos_leases.jobs ON INSERT"),
        ] {
            root.ok(sql).await;
        }
        let book = Book::default();
        let (mut producers, mut members, mut watchers) = (Crowd::new(), Crowd::new(), Crowd::new());
        let voice = |name: String| history.voice(name, cluster.client_at_doors());
        producers.add(produce(
            voice("leases-producer".into()),
            producers.stopped(),
        ));
        for member in 0..MEMBERS {
            let voice = voice(format!("leases-{member}"));
            members.add(work(voice, member, book.clone(), members.stopped()));
        }
        for watcher in 0..2 {
            let voice = voice(format!("leases-watcher-{watcher}"));
            watchers.add(look(voice, watcher, book.clone(), watchers.stopped()));
        }
        Leases {
            producers,
            members,
            watchers,
            book,
        }
    }

    async fn verdict(self, root: &User) -> Verdict {
        self.producers.finish().await;
        let produced = ends(root).await;
        wait::until("all messages are acknowledged", DRAIN_MAX, async || {
            let positions = positions(&root.cells(POSITIONS).await);
            let done = |(partition, end): (&u32, &i64)| {
                *end == 0 || positions.get(partition).is_some_and(|at| at + 1 >= *end)
            };
            produced.iter().all(done).then_some(())
        })
        .await;
        self.members.finish().await;
        self.watchers.finish().await;
        // A job of which its producer did not know may have come since.
        let ends = ends(root).await;
        let (deliveries, done) = (self.book.deliveries.take(), self.book.done.take());
        let positions = self.book.positions.take();
        let mut wrong = violations(&deliveries, &done, &produced);
        let (bounded, came_late) = late::late(&deliveries, &done, &self.book.polls.take());
        wrong.extend(came_late);
        wrong.extend(backwards(&positions, &ends));
        let given = deliveries.iter().map(|given| given.offsets.len() as u64);
        Verdict {
            checked: vec![
                ("deliveries", given.sum()),
                ("redeliveries with a bound", bounded),
                ("acks, nacks and extensions", done.len() as u64),
                ("positions seen", positions.len() as u64),
            ],
            violations: wrong,
        }
    }
}

impl Running for Leases {
    fn finish<'a>(self: Box<Self>, _: &'a Cluster, root: &'a User) -> Task<'a, Verdict> {
        Box::pin(self.verdict(root))
    }
}

/// Where the partitions end.
async fn ends(root: &User) -> BTreeMap<u32, i64> {
    let of = |partition| json!({"topic_id": TOPIC, "partition_id": partition});
    let asked: Vec<Value> = (0..PARTITIONS).map(of).collect();
    let body = json!({ "partitions": asked });
    let reply = root.post("/v1/api/topics/latest-offsets", &body).await;
    let answered = reply.body["offsets"].as_array();
    let answered = answered.unwrap_or_else(|| panic!("no ends: {reply:?}"));
    let next = |end: &Value| end["next_offset"].as_i64().expect("an end has an offset");
    (0..PARTITIONS).zip(answered.iter().map(next)).collect()
}

fn positions(cells: &Value) -> BTreeMap<u32, i64> {
    let rows = cells.as_array().into_iter().flatten();
    rows.filter_map(|row| {
        let partition = u32::try_from(whole(&row[0])?).ok()?;
        // Null as long as nothing was acknowledged.
        Some((partition, whole(&row[1]).unwrap_or(-1)))
    })
    .collect()
}

async fn produce(voice: Voice, stopped: watch::Receiver<bool>) {
    let options = RequestOptions::default().timeout(REQUEST_MAX);
    while !*stopped.borrow() {
        let sql = "INSERT INTO chaos_leases.jobs (n) VALUES (1), (2)";
        drop(voice.sql("produce", "", sql, &options).await);
        // sleep: the rate of a producer
        tokio::time::sleep(PRODUCER_PAUSE).await;
    }
}

async fn work(voice: Voice, member: usize, book: Book, stopped: watch::Receiver<bool>) {
    let request = ConsumeRequest {
        topic_id: TOPIC.into(),
        group_id: Some(GROUP.into()),
        start: Some(StartPosition::Earliest),
        limit: Some(6),
        // Without waiting: the answer is then as close to the grant as can be.
        timeout_seconds: Some(0),
        consumer_id: Some(format!("member-{member}")),
        lease_seconds: Some(LEASE.as_secs()),
        ..ConsumeRequest::default()
    };
    let options = RequestOptions::default().timeout(REQUEST_MAX);
    while !*stopped.borrow() {
        let client = voice.anywhere();
        let asked = client.consume_with(&request, &options);
        let told = voice.tell("consume", &member.to_string(), asked).await;
        let given = told.answer.as_ref().ok().and_then(|batch| {
            let lease = batch.lease_id.clone()?;
            let partition = batch.messages.first()?.partition_id;
            let offsets = batch
                .messages
                .iter()
                .map(|message| (message.offset, message.deliveries.unwrap_or(0)));
            Some(Delivery {
                lease,
                partition,
                offsets: offsets.collect(),
                invoke_ns: told.invoke_ns,
                return_ns: told.return_ns,
            })
        });
        book.polls.add(Poll {
            told: match (&told.answer, &given) {
                (Err(_), _) => Got::Unknown,
                (Ok(_), None) => Got::Nothing,
                (Ok(_), Some(given)) => Got::Some {
                    partition: given.partition,
                    fresh: given.offsets.iter().any(|(_, times)| *times == 1),
                },
            },
            invoke_ns: told.invoke_ns,
            return_ns: told.return_ns,
        });
        let Some(given) = given else {
            pause().await;
            continue;
        };
        book.deliveries.add(given.clone());
        handle(&voice, &book, &given).await;
    }
}

/// Most batches are acknowledged at once; the others are what can become of work.
async fn handle(voice: &Voice, book: &Book, given: &Delivery) {
    let fate = rand::rng().random_range(0..100);
    let deed = |deed| act(voice, book, given, deed);
    match fate {
        0..5 => {}
        5..15 => {
            // sleep: a member that is slower than its lease
            tokio::time::sleep(SLOW).await;
            deed(Deed::Ack).await;
        }
        15..25 => {
            deed(Deed::Extend).await;
            // sleep: a member that needs its lease to be longer
            tokio::time::sleep(SLOW).await;
            deed(Deed::Ack).await;
        }
        25..32 => deed(Deed::Nack { delay: DELAY }).await,
        32..38 => {
            let delay = Duration::ZERO;
            deed(Deed::Nack { delay }).await;
        }
        _ => deed(Deed::Ack).await,
    }
}

async fn act(voice: &Voice, book: &Book, given: &Delivery, deed: Deed) {
    let lease = given.lease.clone();
    let (topic_id, group_id) = (TOPIC.to_owned(), GROUP.to_owned());
    let partition_id = Some(given.partition);
    let offsets = Some(given.offsets.iter().map(|(offset, _)| *offset).collect());
    let key = format!("{lease} {}:{:?}", given.partition, given.offsets);
    let client = voice.anywhere();
    let (outcome, invoke_ns) = match deed {
        Deed::Ack => {
            let request = AckRequest {
                topic_id,
                group_id,
                partition_id,
                lease_id: Some(lease.clone()),
                offsets,
                ..AckRequest::default()
            };
            let told = voice.tell("ack", &key, client.ack(&request)).await;
            (told.outcome(), told.invoke_ns)
        }
        Deed::Nack { delay } => {
            let request = NackRequest {
                topic_id,
                group_id,
                partition_id,
                lease_id: lease.clone(),
                offsets,
                delay_ms: u64::try_from(delay.as_millis()).ok(),
            };
            let told = voice.tell("nack", &key, client.nack(&request)).await;
            (told.outcome(), told.invoke_ns)
        }
        Deed::Extend => {
            let request = ExtendRequest {
                topic_id,
                group_id,
                partition_id,
                lease_id: lease.clone(),
                lease_seconds: LONGER.as_secs(),
            };
            let told = voice.tell("extend", &key, client.extend(&request)).await;
            (told.outcome(), told.invoke_ns)
        }
    };
    book.done.add(Done {
        lease,
        deed,
        outcome,
        invoke_ns,
    });
}

/// Looks at the positions on one node after the other, as a session that never goes back.
async fn look(voice: Voice, watcher: usize, book: Book, stopped: watch::Receiver<bool>) {
    let mut seen = 0;
    while !*stopped.borrow() {
        let options = RequestOptions::local_from(seen).timeout(REQUEST_MAX);
        let told = voice.sql("look", "", POSITIONS, &options).await;
        if let Ok(answer) = &told.answer {
            seen = seen.max(answer.index.unwrap_or(0));
            let rows = answer
                .results
                .first()
                .and_then(|result| result.rows.clone());
            let cells = serde_json::to_value(rows).unwrap_or_default();
            for (partition, committed) in positions(&cells) {
                book.positions.add(Position {
                    watcher,
                    partition,
                    committed,
                });
            }
        }
        // sleep: how often a watcher looks
        tokio::time::sleep(WATCH_PAUSE).await;
    }
}

/// No position goes back, or beyond the last message.
fn backwards(positions: &[Position], ends: &BTreeMap<u32, i64>) -> Vec<String> {
    let mut last: BTreeMap<(usize, u32), i64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for position in positions {
        let key = (position.watcher, position.partition);
        let before = last.insert(key, position.committed).unwrap_or(-1);
        let end = ends.get(&position.partition).copied().unwrap_or(0);
        if position.committed < before || position.committed >= end {
            wrong.push(format!(
                "leases: a position after {before}, of {end} messages: {position:?}"
            ));
        }
    }
    wrong
}

/// One member's hold of one offset.
struct Hold<'a> {
    times: u32,
    delivery: &'a Delivery,
}

/// No two members hold the same message, nobody is given what was acknowledged, a delay is kept,
/// and every message was acknowledged by somebody who had it.
fn violations(deliveries: &[Delivery], done: &[Done], ends: &BTreeMap<u32, i64>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut holds: BTreeMap<(u32, u64), Vec<Hold<'_>>> = BTreeMap::new();
    for delivery in deliveries {
        for (offset, times) in &delivery.offsets {
            let key = (delivery.partition, *offset);
            holds.entry(key).or_default().push(Hold {
                times: *times,
                delivery,
            });
        }
    }
    let mut deeds: BTreeMap<&str, Vec<&Done>> = BTreeMap::new();
    for done in done {
        deeds.entry(&done.lease).or_default().push(done);
    }
    let none = Vec::new();
    for ((partition, offset), holds) in &mut holds {
        let is_done = ends
            .get(partition)
            .is_some_and(|end| i64::try_from(*offset).is_ok_and(|offset| offset < *end));
        let name = format!("leases: {partition}:{offset}");
        holds.sort_by_key(|hold| hold.times);
        for pair in holds.windows(2) {
            let [first, next] = pair else { continue };
            let deeds = deeds.get(first.delivery.lease.as_str()).unwrap_or(&none);
            wrong.extend(between(&name, first, next, deeds));
        }
        let acked = holds.iter().any(|hold| {
            let deeds = deeds.get(hold.delivery.lease.as_str()).unwrap_or(&none);
            deeds
                .iter()
                .any(|done| done.deed == Deed::Ack && done.outcome != Outcome::Fail)
        });
        if is_done && !acked {
            wrong.push(format!("{name} is done and nobody who had it said so"));
        }
    }
    for (partition, end) in ends {
        let missing = (0..u64::try_from(*end).unwrap_or(0))
            .find(|offset| !holds.contains_key(&(*partition, *offset)));
        if let Some(offset) = missing {
            wrong.push(format!("leases: {partition}:{offset} was given to nobody"));
        }
    }
    wrong
}

/// What is wrong between two holds of one offset, of which the second is known to be later.
fn between(name: &str, first: &Hold<'_>, next: &Hold<'_>, deeds: &[&Done]) -> Vec<String> {
    let mut wrong = Vec::new();
    let (one, other) = (first.delivery, next.delivery);
    let tell = |what: &str| {
        format!(
            "{name} {what}: the {}. time with lease {} from {} ns, the {}. with {} by {} ns: \
             {deeds:?}",
            first.times, one.lease, one.invoke_ns, next.times, other.lease, other.return_ns
        )
    };
    if first.times == next.times {
        wrong.push(tell("was given twice as the same delivery"));
    }
    // The earliest moment in which the next member may have been given it.
    let mut earliest = one.invoke_ns.saturating_add(ns(LEASE));
    for done in deeds {
        match (done.deed, done.outcome) {
            (_, Outcome::Fail) => {}
            (Deed::Ack, Outcome::Ok) => wrong.push(tell("came again after it was acknowledged")),
            (Deed::Ack, _) => {}
            (Deed::Extend, Outcome::Ok) => {
                earliest = earliest.max(done.invoke_ns.saturating_add(ns(LONGER)));
            }
            (Deed::Extend, _) => {}
            (Deed::Nack { delay }, Outcome::Ok) => {
                earliest = done.invoke_ns.saturating_add(ns(delay));
            }
            (Deed::Nack { .. }, _) => earliest = 0,
        }
    }
    if other.return_ns < earliest {
        wrong.push(tell("was given to two members at once, or too early"));
    }
    wrong
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
