//! What every client of a run did and was told, a line of JSON each.
//!
//! The checks keep what they need in memory. This is for whoever has to understand a run that
//! failed: one file, in the order in which the answers came, over all workloads.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use client::api::SqlRequest;
use client::api::sql::SqlResponse;
use client::{Answer, Client, Error, RequestOptions};
use rand::RngExt;
use serde_json::json;

/// What a client knows of a request's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered with success.
    Ok,
    /// It certainly had no effect.
    Fail,
    /// It may have had its effect, or may have it yet.
    Unknown,
}

impl Outcome {
    /// The outcome of a request of the client crate.
    pub fn of<T>(answer: &Result<T, Error>) -> Outcome {
        match answer {
            Ok(_) => Outcome::Ok,
            Err(Error::Unknown(_)) => Outcome::Unknown,
            Err(_) => Outcome::Fail,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Fail => "fail",
            Outcome::Unknown => "unknown",
        }
    }
}

/// One request and its answer.
#[derive(Debug)]
pub struct Told<T> {
    /// When it was sent, in ns since the run's beginning.
    pub invoke_ns: u64,
    /// When its outcome was known.
    pub return_ns: u64,
    /// What came back.
    pub answer: Result<Answer<T>, Error>,
}

impl<T> Told<T> {
    /// What the client knows of its effect.
    pub fn outcome(&self) -> Outcome {
        Outcome::of(&self.answer)
    }
}

impl Told<SqlResponse> {
    /// Where the write stands in the log.
    pub fn receipt(&self) -> Option<u64> {
        let answer = self.answer.as_ref().ok()?;
        let mut results = answer.results.iter().rev();
        results.find_map(|result| Some(result.receipt.as_ref()?.index))
    }
}

/// The history of a run; clones write to the same one.
#[derive(Clone, Debug)]
pub struct History {
    started: Instant,
    file: Arc<Mutex<BufWriter<File>>>,
    path: Arc<PathBuf>,
}

impl History {
    /// Begins one in a new file at `path`.
    pub fn create(path: &Path) -> io::Result<History> {
        let file = File::create(path)?;
        Ok(History {
            started: Instant::now(),
            file: Arc::new(Mutex::new(BufWriter::new(file))),
            path: Arc::new(path.to_owned()),
        })
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Now, in ns since the run's beginning.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A client of this run, by name.
    pub fn voice(&self, name: impl Into<String>, client: Client) -> Voice {
        Voice {
            name: name.into(),
            client,
            history: self.clone(),
        }
    }

    /// Writes one request down. `client`, `op` and `key` are the workload's own words.
    pub fn note<T>(&self, client: &str, op: &str, key: &str, told: &Told<T>, index: Option<u64>) {
        let answer = told.answer.as_ref();
        let line = json!({
            "client": client, "op": op, "key": key,
            "invoke_ns": told.invoke_ns, "return_ns": told.return_ns,
            "outcome": told.outcome().name(),
            "commit_index": index.or(answer.ok().and_then(|answer| answer.index)),
            "node": answer.ok().and_then(|answer| answer.node),
            "error": answer.err().map(ToString::to_string),
        });
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(file, "{line}").expect("the history's file can be written");
    }

    /// Writes what is still in memory to the file.
    pub fn flush(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.flush().expect("the history's file can be written");
    }
}

/// One client of a workload, whose every request is in the history.
#[derive(Clone, Debug)]
pub struct Voice {
    name: String,
    client: Client,
    history: History,
}

impl Voice {
    /// The client below.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Now, in ns since the run's beginning.
    pub fn now_ns(&self) -> u64 {
        self.history.now_ns()
    }

    /// The client on a node chosen at random.
    pub fn anywhere(&self) -> Client {
        let nodes = self.client.urls().len();
        self.client.pinned_to(rand::rng().random_range(0..nodes))
    }

    /// Statements on a node chosen at random.
    pub async fn sql(
        &self,
        op: &str,
        key: &str,
        sql: impl Into<String>,
        options: &RequestOptions,
    ) -> Told<SqlResponse> {
        let request = SqlRequest::new(sql);
        let client = self.anywhere();
        let told = self.time(client.execute(&request, options)).await;
        let index = told.receipt();
        self.history.note(&self.name, op, key, &told, index);
        told
    }

    /// Any request: the future that makes it.
    pub async fn tell<T>(
        &self,
        op: &str,
        key: &str,
        request: impl Future<Output = Result<Answer<T>, Error>>,
    ) -> Told<T> {
        let told = self.time(request).await;
        self.history.note(&self.name, op, key, &told, None);
        told
    }

    async fn time<T>(&self, request: impl Future<Output = Result<Answer<T>, Error>>) -> Told<T> {
        let invoke_ns = self.history.now_ns();
        let answer = request.await;
        Told {
            invoke_ns,
            return_ns: self.history.now_ns(),
            answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_request_is_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let history = History::create(&directory.path().join("h")).unwrap();
        let answer = |answer| Told {
            invoke_ns: 1,
            return_ns: 2,
            answer,
        };
        let body = Answer {
            body: (),
            index: Some(7),
            node: Some(3),
            url: String::new(),
        };
        history.note("a-1", "append", "k", &answer(Ok(body)), Some(6));
        let refused = Error::Unreachable { tried: Vec::new() };
        history.note::<()>("a-1", "read", "k", &answer(Err(refused)), None);
        history.flush();
        let text = std::fs::read_to_string(history.path()).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["outcome"], "ok");
        assert_eq!(
            (&lines[0]["commit_index"], &lines[0]["node"]),
            (&json!(6), &json!(3))
        );
        assert_eq!(lines[1]["outcome"], "fail");
    }
}
