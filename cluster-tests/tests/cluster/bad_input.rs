//! Whatever is sent: the right code, at once, nothing changes, the node lives.

use std::time::Duration;

use cluster_tests::{Api, Reply};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::own::Own;

const SQL: &str = "/v1/api/sql";
const CONSUME: &str = "/v1/api/topics/consume";
const ACK: &str = "/v1/api/topics/ack";
/// In how long anything wrong is answered.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Deep enough to overflow the stack of a parser that does not count.
const DEEP: usize = 20_000;

struct Fixture {
    own: Own,
    api: std::sync::Arc<Api>,
}

impl Fixture {
    async fn new() -> Fixture {
        let own = Own::new().await;
        own.given(&[
            "CREATE TABLE {ns}.t (id INT PRIMARY KEY, v TEXT)",
            "CREATE TOPIC {ns}.out",
            "ALTER TOPIC {ns}.out ADD SOURCE {ns}.t ON INSERT",
            "INSERT INTO {ns}.t VALUES (1, 'there')",
        ])
        .await;
        let api = own.cluster.api();
        Fixture { own, api }
    }

    /// Sends as root and asserts what every refusal must be.
    async fn refused(&self, case: &str, request: Request, status: u16, code: &str) {
        let bearer = self.own.root.bearer();
        let headers = [("Authorization", bearer.as_str())];
        let reply = self.send(case, request, &headers).await;
        assert_eq!(
            (reply.status, reply.code()),
            (status, code),
            "{case}: {reply:?}"
        );
        reply.refused(status, code);
        assert!(reply.took < ANSWER_MAX, "{case} took {:?}", reply.took);
    }

    async fn send(&self, case: &str, request: Request, headers: &[(&str, &str)]) -> Reply {
        let Request { method, path, body } = request;
        let reply = self
            .api
            .send(method, self.api.next_url(), &path, body, headers)
            .await;
        reply.unwrap_or_else(|error| panic!("{case}: {error:?}"))
    }

    /// All that a request could have changed.
    async fn state(&self) -> Value {
        let root = &self.own.root;
        let rows = root
            .cells(&self.own.sql("SELECT * FROM {ns}.t ORDER BY id"))
            .await;
        let sql = "SELECT table_name FROM system.tables WHERE namespace_id = '{ns}'";
        let tables = root.cells(&self.own.sql(sql)).await;
        let sql = "SELECT topic_id, routes FROM system.topics WHERE topic_id = '{ns}.out'";
        let topics = root.cells(&self.own.sql(sql)).await;
        let sql = "SELECT * FROM system.topic_offsets WHERE topic_id = '{ns}.out'";
        let groups = root.cells(&self.own.sql(sql)).await;
        let messages = self.own.read("out").await.body["messages"].clone();
        json!([rows, tables, topics, groups, messages])
    }
}

struct Request {
    method: Method,
    path: String,
    body: Option<Vec<u8>>,
}

fn post(path: &str, body: impl Into<Vec<u8>>) -> Request {
    Request {
        method: Method::POST,
        path: path.into(),
        body: Some(body.into()),
    }
}

fn sql(text: &str) -> Request {
    post(SQL, json!({"sql": text}).to_string())
}

fn bare(method: Method, path: &str) -> Request {
    Request {
        method,
        path: path.into(),
        body: None,
    }
}

