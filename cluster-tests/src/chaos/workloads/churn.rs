//! W7: routes, topics and columns come and go while rows are written. Each change has the messages
//! of the routes that were there when it was committed, with the columns that were there.

use client::RequestOptions;
use rand::RngExt;
use tokio::sync::watch;

use super::changes::{Editor, read, table_sql};
use super::{Crowd, Kind, Notes, REQUEST_MAX, Running, Verdict, pause};
use crate::chaos::Task;
use crate::chaos::history::{History, Voice};
use crate::chaos::pairs::{Act, Column, Facts, Filter, Op, Route, Span, violations};
use crate::{Cluster, User};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "W7-churn",
    start: |cluster, root, history| {
        Box::pin(async { Box::new(Churn::start(cluster, root, history).await) as Box<dyn Running> })
    },
}];

const EDITORS: usize = 2;
/// How long the definitions stay as they are, in ms.
const STILL_MS: std::ops::Range<u64> = 100..700;

const TABLE: &str = "chaos_churn.rows";
/// The topic that stays, and its partitions.
const TOPIC: (&str, u32) = ("chaos_churn.stays", 2);

/// What there was, and when.
#[derive(Debug, Default)]
struct Times {
    routes: Vec<Route>,
    columns: Vec<Column>,
    /// Topics that are there.
    topics: Vec<String>,
    changes: u64,
}

/// The running workload.
#[derive(Debug)]
struct Churn {
    editors: Crowd,
    churner: Crowd,
    ops: Notes<Op>,
    times: Notes<Times>,
}

impl Churn {
    /// Makes table and topic, and starts those who write and the one who changes the definitions.
    async fn start(cluster: &Cluster, root: &User, history: &History) -> Churn {
        root.ok("CREATE NAMESPACE chaos_churn").await;
        root.ok(&table_sql(TABLE)).await;
        root.ok(&format!("CREATE TOPIC {} PARTITIONS {}", TOPIC.0, TOPIC.1))
            .await;
        let sql = route_sql(TOPIC.0, "ADD", Act::Insert, Filter::All);
        root.ok(&sql).await;
        let (mut editors, mut churner) = (Crowd::new(), Crowd::new());
        let (ops, times) = (Notes::default(), Notes::default());
        for number in 0..EDITORS {
            let voice = history.voice(format!("churn-{number}"), cluster.client_at_doors());
            let editor = Editor::new(voice, &[TABLE], number).persistent();
            editors.add(editor.run(ops.clone(), editors.stopped()));
        }
        let voice = history.voice("churner", cluster.client_at_doors());
        let churn = Churner {
            voice,
            number: 0,
            times: Times::default(),
        };
        churner.add(churn.run(times.clone(), churner.stopped()));
        Churn {
            editors,
            churner,
            ops,
            times,
        }
    }

    /// Ends it, and compares rows and messages with what was done.
    async fn verdict(self, cluster: &Cluster, root: &User) -> Verdict {
        self.editors.finish().await;
        self.churner.finish().await;
        let mut times = self.times.take().pop().unwrap_or_default();
        times.routes.push(Route {
            table: TABLE,
            topic: TOPIC.0.to_owned(),
            kind: Act::Insert,
            filter: Filter::All,
            span: Span::ALWAYS,
        });
        let mut topics: Vec<_> = times.topics.into_iter().map(|topic| (topic, 1)).collect();
        topics.push((TOPIC.0.to_owned(), TOPIC.1));
        // The messages of a topic went with it.
        let stays = |route: &Route| topics.iter().any(|(topic, _)| *topic == route.topic);
        times.routes.retain(stays);
        let mut facts = Facts {
            ops: self.ops.take(),
            routes: times.routes,
            columns: times.columns,
            ..Facts::default()
        };
        read(cluster, root, &[TABLE], &topics, &mut facts).await;
        Verdict {
            checked: vec![
                ("changes of definitions", times.changes),
                ("changes under them", facts.ops.len() as u64),
            ],
            violations: violations(&facts),
        }
    }
}

impl Running for Churn {
    fn finish<'a>(self: Box<Self>, cluster: &'a Cluster, root: &'a User) -> Task<'a, Verdict> {
        Box::pin(self.verdict(cluster, root))
    }
}

