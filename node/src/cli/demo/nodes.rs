//! The three processes of the demonstration.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use client::Client;
use client::api::cluster::{ClusterStatus, MemberRole};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use ulid::Ulid;

use super::Screen;
use crate::cli::error::CliError;

const COUNT: usize = 3;
/// How long a node may take to start, join or catch up.
const START_MAX: Duration = Duration::from_secs(40);
/// Pause between two questions whether it has.
const POLL: Duration = Duration::from_millis(50);
/// Below what systems give to outgoing connections, so that no client's socket takes the port of a
/// node that was killed and is about to come back.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// How many ports are looked at before giving up.
const PORT_TRIES: usize = 200;
/// Lines of a node's log that are shown when it fails.
const LOG_LINES: usize = 15;

/// Three nodes below one temporary directory.
pub struct Nodes {
    directory: PathBuf,
    nodes: Vec<Node>,
    root_password: String,
    cluster_secret: String,
}

struct Node {
    http: SocketAddr,
    rpc: SocketAddr,
    process: Option<Child>,
}

impl Nodes {
    /// Makes the directory and finds free ports; starts nothing.
    pub fn prepare() -> Result<Nodes, CliError> {
        let directory = std::env::temp_dir().join(format!("duet-demo-{}", Ulid::generate()));
        fs::create_dir(&directory).map_err(|source| CliError::File {
            path: directory.clone(),
            source,
        })?;
        let addresses = free_addresses(2 * COUNT)?;
        let nodes = addresses
            .chunks_exact(2)
            .map(|pair| Node {
                http: pair[0],
                rpc: pair[1],
                process: None,
            })
            .collect();
        Ok(Nodes {
            directory,
            nodes,
            root_password: Ulid::generate().to_string(),
            cluster_secret: Ulid::generate().to_string(),
        })
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn root_password(&self) -> &str {
        &self.root_password
    }

    /// A client of all nodes.
    pub fn client(&self, user: &str, password: &str) -> Result<Client, CliError> {
        let urls = self.nodes.iter().map(Node::url);
        Ok(Client::builder()
            .urls(urls)
            .credentials(user, password)
            .build()?)
    }

    /// Starts the first node, which makes the cluster, then the others, which join it.
    pub async fn start(&mut self, screen: &Screen) -> Result<(), CliError> {
        self.spawn(0, &["--bootstrap".into()])?;
        self.wait_until_ready(0).await?;
        screen.event(&format!("node 1 at {} made a cluster", self.nodes[0].url()));
        let join = ["--join".to_owned(), self.nodes[0].rpc.to_string()];
        for node in 1..COUNT {
            // One after the other, so that the cluster gives them the numbers shown here.
            self.spawn(node, &join)?;
            self.wait_until_ready(node).await?;
            screen.event(&format!(
                "node {} at {} joined it",
                node + 1,
                self.nodes[node].url()
            ));
        }
        Ok(())
    }

    /// Waits until all nodes have a vote, which they get by themselves once they have caught up.
    pub async fn wait_for_voters(&self, root: &Client, screen: &Screen) -> Result<(), CliError> {
        let deadline = Instant::now() + START_MAX;
        loop {
            let status = root.cluster_status().await?.body;
            let votes = |role| matches!(role, MemberRole::Leader | MemberRole::Follower);
            let voters = status
                .members
                .iter()
                .filter(|member| votes(member.role))
                .count();
            if voters == COUNT && status.leader().is_some() {
                screen.event("all three have a vote: any one of them may fail now");
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(CliError::Demo(format!(
                    "only {voters} of {COUNT} nodes got a vote"
                )));
            }
            // The server has no event to wait for across a membership change.
            sleep(POLL).await;
        }
    }

    /// Which node leads.
    pub async fn leader(&self, root: &Client) -> Result<usize, CliError> {
        let status: ClusterStatus = root.cluster_status().await?.body;
        let leader = status
            .leader()
            .map(|member| address(&member.http).to_owned());
        self.nodes
            .iter()
            .position(|node| leader.as_deref() == Some(&node.http.to_string()))
            .ok_or_else(|| CliError::Demo(format!("no node is the leader {leader:?}")))
    }

    /// Kills a node as a power cut would: it can write and say nothing any more.
    pub async fn kill(&mut self, node: usize, screen: &Screen) -> Result<(), CliError> {
        if let Some(mut process) = self.nodes[node].process.take() {
            process.kill().await?;
        }
        screen.event(&format!("node {}, the leader, is dead", node + 1));
        Ok(())
    }

    /// Starts a node again on its data; it needs to be told nothing.
    pub async fn restart(&mut self, node: usize, screen: &Screen) -> Result<(), CliError> {
        self.spawn(node, &[])?;
        self.wait_until_ready(node).await?;
        screen.event(&format!("node {} is back on its old data", node + 1));
        Ok(())
    }

    fn spawn(&mut self, node: usize, extra: &[String]) -> Result<(), CliError> {
        let log = self.log_path(node);
        let file = |path: &Path| File::options().create(true).append(true).open(path);
        let stderr = file(&log).map_err(|source| CliError::File {
            path: log.clone(),
            source,
        })?;
        let mut command = Command::new(std::env::current_exe()?);
        // What the caller set for clients or another server is not meant for these.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DUET_") {
                command.env_remove(name);
            }
        }
        let process = command
            .arg("serve")
            .arg("--data-dir")
            .arg(self.directory.join(format!("node-{}", node + 1)))
            .args(["--http", &self.nodes[node].http.to_string()])
            .args(["--rpc", &self.nodes[node].rpc.to_string()])
            .args(extra)
            .env("DUET_ROOT_PASSWORD", &self.root_password)
            .env("DUET_CLUSTER_SECRET", &self.cluster_secret)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            // A group of its own: Ctrl-C reaches the demonstration alone, which cleans up.
            .process_group(0)
            .spawn()?;
        self.nodes[node].process = Some(process);
        Ok(())
    }

    async fn wait_until_ready(&mut self, node: usize) -> Result<(), CliError> {
        let client = Client::builder()
            .url(self.nodes[node].url())
            .rounds(1)
            .build()?;
        let deadline = Instant::now() + START_MAX;
        while client.ready().await.is_err() {
            let ended = match &mut self.nodes[node].process {
                Some(process) => process.try_wait()?,
                None => None,
            };
            if let Some(status) = ended {
                return Err(self.failed(node, &format!("ended with {status}")));
            }
            if Instant::now() > deadline {
                return Err(self.failed(node, "did not become ready"));
            }
            // A process that starts can only be asked again.
            sleep(POLL).await;
        }
        Ok(())
    }

    fn failed(&self, node: usize, what: &str) -> CliError {
        // Without a log there is just less to show.
        let log = fs::read_to_string(self.log_path(node)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        CliError::Demo(format!("node {} {what}\n  {last}", node + 1))
    }

    fn log_path(&self, node: usize) -> PathBuf {
        self.directory.join(format!("node-{}.log", node + 1))
    }

    /// Lets the nodes run on and says how to reach and how to stop them.
    pub fn keep(mut self) {
        println!("\nThe cluster goes on running:");
        let mut ids = Vec::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            println!("  node {}   {}", number + 1, node.url());
            if let Some(process) = node.process.take() {
                ids.extend(process.id().map(|id| id.to_string()));
            }
        }
        println!("  user root, password {}", self.root_password);
        println!(
            "  users user_123, bob and agent, password {}",
            super::flow::PASSWORD
        );
        let directory = self.directory.display();
        println!(
            "Try:   duet sql --url {} --password {}",
            self.nodes[0].url(),
            self.root_password
        );
        println!("Stop:  kill {} && rm -r {directory}", ids.join(" "));
    }

    /// Ends the processes and waits for them; data and logs stay.
    pub async fn stop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                // One that has ended already is what is wanted.
                let _ = process.kill().await;
            }
        }
    }

    /// Ends the processes and removes data and logs.
    pub async fn remove(mut self) -> Result<(), CliError> {
        self.stop().await;
        fs::remove_dir_all(&self.directory).map_err(|source| CliError::File {
            path: self.directory.clone(),
            source,
        })
    }
}

