//! Several nodes that form a cluster, and the end of a test.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::lab::{Namespaces, Network, Proxy, Relays};
use crate::node::Node;
use crate::{Api, Metrics, ROOT_PASSWORD, User, wait};

/// What counts as a full disk outside of the lab, in bytes. How much room there is on the machine
/// is not what is tested there.
const MACHINES_RESERVE_BYTES: &str = "67108864";
/// How long all nodes may take to become voters that know their leader.
const JOIN_MAX: Duration = Duration::from_secs(60);
/// How long a command may take that waits for a node to join.
const COMMAND_MAX: Duration = Duration::from_secs(120);
/// How long nodes may take to elect a new leader before a test gives up waiting. What is promised
/// is much less, and asserted where it is promised.
const ELECTION_MAX: Duration = Duration::from_secs(30);

/// A running cluster. When it is dropped its processes end and its logs are read; a failed test
/// leaves data and logs.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// The networks of their own, in the lab. Go after the nodes.
    namespaces: Option<Namespaces>,
    /// Relays between them, if there are any. Go after the nodes.
    relays: Option<Relays>,
    /// Size of a node's own disk, in MiB; only in the lab.
    disk_mib: u32,
    /// Doors before the nodes, if there are any.
    doors: Vec<Proxy>,
    /// Nodes that are no members any more; their logs are read all the same.
    former: Vec<Node>,
    env: Vec<(String, String)>,
    directory: Option<TempDir>,
    expected_errors: Vec<String>,
}

/// The cluster that tests without any wish of their own share while one of them runs.
static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());

impl Cluster {
    /// Three nodes, shared with other tests of this process: for tests that break nothing and stay
    /// in a namespace of their own.
    pub async fn shared() -> Arc<Cluster> {
        let mut shared = SHARED.lock().await;
        if let Some(cluster) = shared.upgrade() {
            return cluster;
        }
        let cluster = Arc::new(Cluster::start(3).await);
        *shared = Arc::downgrade(&cluster);
        cluster
    }

    /// A cluster of its own with the default configuration.
    pub async fn start(nodes: usize) -> Cluster {
        Cluster::start_with(nodes, &[]).await
    }

    /// A cluster of its own with more environment variables.
    pub async fn start_with(nodes: usize, env: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::describe(nodes, env);
        cluster.found().await;
        cluster
    }

    /// A cluster in the lab: each node has a network and a disk of `disk_mib` MiB of its own.
    pub async fn start_in_lab(nodes: u8, disk_mib: u32, env: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::describe_in_lab(nodes, disk_mib, env);
        cluster.found().await;
        cluster
    }

    /// The same, not started.
    pub fn describe_in_lab(nodes: u8, disk_mib: u32, env: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::describe(0, &[]);
        // One more, for a node that is to come later.
        let network = Namespaces::new(nodes + 1);
        let env = environment(env);
        cluster.nodes = (0..nodes)
            .map(|host| Node::in_lab(cluster.directory(), &network, host, disk_mib, env.clone()))
            .collect();
        cluster.env = env;
        cluster.disk_mib = disk_mib;
        cluster.namespaces = Some(network);
        cluster
    }

    /// A cluster with relays between its nodes, so that its network can be broken without any
    /// rights.
    pub async fn start_with_relays(nodes: u8, env: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::describe_with_relays(nodes, env);
        cluster.found().await;
        cluster
    }

    /// The same, not started.
    pub fn describe_with_relays(nodes: u8, env: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::describe(0, env);
        // One more, for a node that is to come later.
        let relays = Relays::new(nodes + 1);
        let (directory, env) = (cluster.directory(), &cluster.env);
        cluster.nodes = (0..nodes)
            .map(|host| Node::behind_relay(directory, relays.seat(host), env.clone()))
            .collect();
        cluster.relays = Some(relays);
        cluster
    }

    /// Gives every node a wall clock of its own, from its next start on.
    pub fn give_clocks(&mut self) {
        for node in &mut self.nodes {
            node.give_clock();
        }
    }

    /// Opens a door before each node, for clients that are to lose answers.
    pub async fn open_doors(&mut self) {
        for node in &self.nodes {
            let door = Proxy::before(node.http).await;
            self.doors.push(door.expect("a port on loopback is free"));
        }
    }

    /// The doors before the nodes, in their order; none if they were not opened.
    pub fn doors(&self) -> &[Proxy] {
        &self.doors
    }

