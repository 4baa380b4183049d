//! What a caller learns when nodes are down, say no, or fall silent, played by a scripted server.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::api::SqlRequest;
use client::api::topics::{AckRequest, ExtendRequest, NackRequest};
use client::{Client, Error, RequestOptions, UnknownCause};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use types::ErrorCode;

/// What the server does with one request.
#[derive(Clone)]
enum Reply {
    Json(u16, String),
    /// Reads the request, then closes the connection.
    Hangup,
}

struct FakeNode {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl FakeNode {
    async fn start(replies: impl IntoIterator<Item = Reply>) -> FakeNode {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut replies: VecDeque<Reply> = replies.into_iter().collect();
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                // One request a connection keeps the script in step with the requests.
                let request = read_request(&mut socket).await;
                log.lock().unwrap().push(request);
                match replies.pop_front() {
                    Some(Reply::Json(status, body)) => answer(&mut socket, status, &body).await,
                    Some(Reply::Hangup) => drop(socket),
                    None => answer(&mut socket, 418, "{}").await,
                }
            }
        });
        FakeNode { url, seen }
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read_request(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = socket.read(&mut chunk).await.unwrap();
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length: usize = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        if read == 0 || body.len() >= length {
            return text;
        }
    }
}

async fn answer(socket: &mut TcpStream, status: u16, body: &str) {
    let text = format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\nduet-index: 7\r\n\
         duet-node: 2\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(text.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
}

fn success() -> Reply {
    Reply::Json(
        200,
        r#"{"status":"success","results":[{"row_count":1}],"took":1}"#.into(),
    )
}

fn refusal(status: u16, code: &str, retryable: bool, maybe_applied: bool) -> Reply {
    let error = format!(
        concat!(
            r#"{{"code":"{}","message":"m","#,
            r#""retryable":{},"maybe_applied":{}}}"#
        ),
        code, retryable, maybe_applied
    );
    Reply::Json(
        status,
        format!(r#"{{"status":"error","results":[],"took":1,"error":{error}}}"#),
    )
}

fn login(token: &str) -> Reply {
    Reply::Json(
        200,
        format!(
            concat!(
                r#"{{"user":{{"id":"u","role":"user","email":null,"created_at":"t","#,
                r#""updated_at":"t"}},"admin_ui_access":false,"expires_at":"t","#,
                r#""access_token":"{}"}}"#
            ),
            token
        ),
    )
}

/// A URL where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn client(urls: &[&str]) -> Client {
    let builder = Client::builder()
        .urls(urls.iter().copied())
        .token("t")
        .rounds(2);
    builder
        .request_timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_node_that_is_down_is_passed_over_and_left_alone() {
    let node = FakeNode::start([success(), success()]).await;
    let duet = client(&[&nobody().await, &node.url]);
    let answer = duet.sql("INSERT").await.unwrap();
    assert_eq!(
        (answer.index, answer.node, answer.url.as_str()),
        (Some(7), Some(2), &*node.url)
    );
    duet.sql("INSERT").await.unwrap();
    assert_eq!(node.requests().len(), 2);
}

#[tokio::test]
async fn with_all_nodes_down_nothing_happened() {
    let duet = client(&[&nobody().await, &nobody().await]);
    let error = duet.sql("INSERT").await.unwrap_err();
    let Error::Unreachable { tried } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(tried.len(), 2, "{tried:?}");
    assert!(!error.maybe_applied());
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_unknown_and_not_sent_again() {
    let first = FakeNode::start([Reply::Hangup]).await;
    let second = FakeNode::start([success()]).await;
    let error = client(&[&first.url, &second.url])
        .sql("INSERT")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Unknown(UnknownCause::Connection { .. })),
        "{error:?}"
    );
    assert!(error.maybe_applied());
    assert_eq!((first.requests().len(), second.requests().len()), (1, 0));
}

#[tokio::test]
async fn a_read_whose_answer_is_lost_is_sent_again() {
    let first = FakeNode::start([Reply::Hangup]).await;
    let second = FakeNode::start([success()]).await;
    client(&[&first.url, &second.url])
        .query("SELECT 1")
        .await
        .unwrap();
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_write_with_an_idempotency_key_is_sent_again_under_the_same_key() {
    let first = FakeNode::start([Reply::Hangup]).await;
    let second = FakeNode::start([success()]).await;
    let duet = client(&[&first.url, &second.url]);
    let options = RequestOptions::idempotent("key-1");
    duet.execute(&SqlRequest::new("INSERT"), &options)
        .await
        .unwrap();
    for node in [&first, &second] {
        assert!(
            node.requests()[0]
                .to_lowercase()
                .contains("idempotency-key: key-1\r\n")
        );
    }
}

#[tokio::test]
async fn a_write_the_server_is_sure_about_is_sent_again() {
    let first = FakeNode::start([refusal(503, "CLUSTER_UNAVAILABLE", true, false)]).await;
    let second = FakeNode::start([success()]).await;
    client(&[&first.url, &second.url])
        .sql("INSERT")
        .await
        .unwrap();
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_write_the_server_is_not_sure_about_is_unknown() {
    let first = FakeNode::start([refusal(504, "DEADLINE_EXCEEDED", true, true)]).await;
    let second = FakeNode::start([success()]).await;
    let error = client(&[&first.url, &second.url])
        .sql("INSERT")
        .await
        .unwrap_err();
    assert!(error.maybe_applied());
    assert_eq!(error.code(), Some(ErrorCode::DeadlineExceeded));
    assert_eq!(second.requests().len(), 0);
}

#[tokio::test]
async fn a_repeatable_request_that_never_gets_an_answer_stays_unknown() {
    let node = FakeNode::start([Reply::Hangup, refusal(503, "OVERLOADED", true, false)]).await;
    let duet = client(&[&node.url]);
    let options = RequestOptions::idempotent("key-1");
    let error = duet
        .execute(&SqlRequest::new("INSERT"), &options)
        .await
        .unwrap_err();
    // The last refusal is certain only about the last try.
    assert!(error.maybe_applied(), "{error:?}");
    assert_eq!(node.requests().len(), 2);
}

#[tokio::test]
async fn a_refusal_to_a_stranger_does_not_undo_what_may_have_happened() {
    let refusals = [
        refusal(403, "PERMISSION_DENIED", false, false),
        refusal(401, "TOKEN_EXPIRED", false, false),
    ];
    for refusal in refusals {
        let node = FakeNode::start([Reply::Hangup, refusal]).await;
        let options = RequestOptions::idempotent("key-1");
        let error = client(&[&node.url])
            .execute(&SqlRequest::new("INSERT"), &options)
            .await
            .unwrap_err();
        assert!(error.maybe_applied(), "{error:?}");
    }
}

#[tokio::test]
async fn a_login_whose_answer_is_lost_leaves_no_doubt_about_the_write_after_it() {
    let node = FakeNode::start([Reply::Hangup, Reply::Hangup]).await;
    let builder = Client::builder().url(&node.url).credentials("u", "p");
    let duet = builder.rounds(2).build().unwrap();
    let error = duet.sql("INSERT").await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_refusal_is_final() {
    let node = FakeNode::start([refusal(400, "UNIQUE_VIOLATION", false, false)]).await;
    let error = client(&[&node.url]).sql("INSERT").await.unwrap_err();
    assert!(matches!(&error, Error::Refused(_)), "{error:?}");
    assert_eq!(error.code(), Some(ErrorCode::UniqueViolation));
    assert_eq!(node.requests().len(), 1);
}

#[tokio::test]
async fn a_write_whose_answer_is_no_json_is_unknown() {
    let node = FakeNode::start([Reply::Json(200, "<html>".into())]).await;
    let error = client(&[&node.url]).sql("INSERT").await.unwrap_err();
    assert!(
        matches!(&error, Error::Unknown(UnknownCause::Unreadable { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn it_logs_in_when_needed_and_again_when_the_token_has_expired() {
    let node = FakeNode::start([
        login("one"),
        refusal(401, "TOKEN_EXPIRED", false, false),
        login("two"),
        success(),
    ])
    .await;
    let builder = Client::builder().url(&node.url).credentials("u", "p");
    builder.build().unwrap().sql("INSERT").await.unwrap();
    let requests = node.requests();
    let bearer = |text: &String| {
        let lower = text.to_lowercase();
        lower
            .lines()
            .find_map(|line| line.strip_prefix("authorization: ").map(str::to_owned))
    };
    let bearers: Vec<_> = requests.iter().map(bearer).collect();
    let expected = [None, Some("bearer one"), None, Some("bearer two")];
    assert_eq!(bearers, expected.map(|text| text.map(str::to_owned)));
}

#[tokio::test]
async fn without_credentials_it_says_so_before_sending() {
    let node = FakeNode::start([]).await;
    let error = Client::builder()
        .url(&node.url)
        .build()
        .unwrap()
        .sql("X")
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Configuration(_)));
    assert_eq!(node.requests().len(), 0);
}

#[tokio::test]
async fn the_deadline_bounds_the_wait_for_a_silent_node() {
    // Accepts connections by the listen queue alone and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let options = RequestOptions::default().timeout(Duration::from_millis(100));
    let duet = client(&[&url]);
    let error = duet
        .execute(&SqlRequest::new("INSERT"), &options)
        .await
        .unwrap_err();
    assert!(error.maybe_applied(), "{error:?}");
}

#[tokio::test]
async fn acks_and_their_like_are_sent_again_under_the_key_they_were_sent_with() {
    let done = || Reply::Json(200, r#"{"success":true}"#.into());
    let script = [
        Reply::Hangup,
        done(),
        Reply::Hangup,
        done(),
        Reply::Hangup,
        done(),
    ];
    let node = FakeNode::start(script).await;
    let client = client(&[&node.url]);
    client.ack(&AckRequest::default()).await.unwrap();
    client.nack(&NackRequest::default()).await.unwrap();
    client.extend(&ExtendRequest::default()).await.unwrap();
    let keys: Vec<String> = node
        .requests()
        .iter()
        .map(|request| {
            let key = request
                .lines()
                .find_map(|line| line.strip_prefix("idempotency-key: "));
            key.expect("a key").to_owned()
        })
        .collect();
    assert_eq!(keys.len(), 6);
    for pair in keys.chunks(2) {
        assert_eq!(pair[0], pair[1], "a repeat is the same request");
    }
    assert_ne!(keys[0], keys[2], "another request is not");
    assert_ne!(keys[2], keys[4]);
}
