//! A member of a consumer group in a loop: take a batch, work, ack it.

use api::topics::{AckRequest, ConsumeRequest, Message, NackRequest, Op, StartPosition};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{Client, Error, UnknownCause};

/// How a consumer reads.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Where a group without a position begins.
    pub start: StartPosition,
    /// Most messages in a batch.
    pub limit: Option<u32>,
    /// Only this partition; left out: any with work.
    pub partition_id: Option<u32>,
    /// How long one request waits for a message, in seconds.
    pub timeout_seconds: u64,
    /// How long a batch is this consumer's, in seconds; left out: the server's default.
    pub lease_seconds: Option<u64>,
    /// Names this consumer, so that a cumulative ack of another one leaves its messages alone.
    pub consumer_id: Option<String>,
}

impl Default for ConsumerOptions {
    fn default() -> ConsumerOptions {
        ConsumerOptions {
            start: StartPosition::Latest,
            limit: None,
            partition_id: None,
            timeout_seconds: 5,
            lease_seconds: None,
            consumer_id: None,
        }
    }
}

/// One message with its payload decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position in the partition.
    pub offset: u64,
    /// The payload's bytes.
    pub payload: Vec<u8>,
    /// The primary key's value as text.
    pub key: Option<String>,
    /// Who owns the row.
    pub user: Option<String>,
    /// What happened to the row.
    pub op: Op,
    /// When the change was committed, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// How often it was given out, this time included.
    pub deliveries: u32,
}

/// Messages of one partition that this consumer holds until the lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The partition.
    pub partition_id: u32,
    /// The lease, to be named in an ack, also in SQL within a transaction.
    pub lease_id: String,
    /// The messages, in offset order.
    pub records: Vec<Record>,
}

/// A member of a consumer group.
#[derive(Clone, Debug)]
pub struct Consumer {
    client: Client,
    topic_id: String,
    group_id: String,
    options: ConsumerOptions,
}

impl Consumer {
    /// Makes a consumer; the first batch makes the group.
    pub fn new(
        client: Client,
        topic_id: impl Into<String>,
        group_id: impl Into<String>,
        options: ConsumerOptions,
    ) -> Consumer {
        Consumer {
            client,
            topic_id: topic_id.into(),
            group_id: group_id.into(),
            options,
        }
    }

    /// Waits for messages, once; `None` if there were none in time.
    pub async fn next_batch(&self) -> Result<Option<Batch>, Error> {
        let options = &self.options;
        let request = ConsumeRequest {
            topic_id: self.topic_id.clone(),
            group_id: Some(self.group_id.clone()),
            start: Some(options.start.clone()),
            limit: options.limit,
            partition_id: options.partition_id,
            timeout_seconds: Some(options.timeout_seconds),
            consumer_id: options.consumer_id.clone(),
            lease_seconds: options.lease_seconds,
            max_bytes: None,
        };
        let answer = self.client.consume(&request).await?;
        let Some(first) = answer.messages.first() else {
            return Ok(None);
        };
        let unreadable = |reason: String| {
            Error::Unknown(UnknownCause::Unreadable {
                url: answer.url.clone(),
                reason,
            })
        };
        let Some(lease_id) = answer.lease_id.clone() else {
            return Err(unreadable(
                "messages for a group came without a lease".into(),
            ));
        };
        let records = answer
            .messages
            .iter()
            .map(|message| Record::try_from(message).map_err(|error| unreadable(error.to_string())))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Batch {
            partition_id: first.partition_id,
            lease_id,
            records,
        }))
    }

    /// Says that the whole batch is done.
    pub async fn ack(&self, batch: &Batch) -> Result<(), Error> {
        let request = AckRequest {
            topic_id: self.topic_id.clone(),
            group_id: self.group_id.clone(),
            partition_id: Some(batch.partition_id),
            consumer_id: self.options.consumer_id.clone(),
            lease_id: Some(batch.lease_id.clone()),
            ..AckRequest::default()
        };
        self.client.ack(&request).await.map(|_| ())
    }

    /// Gives the whole batch back, for others to take after `delay_ms`.
    pub async fn nack(&self, batch: &Batch, delay_ms: u64) -> Result<(), Error> {
        let request = NackRequest {
            topic_id: self.topic_id.clone(),
            group_id: self.group_id.clone(),
            partition_id: Some(batch.partition_id),
            lease_id: batch.lease_id.clone(),
            offsets: None,
            delay_ms: Some(delay_ms),
        };
        self.client.nack(&request).await.map(|_| ())
    }
}

impl TryFrom<&Message> for Record {
    type Error = base64::DecodeError;

    fn try_from(message: &Message) -> Result<Record, base64::DecodeError> {
        Ok(Record {
            offset: message.offset,
            payload: STANDARD.decode(&message.payload)?,
            key: message.key.clone(),
            user: message.user.clone(),
            op: message.op,
            timestamp_ms: message.timestamp_ms,
            deliveries: message.deliveries.unwrap_or(1),
        })
    }
}
