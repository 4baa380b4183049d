//! One user with a token, talking to all nodes in turn.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::{Api, Reply};

/// Password of `root` in every cluster of these tests.
pub const ROOT_PASSWORD: &str = "correct horse battery";
/// Password of all other users.
pub const PASSWORD: &str = "correct horse 9";
/// Messages that one read without a group asks for.
const PAGE: u64 = 1000;

/// A user with a token.
#[derive(Clone, Debug)]
pub struct User {
    /// The user's id.
    pub name: String,
    /// The access token.
    pub token: String,
    api: Arc<Api>,
}

impl User {
    /// Logs in on the next node.
    pub async fn login(api: Arc<Api>, name: &str, password: &str) -> User {
        let body = json!({"user": name, "password": password});
        let reply = api.post("/v1/api/auth/login", &body, &[]).await;
        let token = reply.body["access_token"].as_str();
        let token = token
            .unwrap_or_else(|| panic!("login of {name}: {reply:?}"))
            .to_owned();
        User {
            name: name.to_owned(),
            token,
            api,
        }
    }

    /// Makes a user and logs in as it.
    pub async fn create(&self, name: &str, role: &str) -> User {
        let sql = format!("CREATE USER {name} WITH PASSWORD '{PASSWORD}' ROLE '{role}'");
        self.ok(&sql).await;
        User::login(Arc::clone(&self.api), name, PASSWORD).await
    }

    /// The HTTP below.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The header that carries the token.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Any route, on the next node.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_with(self.api.next_url(), path, body, &[]).await
    }

    /// Any route, on a given node, with more headers.
    pub async fn post_with(
        &self,
        url: &str,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Reply {
        let bearer = self.bearer();
        let mut all = vec![("Authorization", bearer.as_str())];
        all.extend(headers);
        self.api.post_to(url, path, body, &all).await
    }

    /// A GET, on the next node.
    pub async fn get(&self, path: &str) -> Reply {
        let bearer = self.bearer();
        let headers = [("Authorization", bearer.as_str())];
        self.api.get_from(self.api.next_url(), path, &headers).await
    }

    /// Statements, on the next node.
    pub async fn sql(&self, sql: &str) -> Reply {
        self.post("/v1/api/sql", &json!({"sql": sql})).await
    }

    /// Statements, on a given node, with headers.
    pub async fn sql_on(&self, url: &str, sql: &str, headers: &[(&str, &str)]) -> Reply {
        self.post_with(url, "/v1/api/sql", &json!({"sql": sql}), headers)
            .await
    }

    /// One statement with parameters, on the next node.
    pub async fn sql_params(&self, sql: &str, params: Value) -> Reply {
        self.post("/v1/api/sql", &json!({"sql": sql, "params": params}))
            .await
    }

    /// Statements that must run; the first one's result.
    pub async fn ok(&self, sql: &str) -> Value {
        let reply = self.sql(sql).await;
        assert_eq!(reply.status, 200, "{sql}: {reply:?}");
        reply.results()[0].clone()
    }

    /// Rows of a query that must run.
    pub async fn rows(&self, sql: &str) -> Vec<Value> {
        let reply = self.sql(sql).await;
        assert_eq!(reply.status, 200, "{sql}: {reply:?}");
        reply.rows()
    }

    /// Rows of a query that must run, without the names.
    pub async fn cells(&self, sql: &str) -> Value {
        let reply = self.sql(sql).await;
        assert_eq!(reply.status, 200, "{sql}: {reply:?}");
        reply.results()[0]["rows"].clone()
    }

    /// Statements that must be refused with this status and code.
    pub async fn refused(&self, sql: &str, status: u16, code: &str) -> Reply {
        let reply = self.sql(sql).await;
        assert_eq!(
            (reply.status, reply.code()),
            (status, code),
            "{sql}: {reply:?}"
        );
        reply.refused(status, code);
        reply
    }

    /// A consume, on the next node.
    pub async fn consume(&self, body: Value) -> Reply {
        self.post("/v1/api/topics/consume", &body).await
    }

    /// An ack, on the next node.
    pub async fn ack(&self, body: Value) -> Reply {
        self.post("/v1/api/topics/ack", &body).await
    }

    /// All messages of a partition on one node, read page by page without a group.
    pub async fn all_messages(
        &self,
        url: &str,
        topic: &str,
        partition: u32,
        headers: &[(&str, &str)],
    ) -> Vec<Value> {
        let mut messages: Vec<Value> = Vec::new();
        let mut start = json!("Earliest");
        loop {
            let body = json!({
                "topic_id": topic, "partition_id": partition, "start": start, "limit": PAGE,
                "timeout_seconds": 0,
            });
            let reply = self
                .post_with(url, "/v1/api/topics/consume", &body, headers)
                .await;
            if reply.messages().is_empty() {
                return messages;
            }
            messages.extend_from_slice(reply.messages());
            start = json!({"Offset": reply.body["next_offset"]});
        }
    }
}

/// The JSON in a message's payload.
pub fn payload(message: &Value) -> Value {
    let text = message["payload"]
        .as_str()
        .unwrap_or_else(|| panic!("no payload: {message}"));
    let bytes = STANDARD
        .decode(text)
        .unwrap_or_else(|error| panic!("{error}: {message}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {message}"))
}
