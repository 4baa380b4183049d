//! One `duet serve` process.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::lab::namespaces::RPC_PORT;
use crate::lab::relays::Seat;
use crate::lab::{Clock, Disk, Namespaces};
use crate::{binary, http, logs, ports, wait};

/// How long a node may take from its start until it serves.
pub const START_MAX: Duration = Duration::from_secs(60);
/// How long a node may take to end after it was asked to.
const STOP_MAX: Duration = Duration::from_secs(30);
/// What a node may say once its storage has failed, without saying how: that the rest of it, or the
/// consensus library, has met a log or a core that has ended.
const SAID_BY_THE_WAY: [&str; 4] = [
    "an earlier write failed",
    "the log has stopped before entry",
    "failed to receive from RaftCore: None",
    "failed to send HeartbeatProgress",
];
/// Lines of a node's log that a failure shows.
const LOG_LINES: usize = 25;

/// One node: its place on disk and on the network, and its process while it runs.
#[derive(Debug)]
pub struct Node {
    /// Where clients reach it.
    pub http: SocketAddr,
    /// Where other nodes reach it.
    pub rpc: SocketAddr,
    directory: PathBuf,
    env: Vec<(String, String)>,
    /// Its host in the network between the nodes; none: nothing is between them.
    host: Option<u8>,
    /// Its place behind a relay; none: it is reached where it listens.
    seat: Option<Seat>,
    /// File of the network namespace it runs in; none: this process's own.
    namespace: Option<String>,
    /// Holds its data; none: they lie in `directory`.
    disk: Option<Disk>,
    /// Its wall clock, if it is not the machine's.
    clock: Option<Clock>,
    process: Option<Child>,
    expected_errors: Vec<String>,
}

/// Ports of a node that has an address of its own.
const LAB_HTTP_PORT: u16 = 8080;