#[tokio::test]
async fn bodies_that_are_not_what_the_route_takes() {
    let fixture = Fixture::new().await;
    let before = fixture.state().await;
    let drop_it = json!([fixture.own.sql("DROP TABLE {ns}.t")]);
    let drop_it = drop_it.to_string().into_bytes();
    for path in [
        SQL,
        CONSUME,
        ACK,
        "/v1/api/topics/latest-offsets",
        "/v1/api/cluster/leader",
    ] {
        let bodies: [(&str, Vec<u8>); 10] = [
            ("nothing", Vec::new()),
            ("a list of values", drop_it.clone()),
            ("half an object", b"{\"sql\":".to_vec()),
            ("a list", b"[]".to_vec()),
            ("a number", b"7".to_vec()),
            ("null", b"null".to_vec()),
            ("no fields", b"{}".to_vec()),
            ("no text", b"\x00\x01\x02".to_vec()),
            (
                "no UTF-8",
                b"{\"sql\":\"SELECT '\xff\xfe'\",\"topic_id\":\"\xff\"}".to_vec(),
            ),
            ("deep", [vec![b'['; DEEP], vec![b']'; DEEP]].concat()),
        ];
        for (name, body) in bodies {
            let case = format!("{path}: {name}");
            fixture
                .refused(&case, post(path, body), 400, "INVALID_INPUT")
                .await;
        }
    }
    let bearer = fixture.own.root.bearer();
    let form = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "multipart/form-data; boundary=x"),
    ];
    let form = fixture.send("a form", bare(Method::POST, SQL), &form).await;
    form.refused(400, "INVALID_INPUT");
    assert!(
        form.body.to_string().contains("files are not supported"),
        "{form:?}"
    );
    let fields = [
        (SQL, json!({"sql": 5})),
        (SQL, json!({"sql": null})),
        (SQL, json!({"sql": "SELECT 1", "params": "x"})),
        (SQL, json!({"sql": "SELECT 1", "namespace_id": 5})),
        (CONSUME, json!({"topic_id": 5})),
        (CONSUME, json!({"topic_id": "t", "limit": "many"})),
        (CONSUME, json!({"topic_id": "t", "limit": -1})),
        (CONSUME, json!({"topic_id": "t", "partition_id": 1.5})),
        (CONSUME, json!({"topic_id": "t", "start": "Middle"})),
        (CONSUME, json!({"topic_id": "t", "start": {"Offset": -1}})),
        (CONSUME, json!({"topic_id": "t", "timeout_seconds": -1})),
        (ACK, json!({"topic_id": "t"})),
        (
            ACK,
            json!({"topic_id": "t", "group_id": "g", "upto_offset": "last"}),
        ),
        ("/v1/api/topics/latest-offsets", json!({"partitions": {}})),
    ];
    for (path, body) in fields {
        let case = format!("{path} {body}");
        fixture
            .refused(&case, post(path, body.to_string()), 400, "INVALID_INPUT")
            .await;
    }
    assert_eq!(fixture.state().await, before);
}

#[tokio::test]
async fn values_outside_of_their_bounds() {
    let fixture = Fixture::new().await;
    let before = fixture.state().await;
    let topic = fixture.own.name("out");
    let long = "x".repeat(300);
    let bodies = [
        (CONSUME, json!({"topic_id": topic, "limit": 0})),
        (CONSUME, json!({"topic_id": topic, "limit": 10_001})),
        (CONSUME, json!({"topic_id": topic, "group_id": long})),
        (CONSUME, json!({"topic_id": topic, "group_id": ""})),
        (
            CONSUME,
            json!({"topic_id": topic, "group_id": "g", "consumer_id": long}),
        ),
        (
            CONSUME,
            json!({"topic_id": topic, "group_id": "g", "lease_seconds": 0}),
        ),
        (
            CONSUME,
            json!({"topic_id": topic, "group_id": "g", "lease_seconds": 3601}),
        ),
        (
            CONSUME,
            json!({"topic_id": topic, "start": {"Timestamp": "yesterday"}}),
        ),
        (ACK, json!({"topic_id": topic, "group_id": "g"})),
    ];
    for (path, body) in bodies {
        let case = format!("{path} {body}");
        fixture
            .refused(&case, post(path, body.to_string()), 400, "INVALID_INPUT")
            .await;
    }
    let statements = [
        format!("CREATE TABLE {{ns}}.{long} (id INT PRIMARY KEY)"),
        format!("CREATE NAMESPACE {long}"),
        "CREATE TOPIC {ns}.none PARTITIONS 0".into(),
        "CREATE TOPIC {ns}.many PARTITIONS 1025".into(),
    ];
    for text in statements {
        let text = fixture.own.sql(&text);
        fixture
            .refused(&text, sql(&text), 400, "INVALID_INPUT")
            .await;
    }
    assert_eq!(fixture.state().await, before);
}

