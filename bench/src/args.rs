//! The command line.

use std::path::PathBuf;

use api::headers::Consistency;
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};

use crate::error::BenchError;

/// Most clients at once; each holds a socket here and one in a node.
const CLIENTS_MAX: u64 = 10_000;
/// Longest step, in seconds.
const SECONDS_MAX: u64 = 3_600;
/// Most ids that point SELECTs choose from.
const KEYS_MAX: u64 = 1_000_000;
/// The server's own bound on the messages of one answer.
const LIMIT_MAX: u64 = 10_000;
/// What separates workloads behind `cluster … --`.
const SEPARATOR: &str = "--";
/// What `cluster` runs when nothing is named.
const CLUSTER_DEFAULT: &[&[&str]] = &[
    &["insert"],
    &["point-select", "--consistency", "linearizable"],
    &["point-select", "--consistency", "local"],
    &["consume"],
    &["consume-group"],
];

/// Puts a load on a Duet cluster and says what it did
#[derive(Parser, Debug)]
#[command(name = "bench", version)]
pub struct Arguments {
    #[command(flatten)]
    pub target: Target,
    /// Print each result also as a JSON object on a line of its own
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// Which nodes, and as whom.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// URL of a node; repeat it for several, over which connections are spread in turn
    #[arg(long = "url", env = "DUET_URL", value_delimiter = ',')]
    pub urls: Vec<String>,
    /// User to log in as
    #[arg(long, env = "DUET_USER", default_value = "root")]
    pub user: String,
    /// The user's password
    #[arg(long, env = "DUET_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
}

impl Target {
    /// With at least one URL and a password.
    pub fn checked(self) -> Result<Target, BenchError> {
        if self.urls.is_empty() {
            return Err(BenchError::Usage("--url is missing".into()));
        }
        if self.password.is_none() {
            return Err(BenchError::Usage("--password is missing".into()));
        }
        Ok(self)
    }
}

#[derive(Subcommand, Debug)]
pub enum Command {
    #[command(flatten)]
    Workload(Workload),
    /// Start three nodes on this machine, run workloads against them, and stop them
    Cluster(ClusterArgs),
}

/// One thing to measure.
#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Workload {
    /// Single-row INSERTs with parameters into a table that is routed to a topic
    Insert(InsertArgs),
    /// SELECTs of one row by primary key
    PointSelect(PointSelectArgs),
    /// Read the whole topic without a group, once from each node
    Consume(ConsumeArgs),
    /// Claim and ack the whole topic as a new consumer group
    ConsumeGroup(ConsumeGroupArgs),
}

/// Closed-loop steps: each client has one request under way at any time.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Steps {
    /// Numbers of clients, one step each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256],
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=CLIENTS_MAX))]
    pub clients: Vec<u32>,
    /// Length of a step, in seconds
    #[arg(long, default_value_t = 10,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=SECONDS_MAX))]
    pub seconds: u64,
    /// Load before a step that is not counted, in seconds
    #[arg(long, default_value_t = 2,
          value_parser = RangedU64ValueParser::<u64>::new().range(..=SECONDS_MAX))]
    pub warm_up_seconds: u64,
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct InsertArgs {
    #[command(flatten)]
    pub steps: Steps,
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct PointSelectArgs {
    #[command(flatten)]
    pub steps: Steps,
    /// How fresh a read must be: linearizable or local
    #[arg(long, default_value_t = Consistency::Linearizable)]
    pub consistency: Consistency,
    /// How many existing ids to choose from
    #[arg(long, default_value_t = 10_000,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=KEYS_MAX))]
    pub keys: u64,
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct ConsumeArgs {
    /// Messages asked for in one request
    #[arg(long, default_value_t = 1_000,
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=LIMIT_MAX))]
    pub limit: u32,
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct ConsumeGroupArgs {
    /// Numbers of consumers, one run with a new group each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4],
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=CLIENTS_MAX))]
    pub consumers: Vec<u32>,
    /// Messages asked for in one request
    #[arg(long, default_value_t = 100,
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=LIMIT_MAX))]
    pub limit: u32,
}

#[derive(Args, Debug)]
pub struct ClusterArgs {
    /// The `duet` program; measure a release build
    #[arg(long, value_name = "PATH")]
    pub duet: PathBuf,
    /// Directory on a disk, below which the nodes keep their data [default: the system's
    /// temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Workloads with their options, separated by `--` [default: all of them]
    #[arg(last = true, value_name = "WORKLOAD")]
    workloads: Vec<String>,
}