    /// A client as [`Cluster::client`], which goes through the doors where there are any.
    pub fn client_at_doors(&self) -> client::Client {
        if self.doors.is_empty() {
            return self.client();
        }
        let url = |door: &Proxy| format!("http://{}", door.address());
        client::Client::builder()
            .urls(self.doors.iter().map(url))
            .credentials("root", ROOT_PASSWORD)
            .build()
            .expect("a client of these doors")
    }

    /// The network between the nodes; only a cluster in the lab or with relays has one that can be
    /// broken.
    pub fn network(&self) -> &dyn Network {
        match (&self.namespaces, &self.relays) {
            (Some(namespaces), _) => namespaces,
            (None, Some(relays)) => relays,
            (None, None) => panic!("nothing is between the nodes of this cluster"),
        }
    }

    /// The same in the lab, where packets can be lost.
    pub fn packets(&self) -> &Namespaces {
        self.namespaces
            .as_ref()
            .expect("a cluster in the lab has packets")
    }

    /// The first node makes the cluster, the others join; returns when all vote.
    pub async fn found(&mut self) {
        self.nodes[0].spawn(&["--bootstrap".into()]);
        self.nodes[0].ready().await;
        let join = ["--join".to_owned(), self.nodes[0].rpc.to_string()];
        for node in &mut self.nodes[1..] {
            node.spawn(&join);
        }
        for node in &mut self.nodes[1..] {
            node.ready().await;
        }
        self.wait_for_voters(self.nodes.len()).await;
    }

    /// A cluster whose nodes are not started.
    pub fn describe(nodes: usize, env: &[(&str, &str)]) -> Cluster {
        let directory = tempfile::Builder::new().prefix("duet-test-").tempdir();
        let directory = directory.expect("a temporary directory can be made");
        let reserve = ("DUET_DISK_RESERVE_BYTES", MACHINES_RESERVE_BYTES);
        let all = environment(&[&[reserve], env].concat());
        let nodes = (1..=nodes)
            .map(|number| Node::new(directory.path(), &format!("node-{number}"), all.clone()))
            .collect();
        Cluster {
            nodes,
            namespaces: None,
            relays: None,
            disk_mib: 0,
            doors: Vec::new(),
            former: Vec::new(),
            env: all,
            directory: Some(directory),
            expected_errors: Vec::new(),
        }
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes, to be broken.
    pub fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// Starts one more node, which joins through the node `through`; its place among the nodes.
    /// Returns when it is ready.
    pub async fn grow(&mut self, through: usize) -> usize {
        let place = self.invite(through, &[]);
        self.nodes[place].ready().await;
        place
    }

    /// The same with further flags; returns at once. In a network it comes on the host, and without
    /// the data, of the node that was forgotten last, if there is one.
    pub fn invite(&mut self, through: usize, flags: &[&str]) -> usize {
        let place = self.nodes.len();
        let name = format!("node-{}", place + self.former.len() + 1);
        let env = self.env.clone();
        let host = u8::try_from(place).expect("a cluster has few nodes");
        let in_network = self.namespaces.is_some() || self.relays.is_some();
        let mut node = if let Some(mut former) = self.former.pop_if(|_| in_network) {
            former.lose_data();
            former
        } else if let Some(network) = &self.namespaces {
            Node::in_lab(self.directory(), network, host, self.disk_mib, env)
        } else if let Some(relays) = &self.relays {
            Node::behind_relay(self.directory(), relays.seat(host), env)
        } else {
            Node::new(self.directory(), &name, env)
        };
        if self.nodes.iter().any(Node::has_clock) {
            node.give_clock();
        }
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        let join = ["--join".to_owned(), self.nodes[through].rpc.to_string()];
        node.spawn(&join.into_iter().chain(flags).collect::<Vec<_>>());
        self.nodes.push(node);
        place
    }

    /// The node, which does not run and was number `old`, loses its data and comes back as a new
    /// one on the same machine, with the commands that its operator would use. Returns when all
    /// vote.
    pub async fn replace(&mut self, which: usize, old: u64) {
        let through = (which + 1) % self.nodes.len();
        let join = ["--join".to_owned(), self.nodes[through].rpc.to_string()];
        let node = &mut self.nodes[which];
        node.lose_data();
        node.spawn(&join);
        let old = old.to_string();
        let replaced = self.duet(&["cluster", "replace", &old, "--yes"]).await;
        assert!(replaced.status.success(), "{replaced:?}");
        self.nodes[which].ready().await;
        self.wait_for_voters(self.nodes.len()).await;
    }

    /// The node is no member any more: nothing is asked of it from now on.
    pub fn forget(&mut self, which: usize) -> &mut Node {
        let node = self.nodes.remove(which);
        self.former.push(node);
        self.former.last_mut().expect("it was just put there")
    }

    /// The numbers of the nodes in the cluster, in the order of the nodes.
    pub async fn ids(&mut self) -> Vec<u64> {
        let leader = self.leader().await;
        let status = self.client().pinned_to(leader).cluster_status().await;
        let status = status.expect("the leader answers");
        let id = |node: &Node| {
            let mut members = status.members.iter();
            let member = members.find(|member| member.rpc == node.rpc.to_string());
            member.map_or(0, |member| member.node_id)
        };
        self.nodes.iter().map(id).collect()
    }

    /// URLs of all nodes.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::url).collect()
    }

