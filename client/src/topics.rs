//! Topics: reading, and saying what is done.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Options of a request that may be sent several times and happens once.
fn once() -> RequestOptions {
    RequestOptions::idempotent(new_key())
}

/// A key that no other request has: a random number of this process, and a count.
fn new_key() -> String {
    static PROCESS: OnceLock<(u64, u64)> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // A hasher's keys are random, so what it makes of nothing is too.
    let random = || RandomState::new().build_hasher().finish();
    let (first, second) = PROCESS.get_or_init(|| (random(), random()));
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{first:016x}{second:016x}-{count}")
}

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

    /// Says that messages are done. Sent again if the answer was lost, under a key by which the
    /// server gives the first answer once more.
    pub async fn ack(&self, request: &AckRequest) -> Result<Answer<AckResponse>, Error> {
        self.post(paths::TOPICS_ACK, request, &once()).await
    }

    /// Gives leased messages back. Sent again as an ack is.
    pub async fn nack(&self, request: &NackRequest) -> Result<Answer<NackResponse>, Error> {
        self.post(paths::TOPICS_NACK, request, &once()).await
    }

    /// Keeps leased messages longer. Sent again as an ack is.
    pub async fn extend(&self, request: &ExtendRequest) -> Result<Answer<ExtendResponse>, Error> {
        self.post(paths::TOPICS_EXTEND, request, &once()).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_are_the_same() {
        let (first, second) = (new_key(), new_key());
        assert_ne!(first, second);
        assert!(first.len() <= types::limits::IDEMPOTENCY_KEY_MAX_BYTES);
    }
}