impl Drop for Nodes {
    /// For a panic on the way: no process may be left behind.
    fn drop(&mut self) {
        for process in self
            .nodes
            .iter_mut()
            .filter_map(|node| node.process.as_mut())
        {
            // One that has ended already is what is wanted.
            let _ = process.start_kill();
        }
    }
}

impl Node {
    fn url(&self) -> String {
        format!("http://{}", self.http)
    }
}

/// Host and port of a URL.
fn address(url: &str) -> &str {
    url.trim_start_matches("http://").trim_end_matches('/')
}

/// Addresses on loopback that nobody uses now. All are held until the last is found, so that they
/// differ.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, CliError> {
    let mut held = Vec::new();
    for _ in 0..PORT_TRIES {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(PORTS)));
        held.extend(TcpListener::bind(address));
        if held.len() == count {
            let addresses = held.iter().map(TcpListener::local_addr);
            return Ok(addresses.collect::<io::Result<_>>()?);
        }
    }
    Err(CliError::Demo(format!(
        "there are no {count} free ports in {PORTS:?}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_addresses_differ() {
        let mut addresses = free_addresses(8).unwrap();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 8);
    }

    #[test]
    fn a_members_url_is_compared_by_its_address() {
        for url in [
            "http://127.0.0.1:80",
            "http://127.0.0.1:80/",
            "127.0.0.1:80",
        ] {
            assert_eq!(address(url), "127.0.0.1:80");
        }
    }
}
