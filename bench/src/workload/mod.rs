//! What can be measured, a file each, and what they share.

pub mod consume;
pub mod consume_group;
pub mod insert;
pub mod point_select;
mod schema;

use std::time::Duration;

use api::topics::TopicPartition;
use api::{SqlResponse, paths, sql::Status};
use client::Client;

use crate::args::{Steps, Target, Workload};
use crate::connection::{Connection, Reply, Template};
use crate::cpu::Process;
use crate::error::BenchError;
use crate::recorder::Failure;
use crate::report::Printer;
use crate::step::{Endpoint, Length};

/// The table all workloads use.
const TABLE: &str = "bench.rows";
/// The topic its rows go to; one partition.
const TOPIC: &str = "bench.row_events";

/// A cluster one is logged in to.
pub struct Bench {
    client: Client,
    token: String,
    addresses: Vec<String>,
    processes: Vec<Process>,
    printer: Printer,
}

impl Bench {
    /// Logs in. `processes` are those whose processor time results show.
    pub async fn log_in(
        target: Target,
        processes: Vec<Process>,
        printer: Printer,
    ) -> Result<Bench, BenchError> {
        let client = Client::builder().urls(target.urls).build()?;
        let password = target.password.unwrap_or_default();
        let token = client.login(&target.user, &password).await?;
        let addresses = client.urls().iter().map(|url| address(url)).collect();
        Ok(Bench {
            token: token.body.access_token,
            client,
            addresses,
            processes,
            printer,
        })
    }

    /// Each node with requests to `path`.
    fn endpoints(&self, path: &'static str) -> Result<Vec<Endpoint>, BenchError> {
        let endpoint = |address: &String| {
            let template = Template::post(address, path, &self.token)
                .map_err(|error| BenchError::Usage(format!("{address}: {error}")))?;
            Ok(Endpoint {
                address: address.clone(),
                template,
            })
        };
        self.addresses.iter().map(endpoint).collect()
    }

    /// Offset that the topic's next message will get.
    async fn next_offset(&self) -> Result<u64, BenchError> {
        let partition = TopicPartition {
            topic_id: TOPIC.into(),
            partition_id: 0,
        };
        let ends = self.client.latest_offsets(vec![partition]).await?.body;
        let end = ends.offsets.first().ok_or_else(|| BenchError::Refused {
            request: paths::TOPICS_LATEST_OFFSETS,
            code: "no partition in the answer".into(),
        })?;
        Ok(end.next_offset)
    }
}

/// Runs one workload and prints its results.
pub async fn run(bench: &Bench, workload: &Workload) -> Result<(), BenchError> {
    match workload {
        Workload::Insert(args) => insert::run(bench, args).await,
        Workload::PointSelect(args) => point_select::run(bench, args).await,
        Workload::Consume(args) => consume::run(bench, args).await,
        Workload::ConsumeGroup(args) => consume_group::run(bench, args).await,
    }
}

impl Steps {
    fn length(&self) -> Length {
        Length {
            warm_up: Duration::from_secs(self.warm_up_seconds),
            counted: Duration::from_secs(self.seconds),
        }
    }
}

/// Opens a connection outside of a step.
async fn connect(endpoint: &Endpoint) -> Result<Connection, BenchError> {
    let connection = Connection::open(&endpoint.address).await;
    connection.map_err(|source| connection_error(endpoint, source))
}

fn connection_error(endpoint: &Endpoint, source: crate::connection::ConnectionError) -> BenchError {
    BenchError::Connection {
        address: endpoint.address.clone(),
        source,
    }
}

/// The body of a SQL answer, if status and body say that all went well.
fn sql_success(reply: &Reply) -> Result<SqlResponse, Failure> {
    if reply.status != 200 {
        return Err(Failure::received(reply));
    }
    match serde_json::from_slice::<SqlResponse>(&reply.body) {
        Ok(response) if response.status == Status::Success => Ok(response),
        Ok(_) => Err(Failure::received(reply)),
        Err(_) => Err(Failure::WRONG_ANSWER),
    }
}

/// `host:port` of a node's URL.
fn address(url: &str) -> String {
    let address = url.trim_start_matches("http://");
    let port = address.rsplit_once(':').map(|(_, port)| port);
    if port.is_some_and(|port| port.parse::<u16>().is_ok()) {
        address.to_owned()
    } else {
        format!("{address}:80")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::StatusCode;

    use super::*;

    fn reply(status: u16, body: &'static str) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn addresses_have_a_port() {
        assert_eq!(address("http://127.0.0.1:8080"), "127.0.0.1:8080");
        assert_eq!(address("http://node-1"), "node-1:80");
        assert_eq!(address("http://[::1]:90"), "[::1]:90");
        assert_eq!(address("http://[::1]"), "[::1]:80");
    }

    #[test]
    fn only_status_200_and_success_together_are_a_success() {
        let success = r#"{"status":"success","results":[],"took":1}"#;
        let error = r#"{"status":"error","results":[],"took":1,
            "error":{"code":"WRITE_CONFLICT","message":"m"}}"#;
        assert!(sql_success(&reply(200, success)).is_ok());
        assert!(sql_success(&reply(202, success)).is_err());
        assert_eq!(
            sql_success(&reply(409, error)).unwrap_err().code,
            "WRITE_CONFLICT"
        );
        assert_eq!(
            sql_success(&reply(200, error)).unwrap_err().code,
            "WRITE_CONFLICT"
        );
        assert_eq!(sql_success(&reply(200, "?")), Err(Failure::WRONG_ANSWER));
    }
}
