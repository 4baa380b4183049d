//! The chat with an agent: each step through another node.

use std::time::{Duration, Instant};

use client::api::sql::{ResultSet, SqlRequest};
use client::api::topics::StartPosition;
use client::{Answer, Client, Consumer, ConsumerOptions, Record, RequestOptions};
use serde_json::Value;

use super::{People, Screen};
use crate::cli::error::CliError;

/// Password of the demonstration's users; they exist on this machine only.
pub const PASSWORD: &str = "correct horse 9";
pub const TOPIC: &str = "demo.message_events";
const GROUP: &str = "ai-worker";
const PROMPT: &str = "Write a short summary of this support ticket.";

/// Makes users, table, topic and routes.
pub async fn set_up(root: &Client, screen: &Screen) -> Result<People, CliError> {
    let definitions = [
        "CREATE NAMESPACE demo",
        "CREATE USER TABLE demo.messages (
            id TEXT PRIMARY KEY DEFAULT ULID(), author TEXT NOT NULL, msg TEXT NOT NULL,
            attachment FILE, created TIMESTAMP NOT NULL DEFAULT NOW())",
        "CREATE TOPIC demo.message_events PARTITIONS 1",
        "ALTER TOPIC demo.message_events ADD SOURCE demo.messages ON INSERT
            WITH (payload = 'full')",
        "ALTER TOPIC demo.message_events ADD SOURCE demo.messages ON UPDATE
            WITH (payload = 'full')",
        "ALTER TOPIC demo.message_events ADD SOURCE demo.messages ON DELETE
            WITH (payload = 'full')",
    ];
    let users = [("user_123", "user"), ("bob", "user"), ("agent", "service")];
    for (user, role) in users {
        let sql = format!("CREATE USER {user} WITH PASSWORD '{PASSWORD}' ROLE '{role}'");
        root.sql(sql).await?;
    }
    screen.event("root made the users user_123 and bob, and agent with role 'service'");
    for (step, sql) in definitions.into_iter().enumerate() {
        run("root", root, step, sql, screen).await?;
    }
    let client_of = |user: &str| {
        Client::builder()
            .urls(root.urls())
            .credentials(user, PASSWORD)
            .build()
    };
    Ok(People {
        user: client_of("user_123")?,
        other: client_of("bob")?,
        agent: client_of("agent")?,
    })
}

/// The user asks, the agent answers in the same transaction that acks the question, the user reads.
pub async fn chat(people: &People, screen: &Screen) -> Result<(), CliError> {
    let insert = format!("INSERT INTO demo.messages (author, msg) VALUES ('user', '{PROMPT}')");
    run("user_123", &people.user, 0, &insert, screen).await?;

    let question = take_question(people, screen).await?;
    let owner = question.record.user.clone().unwrap_or_default();
    let answer = format!(
        "BEGIN;
         EXECUTE AS USER '{owner}' (INSERT INTO demo.messages (author, msg)
           VALUES ('assistant', 'Here is a short summary of the ticket...'));
         ACK {TOPIC} GROUP '{GROUP}' LEASE '{}';
         COMMIT",
        question.lease_id
    );
    run("agent", &people.agent, 2, &answer, screen).await?;
    screen.came_back("answer and ack are one entry in the log: both, or neither");

    let sql = "SELECT author, msg FROM demo.messages ORDER BY created, id";
    let rows = run("user_123", &people.user, 0, sql, screen).await?;
    expect(rows.row_count == 2, || {
        format!("the user sees {} rows, not 2", rows.row_count)
    })?;
    let rows = run(
        "bob",
        &people.other,
        1,
        "SELECT * FROM demo.messages",
        screen,
    )
    .await?;
    expect(rows.row_count == 0, || {
        "bob sees rows of another user".into()
    })?;

    let sql = "UPDATE demo.messages SET msg = 'Write a summary, please.' WHERE author = 'user'";
    run("user_123", &people.user, 2, sql, screen).await?;
    Ok(())
}

struct Question {
    record: Record,
    lease_id: String,
}

