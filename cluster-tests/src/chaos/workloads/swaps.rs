//! W5: registers that ten clients read, write and swap on any node (`UPDATE … WHERE v = old`). Each
//! register's history must be one of a single register that does one thing after the other. It
//! knows nothing of log indices: an independent look at what the other checks show by them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use client::RequestOptions;
use rand::RngExt;
use tokio::sync::watch;

use super::{Crowd, Kind, Notes, REQUEST_MAX, Running, Verdict, pace, pause, whole};
use crate::chaos::Task;
use crate::chaos::history::{History, Outcome, Told, Voice};
use crate::chaos::wgl::{Action, Call, Found, order};
use crate::{Cluster, User};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "W5-swaps",
    start: |cluster, root, history| {
        Box::pin(async { Box::new(Swaps::start(cluster, root, history).await) as Box<dyn Running> })
    },
}];

const CLIENTS: usize = 10;
/// Calls of one register, after which all go on to the next: the search grows with them.
const CALLS_EACH: usize = 100;
/// Values are few, so that swaps often find what they look for.
const VALUES: i64 = 5;
/// What a register holds before anybody wrote it.
const FIRST: i64 = 0;

/// The running workload.
#[derive(Debug)]
struct Swaps {
    crowd: Crowd,
    calls: Notes<(usize, Call)>,
}

impl Swaps {
    /// Makes the table, and starts the clients.
    async fn start(cluster: &Cluster, root: &User, history: &History) -> Swaps {
        root.ok("CREATE NAMESPACE chaos_swaps").await;
        root.ok("CREATE TABLE chaos_swaps.r (id BIGINT PRIMARY KEY, v BIGINT NOT NULL)")
            .await;
        root.ok(&format!("INSERT INTO chaos_swaps.r VALUES (0, {FIRST})"))
            .await;
        let (mut crowd, calls) = (Crowd::new(), Notes::default());
        let turn = Arc::new(Mutex::new(Turn::default()));
        for number in 0..CLIENTS {
            let voice = history.voice(format!("swaps-{number}"), cluster.client_at_doors());
            crowd.add(work(
                voice,
                Arc::clone(&turn),
                calls.clone(),
                crowd.stopped(),
            ));
        }
        Swaps { crowd, calls }
    }

    /// Ends it, and looks for an order of each register's calls.
    async fn verdict(self) -> Verdict {
        self.crowd.finish().await;
        let mut registers: BTreeMap<usize, Vec<Call>> = BTreeMap::new();
        for (register, call) in self.calls.take() {
            registers.entry(register).or_default().push(call);
        }
        let calls = registers.values().map(|calls| calls.len() as u64).sum();
        let (mut undecided, mut violations) = (0, Vec::new());
        for (register, calls) in registers {
            match order(FIRST, &calls) {
                Found::Order => {}
                Found::Nothing => undecided += 1,
                Found::None => violations.push(format!(
                    "swaps: no order of register {register}'s calls gives these answers: {calls:?}"
                )),
            }
        }
        Verdict {
            checked: vec![
                ("calls of registers", calls),
                ("registers without a decision", undecided),
            ],
            violations,
        }
    }
}

impl Running for Swaps {
    fn finish<'a>(self: Box<Self>, _: &'a Cluster, _: &'a User) -> Task<'a, Verdict> {
        Box::pin(self.verdict())
    }
}

/// Which register is in use.
#[derive(Debug, Default)]
struct Turn {
    register: usize,
    calls: usize,
    making: bool,
}

/// What a client does next.
enum Next {
    Call(usize),
    Make(usize),
    Wait,
}

impl Turn {
    fn next(&mut self) -> Next {
        if self.calls < CALLS_EACH {
            self.calls += 1;
            return Next::Call(self.register);
        }
        if self.making {
            return Next::Wait;
        }
        self.making = true;
        Next::Make(self.register + 1)
    }

    fn made(&mut self, register: Option<usize>) {
        self.making = false;
        if let Some(register) = register {
            *self = Turn {
                register,
                ..Turn::default()
            };
        }
    }
}

async fn work(
    voice: Voice,
    turn: Arc<Mutex<Turn>>,
    calls: Notes<(usize, Call)>,
    stopped: watch::Receiver<bool>,
) {
    let lock = || turn.lock().unwrap_or_else(PoisonError::into_inner);
    while !*stopped.borrow() {
        let next = lock().next();
        match next {
            Next::Call(register) => {
                if let Some(call) = call(&voice, register).await {
                    calls.add((register, call));
                }
                pace().await;
            }
            Next::Make(register) => {
                let made = make(&voice, register).await;
                lock().made(made.then_some(register));
            }
            Next::Wait => pause().await,
        }
    }
}

/// Makes the next register; whether it is certainly there.
async fn make(voice: &Voice, register: usize) -> bool {
    let sql = format!("INSERT INTO chaos_swaps.r VALUES ({register}, {FIRST})");
    let options = RequestOptions::idempotent(format!("swaps-{register}")).timeout(REQUEST_MAX);
    let told = voice
        .sql("make", &register.to_string(), sql, &options)
        .await;
    told.outcome() == Outcome::Ok
}

/// One call, as it counts; none if it certainly did nothing or was no call on a register.
async fn call(voice: &Voice, register: usize) -> Option<Call> {
    let (kind, old, new) = {
        let mut random = rand::rng();
        let value = |random: &mut rand::rngs::ThreadRng| random.random_range(0..VALUES);
        let kind = random.random_range(0..10);
        (kind, value(&mut random), value(&mut random))
    };
    let key = register.to_string();
    let of = format!("WHERE id = {register}");
    let write = RequestOptions::default().timeout(REQUEST_MAX);
    let (action, told) = match kind {
        0..4 => {
            let sql = format!("SELECT v FROM chaos_swaps.r {of}");
            let options = RequestOptions::read().timeout(REQUEST_MAX);
            let told = voice.sql("read", &key, sql, &options).await;
            let answer = told.answer.as_ref().ok()?;
            let cell = answer.results.first()?.rows.as_ref()?.first()?.first()?;
            (Action::Read(whole(cell)?), told)
        }
        4..6 => {
            let sql = format!("UPDATE chaos_swaps.r SET v = {new} {of}");
            let told = voice.sql(&format!("write {new}"), &key, sql, &write).await;
            (Action::Write(new), told)
        }
        _ => {
            let sql = format!("UPDATE chaos_swaps.r SET v = {new} {of} AND v = {old}");
            let told = voice
                .sql(&format!("swap {old} {new}"), &key, sql, &write)
                .await;
            match touched(&told) {
                Some(0) => (Action::Differs(old), told),
                _ => (Action::Swap(old, new), told),
            }
        }
    };
    let return_ns = match told.outcome() {
        Outcome::Ok => Some(told.return_ns),
        Outcome::Unknown => None,
        Outcome::Fail => return None,
    };
    Some(Call {
        action,
        invoke_ns: told.invoke_ns,
        return_ns,
    })
}

/// Rows that a write matched.
fn touched(told: &Told<client::api::SqlResponse>) -> Option<u64> {
    let answer = told.answer.as_ref().ok()?;
    Some(answer.results.first()?.row_count)
}
