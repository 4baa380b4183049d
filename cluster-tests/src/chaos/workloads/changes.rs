//! W1, beyond inserts: rows of tables with no, one and several routes come, change and go, alone
//! and in transactions. What must be true of them and their messages is in [`crate::chaos::pairs`].

use std::collections::BTreeMap;

use client::RequestOptions;
use rand::RngExt;
use rand::seq::IndexedRandom;
use tokio::sync::watch;

use super::{Crowd, Kind, Notes, REQUEST_MAX, Running, Verdict, pace, pause, whole};
use crate::chaos::Task;
use crate::chaos::history::{History, Outcome, Voice};
use crate::chaos::pairs::{Act, Change, Facts, Filter, Op, Route, Row, Span, violations};
use crate::cluster::Ask;
use crate::{Cluster, User};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "W1-changes",
    start: |cluster, root, history| {
        Box::pin(async {
            Box::new(Changes::start(cluster, root, history).await) as Box<dyn Running>
        })
    },
}];

const CLIENTS: usize = 3;
/// Rows a client keeps, beyond which it deletes more than it inserts.
const ROWS_EACH: usize = 30;
/// Values of `v`, half of them above the condition of a route.
const VALUES: std::ops::Range<i64> = 0..100;

const QUIET: &str = "chaos_changes.quiet";
const ONE: &str = "chaos_changes.one";
const SEVERAL: &str = "chaos_changes.several";
const TABLES: [&str; 3] = [QUIET, ONE, SEVERAL];
/// The topics and their partition counts.
const TOPICS: [(&str, u32); 3] = [
    ("chaos_changes.narrow", 1),
    ("chaos_changes.wide", 4),
    ("chaos_changes.diffs", 2),
];

/// Table, topic, what happened, condition, payload.
const ROUTES: [(&str, usize, Act, Filter, &str); 8] = [
    (ONE, 0, Act::Insert, Filter::All, "full"),
    (SEVERAL, 0, Act::Insert, Filter::AtLeast(50), "full"),
    (SEVERAL, 0, Act::Delete, Filter::All, "full"),
    (SEVERAL, 1, Act::Insert, Filter::All, "full"),
    (SEVERAL, 1, Act::Update, Filter::Even, "full"),
    (SEVERAL, 1, Act::Delete, Filter::AtLeast(50), "full"),
    (SEVERAL, 2, Act::Update, Filter::All, "diff"),
    (SEVERAL, 2, Act::Delete, Filter::Even, "diff"),
];

/// The running workload.
#[derive(Debug)]
struct Changes {
    crowd: Crowd,
    ops: Notes<Op>,
}

impl Changes {
    /// Makes tables, topics and routes, and starts the clients.
    async fn start(cluster: &Cluster, root: &User, history: &History) -> Changes {
        root.ok("CREATE NAMESPACE chaos_changes").await;
        for table in TABLES {
            root.ok(&table_sql(table)).await;
        }
        for (topic, partitions) in TOPICS {
            root.ok(&format!("CREATE TOPIC {topic} PARTITIONS {partitions}"))
                .await;
        }
        for (table, topic, kind, filter, payload) in ROUTES {
            let (topic, _) = TOPICS[topic];
            root.ok(&format!(
                "ALTER TOPIC {topic} ADD SOURCE {table} ON {}{} WITH (payload = '{payload}')",
                kind.name(),
                filter.sql()
            ))
            .await;
        }
        let (mut crowd, ops) = (Crowd::new(), Notes::default());
        for number in 0..CLIENTS {
            let voice = history.voice(format!("changes-{number}"), cluster.client_at_doors());
            let editor = Editor::new(voice, &TABLES, number);
            crowd.add(editor.run(ops.clone(), crowd.stopped()));
        }
        Changes { crowd, ops }
    }

    /// Ends it, and compares rows and messages with what was done.
    async fn verdict(self, cluster: &Cluster, root: &User) -> Verdict {
        self.crowd.finish().await;
        let routes = ROUTES.map(|(table, topic, kind, filter, _)| Route {
            table,
            topic: TOPICS[topic].0.to_owned(),
            kind,
            filter,
            span: Span::ALWAYS,
        });
        let topics = TOPICS.map(|(topic, partitions)| (topic.to_owned(), partitions));
        let mut facts = Facts {
            ops: self.ops.take(),
            routes: routes.to_vec(),
            ..Facts::default()
        };
        read(cluster, root, &TABLES, &topics, &mut facts).await;
        let messages = facts.topics.values().flatten().flatten().count();
        Verdict {
            checked: vec![
                ("changes", facts.ops.len() as u64),
                ("messages of changes", messages as u64),
            ],
            violations: violations(&facts),
        }
    }
}

