//! W6: readers that follow a partition, one on each node. What a node ever showed at an offset is
//! what is there in the end, without a gap.

use client::api::topics::{ConsumeRequest, Message, StartPosition};
use client::{Client, RequestOptions};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Crowd, Kind, Notes, REQUEST_MAX, Running, Verdict, pause};
use crate::chaos::Task;
use crate::{Cluster, User};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "W6",
    start: |cluster, _, _| {
        Box::pin(async { Box::new(Tail::start(cluster, "chaos_rows.single")) as Box<dyn Running> })
    },
}];

/// How long a reader waits for a message, in seconds.
const WAIT_SECONDS: u64 = 1;

/// What one reader saw.
#[derive(Clone, Debug, Default, PartialEq)]
struct Followed {
    node: usize,
    messages: Vec<Value>,
    refusals: Vec<String>,
}

/// The running workload.
#[derive(Debug)]
struct Tail {
    topic: String,
    crowd: Crowd,
    followed: Notes<Followed>,
}

impl Tail {
    /// Starts a reader on each node, of partition 0.
    fn start(cluster: &Cluster, topic: &str) -> Tail {
        let (mut crowd, followed) = (Crowd::new(), Notes::default());
        for node in 0..cluster.nodes().len() {
            let client = cluster.client().pinned_to(node);
            let (topic, followed) = (topic.to_owned(), followed.clone());
            crowd.add(follow(client, topic, node, followed, crowd.stopped()));
        }
        Tail {
            topic: topic.to_owned(),
            crowd,
            followed,
        }
    }

    /// Ends it, and compares what was seen with what is there.
    async fn verdict(self, cluster: &Cluster, root: &User) -> Verdict {
        self.crowd.finish().await;
        let url = &cluster.urls()[0];
        let there = root.all_messages(url, &self.topic, 0, &[]).await;
        let there: Vec<Value> = there.iter().map(essence_of_value).collect();
        let followed = self.followed.take();
        let seen = followed.iter().map(|reader| reader.messages.len() as u64);
        Verdict {
            checked: vec![("messages followed", seen.sum())],
            violations: followed
                .iter()
                .flat_map(|reader| violations(reader, &there))
                .collect(),
        }
    }
}

impl Running for Tail {
    fn finish<'a>(self: Box<Self>, cluster: &'a Cluster, root: &'a User) -> Task<'a, Verdict> {
        Box::pin(self.verdict(cluster, root))
    }
}

fn violations(reader: &Followed, there: &[Value]) -> Vec<String> {
    let node = reader.node + 1;
    let mut wrong: Vec<String> = reader
        .refusals
        .iter()
        .map(|refusal| format!("tail on node {node}: {refusal}"))
        .collect();
    for (offset, seen) in reader.messages.iter().enumerate() {
        if there.get(offset) != Some(seen) {
            let there = there.get(offset);
            wrong.push(format!(
                "tail on node {node}: message {offset} was {seen} and is {there:?}"
            ));
            break;
        }
    }
    wrong
}

async fn follow(
    client: Client,
    topic: String,
    node: usize,
    notes: Notes<Followed>,
    stopped: watch::Receiver<bool>,
) {
    let mut followed = Followed {
        node,
        ..Followed::default()
    };
    while !*stopped.borrow() {
        let request = ConsumeRequest {
            topic_id: topic.clone(),
            start: Some(StartPosition::Offset(followed.messages.len() as u64)),
            timeout_seconds: Some(WAIT_SECONDS),
            ..ConsumeRequest::default()
        };
        let options = RequestOptions::read().timeout(REQUEST_MAX);
        match client.consume_with(&request, &options).await {
            Ok(answer) => followed
                .messages
                .extend(answer.messages.iter().map(essence)),
            // Whoever has read up to an offset may ask for the next one, on any node, at any time.
            Err(error) if error.received().is_some_and(|e| e.status < 500) => {
                followed.refusals.push(error.to_string());
                break;
            }
            Err(_) => pause().await,
        }
    }
    notes.add(followed);
}

/// What may never change of a message.
fn essence(message: &Message) -> Value {
    essence_of_value(&serde_json::to_value(message).expect("a message is JSON"))
}

fn essence_of_value(message: &Value) -> Value {
    json!({
        "offset": message["offset"], "key": message["key"], "op": message["op"],
        "payload": message["payload"], "timestamp_ms": message["timestamp_ms"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_a_change_and_a_message_that_went_are_seen() {
        let message = |offset: u64| json!({"offset": offset, "payload": "x"});
        let there = [message(0), message(1)];
        let reader = |messages: Vec<Value>| Followed {
            messages,
            ..Followed::default()
        };
        assert_eq!(violations(&reader(there.to_vec()), &there), [""; 0]);
        for bad in [
            vec![message(1)],
            vec![message(0), json!({"offset": 1, "payload": "y"})],
            vec![message(0), message(1), message(2)],
        ] {
            assert_eq!(violations(&reader(bad), &there).len(), 1);
        }
    }
}
