//! W9: clients that carry the log index of what they saw from node to node, and repeat writes under
//! their key, at once and much later. A session never sees less than it saw; a key has one effect
//! and one place in the log; what an index finds is what a scan finds.

use std::collections::BTreeMap;

use client::RequestOptions;
use rand::RngExt;
use serde_json::Value;
use tokio::sync::watch;

use super::{Crowd, Kind, Notes, REQUEST_MAX, Running, Verdict, pace, pause, whole};
use crate::chaos::Task;
use crate::chaos::history::{History, Outcome, Voice};
use crate::cluster::Ask;
use crate::{Cluster, User};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "W9-sessions",
    start: |cluster, root, history| {
        Box::pin(async {
            Box::new(Sessions::start(cluster, root, history).await) as Box<dyn Running>
        })
    },
}];

const CLIENTS: usize = 3;
/// Values of the column that has an index, so many that the index is worth using.
const TAGS: i64 = 20;
/// Of so many writes one is repeated long after it was answered.
const LATE_ONE_IN: usize = 5;
/// How many writes later.
const LATE: usize = 20;

/// What a client counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Session {
    client: usize,
    /// Its writes by key. Each adds one to the client's row.
    keys: BTreeMap<String, Key>,
    /// Reads: the index that the session had seen, the answer's own, the least the row must hold,
    /// and what it held.
    reads: Vec<Read>,
}

/// What became of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Key {
    /// Every log index under which it was answered.
    places: Vec<u64>,
    /// May it have happened although it never was answered?
    maybe: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    min_index: u64,
    index: u64,
    at_least: i64,
    value: i64,
}

/// The running workload.
#[derive(Debug)]
struct Sessions {
    crowd: Crowd,
    sessions: Notes<Session>,
}

impl Sessions {
    async fn start(cluster: &Cluster, root: &User, history: &History) -> Sessions {
        for sql in [
            "CREATE NAMESPACE chaos_sessions",
            "CREATE TABLE chaos_sessions.c (id BIGINT PRIMARY KEY, n BIGINT NOT NULL, tag BIGINT)",
            "CREATE INDEX by_tag ON chaos_sessions.c (tag)",
        ] {
            root.ok(sql).await;
        }
        let (mut crowd, sessions) = (Crowd::new(), Notes::default());
        for client in 0..CLIENTS {
            let sql = format!("INSERT INTO chaos_sessions.c VALUES ({client}, 0, 0)");
            root.ok(&sql).await;
            let voice = history.voice(format!("sessions-{client}"), cluster.client_at_doors());
            crowd.add(live(voice, client, sessions.clone(), crowd.stopped()));
        }
        Sessions { crowd, sessions }
    }

    async fn verdict(self, cluster: &Cluster, root: &User) -> Verdict {
        self.crowd.finish().await;
        let index = root.sql("SELECT 1").await.index();
        let sql = "SELECT id, n FROM chaos_sessions.c WHERE id < 1000 ORDER BY id";
        let rows = cluster
            .same_everywhere(root, index, &Ask::Rows(sql.into()))
            .await;
        let rows = rows.as_array().into_iter().flatten();
        let counts: BTreeMap<usize, i64> = rows
            .filter_map(|row| {
                let client = usize::try_from(whole(&row[0])?).ok()?;
                Some((client, whole(&row[1])?))
            })
            .collect();
        let sessions = self.sessions.take();
        let mut wrong: Vec<String> = sessions
            .iter()
            .flat_map(|session| violations(session, counts.get(&session.client).copied()))
            .collect();
        let mut found = 0;
        for tag in 0..TAGS {
            let rows = async |condition: String| {
                let sql = format!("SELECT id, n, tag FROM chaos_sessions.c WHERE {condition}");
                let ask = Ask::Rows(format!("{sql} ORDER BY id"));
                cluster.same_everywhere(root, index, &ask).await
            };
            // The sum hides the column from the index.
            let by_scan = rows(format!("tag + 0 = {tag}")).await;
            let by_index = rows(format!("tag = {tag}")).await;
            found += by_scan.as_array().map_or(0, Vec::len) as u64;
            wrong.extend(differs(tag, &by_index, &by_scan));
        }
        let reads = sessions.iter().map(|session| session.reads.len() as u64);
        let keys = sessions.iter().map(|session| session.keys.len() as u64);
        Verdict {
            checked: vec![
                ("reads of sessions", reads.sum()),
                ("keys of repeated writes", keys.sum()),
                ("rows found by an index", found),
            ],
            violations: wrong,
        }
    }
}

impl Running for Sessions {
    fn finish<'a>(self: Box<Self>, cluster: &'a Cluster, root: &'a User) -> Task<'a, Verdict> {
        Box::pin(self.verdict(cluster, root))
    }
}

fn differs(tag: i64, by_index: &Value, by_scan: &Value) -> Option<String> {
    (by_index != by_scan)
        .then(|| format!("sessions: tag {tag}: an index finds {by_index}, a scan {by_scan}"))
}

/// The client's row counts each of its keys once, each key has one place in the log, and no read
/// shows less than what was seen before.
fn violations(session: &Session, count: Option<i64>) -> Vec<String> {
    let client = session.client;
    let mut wrong = Vec::new();
    let count_of = |holds: fn(&Key) -> bool| {
        let keys = session.keys.values().filter(|key| holds(key));
        i64::try_from(keys.count()).unwrap_or(i64::MAX)
    };
    let least = count_of(|key| !key.places.is_empty());
    let most = count_of(|key| !key.places.is_empty() || key.maybe);
    if !count.is_some_and(|count| (least..=most).contains(&count)) {
        wrong.push(format!(
            "sessions: {least} to {most} writes of client {client} count as {count:?}"
        ));
    }
    for (name, key) in &session.keys {
        if key.places.windows(2).any(|pair| pair[0] != pair[1]) {
            wrong.push(format!("sessions: {name} stands in the log twice: {key:?}"));
        }
    }
    for read in &session.reads {
        if read.index < read.min_index || read.value < read.at_least {
            wrong.push(format!("sessions: client {client} saw less: {read:?}"));
        }
    }
    wrong
}

