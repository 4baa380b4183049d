//! CONSUME: messages as rows.

use std::time::Duration;

use sql::statement::Consume;
use sql::{Answer, ResultColumn, Rows};
use topics::fetch::{self, Fetched};
use topics::render::Renderer;
use types::cell::push_json_string;
use types::command::Position;
use types::limits::{CONSUME_MAX_BYTES, LEASE_DEFAULT_MS};
use types::schema::{Role, Topic};
use types::value::{DataType, Value};
use types::{Error, ErrorCode, Result};

use super::batch::Batch;
use super::{Fragment, invalid, render};
use crate::service::call::Failure;
use crate::service::consensus::View;
use crate::service::topics::{ClaimRequest, ReadRequest, Start};

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
            wait: Duration::ZERO,
        };
        let reading = self
            .service
            .topics
            .read(&request, self.call.deadline)
            .await?;
        let answer = self.rows(
            &reading.topic,
            reading.partition,
            &reading.messages,
            &reading.view,
        )?;
        let json = render::result(&answer, user)?;
        Ok(Fragment {
            json,
            receipt: None,
            index: reading.view.index,
        })
    }

    async fn consume_as(
        &self,
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
            wait_ms: 0,
        };
        let deadline = self.call.deadline;
        let claimed = self
            .service
            .topics
            .claim_at_leader(&request, user, deadline)
            .await?;
        let view = self
            .service
            .consensus
            .view_at(claimed.index, deadline)
            .await?;
        let found = self.service.catalog.topic_qualified(&*view.state, &topic);
        let Some(found) = self.service.consensus.stored(found)? else {
            let message = format!("topic {topic} does not exist");
            return Err(Failure::new(ErrorCode::TableNotFound, message));
        };
        let (messages, partition) = match &claimed.grant {
            None => (Vec::new(), 0),
            Some(grant) => {
                let granted =
                    fetch::fetch_granted(&*view.state, found.record.id, &grant.grant(), usize::MAX);
                (self.service.consensus.stored(granted)?.0, grant.partition)
            }
        };
        let answer = self.rows(&found.record, partition, &messages, &view)?;
        let mut json = render::result(&answer, user)?;
        if let Some(grant) = &claimed.grant {
            json.push_str(",\"lease_id\":");
            push_json_string(&mut json, &grant.lease_id);
        }
        Ok(Fragment {
            json,
            receipt: None,
            index: view.index,
        })
    }

    fn rows(
        &self,
        topic: &Topic,
        partition: u32,
        messages: &[Fetched],
        view: &View,
    ) -> Result<Answer> {
        let consensus = &self.service.consensus;
        let mut renderer = Renderer::new(&*view.state);
        let mut rows = Vec::with_capacity(messages.len());
        for fetched in messages {
            let message = consensus.stored(fetched.message())?;
            let payload = consensus.stored(renderer.payload(&message))?;
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
        self.service.metrics.delivered(rows.len());
        Ok(Answer::Rows(Rows {
            columns: columns(),
            rows,
        }))
    }
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
