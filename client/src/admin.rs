//! The cluster and its members.

use std::time::Duration;

use api::cluster::{
    AddMemberRequest, ClusterHealth, ClusterStatus, DigestQuery, DigestResponse, DrainRequest,
    HealthResponse, ReadyResponse, SnapshotResponse, TransferLeaderRequest,
};
use api::paths;
use reqwest::Method;

use crate::options::{Answer, RequestOptions};
use crate::send::Call;
use crate::{Client, Error};

impl Client {
    /// Members, leader and term.
    pub async fn cluster_status(&self) -> Result<Answer<ClusterStatus>, Error> {
        self.get(paths::CLUSTER, true, &RequestOptions::read())
            .await
    }

    /// Members and leader without a token.
    pub async fn cluster_health(&self) -> Result<Answer<ClusterHealth>, Error> {
        self.get(paths::CLUSTER_HEALTH, false, &RequestOptions::read())
            .await
    }

    /// Whether the process is up.
    pub async fn health(&self) -> Result<Answer<HealthResponse>, Error> {
        self.get(paths::HEALTH, false, &RequestOptions::read())
            .await
    }

    /// Whether the node can serve; a node that cannot is [`Error::Refused`] or unreachable.
    pub async fn ready(&self) -> Result<Answer<ReadyResponse>, Error> {
        self.get(paths::READY, false, &RequestOptions::read()).await
    }

    // Every step of the membership may be repeated: one that is done already succeeds and changes
    // nothing. So they are sent again as reads are.

    /// Makes the node at an address a member.
    pub async fn add_member(
        &self,
        request: &AddMemberRequest,
    ) -> Result<Answer<ClusterStatus>, Error> {
        self.post(paths::CLUSTER_MEMBERS, request, &RequestOptions::read())
            .await
    }

    /// Makes a node leave its work to the others, until it is restarted; none: the one asked.
    pub async fn drain(&self, node_id: Option<u64>) -> Result<Answer<ClusterStatus>, Error> {
        let request = DrainRequest { node_id };
        // Sent again, "the node that is asked" could be another one.
        let options = match node_id {
            Some(_) => RequestOptions::read(),
            None => RequestOptions::default(),
        };
        self.post(paths::CLUSTER_DRAIN, &request, &options).await
    }

    /// Makes a learner a voter.
    pub async fn promote_member(&self, node_id: u64) -> Result<Answer<ClusterStatus>, Error> {
        let path = paths::cluster_promote(node_id);
        self.without_body(Method::POST, &path, RequestOptions::read())
            .await
    }

    /// Removes a member.
    pub async fn remove_member(&self, node_id: u64) -> Result<Answer<ClusterStatus>, Error> {
        let path = paths::cluster_member(node_id);
        self.without_body(Method::DELETE, &path, RequestOptions::read())
            .await
    }

    /// Hands leadership over.
    pub async fn transfer_leader(&self, node_id: u64) -> Result<Answer<ClusterStatus>, Error> {
        let request = TransferLeaderRequest { node_id };
        self.post(paths::CLUSTER_LEADER, &request, &RequestOptions::read())
            .await
    }

    /// Takes a snapshot on the node that is asked.
    pub async fn snapshot(&self) -> Result<Answer<SnapshotResponse>, Error> {
        let options = RequestOptions::default();
        self.without_body(Method::POST, paths::CLUSTER_SNAPSHOT, options)
            .await
    }

    /// A hash chain's value on the node that is asked.
    pub async fn digest(&self, query: &DigestQuery) -> Result<Answer<DigestResponse>, Error> {
        let mut path = paths::CLUSTER_DIGEST.to_owned();
        let mut separator = '?';
        let partition = query.partition.map(|number| number.to_string());
        let offset = query.offset.map(|number| number.to_string());
        let index = query.index.map(|number| number.to_string());
        let scan = query.scan.then(|| "true".to_owned());
        let parts = [
            ("topic", &query.topic),
            ("partition", &partition),
            ("offset", &offset),
            ("index", &index),
            ("scan", &scan),
        ];
        for (name, value) in parts {
            if let Some(value) = value {
                path = format!("{path}{separator}{name}={}", query_value(value));
                separator = '&';
            }
        }
        self.get(&path, true, &RequestOptions::read()).await
    }

    async fn without_body<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        options: RequestOptions,
    ) -> Result<Answer<T>, Error> {
        let call = Call {
            method,
            path,
            body: None,
            options: &options,
            with_token: true,
            waits: Duration::ZERO,
        };
        self.inner.send(call).await
    }
}

/// Percent-encodes everything but what RFC 3986 calls unreserved.
fn query_value(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_escaped() {
        assert_eq!(query_value("demo.events"), "demo.events");
        assert_eq!(query_value("a b&ü"), "a%20b%26%C3%BC");
    }
}