#[tokio::test]
async fn what_is_too_large() {
    let fixture = Fixture::new().await;
    let before = fixture.state().await;
    let big = "x".repeat(9 << 20);
    let body = json!({"sql": "SELECT 1", "params": [big]}).to_string();
    fixture
        .refused("body of 9 MiB", post(SQL, body), 413, "BODY_TOO_LARGE")
        .await;
    let text = format!("SELECT '{}'", "x".repeat(1 << 20));
    fixture
        .refused("SQL over 1 MiB", sql(&text), 400, "INVALID_SQL")
        .await;
    let insert = fixture.own.sql("INSERT INTO {ns}.t (id, v) VALUES (2, $1)");
    let body = json!({"sql": insert, "params": ["x".repeat(2 << 20)]}).to_string();
    fixture
        .refused("row of 2 MiB", post(SQL, body), 400, "VALUE_TOO_LARGE")
        .await;
    // Just below the bound it is no trouble.
    let body = json!({"sql": insert, "params": ["x".repeat(1_000_000)]}).to_string();
    let bearer = fixture.own.root.bearer();
    let headers = [("Authorization", bearer.as_str())];
    let reply = fixture.send("row of 1 MB", post(SQL, body), &headers).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    fixture
        .own
        .given(&["DELETE FROM {ns}.t WHERE id = 2"])
        .await;
    let after = fixture.state().await;
    assert_eq!(after[0], before[0]);
}

#[tokio::test]
async fn statements_built_to_exhaust_a_parser() {
    let fixture = Fixture::new().await;
    let before = fixture.state().await;
    let nested = |open: &str, inner: &str, close: &str| {
        format!("SELECT {}{inner}{}", open.repeat(DEEP), close.repeat(DEEP))
    };
    let deep = [
        ("parentheses", nested("(", "1", ")")),
        ("open parentheses", nested("(", "1", "")),
        ("NOT", nested("NOT ", "true", "")),
        ("signs", nested("- ", "1", "")),
        ("subqueries", nested("(SELECT ", "1", ")")),
        ("calls", nested("abs(", "1", ")")),
        ("CASE", nested("CASE WHEN true THEN ", "1", " END")),
        ("casts", nested("CAST(", "1", " AS INT)")),
        ("arrays", nested("[", "1", "]")),
        ("EXPLAIN", format!("{}SELECT 1", "EXPLAIN ".repeat(DEEP))),
        (
            "EXECUTE AS USER",
            format!(
                "{}SELECT 1{}",
                "EXECUTE AS USER 'x' (".repeat(DEEP),
                ")".repeat(DEEP)
            ),
        ),
    ];
    for (name, text) in deep {
        fixture.refused(name, sql(&text), 400, "INVALID_SQL").await;
    }
    // Long but not nested: answered or refused, but answered.
    for (name, piece) in [
        ("sum", " + 1"),
        ("and", " AND true"),
        ("union", " UNION ALL SELECT 1"),
    ] {
        let text = format!("SELECT 1{}", piece.repeat(DEEP));
        let bearer = fixture.own.root.bearer();
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Duet-Timeout-Ms", "5000"),
        ];
        let reply = fixture.send(name, sql(&text), &headers).await;
        assert!(
            reply.status == 200 || reply.status == 400,
            "{name}: {reply:?}"
        );
    }
    assert_eq!(fixture.state().await, before);
}

