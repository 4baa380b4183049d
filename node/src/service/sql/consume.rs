//! CONSUME: messages as rows.

use std::time::Instant;

use api::headers::Consistency;
use sql::statement::Consume;
use sql::{Answer, ResultColumn, Rows};
use topics::fetch::{self, Fetched};
use topics::render::Renderer;
use types::cell::push_json_string;
use types::command::Position;
use types::limits::{CONSUME_MAX_BYTES, LEASE_DEFAULT_MS, SQL_CONSUME_MAX_BYTES};
use types::schema::{Role, Topic};
use types::value::{DataType, Value};
use types::{Error, ErrorCode, Result};

use super::batch::Batch;
use super::{Fragment, invalid, render};
use crate::service::call::Failure;
use crate::service::consensus::View;
use crate::service::topics::{ClaimRequest, Claimed, ReadRequest, ReleaseRequest, Start};

impl Batch<'_> {
    /// Reads, or with GROUP claims, messages.
    pub(super) async fn consume(&mut self, consume: &Consume) -> Result<Fragment, Failure> {
        let view = self.view().await?;
        let caller = self.caller()?;
        let user = self.service.account(&view, caller)?;
        if user.role < Role::Service {
            return Err(Failure::new(
                ErrorCode::PermissionDenied,
                "CONSUME needs role service, dba or system",
            ));
        }
        if !self.params.is_empty() {
            return Err(Failure::new(
                ErrorCode::InvalidParameter,
                "CONSUME has no parameters, and some were given",
            ));
        }
        let topic = self.topic_name(consume)?;
        let found = self.service.catalog.topic_qualified(&*view.state, &topic);
        if self.service.consensus.stored(found)?.is_none() {
            let message = format!("topic {topic} does not exist");
            return Err(Failure::new(ErrorCode::TableNotFound, message));
        }
        match &consume.group {
            None => self.consume_alone(consume, topic, &user.name).await,
            Some(group) => self.consume_as(consume, topic, group, &user.name).await,
        }
    }

    fn topic_name(&self, consume: &Consume) -> Result<String> {
        let namespace = consume
            .topic
            .namespace
            .as_deref()
            .or(self.namespace.as_deref());
        let namespace = namespace.ok_or_else(|| invalid("name the topic as namespace.topic"))?;
        Ok(format!("{namespace}.{}", consume.topic.name))
    }

    async fn consume_alone(
        &self,
        consume: &Consume,
        topic: String,
        user: &str,
    ) -> Result<Fragment, Failure> {
        let request = ReadRequest {
            topic,
            partition: consume.partition.unwrap_or(0),
            start: start(consume.from),
            limit: consume.limit,
            max_bytes: CONSUME_MAX_BYTES,
            wait_until: Instant::now(),
            local: self.call.consistency == Consistency::Local,
        };
        let reading = self
            .service
            .topics
            .read(&request, self.call.deadline)
            .await?;
        let rows = self.rows(
            &reading.topic,
            reading.partition,
            &reading.messages,
            &reading.view,
        )?;
        let json = render::result(&answer(rows), user, self.room())?;
        Ok(Fragment {
            json,
            receipt: None,
            index: reading.view.index,
        })
    }

    async fn consume_as(
        &mut self,
        consume: &Consume,
        topic: String,
        group: &str,
        user: &str,
    ) -> Result<Fragment, Failure> {
        let request = ClaimRequest {
            topic: topic.clone(),
            group: group.to_owned(),
            partition: consume.partition,
            start: start(consume.from),
            consumer_id: String::new(),
            limit: consume.limit,
            lease_ms: LEASE_DEFAULT_MS,
        };
        let deadline = self.call.deadline;
        let Claimed { reply, held } = self
            .service
            .topics
            .claim_at_leader(&request, user, Instant::now(), deadline)
            .await?;
        let view = self
            .service
            .consensus
            .view_at(reply.index, deadline)
            .await?;
        let (Some(grant), Some(held)) = (reply.grant, held) else {
            return Ok(Fragment {
                json: render::result(&answer(Vec::new()), user, self.room())?,
                receipt: None,
                index: view.index,
            });
        };
        // The topic of the lease, also if its name is another's by now.
        let id = held.lease.topic_id;
        let found = self.service.catalog.topic_by_id(&*view.state, id);
        let Some(found) = self.service.consensus.stored(found)? else {
            let message = format!("topic {topic} does not exist");
            return Err(Failure::new(ErrorCode::TableNotFound, message));
        };
        let granted = fetch::fetch_granted(&*view.state, id, &grant.grant(), CONSUME_MAX_BYTES);
        let (messages, left) = self.service.consensus.stored(granted)?;
        let rows = self.rows(&found.record, grant.partition, &messages, &view)?;
        let shown = rows.len();
        let unshown = messages.get(shown).map(|message| message.offset);
        if let Some(from_offset) = unshown.or(left) {
            let rest = ReleaseRequest {
                from_offset,
                ..held.lease.clone()
            };
            // What is not given back runs out by itself; the answer is true either way.
            self.service.topics.give_back(rest).await;
        }
        let mut json = render::result(&answer(rows), user, self.room())?;
        json.push_str(",\"lease_id\":");
        push_json_string(&mut json, &grant.lease_id);
        self.service.metrics.delivered(shown);
        self.held.push(held);
        Ok(Fragment {
            json,
            receipt: None,
            index: view.index,
        })
    }

    /// The messages as rows, as many as an answer holds, but at least one.
    fn rows(
        &self,
        topic: &Topic,
        partition: u32,
        messages: &[Fetched],
        view: &View,
    ) -> Result<Vec<Vec<Value>>> {
        let consensus = &self.service.consensus;
        let mut renderer = Renderer::new(&*view.state);
        let mut rows = Vec::with_capacity(messages.len());
        let mut bytes = 0;
        for fetched in messages {
            let message = consensus.stored(fetched.message())?;
            let payload = consensus.stored(renderer.payload(&message))?;
            bytes += ROW_BYTES + ESCAPED_MAX * (message.key.len() + message.user.len());
            bytes += rendered_bytes(payload.as_bytes());
            if bytes > SQL_CONSUME_MAX_BYTES && !rows.is_empty() {
                break;
            }
            let user = match message.user {
                "" => Value::Null,
                user => Value::Text(user.to_owned()),
            };
            rows.push(vec![
                Value::Text(topic.qualified_name()),
                Value::Int(i32::try_from(partition).map_err(|_| too_large())?),
                Value::BigInt(i64::try_from(fetched.offset).map_err(|_| too_large())?),
                Value::Text(message.key.to_owned()),
                Value::Bytes(payload.into_bytes()),
                Value::BigInt(message.timestamp_ms()),
                user,
                Value::Text(message.op.as_lower_str().to_owned()),
            ]);
        }
        Ok(rows)
    }
}

