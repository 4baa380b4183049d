//! Topics: reading, and saying what is done.

use std::time::Duration;

use api::paths;
use api::topics::{
    AckRequest, AckResponse, ConsumeRequest, ConsumeResponse, ExtendRequest, ExtendResponse,
    LatestOffsetsRequest, LatestOffsetsResponse, NackRequest, NackResponse, TopicPartition,
};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::options::{Answer, RequestOptions};
use crate::send::{Call, json};
use crate::{Client, Error};

impl Client {
    /// Reads messages. Sent again if the answer was lost: what a lost answer leased comes again
    /// when the lease is over, which is what at-least-once means.
    pub async fn consume(
        &self,
        request: &ConsumeRequest,
    ) -> Result<Answer<ConsumeResponse>, Error> {
        self.consume_with(request, &RequestOptions::read()).await
    }

    /// Reads messages with options.
    pub async fn consume_with(
        &self,
        request: &ConsumeRequest,
        options: &RequestOptions,
    ) -> Result<Answer<ConsumeResponse>, Error> {
        let call = Call {
            method: Method::POST,
            path: paths::TOPICS_CONSUME,
            body: Some(json(request)?),
            options,
            with_token: true,
            waits: Duration::from_secs(request.timeout_seconds.unwrap_or(0)),
        };
        self.inner.send(call).await
    }

    /// Says that messages are done. Repeating it has no further effect.
    pub async fn ack(&self, request: &AckRequest) -> Result<Answer<AckResponse>, Error> {
        self.post(paths::TOPICS_ACK, request, &RequestOptions::read())
            .await
    }

    /// Gives leased messages back. Repeating it has no further effect: they are not held any more.
    pub async fn nack(&self, request: &NackRequest) -> Result<Answer<NackResponse>, Error> {
        self.post(paths::TOPICS_NACK, request, &RequestOptions::read())
            .await
    }

    /// Keeps leased messages longer.
    pub async fn extend(&self, request: &ExtendRequest) -> Result<Answer<ExtendResponse>, Error> {
        self.post(paths::TOPICS_EXTEND, request, &RequestOptions::read())
            .await
    }

    /// Where partitions end.
    pub async fn latest_offsets(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<Answer<LatestOffsetsResponse>, Error> {
        let request = LatestOffsetsRequest { partitions };
        self.post(
            paths::TOPICS_LATEST_OFFSETS,
            &request,
            &RequestOptions::read(),
        )
        .await
    }

    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        options: &RequestOptions,
    ) -> Result<Answer<T>, Error> {
        let call = Call {
            method: Method::POST,
            path,
            body: Some(json(body)?),
            options,
            with_token: true,
            waits: Duration::ZERO,
        };
        self.inner.send(call).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        with_token: bool,
        options: &RequestOptions,
    ) -> Result<Answer<T>, Error> {
        let call = Call {
            method: Method::GET,
            path,
            body: None,
            options,
            with_token,
            waits: Duration::ZERO,
        };
        self.inner.send(call).await
    }
}
