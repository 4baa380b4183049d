//! `duet cluster`: who is in it, and changing that.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use client::Client;
use client::api::cluster::{AddMemberRequest, ClusterStatus, Member};
use serde::Serialize;

use super::ask::confirm;
use super::connection::ConnectionArgs;
use super::error::CliError;
use super::output::{Cell, table};

/// Arguments of `duet cluster`.
#[derive(Args, Debug)]
pub struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
    /// Print the server's JSON
    #[arg(long, global = true)]
    json: bool,
    /// Do not ask before a dangerous step
    #[arg(long, global = true)]
    yes: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Leader, term and members
    Status,
    /// Only the members
    Members,
    /// Add a node that is running and waits to be added
    Add {
        /// The node's RPC address
        #[arg(long, value_name = "HOST:PORT")]
        rpc: String,
        /// The node's URL for clients; left out: what the node says
        #[arg(long, value_name = "URL")]
        http: Option<String>,
        /// Its number; left out: one never used before
        #[arg(long, value_name = "N")]
        node_id: Option<u64>,
        /// Keep it without a vote
        #[arg(long)]
        learner: bool,
    },
    /// Give a learner its vote
    Promote {
        /// The learner's number
        id: u64,
    },
    /// Remove a member for good: its number is never used again
    Remove {
        /// The member's number
        id: u64,
    },
    /// Let another member lead
    TransferLeader {
        /// The member's number
        id: u64,
    },
    /// Take a snapshot now, on the node that is asked
    Snapshot,
}

/// Runs `duet cluster`.
pub async fn run(args: ClusterArgs) -> Result<(), CliError> {
    let client = args.connection.client()?;
    let (json, yes) = (args.json, args.yes);
    match args.command {
        ClusterCommand::Status => show(&status(&client).await?, json, |out, status| {
            heading(out, status)?;
            members(out, status)
        }),
        ClusterCommand::Members => show(&status(&client).await?, json, members),
        ClusterCommand::Add {
            rpc,
            http,
            node_id,
            learner,
        } => {
            let request = AddMemberRequest {
                node_id,
                rpc,
                http,
                voter: !learner,
            };
            show(&client.add_member(&request).await?.body, json, members)
        }
        ClusterCommand::Promote { id } => {
            show(&client.promote_member(id).await?.body, json, members)
        }
        ClusterCommand::Remove { id } => {
            remove(&client, id, yes).await?;
            show(&client.remove_member(id).await?.body, json, members)
        }
        ClusterCommand::TransferLeader { id } => {
            show(&client.transfer_leader(id).await?.body, json, heading)
        }
        ClusterCommand::Snapshot => show(&client.snapshot().await?.body, json, |out, snapshot| {
            let (node, index) = (snapshot.node_id, snapshot.snapshot_index);
            writeln!(out, "node {node} took a snapshot at log index {index}")
        }),
    }
}

async fn status(client: &Client) -> Result<ClusterStatus, CliError> {
    Ok(client.cluster_status().await?.body)
}

/// Asks, naming what is about to be removed.
async fn remove(client: &Client, id: u64, yes: bool) -> Result<(), CliError> {
    let status = status(client).await?;
    let Some(member) = status.members.iter().find(|member| member.node_id == id) else {
        return Err(CliError::NotFound {
            kind: "member",
            name: id.to_string(),
        });
    };
    confirm(
        &format!(
            "Remove node {id} ({}, {}) from cluster {}? It cannot come back under this number.",
            member.role.as_str(),
            member.http,
            status.cluster_id
        ),
        yes,
    )
}

fn show<T: Serialize>(
    body: &T,
    json: bool,
    for_people: impl FnOnce(&mut dyn Write, &T) -> io::Result<()>,
) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    if json {
        let text = serde_json::to_string(body).map_err(io::Error::other)?;
        writeln!(out, "{text}")?;
    } else {
        for_people(&mut out, body)?;
    }
    Ok(())
}

fn heading(out: &mut dyn Write, status: &ClusterStatus) -> io::Result<()> {
    writeln!(out, "cluster  {}", status.cluster_id)?;
    match status.leader() {
        Some(leader) => writeln!(out, "leader   node {} ({})", leader.node_id, leader.http)?,
        None => writeln!(out, "leader   none: writes wait until one is elected")?,
    }
    writeln!(out, "term     {}\n", status.term)
}

fn members(out: &mut dyn Write, status: &ClusterStatus) -> io::Result<()> {
    let headers = [
        "node", "role", "http", "rpc", "log", "applied", "lag", "version",
    ];
    let rows: Vec<Vec<Cell>> = status.members.iter().map(member).collect();
    table(out, &headers.map(Cell::left), &rows)
}

fn member(member: &Member) -> Vec<Cell> {
    let number =
        |value: Option<u64>| Cell::right(value.map_or_else(|| "?".into(), |n| n.to_string()));
    vec![
        Cell::right(member.node_id),
        Cell::left(member.role.as_str()),
        Cell::left(member.http.as_str()),
        Cell::left(member.rpc.as_str()),
        number(member.last_log_index),
        number(member.applied_index),
        number(member.lag),
        Cell::left(member.version.as_deref().unwrap_or("?")),
    ]
}

#[cfg(test)]
mod tests {
    use client::api::cluster::MemberRole;

    use super::*;

    #[test]
    fn a_member_that_cannot_be_asked_is_shown_with_question_marks() {
        let gone = Member {
            node_id: 2,
            role: MemberRole::Unreachable,
            http: "http://h:1".into(),
            rpc: "h:2".into(),
            last_log_index: None,
            applied_index: None,
            lag: None,
            version: None,
            disk_free_bytes: None,
            disk_full: None,
        };
        let status = ClusterStatus {
            cluster_id: "c".into(),
            leader_id: None,
            term: 4,
            members: vec![gone],
        };
        let mut out = Vec::new();
        heading(&mut out, &status).unwrap();
        members(&mut out, &status).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("leader   none"), "{text}");
        let last = text.lines().last().unwrap();
        assert_eq!(last.matches('?').count(), 4, "{text}");
    }
}
