//! Three nodes on this machine, started from a given program, for the time of a measurement.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::cluster::MemberRole;
use client::Client;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::args::{Target, Workload};
use crate::cpu::Process;
use crate::error::BenchError;
use crate::report::Printer;
use crate::workload::{self, Bench};

const COUNT: usize = 3;
/// How long a node may take to start, join or catch up.
const START_MAX: Duration = Duration::from_secs(60);
/// Pause between two questions whether it has.
const POLL: Duration = Duration::from_millis(50);
/// Below what systems give to outgoing connections, so that no client takes a node's port.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 20_000;
/// Lines of a node's log that are shown when it fails.
const LOG_LINES: usize = 15;
/// The nodes listen on loopback and live for one measurement.
const ROOT_PASSWORD: &str = "bench-root-password";
const CLUSTER_SECRET: &str = "bench cluster secret";

/// Three nodes below one directory of their own.
pub struct Nodes {
    program: PathBuf,
    directory: PathBuf,
    nodes: Vec<Node>,
}

struct Node {
    http: SocketAddr,
    rpc: SocketAddr,
    process: Option<Child>,
}

impl Nodes {
    /// Makes the directory below `parent` and finds free ports; starts nothing.
    pub fn prepare(program: &Path, parent: Option<&Path>) -> Result<Nodes, BenchError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| BenchError::File { path, source }
        };
        let program = fs::canonicalize(program).map_err(at(program))?;
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let ms = since.unwrap_or_default().as_millis();
        let directory = parent.join(format!("duet-bench-{ms}-{}", std::process::id()));
        fs::create_dir(&directory).map_err(at(&directory))?;
        if in_memory(&directory) {
            eprintln!(
                "bench: {} is in memory, where an fsync costs nothing; see --dir",
                directory.display()
            );
        }
        let nodes = free_addresses(2 * COUNT)?
            .chunks_exact(2)
            .map(|pair| Node {
                http: pair[0],
                rpc: pair[1],
                process: None,
            })
            .collect();
        Ok(Nodes {
            program,
            directory,
            nodes,
        })
    }

    /// Starts the nodes and runs the workloads against them.
    pub async fn play(
        &mut self,
        workloads: &[Workload],
        printer: Printer,
    ) -> Result<(), BenchError> {
        let target = self.start().await?;
        let mut processes = vec![Process::own()];
        for (number, node) in self.nodes.iter().enumerate() {
            let id = node.process.as_ref().and_then(Child::id);
            if let Some(id) = id {
                println!("node {} at {}, process {id}", number + 1, node.url());
                processes.push(Process {
                    name: format!("node {}", number + 1),
                    id,
                });
            }
        }
        let bench = Bench::log_in(target, processes, printer).await?;
        for workload in workloads {
            workload::run(&bench, workload).await?;
        }
        Ok(())
    }

    async fn start(&mut self) -> Result<Target, BenchError> {
        self.spawn(0, &["--bootstrap".into()])?;
        self.wait_until_ready(0).await?;
        let join = ["--join".to_owned(), self.nodes[0].rpc.to_string()];
        for node in 1..COUNT {
            self.spawn(node, &join)?;
        }
        for node in 1..COUNT {
            self.wait_until_ready(node).await?;
        }
        let target = Target {
            urls: self.nodes.iter().map(Node::url).collect(),
            user: "root".into(),
            password: Some(ROOT_PASSWORD.into()),
        };
        wait_for_voters(&target).await?;
        Ok(target)
    }

    fn spawn(&mut self, node: usize, extra: &[String]) -> Result<(), BenchError> {
        let log = self.log_path(node);
        let stderr = File::create(&log).map_err(|source| BenchError::File { path: log, source })?;
        let mut command = Command::new(&self.program);
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
            .env("DUET_ROOT_PASSWORD", ROOT_PASSWORD)
            .env("DUET_CLUSTER_SECRET", CLUSTER_SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            // A group of its own: Ctrl-C reaches this program alone, which cleans up.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| BenchError::File {
                path: self.program.clone(),
                source,
            })?;
        self.nodes[node].process = Some(process);
        Ok(())
    }

    async fn wait_until_ready(&mut self, node: usize) -> Result<(), BenchError> {
        let url = self.nodes[node].url();
        let client = Client::builder().url(url).rounds(1).build()?;
        let deadline = Instant::now() + START_MAX;
        while client.ready().await.is_err() {
            let ended = match &mut self.nodes[node].process {
                Some(process) => process.try_wait()?,
                None => None,
            };
            if let Some(status) = ended {
                return Err(self.failed(node, format!("ended with {status}")));
            }
            if Instant::now() > deadline {
                return Err(self.failed(node, "did not become ready".into()));
            }
            // A process that starts can only be asked again.
            sleep(POLL).await;
        }
        Ok(())
    }

    fn failed(&self, node: usize, what: String) -> BenchError {
        // Without a log there is just less to show.
        let log = fs::read_to_string(self.log_path(node)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        BenchError::Node {
            number: node + 1,
            what,
            log: lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  "),
        }
    }

    fn log_path(&self, node: usize) -> PathBuf {
        self.directory.join(format!("node-{}.log", node + 1))
    }

    /// Ends the processes. Data and logs go too, unless something went wrong.
    pub async fn finish(mut self, result: Result<(), BenchError>) -> Result<(), BenchError> {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                // One that has ended already is what is wanted.
                let _ = process.kill().await;
            }
        }
        if result.is_err() {
            eprintln!("logs and data: {}", self.directory.display());
            return result;
        }
        fs::remove_dir_all(&self.directory).map_err(|source| BenchError::File {
            path: self.directory,
            source,
        })
    }
}

