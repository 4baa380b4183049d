//! `duet cluster doctor`: does anything need doing?

use std::io::Write;
use std::time::Duration;

use client::api::cluster::{ClusterStatus, MemberRole};
use client::{Client, Error};

use super::findings::{Finding, findings};
use super::screen;
use crate::cli::error::CliError;

/// How long a node may take to say whether it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(3);

/// Looks at everything; fails if something needs doing.
pub async fn run(client: &Client) -> Result<(), CliError> {
    let status = client.cluster_status().await?.body;
    let (mut found, notes) = readiness(&status).await;
    found.splice(0..0, findings(&status));
    let mut out = std::io::stdout().lock();
    screen::heading(&mut out, &status)?;
    for note in notes {
        writeln!(out, "note: {note}")?;
    }
    if found.is_empty() {
        writeln!(
            out,
            "votes, reachability, lag, disks, certificates, versions and clocks are as they should \
             be"
        )?;
        return Ok(());
    }
    for Finding { what, todo } in &found {
        writeln!(out, "- {what}\n  {todo}")?;
    }
    Err(CliError::Unhealthy(found.len()))
}

/// Asks each node that its peers reach whether it is ready, as clients would. Not being able to ask
/// from here is worth a note, no more: clients may be somewhere else.
async fn readiness(status: &ClusterStatus) -> (Vec<Finding>, Vec<String>) {
    let (mut found, mut notes) = (Vec::new(), Vec::new());
    let there = status
        .members
        .iter()
        .filter(|member| member.role != MemberRole::Unreachable && !member.draining);
    for member in there {
        let id = member.node_id;
        match ready(&member.http).await {
            Ok(()) => {}
            Err(error) => match error.received() {
                Some(said) => found.push(Finding {
                    what: format!("node {id} is not ready: {}", said.message),
                    todo: "wait until it has caught up; if it stays so, look into its log".into(),
                }),
                None => notes.push(format!("node {id} cannot be asked from here: {error}")),
            },
        }
    }
    (found, notes)
}

async fn ready(url: &str) -> Result<(), Error> {
    let node = Client::builder()
        .url(url)
        .rounds(1)
        .connect_timeout(READY_TIMEOUT)
        .request_timeout(READY_TIMEOUT)
        .build()?;
    node.ready().await.map(drop)
}
