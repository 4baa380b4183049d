//! HTTP as it is, without the comfort of the client crate: tests that look at statuses, headers and
//! bodies, or send what no client would.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::sse::Events;

/// No answer of any test takes longer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// HTTP to the nodes of a cluster, in turn.
#[derive(Debug)]
pub struct Api {
    http: reqwest::Client,
    urls: Vec<String>,
    turn: AtomicUsize,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body as JSON; null if it is none.
    pub body: Value,
    /// The headers.
    pub headers: HeaderMap,
    /// From the request's first byte to the answer's last.
    pub took: Duration,
    /// Who was asked.
    pub url: String,
}

impl Api {
    /// For the nodes with these URLs.
    pub fn new(urls: Vec<String>) -> Api {
        Api::trusting(urls, None)
    }

    /// For the nodes with these URLs, whose certificates are by these authorities, in PEM.
    pub fn trusting(urls: Vec<String>, authorities: Option<&[u8]>) -> Api {
        Api {
            http: client_trusting(authorities),
            urls,
            turn: AtomicUsize::new(0),
        }
    }

    /// URLs of the nodes.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Another node each time.
    pub fn next_url(&self) -> &str {
        &self.urls[self.turn.fetch_add(1, Ordering::Relaxed) % self.urls.len()]
    }

    /// One request. The body is sent as it is.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&str, &str)],
    ) -> Result<Reply, reqwest::Error> {
        let started = Instant::now();
        let mut request = self.http.request(method, format!("{url}{path}"));
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?;
        Ok(Reply {
            status,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            headers,
            took: started.elapsed(),
            url: url.to_owned(),
        })
    }

    /// A stream of events from a node, which opens it.
    pub async fn events(&self, url: &str, path: &str, headers: &[(&str, &str)]) -> Events {
        let mut request = self.http.get(format!("{url}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await;
        Events::new(response.unwrap_or_else(|error| panic!("GET {url}{path}: {error:?}")))
    }

    /// POST of a JSON body to the next node; the node answers.
    pub async fn post(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
        self.post_to(self.next_url(), path, body, headers).await
    }

    /// POST of a JSON body to a node; the node answers.
    pub async fn post_to(
        &self,
        url: &str,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Reply {
        let body = Some(body.to_string().into_bytes());
        let reply = self.send(Method::POST, url, path, body, headers).await;
        reply.unwrap_or_else(|error| panic!("POST {url}{path}: {error:?}"))
    }

    /// What a node answers to a GET, as text; the node answers.
    pub async fn text_from(&self, url: &str, path: &str) -> String {
        let answer = self.http.get(format!("{url}{path}")).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("GET {url}{path}: {error:?}"));
        assert_eq!(answer.status(), 200, "GET {url}{path}");
        answer.text().await.expect("the answer is text")
    }

    /// The same; none if the node does not answer.
    pub async fn try_text_from(&self, url: &str, path: &str) -> Option<String> {
        let answer = self.http.get(format!("{url}{path}")).send().await.ok()?;
        answer.text().await.ok()
    }

    /// GET from a node; the node answers.
    pub async fn get_from(&self, url: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let reply = self.send(Method::GET, url, path, None, headers).await;
        reply.unwrap_or_else(|error| panic!("GET {url}{path}: {error:?}"))
    }
}

impl Reply {
    /// The error's code, in whichever of the three shapes it comes.
    pub fn code(&self) -> &str {
        let inside = self.body["error"]["code"].as_str();
        inside.or(self.body["code"].as_str()).unwrap_or("")
    }

    /// Asserts that all statements ran; their results.
    pub fn results(&self) -> &[Value] {
        assert_eq!(
            (self.status, &self.body["status"]),
            (200, &"success".into()),
            "{self:?}"
        );
        self.body["results"]
            .as_array()
            .expect("results are an array")
    }

    /// Asserts success; rows of the first result as objects.
    pub fn rows(&self) -> Vec<Value> {
        objects(&self.results()[0])
    }

    /// Asserts status and code, and that the error is whole: a message, and the two answers to
    /// whether it may be sent again and whether it may have happened.
    pub fn refused(&self, status: u16, code: &str) -> &Reply {
        assert_eq!((self.status, self.code()), (status, code), "{self:?}");
        let body = &self.body;
        let holder = if body["error"].is_object() {
            &body["error"]
        } else {
            body
        };
        assert!(holder["retryable"].is_boolean(), "{self:?}");
        assert!(holder["maybe_applied"].is_boolean(), "{self:?}");
        let said = |text: &Value| text.as_str().is_some_and(|text| !text.is_empty());
        assert!(
            said(&holder["message"]) || said(&holder["error"]),
            "{self:?}"
        );
        self
    }

    /// The log index the answer reflects.
    pub fn index(&self) -> u64 {
        let value = self
            .headers
            .get("duet-index")
            .and_then(|value| value.to_str().ok());
        value
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("no index: {self:?}"))
    }

    /// Messages of a consume; asserts success.
    pub fn messages(&self) -> &[Value] {
        assert_eq!(self.status, 200, "{self:?}");
        self.body["messages"]
            .as_array()
            .expect("messages are an array")
    }

    /// Offsets of the messages of a consume; asserts success.
    pub fn offsets(&self) -> Vec<u64> {
        let messages = self.messages().iter();
        messages
            .map(|message| message["offset"].as_u64().expect("an offset"))
            .collect()
    }

    /// The lease of a consume; asserts that there is one.
    pub fn lease(&self) -> String {
        let lease = self.body["lease_id"].as_str();
        lease
            .unwrap_or_else(|| panic!("no lease: {self:?}"))
            .to_owned()
    }
}

/// A client without any comfort. It trusts these authorities, or none.
pub fn client_trusting(authorities: Option<&[u8]>) -> reqwest::Client {
    choose_cryptography();
    let certificates = authorities.map(reqwest::Certificate::from_pem_bundle);
    let certificates = certificates.transpose().expect("authorities in PEM");
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(ANSWER_MAX)
        .tls_certs_only(certificates.unwrap_or_default());
    http.build().expect("a plain client")
}

/// Without this the HTTP library panics, also where no TLS is spoken.
pub fn choose_cryptography() {
    // Fails when it was chosen before.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// Rows of a result as objects.
pub fn objects(result: &Value) -> Vec<Value> {
    let names: Vec<&str> = result["schema"]
        .as_array()
        .unwrap_or_else(|| panic!("no schema: {result}"))
        .iter()
        .map(|field| field["name"].as_str().expect("a column has a name"))
        .collect();
    let rows = result["rows"]
        .as_array()
        .unwrap_or_else(|| panic!("no rows: {result}"));
    let object = |row: &Value| {
        let cells = row.as_array().expect("a row is an array").iter().cloned();
        names
            .iter()
            .map(|name| (*name).to_owned())
            .zip(cells)
            .collect()
    };
    rows.iter().map(|row| Value::Object(object(row))).collect()
}
