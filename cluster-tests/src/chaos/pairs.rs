//! Does every committed change have exactly one message for each route that matched it when it was
//! committed, and every message its change? For inserts, updates and deletes, routes with
//! conditions, and routes and columns that come and go.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::history::Outcome;
use crate::user::payload;

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// It came.
    Insert,
    /// It changed.
    Update,
    /// It went.
    Delete,
}

impl Act {
    /// As messages spell it.
    pub fn name(self) -> &'static str {
        match self {
            Act::Insert => "Insert",
            Act::Update => "Update",
            Act::Delete => "Delete",
        }
    }
}

/// What the columns `v` and `seq` of a row hold. No two statements that leave the same row use the
/// same `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What routes look at.
    pub v: i64,
    /// Which statement left it.
    pub seq: i64,
}

/// One change of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The table, with its namespace.
    pub table: &'static str,
    /// The row's key.
    pub id: String,
    /// What happened to it.
    pub kind: Act,
    /// After an insert or an update, before a delete.
    pub row: Row,
}

/// One statement or transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What it changes.
    pub changes: Vec<Change>,
    /// What its client knows of it.
    pub outcome: Outcome,
    /// Where it stands in the log.
    pub index: Option<u64>,
}

/// Which rows a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All.
    All,
    /// Those with `v` of at least this.
    AtLeast(i64),
    /// Those with an even `v`.
    Even,
}

impl Filter {
    /// The condition of the route, in SQL.
    pub fn sql(self) -> String {
        match self {
            Filter::All => String::new(),
            Filter::AtLeast(least) => format!(" WHERE v >= {least}"),
            Filter::Even => " WHERE v % 2 = 0".into(),
        }
    }

    fn takes(self, row: Row) -> bool {
        match self {
            Filter::All => true,
            Filter::AtLeast(least) => row.v >= least,
            Filter::Even => row.v % 2 == 0,
        }
    }
}

/// From when to when something was there, by log index: from the entry that made it to the one that
/// ended it, if one did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The entry that made it.
    pub from: u64,
    /// The entry that ended it.
    pub until: Option<u64>,
}

/// Was something there at a change?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Yes,
    No,
    /// It came or went in the same entry, which does not say what was first.
    Either,
}

impl Span {
    /// From the beginning to the end.
    pub const ALWAYS: Span = Span {
        from: 0,
        until: None,
    };

    fn at(self, index: u64) -> There {
        if index == self.from || Some(index) == self.until {
            There::Either
        } else if index > self.from && self.until.is_none_or(|until| index < until) {
            There::Yes
        } else {
            There::No
        }
    }
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The table, with its namespace.
    pub table: &'static str,
    /// The topic, with its namespace.
    pub topic: String,
    /// What it sends on.
    pub kind: Act,
    /// Which rows.
    pub filter: Filter,
    /// When it was there.
    pub span: Span,
}

/// A column that comes and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The table, with its namespace.
    pub table: &'static str,
    /// Its name, which no other column ever has.
    pub name: String,
    /// When it was there.
    pub span: Span,
}

/// What there is in the end, and what was to be.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What clients did. Those of one client are in its order.
    pub ops: Vec<Op>,
    /// All routes there ever were into a topic that is there in the end.
    pub routes: Vec<Route>,
    /// Columns that came or went.
    pub columns: Vec<Column>,
    /// The rows, by table and key.
    pub rows: BTreeMap<(&'static str, String), Row>,
    /// The messages of each topic, by partition.
    pub topics: BTreeMap<String, Vec<Vec<Value>>>,
}

/// A message, by what makes it one of a kind: topic, what happened, key, `seq`.
type Name = (String, String, String, i64);

/// What is wrong; nothing if all promises hold.
pub fn violations(facts: &Facts) -> Vec<String> {
    let mut check = Check {
        facts,
        found: BTreeMap::new(),
        deleted: deleted(&facts.ops),
        used: BTreeSet::new(),
        rows: BTreeMap::new(),
        wrong: Vec::new(),
    };
    check.order();
    check.collect();
    for op in &facts.ops {
        check.op(op);
    }
    check.rest();
    check.wrong
}