impl ClusterArgs {
    /// The workloads to run, in order.
    pub fn workloads(&self) -> Result<Vec<Workload>, BenchError> {
        let named = self.workloads.split(|word| word == SEPARATOR);
        if self.workloads.is_empty() {
            return CLUSTER_DEFAULT
                .iter()
                .map(|words| parse(words.iter().copied()))
                .collect();
        }
        named
            .map(|words| parse(words.iter().map(String::as_str)))
            .collect()
    }
}

/// One workload as it stands behind `--`.
#[derive(Parser)]
#[command(name = "bench cluster --", no_binary_name = true)]
struct Line {
    #[command(subcommand)]
    workload: Workload,
}

fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Workload, BenchError> {
    Ok(Line::try_parse_from(words)?.workload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::try_parse_from(line.split_whitespace()).unwrap()
    }

    fn cluster(line: &str) -> Result<Vec<Workload>, BenchError> {
        match arguments(line).command {
            Command::Cluster(cluster) => cluster.workloads(),
            Command::Workload(other) => panic!("not a cluster: {other:?}"),
        }
    }

    #[test]
    fn insert_with_its_options() {
        let arguments = arguments(
            "bench --url http://a:1 --url http://b:2 --user root --password x --json \
             insert --clients 1,16 --seconds 3 --warm-up-seconds 0",
        );
        assert!(arguments.json);
        assert_eq!(arguments.target.urls, ["http://a:1", "http://b:2"]);
        let Command::Workload(Workload::Insert(insert)) = arguments.command else {
            panic!("{:?}", arguments.command);
        };
        assert_eq!(insert.steps.clients, [1, 16]);
        assert_eq!((insert.steps.seconds, insert.steps.warm_up_seconds), (3, 0));
    }

    #[test]
    fn defaults_are_the_steps_of_the_report() {
        let arguments = arguments("bench point-select --consistency local");
        let Command::Workload(Workload::PointSelect(select)) = arguments.command else {
            panic!("{:?}", arguments.command);
        };
        assert_eq!(select.consistency, Consistency::Local);
        assert_eq!(select.steps.clients, [1, 16, 64, 256]);
        assert_eq!(
            (select.steps.seconds, select.steps.warm_up_seconds),
            (10, 2)
        );
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        for line in [
            "bench insert --clients 0",
            "bench insert --clients 1,x",
            "bench insert --seconds 0",
            "bench consume --limit 10001",
            "bench point-select --consistency eventual",
            "bench cluster",
            "bench",
        ] {
            assert!(
                Arguments::try_parse_from(line.split_whitespace()).is_err(),
                "{line}"
            );
        }
    }

    #[test]
    fn a_workload_needs_nodes_and_a_password() {
        let target = |urls: &[&str], password: Option<&str>| Target {
            urls: urls.iter().map(|&url| url.to_owned()).collect(),
            user: "root".into(),
            password: password.map(str::to_owned),
        };
        assert!(target(&[], Some("x")).checked().is_err());
        assert!(target(&["http://a:1"], None).checked().is_err());
        assert!(target(&["http://a:1"], Some("x")).checked().is_ok());
    }

    #[test]
    fn a_cluster_runs_several_workloads() {
        let workloads = cluster(
            "bench cluster --duet duet -- insert --clients 4 -- consume -- consume-group \
             --consumers 2",
        );
        let [
            Workload::Insert(insert),
            Workload::Consume(_),
            Workload::ConsumeGroup(group),
        ] = &workloads.unwrap()[..]
        else {
            panic!("other workloads");
        };
        assert_eq!(insert.steps.clients, [4]);
        assert_eq!(group.consumers, [2]);
    }

    #[test]
    fn a_cluster_runs_everything_by_default() {
        assert_eq!(cluster("bench cluster --duet duet").unwrap().len(), 5);
    }

    #[test]
    fn a_cluster_refuses_what_is_no_workload() {
        for line in [
            "bench cluster --duet duet -- insert --frequency 3",
            "bench cluster --duet duet -- insert -- ",
            "bench cluster --duet duet -- cluster --duet duet",
        ] {
            assert!(cluster(line).is_err(), "{line}");
        }
    }
}