    /// The authorities that clients of the nodes trust; none: they speak no TLS.
    fn authorities(&self) -> Option<Vec<u8>> {
        self.nodes.first().and_then(Node::authorities)
    }

    /// Where data and logs are.
    pub fn directory(&self) -> &Path {
        self.directory
            .as_ref()
            .expect("it is there until the end")
            .path()
    }

    /// ERROR lines that contain this are part of the test.
    pub fn expect_errors(&mut self, part: &str) {
        self.expected_errors.push(part.to_owned());
    }

    /// HTTP to all nodes in turn.
    pub fn api(&self) -> Arc<Api> {
        Arc::new(Api::trusting(self.urls(), self.authorities().as_deref()))
    }

    /// `root`, on all nodes in turn.
    pub async fn root(&self) -> User {
        User::login(self.api(), "root", ROOT_PASSWORD).await
    }

    /// The metrics of a node that answers.
    pub async fn metrics(&self, node: usize) -> Metrics {
        let url = self.nodes[node].url();
        let metrics = Metrics::of(&self.api(), &url).await;
        metrics.unwrap_or_else(|| panic!("{url} does not answer"))
    }

    /// A client of the kind programs use, as `root`.
    pub fn client(&self) -> client::Client {
        let built = self.client_builder().build();
        built.expect("a client of these nodes")
    }

    /// The same, for requests that take long.
    pub fn patient_client(&self, deadline: Duration) -> client::Client {
        let built = self.client_builder().request_timeout(deadline).build();
        built.expect("a client of these nodes")
    }

    fn client_builder(&self) -> client::Builder {
        let mut builder = client::Client::builder().urls(self.urls());
        if let Some(authorities) = self.authorities() {
            builder = builder.authorities(authorities);
        }
        builder.credentials("root", ROOT_PASSWORD)
    }

    /// The same, which begins with the node `first` and goes on to the others.
    pub fn client_from(&self, first: usize) -> client::Client {
        let mut urls = self.urls();
        let count = urls.len();
        urls.rotate_left(first % count);
        let builder = client::Client::builder().urls(urls);
        builder
            .credentials("root", ROOT_PASSWORD)
            .build()
            .expect("a client of these nodes")
    }

    /// Runs `duet` with this cluster's nodes and `root`, and returns how it ended.
    pub async fn duet(&self, args: &[&str]) -> std::process::Output {
        let mut command = tokio::process::Command::new(crate::binary::duet());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DUET_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .env("DUET_URL", self.urls().join(","))
            .env("DUET_USER", "root")
            .env("DUET_PASSWORD", ROOT_PASSWORD)
            .envs(
                self.env
                    .iter()
                    .filter(|(name, _)| name == "DUET_CACERT")
                    .cloned(),
            )
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        let ended = tokio::time::timeout(COMMAND_MAX, command.output()).await;
        ended
            .unwrap_or_else(|_| panic!("duet {args:?} did not end within {COMMAND_MAX:?}"))
            .expect("the binary under test starts")
    }

    /// Waits until that many members vote and one leads.
    pub async fn wait_for_voters(&self, count: usize) {
        let client = self.client();
        wait::until(&format!("{count} nodes vote"), JOIN_MAX, async || {
            use client::api::cluster::MemberRole::{Follower, Leader};
            let status = client.cluster_status().await.ok()?;
            let members = status.members.iter();
            let voters = members
                .filter(|member| matches!(member.role, Leader | Follower))
                .count();
            (voters == count && status.leader().is_some()).then_some(())
        })
        .await;
    }