#[tokio::test]
async fn statements_that_are_wrong() {
    let fixture = Fixture::new().await;
    let before = fixture.state().await;
    let wrong = [
        ("SELEC 1", "INVALID_SQL"),
        ("SELECT", "INVALID_SQL"),
        ("SELECT 'open", "INVALID_SQL"),
        ("INSERT INTO {ns}.t VALUES (2, 'a'", "INVALID_SQL"),
        ("DROP DATABASE x", "INVALID_SQL"),
        ("SELECT * FROM {ns}.nope", "TABLE_NOT_FOUND"),
        ("INSERT INTO {ns}.nope VALUES (1)", "TABLE_NOT_FOUND"),
        ("SELECT * FROM nowhere.t", "TABLE_NOT_FOUND"),
        (
            "INSERT INTO {ns}.t (id, nope) VALUES (2, 'a')",
            "INVALID_SQL",
        ),
        ("SELECT nope FROM {ns}.t", "INVALID_SQL"),
        ("INSERT INTO {ns}.t (id) VALUES ('two')", "TYPE_MISMATCH"),
        (
            "INSERT INTO {ns}.t (id) VALUES (2147483648)",
            "TYPE_MISMATCH",
        ),
        ("INSERT INTO {ns}.t (v) VALUES ('x')", "NOT_NULL_VIOLATION"),
        ("INSERT INTO {ns}.t (id) VALUES (1)", "UNIQUE_VIOLATION"),
        ("SELECT 1 / 0", "SQL_EXECUTION_ERROR"),
        (
            "INSERT INTO {ns}.t (id) VALUES (1 / 0)",
            "SQL_EXECUTION_ERROR",
        ),
        ("UPDATE {ns}.t SET id = id / 0", "SQL_EXECUTION_ERROR"),
    ];
    for (text, code) in wrong {
        let text = fixture.own.sql(text);
        fixture.refused(&text, sql(&text), 400, code).await;
    }
    assert_eq!(fixture.state().await, before);
}