async fn live(
    voice: Voice,
    client: usize,
    sessions: Notes<Session>,
    stopped: watch::Receiver<bool>,
) {
    let mut session = Session {
        client,
        ..Session::default()
    };
    let (mut seen, mut at_least) = (0, 0);
    let mut earlier: Vec<(String, String)> = Vec::new();
    while !*stopped.borrow() {
        let number = earlier.len();
        let key = format!("session-{client}-{number}");
        let sql = write_sql(client, number);
        let index = write(&voice, &mut session, &key, &sql).await;
        earlier.push((key, sql));
        if let Some(index) = index {
            (seen, at_least) = (index.max(seen), at_least + 1);
        }
        if rand::rng().random_range(0..LATE_ONE_IN) == 0
            && let Some((key, sql)) = earlier.iter().rev().nth(LATE)
        {
            write(&voice, &mut session, key, sql).await;
        }
        for _ in 0..2 {
            read(&voice, &mut session, &mut seen, &mut at_least).await;
        }
        pace().await;
    }
    sessions.add(session);
}

/// One to the client's row, and a row or two that the index must keep up with.
fn write_sql(client: usize, number: usize) -> String {
    let id = 1_000 + client + CLIENTS * number;
    let (tag, next) = {
        let mut random = rand::rng();
        (random.random_range(0..TAGS), random.random_range(0..TAGS))
    };
    let earlier = 1_000 + client + CLIENTS * number.saturating_sub(7);
    format!(
        "BEGIN; UPDATE chaos_sessions.c SET n = n + 1 WHERE id = {client}; \
         INSERT INTO chaos_sessions.c VALUES ({id}, 0, {tag}); \
         UPDATE chaos_sessions.c SET tag = {next} WHERE id = {earlier}; \
         DELETE FROM chaos_sessions.c WHERE id = {earlier} - {CLIENTS}; COMMIT"
    )
}

/// A write under a key, sent twice at once; its place in the log.
async fn write(voice: &Voice, session: &mut Session, name: &str, sql: &str) -> Option<u64> {
    let options = RequestOptions::idempotent(name).timeout(REQUEST_MAX);
    let (one, other) = tokio::join!(
        voice.sql("write", name, sql, &options),
        voice.sql("write", name, sql, &options),
    );
    let key = session.keys.entry(name.to_owned()).or_default();
    key.places.extend(one.receipt());
    key.places.extend(other.receipt());
    key.maybe |= [one.outcome(), other.outcome()].contains(&Outcome::Unknown);
    let place = key.places.last().copied();
    if place.is_none() {
        pause().await;
    }
    place
}

/// A read of what a node has, not older than what this session saw.
async fn read(voice: &Voice, session: &mut Session, seen: &mut u64, at_least: &mut i64) {
    let sql = format!(
        "SELECT n FROM chaos_sessions.c WHERE id = {}",
        session.client
    );
    let options = RequestOptions::local_from(*seen).timeout(REQUEST_MAX);
    let told = voice.sql("read", &seen.to_string(), sql, &options).await;
    let Ok(answer) = &told.answer else {
        pause().await;
        return;
    };
    let rows = answer
        .results
        .first()
        .and_then(|result| result.rows.as_ref());
    let value = rows.and_then(|rows| whole(rows.first()?.first()?));
    let read = Read {
        min_index: *seen,
        index: answer.index.unwrap_or(0),
        at_least: *at_least,
        value: value.unwrap_or(i64::MIN),
    };
    (*seen, *at_least) = ((*seen).max(read.index), (*at_least).max(read.value));
    session.reads.push(read);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Session {
        let read = |min_index, value| Read {
            min_index,
            index: 9,
            at_least: 2,
            value,
        };
        let key = |places: &[u64], maybe| Key {
            places: places.to_vec(),
            maybe,
        };
        let keys = [
            ("a".to_owned(), key(&[5, 5], true)),
            ("b".to_owned(), key(&[6], false)),
            ("c".to_owned(), key(&[], true)),
            ("d".to_owned(), key(&[], false)),
        ];
        Session {
            client: 0,
            keys: keys.into(),
            reads: vec![read(8, 2), read(9, 3)],
        }
    }

    #[test]
    fn good_sessions_pass() {
        assert_eq!(violations(&good(), Some(2)), [""; 0]);
        assert_eq!(violations(&good(), Some(3)), [""; 0]);
        assert_eq!(differs(1, &json!([[1]]), &json!([[1]])), None);
    }

    #[test]
    fn lost_and_doubled_writes_and_older_reads_are_seen() {
        for count in [Some(1), Some(4), None] {
            assert_eq!(violations(&good(), count).len(), 1);
        }
        let mut twice = good();
        twice.keys.entry("a".into()).or_default().places.push(6);
        assert_eq!(violations(&twice, Some(2)).len(), 1);
        let mut older = good();
        older.reads[0].value = 1;
        older.reads[1].index = 7;
        assert_eq!(violations(&older, Some(2)).len(), 2);
        assert!(differs(1, &json!([]), &json!([[1]])).is_some());
    }
}