impl Node {
    fn url(&self) -> String {
        format!("http://{}", self.http)
    }
}

/// Waits until all nodes have a vote, which they get by themselves once they have caught up.
async fn wait_for_voters(target: &Target) -> Result<(), BenchError> {
    let client = Client::builder()
        .urls(target.urls.clone())
        .credentials(&target.user, ROOT_PASSWORD)
        .build()?;
    let deadline = Instant::now() + START_MAX;
    loop {
        let status = client.cluster_status().await?.body;
        let votes = |role| matches!(role, MemberRole::Leader | MemberRole::Follower);
        let members = status.members.iter();
        let voters = members.filter(|member| votes(member.role)).count();
        if voters == COUNT && status.leader().is_some() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(BenchError::Voters { voters });
        }
        // The server has no event to wait for across a membership change.
        sleep(POLL).await;
    }
}

/// Whether a directory lies on a file system without a disk, as far as Linux says.
fn in_memory(directory: &Path) -> bool {
    // Elsewhere there is no such file, and nothing to warn of.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    file_system(&mounts, directory).is_some_and(|kind| matches!(kind, "tmpfs" | "ramfs"))
}

/// Type of the file system that holds `path`: of the longest mount point above it, and of those
/// the last. Lines are `device mount-point type …`, see proc(5).
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(point, _)| path.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind)
}

/// Addresses on loopback that nobody uses now. All are held until the last is found, so that they
/// differ; the process id keeps two measurements apart.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, BenchError> {
    let offset = u16::try_from(std::process::id() * 16 % u32::from(PORTS)).unwrap_or_default();
    let candidates = (0..PORTS).map(|n| FIRST_PORT + (offset + n) % PORTS);
    let held: Vec<TcpListener> = candidates
        .filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
        .take(count)
        .collect();
    if held.len() < count {
        return Err(BenchError::Ports(count));
    }
    let addresses = held.iter().map(TcpListener::local_addr);
    Ok(addresses.collect::<io::Result<_>>()?)
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
    fn the_nearest_mount_point_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n";
        let kind = |path: &str| file_system(mounts, Path::new(path));
        assert_eq!(kind("/home/x"), Some("ext4"));
        assert_eq!(kind("/tmp/x"), Some("tmpfs"));
        assert_eq!(kind("/tmpfoo"), Some("ext4"));
        assert_eq!(kind("/tmp/disk/x"), Some("xfs"));
    }

    #[tokio::test]
    async fn a_program_that_ends_is_reported_with_its_log_kept() {
        let parent = std::env::temp_dir();
        let mut nodes = Nodes::prepare(Path::new("/bin/sh"), Some(&parent)).unwrap();
        let directory = nodes.directory.clone();
        let result = nodes.play(&[], Printer { json: false }).await;
        // `sh serve` has no such script.
        assert!(
            matches!(result, Err(BenchError::Node { number: 1, .. })),
            "{result:?}"
        );
        assert!(nodes.finish(result).await.is_err());
        assert!(directory.join("node-1.log").exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