fn route_sql(topic: &str, add_or_drop: &str, kind: Act, filter: Filter) -> String {
    let op = kind.name();
    let filter = match add_or_drop {
        "ADD" => filter.sql(),
        _ => String::new(),
    };
    format!("ALTER TOPIC {topic} {add_or_drop} SOURCE {TABLE} ON {op}{filter}")
}

/// Changes the definitions, one after the other, and knows where in the log each change stands.
struct Churner {
    voice: Voice,
    /// Of the names it makes.
    number: u64,
    times: Times,
}

impl Churner {
    async fn run(mut self, times: Notes<Times>, stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            let what = rand::rng().random_range(0..6);
            match what {
                0..2 => self.route(Act::Update, Filter::Even).await,
                2 => self.route(Act::Delete, Filter::AtLeast(50)).await,
                3 => self.topic().await,
                _ => self.column().await,
            }
            self.times.changes += 1;
            let still = rand::rng().random_range(STILL_MS);
            // sleep: how often definitions change is part of the workload
            tokio::time::sleep(std::time::Duration::from_millis(still)).await;
        }
        times.add(self.times);
    }

    /// Adds the route, or drops it if it is there.
    async fn route(&mut self, kind: Act, filter: Filter) {
        let is_it = |route: &Route| {
            route.topic == TOPIC.0 && route.kind == kind && route.span.until.is_none()
        };
        if let Some(at) = self.times.routes.iter().position(is_it) {
            let sql = route_sql(TOPIC.0, "DROP", kind, filter);
            let index = self.change(&sql).await;
            self.times.routes[at].span.until = Some(index);
        } else {
            self.add(TOPIC.0, kind, filter).await;
        }
    }

    async fn add(&mut self, topic: &str, kind: Act, filter: Filter) {
        let from = self.change(&route_sql(topic, "ADD", kind, filter)).await;
        self.times.routes.push(Route {
            table: TABLE,
            topic: topic.to_owned(),
            kind,
            filter,
            span: Span { from, until: None },
        });
    }

    /// Makes a topic with a route, or drops the oldest.
    async fn topic(&mut self) {
        if self.times.topics.len() >= 2 {
            let topic = self.times.topics.remove(0);
            self.change(&format!("DROP TOPIC {topic}")).await;
            return;
        }
        self.number += 1;
        let topic = format!("chaos_churn.t{}", self.number);
        self.change(&format!("CREATE TOPIC {topic}")).await;
        self.times.topics.push(topic.clone());
        self.add(&topic, Act::Insert, Filter::All).await;
    }

    /// Adds a column, or drops the one that is there.
    async fn column(&mut self) {
        let columns = &self.times.columns;
        if let Some(at) = columns
            .iter()
            .position(|column| column.span.until.is_none())
        {
            let name = columns[at].name.clone();
            let sql = format!("ALTER TABLE {TABLE} DROP COLUMN {name}");
            self.times.columns[at].span.until = Some(self.change(&sql).await);
            return;
        }
        self.number += 1;
        let name = format!("extra{}", self.number);
        let sql = format!("ALTER TABLE {TABLE} ADD COLUMN {name} TEXT DEFAULT 'x'");
        let from = self.change(&sql).await;
        let span = Span { from, until: None };
        self.times.columns.push(Column {
            table: TABLE,
            name,
            span,
        });
    }

    /// Repeats the statement under its key until it is answered. Everything is mended when the
    /// clients are told to stop, so it is, and where it stands in the log is known.
    async fn change(&mut self, sql: &str) -> u64 {
        let key = format!("churn-{}", rand::random::<u64>());
        let options = RequestOptions::idempotent(key).timeout(REQUEST_MAX);
        loop {
            let told = self.voice.sql("define", sql, sql, &options).await;
            match told.answer {
                Ok(answer) => {
                    let index = answer.index;
                    return index.expect("a change of the definitions has a place in the log");
                }
                Err(error) => {
                    let again = error.received().is_none_or(|said| said.retryable);
                    assert!(again, "{sql}: {error}");
                    pause().await;
                }
            }
        }
    }
}
