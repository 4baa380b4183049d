//! W3: lists of numbers that clients append to and read, alone and in transactions, on any node.
//! What must be true of them is in [`crate::chaos::cycles`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use client::RequestOptions;
use client::api::ResultSet;
use client::api::headers::Consistency;
use rand::RngExt;
use tokio::sync::watch;

use super::{Crowd, Kind, Notes, REQUEST_MAX, Running, Verdict, pace, whole};
use crate::chaos::Task;
use crate::chaos::cycles::{Lists as Finals, Step, Txn, violations};
use crate::chaos::history::{History, Outcome, Voice};
use crate::{Cluster, User};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "W3-lists",
    start: |cluster, root, history| {
        Box::pin(async { Box::new(Lists::start(cluster, root, history).await) as Box<dyn Running> })
    },
}];

const CLIENTS: usize = 5;
/// Lists in use at the same time.
const LISTS: u64 = 4;
/// Transactions after which all go on to new lists: a list is written as a whole each time.
const TXNS_EACH: u64 = 200;
/// An element that nobody appends.
const NOBODYS: u64 = u64::MAX;

/// The running workload.
#[derive(Debug)]
struct Lists {
    crowd: Crowd,
    txns: Notes<Txn>,
}

/// What the clients share.
#[derive(Debug, Default)]
struct Shared {
    element: AtomicU64,
    turn: Mutex<Turn>,
}

/// Which lists are in use.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    generation: u64,
    txns: u64,
    making: bool,
}

impl Lists {
    /// Makes the table, and starts the clients.
    async fn start(cluster: &Cluster, root: &User, history: &History) -> Lists {
        root.ok("CREATE NAMESPACE chaos_lists").await;
        root.ok("CREATE TABLE chaos_lists.l (id BIGINT PRIMARY KEY, v TEXT NOT NULL)")
            .await;
        root.ok(&make_sql(0)).await;
        let (mut crowd, txns) = (Crowd::new(), Notes::default());
        let shared = Arc::new(Shared::default());
        for number in 0..CLIENTS {
            let voice = history.voice(format!("lists-{number}"), cluster.client_at_doors());
            crowd.add(work(
                voice,
                Arc::clone(&shared),
                txns.clone(),
                crowd.stopped(),
            ));
        }
        Lists { crowd, txns }
    }

    /// Ends it, and compares what was seen with what is there.
    async fn verdict(self, root: &User) -> Verdict {
        self.crowd.finish().await;
        let cells = root.cells("SELECT id, v FROM chaos_lists.l").await;
        let rows = cells.as_array().into_iter().flatten();
        let finals: Finals = rows
            .filter_map(|row| {
                let key = u64::try_from(whole(&row[0])?).ok()?;
                Some((key, elements(row[1].as_str()?)))
            })
            .collect();
        let txns = self.txns.take();
        let appended = finals.values().map(|list| list.len() as u64).sum();
        Verdict {
            checked: vec![
                ("transactions on lists", txns.len() as u64),
                ("elements of lists", appended),
            ],
            violations: violations(&txns, &finals),
        }
    }
}

impl Running for Lists {
    fn finish<'a>(self: Box<Self>, _: &'a Cluster, root: &'a User) -> Task<'a, Verdict> {
        Box::pin(self.verdict(root))
    }
}

fn keys(generation: u64) -> std::ops::Range<u64> {
    generation * LISTS..(generation + 1) * LISTS
}

fn make_sql(generation: u64) -> String {
    let rows: Vec<String> = keys(generation).map(|key| format!("({key}, '')")).collect();
    format!("INSERT INTO chaos_lists.l VALUES {}", rows.join(", "))
}

fn elements(text: &str) -> Vec<u64> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    // What is no number was written by nobody; the check says so.
    parts.map(|part| part.parse().unwrap_or(NOBODYS)).collect()
}

async fn work(voice: Voice, shared: Arc<Shared>, txns: Notes<Txn>, stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let generation = generation(&voice, &shared).await;
        let what = rand::rng().random_range(0..10);
        let txn = match what {
            0..4 => append(&voice, &shared, generation).await,
            4..7 => read(&voice, generation).await,
            _ => transaction(&voice, &shared, generation).await,
        };
        txns.add(txn);
        pace().await;
    }
}

/// Which lists to use; makes new ones when it is time.
async fn generation(voice: &Voice, shared: &Shared) -> u64 {
    let lock = || shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
    let mine = {
        let mut turn = lock();
        turn.txns += 1;
        let mine = turn.txns > TXNS_EACH && !turn.making;
        turn.making |= mine;
        if !mine {
            return turn.generation;
        }
        turn.generation
    };
    let next = mine + 1;
    let options = RequestOptions::idempotent(format!("lists-{next}")).timeout(REQUEST_MAX);
    let name = next.to_string();
    let told = voice.sql("make", &name, make_sql(next), &options).await;
    let made = told.outcome() == Outcome::Ok;
    let mut turn = lock();
    turn.making = false;
    if made {
        *turn = Turn {
            generation: next,
            ..Turn::default()
        };
    }
    turn.generation
}

