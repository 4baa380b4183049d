//! A closed-loop step: clients that each have one request under way at any time.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::connection::{Connection, Reply, Template};
use crate::cpu::{Process, Sample};
use crate::error::BenchError;
use crate::recorder::{Failure, Recorder};

/// How long an answer may take that was asked for before the end of the step. Beyond the server's
/// own deadline of 30 s.
const ANSWER_MAX: Duration = Duration::from_secs(40);
/// Pause of a client whose node cannot be reached, so that it does not count as thousands.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// What one client asks again and again.
pub trait Work: Send + 'static {
    /// The next body.
    fn next(&mut self) -> Bytes;

    /// Looks at the answer to it: whether it did what it should.
    fn check(&mut self, reply: &Reply) -> Result<(), Failure>;

    /// The last request has no answer, or not a good one.
    fn failed(&mut self, _failure: &Failure) {}
}

/// Where a client connects and what its requests look like.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// All of the request but the body.
    pub template: Template,
}

/// When a step counts.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// Before the clock starts.
    pub warm_up: Duration,
    /// How long clients send after that.
    pub counted: Duration,
}

/// What a step gave.
#[derive(Debug)]
pub struct Measured<W> {
    /// From the end of the warm-up until the last answer.
    pub elapsed: Duration,
    /// All clients' outcomes.
    pub recorder: Recorder,
    /// The clients' work, with what it remembered.
    pub work: Vec<W>,
    /// Cores that processes kept busy meanwhile.
    pub cores: Vec<(String, f64)>,
}

/// Runs one client for each piece of work, spread over the endpoints in turn.
pub async fn run<W: Work>(
    endpoints: &[Endpoint],
    work: Vec<W>,
    length: Length,
    processes: &[Process],
) -> Result<Measured<W>, BenchError> {
    let mut connected = Vec::with_capacity(work.len());
    for (work, endpoint) in work.into_iter().zip(endpoints.iter().cycle()) {
        let connection = Connection::open(&endpoint.address).await;
        let connection = connection.map_err(|source| BenchError::Connection {
            address: endpoint.address.clone(),
            source,
        })?;
        connected.push((work, endpoint.clone(), connection));
    }
    let begin = Instant::now() + length.warm_up;
    let end = begin + length.counted;
    let mut clients = JoinSet::new();
    for (work, endpoint, connection) in connected {
        let client = Client {
            endpoint,
            connection: Some(connection),
            work,
            recorder: Recorder::default(),
            begin,
            end,
            last_answer: end,
        };
        clients.spawn(client.run_until_answered());
    }
    sleep_until(begin).await;
    let before = Sample::take(processes);
    let mut recorder = Recorder::default();
    let mut work = Vec::with_capacity(clients.len());
    let mut last_answer = end;
    while let Some(client) = clients.join_next().await {
        let client = client?;
        recorder.merge(&client.recorder);
        last_answer = last_answer.max(client.last_answer);
        work.push(client.work);
    }
    let elapsed = last_answer - begin;
    let cores = Sample::take(processes).cores_since(&before, elapsed, processes);
    Ok(Measured {
        elapsed,
        recorder,
        work,
        cores,
    })
}

struct Client<W> {
    endpoint: Endpoint,
    connection: Option<Connection>,
    work: W,
    recorder: Recorder,
    begin: Instant,
    end: Instant,
    last_answer: Instant,
}

impl<W: Work> Client<W> {
    async fn run_until_answered(mut self) -> Client<W> {
        let deadline = self.end + ANSWER_MAX;
        if timeout_at(deadline, self.run()).await.is_err() {
            self.last_answer = deadline;
            self.count_failure(&Failure::NO_ANSWER, true);
        }
        self
    }