impl Node {
    /// A node with its files below `directory`, on free ports; does not start it.
    pub fn new(directory: &Path, name: &str, env: Vec<(String, String)>) -> Node {
        http::choose_cryptography();
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory).expect("a temporary directory can be written");
        Node {
            http: ports::free(),
            rpc: ports::free(),
            directory,
            env,
            host: None,
            seat: None,
            namespace: None,
            disk: None,
            clock: None,
            process: None,
            expected_errors: Vec::new(),
        }
    }

    /// A node that the others reach through a relay.
    pub fn behind_relay(directory: &Path, seat: &Seat, env: Vec<(String, String)>) -> Node {
        let mut node = Node::new(directory, &format!("node-{}", seat.host() + 1), env);
        node.rpc = seat.relay();
        node.host = Some(seat.host());
        node.seat = Some(seat.clone());
        node
    }

    /// A node on a host of the lab: with an address and a disk of `disk_mib` MiB of its own.
    pub fn in_lab(
        directory: &Path,
        network: &Namespaces,
        host: u8,
        disk_mib: u32,
        env: Vec<(String, String)>,
    ) -> Node {
        let directory = directory.join(format!("node-{}", host + 1));
        std::fs::create_dir_all(&directory).expect("a temporary directory can be written");
        Node {
            http: network.socket(host, LAB_HTTP_PORT),
            rpc: network.socket(host, RPC_PORT),
            host: Some(host),
            seat: None,
            disk: Some(Disk::new(&directory.join("disk"), disk_mib)),
            namespace: Some(network.namespace_file(host)),
            directory,
            env,
            clock: None,
            process: None,
            expected_errors: Vec::new(),
        }
    }

    /// Gives it a wall clock of its own from its next start on.
    pub fn give_clock(&mut self) {
        self.clock = Some(Clock::new(self.directory.join("clock")));
    }

    /// Was it given one?
    pub fn has_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// Its wall clock; only a node that was given one has one of its own.
    pub fn clock(&self) -> &Clock {
        self.clock.as_ref().expect("the node was given a clock")
    }

    /// Its host in the network between the nodes. A node that comes in another's place among the
    /// nodes of a cluster may well be on a host of another number.
    pub fn host(&self) -> u8 {
        self.host.expect("a node in a network is on a host")
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        let process = self.process.as_ref().expect("the node runs");
        process.id()
    }

    /// Its disk; only a node in the lab has one of its own.
    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("a node in the lab has a disk")
    }

    /// The power fails: what was not synced is gone, and so is the process. Comes back with
    /// [`Disk::power_on`] and a new start.
    pub fn lose_power(&mut self) {
        // Stopped first: a process does not live to see the disk of its machine fail.
        self.pause();
        self.disk().cut_power();
        self.kill9();
    }

    /// Its disk turns read-only, in a moment in which the process is not within the kernel.
    pub async fn turn_disk_read_only(&self) {
        self.pause();
        wait::until("every thread has stopped", STOP_MAX, async || {
            self.threads_are('T').then_some(())
        })
        .await;
        self.disk().turn_read_only();
        self.resume();
    }

    /// Does a thread of the process wait in the kernel for its disk, where nothing interrupts it?
    pub fn waits_for_disk(&self) -> bool {
        self.thread_states().contains(&'D')
    }

    fn threads_are(&self, state: char) -> bool {
        self.thread_states().iter().all(|is| *is == state)
    }

    /// The states of the process's threads, as the kernel says them.
    fn thread_states(&self) -> Vec<char> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        let threads = threads.expect("the process runs").flatten();
        let stats = threads.filter_map(|thread| {
            // A thread may have ended meanwhile.
            std::fs::read_to_string(thread.path().join("stat")).ok()
        });
        // Behind the name, which may hold anything but ends with the last parenthesis.
        let state = |stat: String| stat.rsplit(')').next()?.trim_start().chars().next();
        stats.filter_map(state).collect()
    }

    /// Its URL for clients.
    pub fn url(&self) -> String {
        let tls = self.variable("DUET_HTTP_TLS_CERT").is_some();
        format!("{}://{}", if tls { "https" } else { "http" }, self.http)
    }

    /// The authorities that its clients trust, in PEM; none: it speaks no TLS.
    pub fn authorities(&self) -> Option<Vec<u8>> {
        let path = self.variable("DUET_CACERT")?;
        Some(std::fs::read(path).expect("the authorities can be read"))
    }

    /// Gives it one more environment variable from its next start on, or takes that away again.
    pub fn set_variable(&mut self, name: &str, value: Option<&str>) {
        self.env.retain(|(known, _)| known != name);
        if let Some(value) = value {
            self.env.push((name.to_owned(), value.to_owned()));
        }
    }

    fn variable(&self, wanted: &str) -> Option<&str> {
        let found = self.env.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        let disk = self.disk.as_ref().map(Disk::path);
        disk.unwrap_or(&self.directory).join("data")
    }

    /// Its log, over all its starts.
    pub fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Gives a variable of its environment another value, from its next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// ERROR lines of this node that contain this are part of the test.
    pub fn expect_errors(&mut self, part: &str) {
        self.expected_errors.push(part.to_owned());
    }

    /// Its storage is about to fail, with an error that contains `says`: what it then says on the
    /// way to its end is part of the test.
    pub fn expect_failure(&mut self, says: &str) {
        for part in [says].iter().chain(&SAID_BY_THE_WAY) {
            self.expect_errors(part);
        }
    }

    /// What its log says that it must not. ERROR lines that contain one of `expected` may be there,
    /// as may those that this node was expected to have.
    pub fn complaints(&self, expected: &[String]) -> Vec<String> {
        logs::complaints(&self.log(), &[expected, &self.expected_errors].concat())
    }

    /// The last line that it has written: why it ended, if it did.
    pub fn last_words(&self) -> String {
        logs::tail(&self.log(), 1)
    }

    /// The command that starts it, with the flags every node gets.
    pub fn command(&self) -> Command {
        // nsenter becomes the node, so that its process id is the node's.
        let mut command = match &self.namespace {
            None => Command::new(binary::duet()),
            Some(file) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={file}")).arg(binary::duet());
                command
            }
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DUET_") {
                command.env_remove(name);
            }
        }
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--http", &self.http.to_string()])
            .args(self.rpc_flags())
            .args(["--log-format", "json"])
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .envs(self.clock.iter().flat_map(Clock::env))
            .stdin(Stdio::null());
        command
    }

    fn rpc_flags(&self) -> Vec<String> {
        let reached = self.rpc.to_string();
        match &self.seat {
            None => vec!["--rpc".into(), reached],
            Some(seat) => {
                let listens = seat.listens().to_string();
                vec!["--rpc".into(), listens, "--advertise-rpc".into(), reached]
            }
        }
    }

    /// Starts the process with further flags; returns at once.
    pub fn spawn(&mut self, flags: &[String]) {
        assert!(!self.is_running(), "{} runs already", self.url());
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.expect("a temporary directory can be written");
        let stdout = log.try_clone().expect("a file handle can be copied");
        let process = self
            .command()
            .args(flags)
            .stdout(stdout)
            .stderr(log)
            .spawn();
        let process = process.expect("the binary under test starts");
        if let Some(seat) = &self.seat {
            seat.take(process.id());
        }
        self.process = Some(process);
    }

    /// Waits until the node says that it is ready; panics if it ends before.
    pub async fn ready(&mut self) {
        if let Some(status) = self.ready_or_ended().await {
            let last = logs::tail(&self.log(), LOG_LINES);
            panic!("a node ended with {status}\n{last}");
        }
    }

    /// Waits until the node says that it is ready, or has ended: then how.
    pub async fn ready_or_ended(&mut self) -> Option<ExitStatus> {
        let url = format!("{}/ready", self.url());
        let http = http::client_trusting(self.authorities().as_deref());
        let log = self.log();
        let process = &mut self.process;
        wait::until(
            &format!("{url} is 200\n{}", log.display()),
            START_MAX,
            async || {
                if let Some(status) = process.as_mut().and_then(ended) {
                    return Some(Some(status));
                }
                let answer = http
                    .get(&url)
                    .timeout(Duration::from_secs(2))
                    .send()
                    .await
                    .ok()?;
                (answer.status() == 200).then_some(None)
            },
        )
        .await
    }

    /// Whether the process was started and has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| ended(process).is_none())
    }

    /// Ends the process as the kernel would: no chance to write or say anything.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a child can be killed");
            process.wait().expect("a child can be waited for");
        }
    }

    /// Asks the process to end and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ends(STOP_MAX).await
    }

    /// Waits until the process ends by itself, without being asked to.
    pub async fn ends(&mut self, limit: Duration) -> ExitStatus {
        // Not taken before it has ended: a test that fails here must not leave a process behind.
        let process = self.process.as_mut().expect("the node was started");
        let status = wait::until("a node ends by itself", limit, async || ended(process)).await;
        self.process = None;
        status
    }

    /// Gives the node that does not run other ports, as a machine that got another address.
    pub fn move_away(&mut self) {
        assert!(!self.is_running(), "{} runs", self.url());
        assert!(self.seat.is_none(), "a relay stays where it is");
        self.http = ports::free();
        self.rpc = ports::free();
    }

    /// Loses everything that the node that does not run has kept.
    pub fn lose_data(&mut self) {
        assert!(!self.is_running(), "{} runs", self.url());
        std::fs::remove_dir_all(self.data_dir()).expect("a temporary directory can be removed");
    }

    /// Stops the process without ending it, as an overloaded or suspended machine does.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Tells the process that files were replaced which it reads again.
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the node runs");
        kill_process(Pid::from_child(process), signal).expect("a child can be signalled");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // One that has ended already is what is wanted.
            let _: io::Result<()> = process.kill();
            let _: io::Result<ExitStatus> = process.wait();
        }
    }
}

fn ended(process: &mut Child) -> Option<ExitStatus> {
    process.try_wait().expect("a child can be asked")
}