fn key_of(generation: u64) -> u64 {
    rand::rng().random_range(keys(generation))
}

async fn append(voice: &Voice, shared: &Shared, generation: u64) -> Txn {
    let step = next_append(shared, key_of(generation));
    run(voice, vec![step], write_options(), true).await
}

fn next_append(shared: &Shared, key: u64) -> Step {
    let element = shared.element.fetch_add(1, Ordering::SeqCst);
    Step::Append { key, element }
}

fn write_options() -> RequestOptions {
    RequestOptions::default().timeout(REQUEST_MAX)
}

/// A transaction of appends and reads.
async fn transaction(voice: &Voice, shared: &Shared, generation: u64) -> Txn {
    let steps: Vec<Step> = (0..rand::rng().random_range(2..5))
        .map(|_| {
            let key = key_of(generation);
            match rand::rng().random_bool(0.5) {
                true => next_append(shared, key),
                false => unread(key),
            }
        })
        .collect();
    run(voice, steps, write_options(), true).await
}

fn unread(key: u64) -> Step {
    Step::Read {
        key,
        seen: Vec::new(),
    }
}

/// Runs the steps, in a transaction if there are several.
async fn run(
    voice: &Voice,
    mut steps: Vec<Step>,
    options: RequestOptions,
    linearizable: bool,
) -> Txn {
    let statements: Vec<String> = steps.iter().map(statement).collect();
    let alone = statements.len() == 1;
    let sql = match alone {
        true => statements.concat(),
        false => format!("BEGIN; {}; COMMIT", statements.join("; ")),
    };
    let told = voice.sql("txn", &sql, sql.clone(), &options).await;
    let first = usize::from(!alone);
    let mut outcome = told.outcome();
    match &told.answer {
        Ok(answer) => {
            let mut results = answer.results.iter().skip(first);
            // A node that is behind may not have a list yet; a read that is not says that it must.
            steps.retain_mut(|step| take(step, results.next()) || linearizable);
        }
        Err(_) => steps.retain(|step| matches!(step, Step::Append { .. })),
    }
    // Nobody cares whether a read that was not answered happened.
    if outcome == Outcome::Unknown && steps.is_empty() {
        outcome = Outcome::Fail;
    }
    Txn {
        steps,
        outcome,
        index: told.receipt(),
        linearizable,
        invoke_ns: told.invoke_ns,
        return_ns: told.return_ns,
    }
}

fn statement(step: &Step) -> String {
    match step {
        Step::Append { key, element } => {
            format!("UPDATE chaos_lists.l SET v = v || ',{element}' WHERE id = {key}")
        }
        Step::Read { key, .. } => format!("SELECT v FROM chaos_lists.l WHERE id = {key}"),
    }
}

/// What a read saw; false if there was no such list, which then reads as what nobody wrote.
fn take(step: &mut Step, result: Option<&ResultSet>) -> bool {
    let Step::Read { seen, .. } = step else {
        return true;
    };
    let row = result.and_then(|result| result.rows.as_ref()?.first());
    let text = row.and_then(|row| row.first()?.as_str());
    *seen = text.map_or(vec![NOBODYS], elements);
    text.is_some()
}

/// Two lists in one query, as new as can be or as the node has them.
async fn read(voice: &Voice, generation: u64) -> Txn {
    let linearizable = rand::rng().random_bool(0.6);
    let options = RequestOptions {
        consistency: Some(match linearizable {
            true => Consistency::Linearizable,
            false => Consistency::Local,
        }),
        ..RequestOptions::read().timeout(REQUEST_MAX)
    };
    let (one, other) = (key_of(generation), key_of(generation));
    if one == other {
        return run(voice, vec![unread(one)], options, linearizable).await;
    }
    let sql = format!("SELECT id, v FROM chaos_lists.l WHERE id IN ({one}, {other})");
    let told = voice.sql("read", &sql, sql.clone(), &options).await;
    let mut steps = Vec::new();
    if let Ok(answer) = &told.answer {
        let rows = answer
            .results
            .first()
            .and_then(|result| result.rows.clone());
        let rows = rows.unwrap_or_default();
        for key in [one, other] {
            let is_it = |row: &&Vec<serde_json::Value>| {
                row.first().and_then(whole) == i64::try_from(key).ok()
            };
            let row = rows.iter().find(is_it);
            let text = row.and_then(|row| row.get(1)?.as_str());
            if linearizable || text.is_some() {
                let seen = text.map_or(vec![NOBODYS], elements);
                steps.push(Step::Read { key, seen });
            }
        }
    }
    Txn {
        outcome: match told.outcome() {
            Outcome::Ok => Outcome::Ok,
            _ => Outcome::Fail,
        },
        steps,
        index: None,
        linearizable,
        invoke_ns: told.invoke_ns,
        return_ns: told.return_ns,
    }
}