    async fn run(&mut self) {
        loop {
            let sent = Instant::now();
            if sent >= self.end {
                return;
            }
            // Whoever asked after the warm-up is counted, however long the answer takes.
            let counted = sent >= self.begin;
            let outcome = self.ask().await;
            let answered = Instant::now();
            self.last_answer = self.last_answer.max(answered);
            match outcome {
                Ok(()) if counted => self.recorder.success(answered - sent),
                Ok(()) => {}
                Err(failure) => {
                    self.count_failure(&failure, counted);
                    if failure == Failure::CONNECT {
                        sleep(RECONNECT_PAUSE).await;
                    }
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<(), Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.endpoint.address)
                .await
                .map_err(|_| Failure::CONNECT)?,
        };
        let request = self.endpoint.template.with(self.work.next());
        let reply = connection
            .send(request)
            .await
            .map_err(|_| Failure::BROKEN)?;
        self.connection = Some(connection);
        self.work.check(&reply)
    }

    fn count_failure(&mut self, failure: &Failure, counted: bool) {
        self.recorder.failure(failure, counted);
        self.work.failed(failure);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    /// Counts what it is told.
    #[derive(Default)]
    struct Counting {
        good: u64,
        failures: Vec<String>,
    }

    impl Work for Counting {
        fn next(&mut self) -> Bytes {
            Bytes::from_static(b"{}")
        }

        fn check(&mut self, reply: &Reply) -> Result<(), Failure> {
            if reply.status != 200 {
                return Err(Failure::received(reply));
            }
            self.good += 1;
            Ok(())
        }

        fn failed(&mut self, failure: &Failure) {
            self.failures.push(failure.code.clone().into_owned());
        }
    }

    /// Answers every request; the first `broken` connections are closed instead.
    async fn serve(listener: TcpListener, mut broken: u32, answer: &'static str) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if broken > 0 {
                broken -= 1;
                let mut stream = stream;
                // Read the request, so that its end is a lost answer and not a refused connection.
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                continue;
            }
            tokio::spawn(answer_all(stream, answer));
        }
    }

    async fn answer_all(mut stream: TcpStream, answer: &'static str) {
        let mut buffer = [0; 4096];
        let mut seen = 0;
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            seen += read;
            if buffer[..read].ends_with(b"{}") {
                assert!(seen > 2);
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn measure(broken: u32, answer: &'static str, clients: usize) -> Measured<Counting> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(serve(listener, broken, answer));
        let template = Template::post(&address, "/x", "t").unwrap();
        let endpoints = [Endpoint { address, template }];
        let work = (0..clients).map(|_| Counting::default()).collect();
        let length = Length {
            warm_up: Duration::ZERO,
            counted: Duration::from_millis(200),
        };
        let measured = run(&endpoints, work, length, &[]).await.unwrap();
        server.abort();
        measured
    }

    #[tokio::test]
    async fn every_good_answer_is_counted_once() {
        let measured = measure(0, OK, 3).await;
        let good: u64 = measured.work.iter().map(|work| work.good).sum();
        assert!(good >= 3);
        assert_eq!(measured.recorder.successes(), good);
        assert!(measured.recorder.errors().is_empty());
        assert!(measured.elapsed >= Duration::from_millis(200));
        assert_eq!(measured.work.len(), 3);
    }

    #[tokio::test]
    async fn a_broken_connection_is_an_error_and_a_new_one_is_made() {
        let measured = measure(1, OK, 1).await;
        assert_eq!(measured.work[0].failures, ["CONNECTION_BROKEN"]);
        assert_eq!(measured.recorder.errors()["CONNECTION_BROKEN"], 1);
        assert!(measured.recorder.successes() > 0);
    }

    #[tokio::test]
    async fn answers_that_are_errors_are_no_successes() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        let measured = measure(0, answer, 1).await;
        assert_eq!(measured.recorder.successes(), 0);
        assert!(measured.recorder.errors()["HTTP_503"] > 0);
        let failures = measured.work[0].failures.len() as u64;
        assert_eq!(failures, measured.recorder.errors()["HTTP_503"]);
    }
}