#[tokio::test]
async fn things_that_do_not_exist() {
    let fixture = Fixture::new().await;
    let topic = fixture.own.name("out");
    let take = |group: &str| json!({"topic_id": topic, "group_id": group, "start": "Earliest", "timeout_seconds": 0});
    let lease = fixture.own.agent.consume(take("theirs")).await.lease();
    fixture.own.agent.consume(take("mine")).await;
    let before = fixture.state().await;
    let nope = fixture.own.name("nope");
    let gone = [
        (CONSUME, json!({"topic_id": nope})),
        (CONSUME, json!({"topic_id": ""})),
        (CONSUME, json!({"topic_id": topic, "partition_id": 1})),
        (
            CONSUME,
            json!({"topic_id": topic, "group_id": "g", "partition_id": 1}),
        ),
        (
            ACK,
            json!({"topic_id": nope, "group_id": "g", "upto_offset": 0}),
        ),
        (
            ACK,
            json!({"topic_id": topic, "group_id": "g", "partition_id": 9, "upto_offset": 0}),
        ),
        (
            "/v1/api/topics/latest-offsets",
            json!({"partitions": [{"topic_id": nope}]}),
        ),
    ];
    for (path, body) in gone {
        let case = format!("{path} {body}");
        fixture
            .refused(&case, post(path, body.to_string()), 404, "NOT_FOUND")
            .await;
    }
    let no_lease = json!({"topic_id": topic, "group_id": "g", "lease_id": "no such lease"});
    let request = post(ACK, no_lease.to_string());
    fixture
        .refused("what is no lease", request, 400, "INVALID_INPUT")
        .await;
    let foreign = json!({"topic_id": topic, "group_id": "mine", "lease_id": lease});
    let request = post(ACK, foreign.to_string());
    fixture
        .refused("another group's lease", request, 409, "LEASE_LOST")
        .await;
    let paths = [
        bare(Method::GET, "/"),
        bare(Method::GET, "/v1/api/nope"),
        bare(Method::POST, "/v1/api/sql/more"),
        bare(Method::GET, "/v1/api/../sql"),
        bare(Method::DELETE, "/v1/api/cluster/members/99"),
        bare(Method::POST, "/v1/api/cluster/members/99/promote"),
        post("/v1/api/cluster/leader", r#"{"node_id":99}"#),
    ];
    for request in paths {
        let case = format!("{} {}", request.method, request.path);
        fixture.refused(&case, request, 404, "NOT_FOUND").await;
    }
    for path in [
        "/v1/api/topics/%ff/messages",
        "/v1/api/cluster/members/%ff/promote",
    ] {
        let method = if path.ends_with("messages") {
            Method::GET
        } else {
            Method::POST
        };
        fixture
            .refused(path, bare(method, path), 400, "INVALID_INPUT")
            .await;
    }
    let shaped = fixture
        .send("SQL's shape", bare(Method::GET, SQL), &[])
        .await;
    assert_eq!(shaped.body["status"], "error", "{shaped:?}");
    let path = "/v1/api/auth/nope";
    let shaped = fixture
        .send("auth's shape", bare(Method::GET, path), &[])
        .await;
    assert_eq!(shaped.body["error"], "not_found", "{shaped:?}");
    for (method, path) in [
        (Method::GET, SQL),
        (Method::DELETE, CONSUME),
        (Method::PUT, "/health"),
    ] {
        let case = format!("{method} {path}");
        fixture
            .refused(&case, bare(method, path), 405, "METHOD_NOT_ALLOWED")
            .await;
    }
    assert_eq!(fixture.state().await, before);
}

#[tokio::test]
async fn tokens_that_are_missing_or_forged() {
    let fixture = Fixture::new().await;
    let before = fixture.state().await;
    let good = fixture.own.root.token.clone();
    let parts: Vec<&str> = good.split('.').collect();
    let other_signature: String = parts[2].chars().rev().collect();
    let forged = [
        format!("{}.{}.{other_signature}", parts[0], parts[1]),
        format!("{}.{}.", parts[0], parts[1]),
        // {"alg":"none"} and nothing signed
        format!("eyJhbGciOiJub25lIn0.{}.", parts[1]),
        // alice's name under root's signature
        format!(
            "{}.{}.{}",
            parts[0],
            fixture.own.alice.token.split('.').nth(1).unwrap(),
            parts[2]
        ),
        "not.a.token".into(),
        "x".repeat(5000),
    ];
    for path in [SQL, CONSUME, "/v1/api/cluster"] {
        let method = if path == "/v1/api/cluster" {
            Method::GET
        } else {
            Method::POST
        };
        let body = (method == Method::POST).then(|| {
            json!({"sql": "SELECT 1", "topic_id": "t"})
                .to_string()
                .into_bytes()
        });
        let request = || Request {
            method: method.clone(),
            path: path.into(),
            body: body.clone(),
        };
        let none = fixture.send(path, request(), &[]).await;
        none.refused(401, "MISSING_AUTHORIZATION");
        for scheme in ["", "Bearer", "Bearer ", "Basic cm9vdDpyb290"] {
            let reply = fixture
                .send(path, request(), &[("Authorization", scheme)])
                .await;
            assert_eq!(reply.status, 401, "{scheme:?}: {reply:?}");
        }
        for token in &forged {
            let bearer = format!("Bearer {token}");
            let reply = fixture
                .send(path, request(), &[("Authorization", &bearer)])
                .await;
            reply.refused(401, "INVALID_CREDENTIALS");
        }
    }
    for (user, password) in [("root", "wrong"), ("nobody-at-all", "wrong"), ("", "")] {
        let body = json!({"user": user, "password": password}).to_string();
        let reply = fixture
            .send("login", post("/v1/api/auth/login", body), &[])
            .await;
        reply.refused(401, "INVALID_CREDENTIALS");
        assert_eq!(reply.body["error"], "unauthorized", "{reply:?}");
    }
    let reply = fixture
        .send("login", post("/v1/api/auth/login", "{"), &[])
        .await;
    reply.refused(400, "INVALID_INPUT");
    assert_eq!(fixture.state().await, before);
}

#[tokio::test]
async fn bytes_that_are_no_protocol() {
    let fixture = Fixture::new().await;
    let before = fixture.state().await;
    let garbage: [&[u8]; 5] = [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"POST /v1/api/sql HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/api/sql HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    for node in fixture.own.cluster.nodes() {
        for address in [node.http, node.rpc] {
            for bytes in garbage {
                let mut socket = TcpStream::connect(address).await.unwrap();
                socket.write_all(bytes).await.unwrap();
                socket.shutdown().await.unwrap();
                let mut answer = Vec::new();
                // What it says does not matter, but it must let go of the connection.
                let read =
                    tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer));
                assert!(read.await.is_ok(), "{address} holds on to {bytes:?}");
            }
        }
    }
    assert_eq!(fixture.state().await, before);
}