/// Bytes of a row of the answer beside its payload, key and user, with some room.
const ROW_BYTES: usize = 512;
/// Bytes that one byte of text becomes in JSON at most: `\u0001`.
const ESCAPED_MAX: usize = 6;

/// How long a payload is in the answer, where it is an array of numbers.
fn rendered_bytes(payload: &[u8]) -> usize {
    let digits = |byte: &u8| match byte {
        0..10 => 1,
        10..100 => 2,
        100.. => 3,
    };
    payload.iter().map(|byte| digits(byte) + 1).sum()
}

fn answer(rows: Vec<Vec<Value>>) -> Answer {
    Answer::Rows(Rows {
        columns: columns(),
        rows,
    })
}

fn columns() -> Vec<ResultColumn> {
    [
        ("topic_id", DataType::Text),
        ("partition_id", DataType::Int),
        ("offset", DataType::BigInt),
        ("key", DataType::Text),
        ("payload", DataType::Bytes),
        ("timestamp_ms", DataType::BigInt),
        ("user_id", DataType::Text),
        ("op", DataType::Text),
    ]
    .map(|(name, data_type)| ResultColumn::new(name, data_type))
    .into()
}

fn start(from: Position) -> Start {
    match from {
        Position::Latest(_) => Start::Latest,
        Position::Earliest(_) => Start::Earliest,
        Position::Offset(offset) => Start::Offset(offset),
        Position::Timestamp(micros) => Start::Timestamp(micros),
    }
}

fn too_large() -> Error {
    Error::new(
        ErrorCode::InternalError,
        "a number of the message does not fit its column",
    )
}

#[cfg(test)]
mod tests {
    use types::cell::{JsonStyle, write_json};

    use super::*;

    #[test]
    fn a_payload_is_counted_as_it_is_sent() {
        let payload: Vec<u8> = (0..=255).collect();
        let counted = rendered_bytes(&payload);
        let mut sent = String::new();
        write_json(&Value::Bytes(payload), JsonStyle::Cell, &mut sent);
        // The last number has no comma; the brackets are in the rest of the row.
        assert_eq!(counted - 1 + 2, sent.len());
    }
}