fn deleted(ops: &[Op]) -> BTreeSet<(&'static str, &str, i64)> {
    let ops = ops.iter().filter(|op| op.outcome != Outcome::Fail);
    let changes = ops.flat_map(|op| &op.changes);
    let deletes = changes.filter(|change| change.kind == Act::Delete);
    deletes
        .map(|change| (change.table, change.id.as_str(), change.row.seq))
        .collect()
}

struct Check<'a> {
    facts: &'a Facts,
    /// The messages by name: their log indices and contents.
    found: BTreeMap<Name, Vec<(u64, Value)>>,
    /// The names of those that belong to a change.
    used: BTreeSet<Name>,
    /// Rows, by table, key and `seq`, that were deleted, or may have been.
    deleted: BTreeSet<(&'static str, &'a str, i64)>,
    /// The rows that must be there, as far as the operations say.
    rows: BTreeMap<(&'static str, String), Option<Row>>,
    wrong: Vec<String>,
}

impl Check<'_> {
    /// Offsets are 0, 1, 2 …, in the order of the log.
    fn order(&mut self) {
        for (topic, partitions) in &self.facts.topics {
            for (partition, messages) in partitions.iter().enumerate() {
                let mut last = 0;
                for (expected, message) in (0_u64..).zip(messages) {
                    let index = message["index"].as_u64().unwrap_or(0);
                    if message["offset"] != expected || index < last {
                        self.wrong.push(format!(
                            "pairs: {topic}[{partition}]: offset {} of index {index} where \
                             {expected} after {last} must be",
                            message["offset"]
                        ));
                        break;
                    }
                    last = index;
                }
            }
        }
    }

    fn collect(&mut self) {
        for (topic, partitions) in &self.facts.topics {
            for message in partitions.iter().flatten() {
                let content = payload(message);
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let (op, key) = (text(&message["op"]), text(&message["key"]));
                // With what changed alone, what there was of a deleted row is `before`.
                let row = match (&content["after"], &content["before"]) {
                    (Value::Object(_), _) => &content["after"],
                    (_, Value::Object(_)) => &content["before"],
                    _ => &content,
                };
                let seq = number(&row["seq"]).unwrap_or(i64::MIN);
                let index = message["index"].as_u64().unwrap_or(0);
                let name = (topic.clone(), op, key, seq);
                self.found.entry(name).or_default().push((index, content));
            }
        }
    }

    fn op(&mut self, op: &Op) {
        let index = op.index.or_else(|| self.index_of(op));
        let happened = match op.outcome {
            Outcome::Ok => true,
            Outcome::Fail => false,
            Outcome::Unknown => index.is_some() || self.shows_in_rows(op),
        };
        for change in &op.changes {
            // A delete that was refused leaves its row to another one, which looks the same.
            let by_another = !happened
                && change.kind == Act::Delete
                && self
                    .deleted
                    .contains(&(change.table, change.id.as_str(), change.row.seq));
            let topics = self.facts.topics.keys();
            for topic in topics.filter(|_| !by_another) {
                self.pair(op, change, topic, happened.then_some(index));
            }
            self.columns(change);
            if happened {
                let row = (change.kind != Act::Delete).then_some(change.row);
                self.rows.insert((change.table, change.id.clone()), row);
            }
        }
    }

    /// The log index of a write that was not answered, by any of its messages.
    fn index_of(&self, op: &Op) -> Option<u64> {
        let topics = self.facts.topics.keys();
        let mut names = op
            .changes
            .iter()
            .flat_map(|change| topics.clone().map(move |topic| name(topic, change)));
        names.find_map(|name| Some(self.found.get(&name)?.first()?.0))
    }

    /// Did a write without any message leave its rows?
    fn shows_in_rows(&self, op: &Op) -> bool {
        op.changes.iter().any(|change| {
            let row = self.facts.rows.get(&(change.table, change.id.clone()));
            match change.kind {
                Act::Delete => row.is_none(),
                Act::Insert | Act::Update => row == Some(&change.row),
            }
        })
    }

    /// Does a route bring the change to the topic? `happened` as for [`Check::pair`].
    fn routed(&self, change: &Change, topic: &str, happened: Option<Option<u64>>) -> There {
        let is_it = |route: &&Route| {
            route.table == change.table
                && route.topic == topic
                && route.kind == change.kind
                && route.filter.takes(change.row)
        };
        let mut answer = There::No;
        for route in self.facts.routes.iter().filter(is_it) {
            let there = match happened {
                None => There::No,
                Some(Some(index)) => route.span.at(index),
                // It has no message anywhere: a route that was always there would have made one.
                Some(None) if route.span == Span::ALWAYS => There::Yes,
                Some(None) => There::Either,
            };
            match there {
                There::Yes => return There::Yes,
                There::Either => answer = There::Either,
                There::No => {}
            }
        }
        answer
    }

    /// `happened`: none if the change was not made, else its log index if that is known.
    fn pair(&mut self, op: &Op, change: &Change, topic: &str, happened: Option<Option<u64>>) {
        let there = self.routed(change, topic, happened);
        let name = name(topic, change);
        let messages = self.found.get(&name).map_or(&[][..], Vec::as_slice);
        let counts = match there {
            There::Yes => messages.len() == 1,
            There::No => messages.is_empty(),
            There::Either => messages.len() <= 1,
        };
        if !counts {
            self.wrong.push(format!(
                "pairs: {} messages in {} of {change:?} of an operation that is {:?} at {:?}",
                messages.len(),
                topic,
                op.outcome,
                op.index
            ));
        }
        for (index, content) in messages {
            if happened.flatten().is_some_and(|known| known != *index) {
                self.wrong.push(format!(
                    "pairs: log index {index} in {topic} of {change:?} at {happened:?}"
                ));
            }
            let row = match &content["after"] {
                Value::Object(after) => after.get("v").unwrap_or(&Value::Null),
                _ => &content["v"],
            };
            // Where only what changed is sent, `v` may be left out.
            let same = row.is_null() || number(row) == Some(change.row.v);
            if !same {
                self.wrong.push(format!(
                    "pairs: a message in {topic} says {content} of {change:?}"
                ));
            }
        }
        self.used.insert(name);
    }

    /// A message shows the columns that there were when it was appended. Where its change stands in
    /// the log is [`Check::pair`]'s affair: a message may be of another operation that meant to
    /// make the same change.
    fn columns(&mut self, change: &Change) {
        let columns = self.facts.columns.iter();
        for column in columns.filter(|column| column.table == change.table) {
            for topic in self.facts.topics.keys() {
                let messages = self.found.get(&name(topic, change));
                for (index, content) in messages.into_iter().flatten() {
                    let shown = content.get(&column.name).is_some();
                    let holds = match column.span.at(*index) {
                        There::Yes => shown,
                        There::No => !shown,
                        There::Either => true,
                    };
                    if !holds {
                        self.wrong.push(format!(
                            "pairs: column {column:?} at {index}: {content} in {topic}"
                        ));
                    }
                }
            }
        }
    }

    /// No message and no row is of nobody, and no row is missing.
    fn rest(&mut self) {
        for (name, messages) in &self.found {
            if !self.used.contains(name) {
                let wrong = format!("pairs: a message of no change: {name:?}: {messages:?}");
                self.wrong.push(wrong);
            }
        }
        for (key, row) in &self.facts.rows {
            if self.rows.get(key) != Some(&Some(*row)) {
                let wrong = format!(
                    "pairs: row {key:?} is {row:?} and must be {:?}",
                    self.rows.get(key)
                );
                self.wrong.push(wrong);
            }
        }
        for (key, row) in &self.rows {
            if row.is_some() && !self.facts.rows.contains_key(key) {
                self.wrong
                    .push(format!("pairs: row {key:?} is gone and must be {row:?}"));
            }
        }
    }
}

fn name(topic: &str, change: &Change) -> Name {
    let kind = change.kind.name().to_owned();
    (topic.to_owned(), kind, change.id.clone(), change.row.seq)
}

/// BIGINT is text in JSON.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
#[path = "pairs_tests.rs"]
mod tests;