async fn take_question(people: &People, screen: &Screen) -> Result<Question, CliError> {
    let options = ConsumerOptions {
        start: StartPosition::Earliest,
        ..ConsumerOptions::default()
    };
    let consumer = Consumer::new(people.agent.pinned_to(1), TOPIC, GROUP, options);
    screen.sent(
        "agent",
        1,
        &format!("consume {TOPIC} as a member of group {GROUP}"),
    );
    let batch = consumer
        .next_batch()
        .await?
        .ok_or_else(|| CliError::Demo("the agent got no message".into()))?;
    let count = batch.records.len();
    let record = batch.records.into_iter().next().filter(|_| count == 1);
    let record = record.ok_or_else(|| CliError::Demo(format!("{count} messages, not 1")))?;
    let row: Value = serde_json::from_slice(&record.payload)
        .map_err(|error| CliError::Demo(format!("the payload is no JSON: {error}")))?;
    screen.came_back(&format!(
        "offset {}, {:?} by {}: {}",
        record.offset,
        record.op,
        record.user.as_deref().unwrap_or("nobody"),
        row["msg"]
    ));
    expect(row["msg"] == PROMPT, || {
        format!("the message says {}", row["msg"])
    })?;
    Ok(Question {
        record,
        lease_id: batch.lease_id,
    })
}

/// Writes through a node that just lost its leader. Returns the write's place in the log and how
/// long it took.
pub async fn write_after_kill(
    people: &People,
    node: usize,
    screen: &Screen,
) -> Result<(u64, Duration), CliError> {
    let sql = "INSERT INTO demo.messages (author, msg) VALUES ('user', 'Are you still there?')";
    screen.sent("user_123", node, sql);
    let started = Instant::now();
    // The key makes it safe to send again, should the connection to the dead leader swallow it.
    let options = RequestOptions::idempotent("demo-after-the-kill");
    let client = people.user.pinned_to(node);
    let answer = client.execute(&SqlRequest::new(sql), &options).await?;
    let took = started.elapsed();
    let result = single(&answer)?;
    screen.came_back(&format!(
        "{} after {} ms, without the old leader",
        receipt_text(&result),
        took.as_millis()
    ));
    let receipt = result
        .receipt
        .ok_or_else(|| CliError::Answer("the write has no receipt".into()))?;
    Ok((receipt.index, took))
}

/// Sends statements to a node, shows both directions, returns the last result.
async fn run(
    who: &str,
    client: &Client,
    node: usize,
    sql: &str,
    screen: &Screen,
) -> Result<ResultSet, CliError> {
    let node = node % client.urls().len();
    screen.sent(who, node, sql);
    let answer = client.pinned_to(node).sql(sql).await?;
    let result = single(&answer)?;
    screen.came_back(&receipt_text(&result));
    for row in result.rows.iter().flatten() {
        let cells: Vec<String> = row.iter().map(crate::cli::output::text).collect();
        screen.came_back(&format!("  {}", cells.join(" | ")));
    }
    Ok(result)
}

/// The last statement's result, which holds a transaction's receipt.
fn single(answer: &Answer<client::api::SqlResponse>) -> Result<ResultSet, CliError> {
    let last = answer.results.last().cloned();
    last.ok_or_else(|| CliError::Answer("no result".into()))
}

fn receipt_text(result: &ResultSet) -> String {
    let mut text = match (&result.message, &result.rows) {
        (Some(message), _) => message.clone(),
        (None, Some(rows)) => format!("{} row(s)", rows.len()),
        (None, None) => "done".to_owned(),
    };
    if let Some(receipt) = &result.receipt {
        text.push_str(&format!(", log index {}", receipt.index));
        for range in &receipt.messages {
            text.push_str(&format!(
                ", message {}[{}] offset {}",
                range.topic_id, range.partition_id, range.first_offset
            ));
        }
    }
    text
}

pub fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), CliError> {
    if holds {
        Ok(())
    } else {
        Err(CliError::Demo(otherwise()))
    }
}