    /// Which node leads, as the nodes that run see it.
    pub async fn leader(&mut self) -> usize {
        let running: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].is_running())
            .collect();
        let asked = running.first().copied().expect("a node runs");
        let client = self.client().pinned_to(asked);
        let nodes = &self.nodes;
        wait::until("a node leads", ELECTION_MAX, async || {
            let status = client.cluster_status().await.ok()?;
            let http = status.leader()?.http.clone();
            let leads = |node: &Node| http.trim_end_matches('/').ends_with(&node.http.to_string());
            nodes
                .iter()
                .position(leads)
                .filter(|leader| running.contains(leader))
        })
        .await
    }

    /// Starts nodes again on their data, all at once, and waits until each is ready.
    pub async fn restart(&mut self, which: &[usize]) {
        for node in which {
            self.nodes[*node].spawn(&[]);
        }
        for node in which {
            self.nodes[*node].ready().await;
        }
    }

    /// The power of these nodes fails in the same moment, and comes back; their processes do not.
    pub async fn lose_power(&mut self, which: &[usize]) {
        // A thread that was in the kernel may come back from it before it stops.
        self.expect_errors("Input/output error");
        std::thread::scope(|scope| {
            for (number, node) in self.nodes.iter_mut().enumerate() {
                if which.contains(&number) {
                    scope.spawn(|| node.lose_power());
                }
            }
        });
        for node in which {
            self.nodes[*node].disk().power_on().await;
        }
    }

    /// Kills all nodes within the same moment.
    pub fn kill_all(&mut self) {
        std::thread::scope(|scope| {
            for node in self.nodes.iter_mut().chain(&mut self.former) {
                scope.spawn(|| node.kill9());
            }
        });
    }

    /// The answer of each node to the same local read, made once it has applied the log up to
    /// `index`. Asserts that all are the same to the byte, and returns it.
    pub async fn same_everywhere(&self, user: &User, index: u64, ask: &Ask) -> Value {
        let mut first: Option<String> = None;
        for (number, url) in self.urls().iter().enumerate() {
            let min_index = index.to_string();
            let headers = [
                ("Duet-Consistency", "local"),
                ("Duet-Min-Index", min_index.as_str()),
            ];
            let text = match ask {
                Ask::Rows(sql) => {
                    let reply = user.sql_on(url, sql, &headers).await;
                    reply.results()[0]["rows"].to_string()
                }
                Ask::Messages { topic, partition } => {
                    let messages = user.all_messages(url, topic, *partition, &headers).await;
                    Value::from(messages).to_string()
                }
            };
            match &first {
                None => first = Some(text),
                Some(first) => assert_eq!(*first, text, "node {} differs", number + 1),
            }
        }
        let text = first.expect("a cluster has nodes");
        serde_json::from_str(&text).expect("it was JSON before")
    }

    /// Ends all nodes, and gives what their logs say that they must not. Data and logs stay if
    /// there is something, or if `keep` asks for it.
    pub fn end(mut self, keep: bool) -> Vec<String> {
        self.kill_all();
        let complaints = self.complaints();
        // Part of every line: they are reported here, and not once more when this is dropped.
        self.expected_errors.push(String::new());
        if (keep || !complaints.is_empty())
            && let Some(directory) = self.directory.take()
        {
            eprintln!("data and logs are in {}", directory.keep().display());
        }
        complaints
    }

    /// What the logs say that they must not.
    fn complaints(&self) -> Vec<String> {
        let nodes = self.nodes.iter().chain(&self.former);
        nodes
            .flat_map(|node| node.complaints(&self.expected_errors))
            .collect()
    }
}

/// The environment of every node, with more variables of a test's own.
fn environment(more: &[(&str, &str)]) -> Vec<(String, String)> {
    let all = [
        ("DUET_ROOT_PASSWORD", ROOT_PASSWORD),
        ("DUET_CLUSTER_SECRET", "between us nodes"),
    ];
    let all = all.iter().chain(more);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// What is compared between nodes.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Rows of a query with an ORDER BY.
    Rows(String),
    /// All messages of a partition.
    Messages {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
    },
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
        let complaints = self.complaints();
        let failed = std::thread::panicking();
        if !failed && complaints.is_empty() {
            return;
        }
        if let Some(directory) = self.directory.take() {
            eprintln!("data and logs are in {}", directory.keep().display());
        }
        for line in &complaints {
            eprintln!("in a node's log: {line}");
        }
        // A second panic while unwinding would abort and hide the first.
        assert!(
            failed,
            "{} lines in the logs that must not be there",
            complaints.len()
        );
    }
}
