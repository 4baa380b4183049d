//! `duet cluster`: who is in it, and changing that.

mod doctor;
mod findings;
#[cfg(test)]
mod fixture;
mod recover;
mod replace;
mod screen;

use std::io::{self, Write};

use clap::{Args, Subcommand};
use client::Client;
use client::api::cluster::{AddMemberRequest, ClusterStatus};
use serde::Serialize;

use self::recover::RecoverArgs;
use self::replace::ReplaceArgs;
use self::screen::{heading, members};
use super::ask::confirm;
use super::connection::ConnectionArgs;
use super::error::CliError;

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
    /// Leader, votes and members, and what is not as it should be
    Status {
        /// Look again every second, until interrupted
        #[arg(long, conflicts_with = "json")]
        watch: bool,
    },
    /// Only the members
    Members,
    /// Add the node at an address, which waits to join, or give a member its new address
    Add {
        /// The node's RPC address; it has to answer there
        #[arg(long, value_name = "HOST:PORT")]
        rpc: String,
        /// The node's URL for clients; left out: what the node says
        #[arg(long, value_name = "URL")]
        http: Option<String>,
        /// Its number; left out: the one it has, or one never used before
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
    /// Put a new node, which was started with --join, in the place of a lost one
    Replace(ReplaceArgs),
    /// Let another member lead
    TransferLeader {
        /// The member's number
        id: u64,
    },
    /// Make a node leave its work to the others: it hands leadership on and is not ready, but goes
    /// on answering; a restart ends that
    Drain {
        /// The member's number; left out: the node that is asked
        id: Option<u64>,
    },
    /// Take a snapshot now, on the node that is asked
    Snapshot,
    /// Say what needs doing, if anything does, and end with 1 then
    Doctor,
    /// When more than half of the voters are lost for good: make a stopped node the first one of a
    /// new cluster, with what it has
    Recover(RecoverArgs),
}

/// Runs `duet cluster`.
pub async fn run(args: ClusterArgs) -> Result<(), CliError> {
    let (json, yes) = (args.json, args.yes);
    if let ClusterCommand::Recover(args) = &args.command {
        return recover::run(args, yes).await;
    }
    let client = args.connection.client()?;
    match args.command {
        ClusterCommand::Status { watch: true } => screen::watch(&client).await,
        ClusterCommand::Status { watch: false } => {
            show(&status(&client).await?, json, screen::show)
        }
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
            ask_to_remove(&client, id, yes).await?;
            show(&client.remove_member(id).await?.body, json, members)
        }
        ClusterCommand::Replace(args) => {
            show(&replace::run(&client, &args, yes).await?, json, members)
        }
        ClusterCommand::TransferLeader { id } => {
            show(&client.transfer_leader(id).await?.body, json, heading)
        }
        ClusterCommand::Drain { id } => show(&client.drain(id).await?.body, json, members),
        ClusterCommand::Doctor => doctor::run(&client).await,
        ClusterCommand::Recover(args) => recover::run(&args, yes).await,
        ClusterCommand::Snapshot => show(&client.snapshot().await?.body, json, |out, snapshot| {
            let (node, index) = (snapshot.node_id, snapshot.snapshot_index);
            writeln!(out, "node {node} took a snapshot at log index {index}")
        }),
    }
}

async fn status(client: &Client) -> Result<ClusterStatus, CliError> {
    Ok(client.cluster_status().await?.body)
}

/// Asks, naming what is about to be removed. A node that is no member needs no question: it was
/// removed before, or the server says that it never was one.
async fn ask_to_remove(client: &Client, id: u64, yes: bool) -> Result<(), CliError> {
    let status = status(client).await?;
    let Some(member) = status.members.iter().find(|member| member.node_id == id) else {
        return Ok(());
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
