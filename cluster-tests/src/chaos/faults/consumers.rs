//! F18: a consumer is away for longer than its lease, across a change of the leader, and goes on as
//! if nothing had been. What it held is another's by then: nothing that it says counts any more.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::api::SqlRequest;
use client::api::topics::{AckRequest, ConsumeRequest, ExtendRequest, NackRequest, StartPosition};
use client::{Client, Error, RequestOptions};
use serde_json::Value;

use super::{Kind, Seen, hold};
use crate::chaos::Step;
use crate::{Cluster, wait};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "F18-zombie-consumer",
    changes_leader: false,
    mending: Duration::from_secs(5),
    play: |cluster, step| Box::pin(zombie(cluster, step)),
}];

const TOPIC: &str = "chaos_zombies.work";
const GROUP: &str = "g";
/// How long a consumer holds what it is given, in seconds.
const LEASE_SECONDS: u64 = 1;
/// How long anything here may take, elections and restarts included.
const STEP_MAX: Duration = Duration::from_secs(60);

/// What a consumer was given.
struct Given {
    lease: String,
    partition: u32,
    offset: u64,
    job: String,
}

async fn zombie(cluster: &mut Cluster, step: &Step) -> Seen {
    let client = cluster.client();
    for sql in [
        "CREATE NAMESPACE IF NOT EXISTS chaos_zombies",
        "CREATE TABLE IF NOT EXISTS chaos_zombies.jobs (id TEXT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS chaos_zombies.done (job TEXT PRIMARY KEY, who TEXT)",
        "CREATE TOPIC IF NOT EXISTS chaos_zombies.work",
    ] {
        must(&client, sql).await;
    }
    let route = format!("ALTER TOPIC {TOPIC} ADD SOURCE chaos_zombies.jobs ON INSERT");
    if let Err(error) = persist(&client, &route).await {
        // It is there already when this fault is played again.
        let is_there = error.received().is_some_and(|said| !said.retryable);
        assert!(is_there, "{route}: {error}");
    }
    let job = format!("{}-{}", step.choice, rand::random::<u32>());
    let sql = format!("INSERT INTO chaos_zombies.jobs VALUES ('{job}')");
    must(&client, &sql).await;

    let lost = take(&client, "away").await;
    let leader = cluster.leader().await;
    cluster.nodes_mut()[leader].kill9();
    hold(step).await;
    let next = take(&client, "here").await;
    let mut violations = Vec::new();
    if (next.partition, next.offset) != (lost.partition, lost.offset) {
        let text = format!(
            "zombies: offset {} is another's, not {}",
            next.offset, lost.offset
        );
        violations.push(text);
    }
    violations.extend(speak(&client, &lost).await);
    let sql = done_sql(&next, "here");
    if let Err(error) = client.sql(&sql).await {
        violations.push(format!(
            "zombies: who holds the message is refused: {error}"
        ));
    }
    cluster.restart(&[leader]).await;
    let sql = format!(
        "SELECT who FROM chaos_zombies.done WHERE job = '{}'",
        lost.job
    );
    let answer = wait::until("the job can be read", STEP_MAX, async || {
        client.query(&sql).await.ok()
    })
    .await;
    let who = answer
        .results
        .first()
        .and_then(|result| result.rows.clone());
    if who != Some(vec![vec![Value::from("here")]]) {
        violations.push(format!("zombies: job {} was done by {who:?}", lost.job));
    }
    Seen {
        counted: vec![("consumers that came too late", 1)],
        violations,
    }
}

async fn must(client: &Client, sql: &str) {
    let done = persist(client, sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Sends the statement, again if its answer is lost.
async fn persist(client: &Client, sql: &str) -> Result<(), Error> {
    let key = format!("zombies-{}", rand::random::<u64>());
    let options = RequestOptions::idempotent(key).timeout(STEP_MAX);
    let answer = client.execute(&SqlRequest::new(sql), &options).await;
    answer.map(drop)
}

/// Waits until there is a message for this consumer.
async fn take(client: &Client, consumer: &str) -> Given {
    let request = ConsumeRequest {
        topic_id: TOPIC.into(),
        group_id: Some(GROUP.into()),
        start: Some(StartPosition::Earliest),
        limit: Some(1),
        timeout_seconds: Some(1),
        consumer_id: Some(consumer.into()),
        lease_seconds: Some(LEASE_SECONDS),
        ..ConsumeRequest::default()
    };
    wait::until("a message is given", STEP_MAX, async || {
        let batch = client.consume(&request).await.ok()?;
        let message = batch.messages.first()?;
        let payload = STANDARD.decode(&message.payload).ok()?;
        let payload: Value = serde_json::from_slice(&payload).ok()?;
        Some(Given {
            lease: batch.lease_id.clone()?,
            partition: message.partition_id,
            offset: message.offset,
            job: payload["id"].as_str()?.to_owned(),
        })
    })
    .await
}

fn done_sql(given: &Given, who: &str) -> String {
    format!(
        "BEGIN; INSERT INTO chaos_zombies.done VALUES ('{}', '{who}'); \
         ACK {TOPIC} GROUP '{GROUP}' PARTITION {} LEASE '{}'; COMMIT",
        given.job, given.partition, given.lease
    )
}

/// Everything that the consumer that was away says; what of it was not refused.
async fn speak(client: &Client, lost: &Given) -> Vec<String> {
    let (topic_id, group_id) = (TOPIC.to_owned(), GROUP.to_owned());
    let (lease_id, offsets) = (lost.lease.clone(), Some(vec![lost.offset]));
    let partition_id = Some(lost.partition);
    let nack = NackRequest {
        topic_id: topic_id.clone(),
        group_id: group_id.clone(),
        partition_id,
        lease_id: lease_id.clone(),
        offsets: offsets.clone(),
        delay_ms: None,
    };
    let extend = ExtendRequest {
        topic_id: topic_id.clone(),
        group_id: group_id.clone(),
        partition_id,
        lease_id: lease_id.clone(),
        lease_seconds: LEASE_SECONDS,
    };
    let ack = AckRequest {
        topic_id,
        group_id,
        partition_id,
        lease_id: Some(lease_id),
        offsets,
        ..AckRequest::default()
    };
    let sql = done_sql(lost, "away");
    let said = [
        ("extension", client.extend(&extend).await.err()),
        ("nack", client.nack(&nack).await.err()),
        ("ack", client.ack(&ack).await.err()),
        ("transaction", client.sql(&sql).await.err()),
    ];
    said.into_iter()
        .filter(|(_, error)| counts(error.as_ref()))
        .map(|(what, error)| {
            format!(
                "zombies: {what} of a lease that was lost: {}",
                error.map_or("taken".into(), |error| error.to_string())
            )
        })
        .collect()
}

/// Was it taken, or refused for another reason than that the lease is lost? What found no leader,
/// or whose answer was lost, says nothing.
fn counts(error: Option<&Error>) -> bool {
    let Some(error) = error else { return true };
    error
        .received()
        .is_some_and(|said| said.code != "LEASE_LOST" && !said.retryable && !said.maybe_applied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_counts_and_what_was_not_answered_does_not() {
        assert!(counts(None));
        assert!(!counts(Some(&Error::Unreachable { tried: Vec::new() })));
    }
}
