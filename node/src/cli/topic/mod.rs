//! `duet topic`: topics, their messages and their consumer groups.

mod groups;
mod tail;

use std::io::{self, Write};

use clap::{Args, Subcommand};
use client::api::topics::{PartitionEnd, TopicPartition};
use client::api::{ResultSet, SqlRequest};
use client::{Client, RequestOptions};
use serde_json::Value;

use super::connection::ConnectionArgs;
use super::error::CliError;
use super::output::{Cell, table, text};

/// Arguments of `duet topic`.
#[derive(Args, Debug)]
pub struct TopicArgs {
    #[command(subcommand)]
    command: TopicCommand,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// All topics
    List,
    /// One topic: its sources and where its partitions end
    Describe {
        /// Its name, as in demo.message_events
        topic: String,
    },
    /// Messages, without a group and without a trace
    Tail(tail::TailArgs),
    /// The groups that consume a topic
    Groups {
        /// Its name
        topic: String,
    },
    /// How far behind each group is
    Lag {
        /// Its name
        topic: String,
        /// Only this group
        group: Option<String>,
    },
    /// Move a group's position; what it holds in leases is given up
    Reset(groups::ResetArgs),
}

/// Runs `duet topic`.
pub async fn run(args: TopicArgs) -> Result<(), CliError> {
    let client = args.connection.client()?;
    match args.command {
        TopicCommand::List => list(&client).await,
        TopicCommand::Describe { topic } => describe(&client, &topic).await,
        TopicCommand::Tail(args) => tail::run(&client, &args).await,
        TopicCommand::Groups { topic } => groups::list(&client, &topic).await,
        TopicCommand::Lag { topic, group } => groups::lag(&client, &topic, group.as_deref()).await,
        TopicCommand::Reset(args) => groups::reset(&client, &args).await,
    }
}

async fn list(client: &Client) -> Result<(), CliError> {
    let sql = "SELECT topic_id, partitions, retention_seconds, retention_max_bytes, routes \
               FROM system.topics ORDER BY topic_id";
    let topics = select(client, sql, Vec::new()).await?;
    let headers = [
        "topic",
        "partitions",
        "retention_seconds",
        "retention_max_bytes",
        "sources",
    ];
    let rows: Vec<Vec<Cell>> = topics
        .iter()
        .map(|row| {
            let numbers = row[1..4].iter().map(|value| Cell::right(text(value)));
            let mut cells = vec![Cell::left(text(&row[0]))];
            cells.extend(numbers);
            cells.push(Cell::right(routes(&row[4]).len()));
            cells
        })
        .collect();
    print_table(&headers, &rows)
}

async fn describe(client: &Client, topic: &str) -> Result<(), CliError> {
    let sql = "SELECT partitions, retention_seconds, retention_max_bytes, routes, created_at \
               FROM system.topics WHERE topic_id = $1";
    let rows = select(client, sql, vec![topic.into()]).await?;
    let Some(row) = rows.first() else {
        return Err(no_topic(topic));
    };
    let ends = ends(client, topic, partitions(&row[0])?).await?;
    let mut out = io::stdout().lock();
    writeln!(out, "topic                {topic}")?;
    writeln!(out, "created              {}", text(&row[4]))?;
    writeln!(out, "retention_seconds    {}", text(&row[1]))?;
    writeln!(out, "retention_max_bytes  {}", text(&row[2]))?;
    writeln!(out)?;
    let sources: Vec<Vec<Cell>> = routes(&row[3])
        .iter()
        .map(|route| {
            let field = |name: &str| {
                let value = route.get(name).filter(|value| !value.is_null());
                Cell::left(value.map_or_else(String::new, text))
            };
            ["table_id", "op", "payload_mode", "filter_expr"]
                .map(field)
                .into()
        })
        .collect();
    table(
        &mut out,
        &["source", "on", "payload", "where"].map(Cell::left),
        &sources,
    )?;
    writeln!(out)?;
    let partitions: Vec<Vec<Cell>> = ends
        .iter()
        .map(|end| vec![Cell::right(end.partition_id), Cell::right(end.next_offset)])
        .collect();
    table(
        &mut out,
        &["partition", "next_offset"].map(Cell::left),
        &partitions,
    )?;
    Ok(())
}

/// The routes of a topic, which the system table holds as JSON text.
fn routes(cell: &Value) -> Vec<Value> {
    let parsed = match cell {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        other => other.clone(),
    };
    parsed.as_array().cloned().unwrap_or_default()
}

async fn partition_count(client: &Client, topic: &str) -> Result<u32, CliError> {
    let sql = "SELECT partitions FROM system.topics WHERE topic_id = $1";
    let rows = select(client, sql, vec![topic.into()]).await?;
    let row = rows.first().ok_or_else(|| no_topic(topic))?;
    partitions(&row[0])
}

async fn ends(client: &Client, topic: &str, count: u32) -> Result<Vec<PartitionEnd>, CliError> {
    let partitions = (0..count)
        .map(|partition_id| TopicPartition {
            topic_id: topic.to_owned(),
            partition_id,
        })
        .collect();
    Ok(client.latest_offsets(partitions).await?.body.offsets)
}

fn partitions(cell: &Value) -> Result<u32, CliError> {
    number(cell)
        .and_then(|count| u32::try_from(count).ok())
        .ok_or_else(|| CliError::Answer(format!("{cell} is no number of partitions")))
}

/// A whole number, which BIGINT columns hold as text.
fn number(cell: &Value) -> Option<u64> {
    match cell {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Rows of a query whose columns this program knows.
async fn select(
    client: &Client,
    sql: &str,
    params: Vec<Value>,
) -> Result<Vec<Vec<Value>>, CliError> {
    let request = SqlRequest {
        params: Some(params),
        ..SqlRequest::new(sql)
    };
    let answer = client.execute(&request, &RequestOptions::read()).await?;
    let Some(ResultSet {
        schema,
        rows: Some(rows),
        ..
    }) = answer.body.results.into_iter().next()
    else {
        return Err(CliError::Answer(format!("no rows for {sql}")));
    };
    match rows.iter().find(|row| row.len() != schema.len()) {
        Some(row) => Err(CliError::Answer(format!("{} cells in a row", row.len()))),
        None => Ok(rows),
    }
}

fn no_topic(topic: &str) -> CliError {
    CliError::NotFound {
        kind: "topic",
        name: topic.to_owned(),
    }
}

fn print_table(headers: &[&str], rows: &[Vec<Cell>]) -> Result<(), CliError> {
    let headers: Vec<Cell> = headers.iter().map(|header| Cell::left(*header)).collect();
    Ok(table(&mut io::stdout().lock(), &headers, rows)?)
}