impl Running for Changes {
    fn finish<'a>(self: Box<Self>, cluster: &'a Cluster, root: &'a User) -> Task<'a, Verdict> {
        Box::pin(self.verdict(cluster, root))
    }
}

/// The statement that makes a table for an [`Editor`].
pub(super) fn table_sql(table: &str) -> String {
    format!("CREATE TABLE {table} (id TEXT PRIMARY KEY, v BIGINT NOT NULL, seq BIGINT NOT NULL)")
}

/// Reads rows and messages, which must be the same on every node.
pub(super) async fn read(
    cluster: &Cluster,
    root: &User,
    tables: &[&'static str],
    topics: &[(String, u32)],
    facts: &mut Facts,
) {
    let index = root.sql("SELECT 1").await.index();
    for table in tables {
        let sql = format!("SELECT id, v, seq FROM {table} ORDER BY id");
        let rows = cluster.same_everywhere(root, index, &Ask::Rows(sql)).await;
        for row in rows.as_array().into_iter().flatten() {
            let id = row[0].as_str().unwrap_or_default().to_owned();
            let number = |at: usize| whole(&row[at]).unwrap_or(i64::MIN);
            let row = Row {
                v: number(1),
                seq: number(2),
            };
            facts.rows.insert((table, id), row);
        }
    }
    for (topic, partitions) in topics {
        let mut all = Vec::new();
        for partition in 0..*partitions {
            let topic = topic.clone();
            let ask = Ask::Messages { topic, partition };
            let messages = cluster.same_everywhere(root, index, &ask).await;
            all.push(messages.as_array().cloned().unwrap_or_default());
        }
        facts.topics.insert(topic.clone(), all);
    }
}

/// A client with rows of its own, which nobody else changes.
pub(super) struct Editor {
    voice: Voice,
    tables: Vec<&'static str>,
    number: usize,
    /// Statements so far: each leaves its number in the rows it writes.
    seq: i64,
    rows: BTreeMap<(&'static str, String), Row>,
    /// Repeats every request under a key until it is answered.
    persistent: bool,
}

/// What an editor is about to do.
struct Draft {
    statements: Vec<String>,
    changes: Vec<Change>,
    /// Will it be refused, or rolled back?
    fails: bool,
}

impl Editor {
    pub fn new(voice: Voice, tables: &[&'static str], number: usize) -> Editor {
        Editor {
            voice,
            tables: tables.to_vec(),
            number,
            seq: 0,
            rows: BTreeMap::new(),
            persistent: false,
        }
    }

    /// The same, which asks again until it knows where in the log its write stands.
    pub fn persistent(self) -> Editor {
        Editor {
            persistent: true,
            ..self
        }
    }

    pub async fn run(mut self, ops: Notes<Op>, stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            let draft = self.draft();
            let op = self.play(draft, &stopped).await;
            self.keep(&op);
            ops.add(op);
            pace().await;
        }
    }

    async fn play(&self, draft: Draft, stopped: &watch::Receiver<bool>) -> Op {
        let sql = match &draft.statements[..] {
            [alone] => alone.clone(),
            several if draft.fails => format!("BEGIN; {}; ROLLBACK", several.join("; ")),
            several => format!("BEGIN; {}; COMMIT", several.join("; ")),
        };
        let key = format!("changes-{}-{}-{}", self.tables[0], self.number, self.seq);
        let options = match self.persistent {
            true => RequestOptions::idempotent(key).timeout(REQUEST_MAX),
            false => RequestOptions::default().timeout(REQUEST_MAX),
        };
        let mut told = self.voice.sql("change", &sql, sql.clone(), &options).await;
        let mut maybe = told.outcome() == Outcome::Unknown;
        while self.persistent && maybe && !*stopped.borrow() {
            pause().await;
            told = self.voice.sql("again", &sql, sql.clone(), &options).await;
            // Under a key, a refusal that no other try could change speaks for the first try too.
            maybe = match &told.answer {
                Ok(_) => false,
                Err(error) => error.received().is_none_or(|said| said.retryable),
            };
        }
        let outcome = if maybe {
            Outcome::Unknown
        } else {
            told.outcome()
        };
        Op {
            outcome: match outcome {
                Outcome::Ok | Outcome::Unknown if draft.fails => Outcome::Fail,
                outcome => outcome,
            },
            index: told.receipt(),
            changes: draft.changes,
        }
    }

    /// Takes over what is certain. Rows of which nobody knows are not touched any more.
    fn keep(&mut self, op: &Op) {
        for change in &op.changes {
            let key = (change.table, change.id.clone());
            match (op.outcome, change.kind) {
                (Outcome::Fail, _) => {}
                (Outcome::Ok, Act::Insert | Act::Update) => {
                    self.rows.insert(key, change.row);
                }
                (Outcome::Ok, Act::Delete) | (Outcome::Unknown, _) => {
                    self.rows.remove(&key);
                }
            }
        }
    }

    fn draft(&mut self) -> Draft {
        self.seq += 1;
        let mut draft = Draft {
            statements: Vec::new(),
            changes: Vec::new(),
            fails: false,
        };
        let fewer = self.rows.len() > ROWS_EACH;
        match rand::rng().random_range(0..20) {
            0..6 if !fewer => self.insert(&mut draft, 1),
            6..8 if !fewer => self.insert(&mut draft, 3),
            8..11 => self.update(&mut draft),
            11..14 => self.delete(&mut draft),
            14 => self.update_nothing(&mut draft),
            15 => self.twice(&mut draft),
            16 => {
                self.insert(&mut draft, 1);
                self.delete(&mut draft);
                draft.fails = draft.statements.len() > 1;
            }
            _ => {
                self.insert(&mut draft, 2);
                self.update(&mut draft);
                self.delete(&mut draft);
            }
        }
        if draft.statements.is_empty() {
            self.insert(&mut draft, 1);
        }
        draft
    }

    fn any_table(&self) -> &'static str {
        self.tables
            .choose(&mut rand::rng())
            .copied()
            .expect("an editor has tables")
    }

    fn insert(&self, draft: &mut Draft, count: usize) {
        let (table, seq) = (self.any_table(), self.seq);
        let mut values = Vec::new();
        for number in 0..count {
            let id = format!("c{}-{seq}-{number}", self.number);
            let v = rand::rng().random_range(VALUES);
            values.push(format!("('{id}', {v}, {seq})"));
            draft.changes.push(Change {
                table,
                id,
                kind: Act::Insert,
                row: Row { v, seq },
            });
        }
        let values = values.join(", ");
        draft
            .statements
            .push(format!("INSERT INTO {table} (id, v, seq) VALUES {values}"));
    }

    /// One or several of its rows in one table, none that this draft touches already.
    fn some_rows(&self, draft: &Draft) -> Option<(&'static str, Vec<(String, Row)>)> {
        let table = self.any_table();
        let is_free = |id: &String| draft.changes.iter().all(|change| change.id != *id);
        let mine: Vec<(String, Row)> = self
            .rows
            .iter()
            .filter(|((of, id), _)| *of == table && is_free(id))
            .map(|((_, id), row)| (id.clone(), *row))
            .collect();
        let mut random = rand::rng();
        let count = random.random_range(1..3);
        let chosen: Vec<_> = mine.sample(&mut random, count).cloned().collect();
        (!chosen.is_empty()).then_some((table, chosen))
    }

    fn update(&self, draft: &mut Draft) {
        let Some((table, rows)) = self.some_rows(draft) else {
            return;
        };
        let (v, seq) = (rand::rng().random_range(VALUES), self.seq);
        let ids = quoted(&rows);
        draft.statements.push(format!(
            "UPDATE {table} SET v = {v}, seq = {seq} WHERE id IN ({ids})"
        ));
        let changes = rows.into_iter().map(|(id, _)| Change {
            table,
            id,
            kind: Act::Update,
            row: Row { v, seq },
        });
        draft.changes.extend(changes);
    }

    fn delete(&self, draft: &mut Draft) {
        let Some((table, rows)) = self.some_rows(draft) else {
            return;
        };
        let ids = quoted(&rows);
        draft
            .statements
            .push(format!("DELETE FROM {table} WHERE id IN ({ids})"));
        let changes = rows.into_iter().map(|(id, row)| Change {
            table,
            id,
            kind: Act::Delete,
            row,
        });
        draft.changes.extend(changes);
    }

    /// An update that leaves every row as it is makes no message.
    fn update_nothing(&self, draft: &mut Draft) {
        if let Some((table, rows)) = self.some_rows(draft) {
            let ids = quoted(&rows);
            draft
                .statements
                .push(format!("UPDATE {table} SET v = v WHERE id IN ({ids})"));
        }
    }

    /// An insert of a new row together with one that is there already is refused as a whole.
    fn twice(&self, draft: &mut Draft) {
        let Some((table, rows)) = self.some_rows(draft) else {
            return;
        };
        let (seq, taken) = (self.seq, &rows[0].0);
        let id = format!("c{}-{seq}-0", self.number);
        draft.statements.push(format!(
            "INSERT INTO {table} (id, v, seq) VALUES ('{id}', 90, {seq}), ('{taken}', 90, {seq})"
        ));
        draft.changes.push(Change {
            table,
            id,
            kind: Act::Insert,
            row: Row { v: 90, seq },
        });
        draft.fails = true;
    }
}

fn quoted(rows: &[(String, Row)]) -> String {
    let ids: Vec<String> = rows.iter().map(|(id, _)| format!("'{id}'")).collect();
    ids.join(", ")
}
