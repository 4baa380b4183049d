//! Starts that must not succeed end at once, with one line that says why.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cluster_tests::Cluster;
use cluster_tests::node::Node;
use cluster_tests::wait;
use serde_json::json;

/// How long a start may take to fail.
const FAIL_MAX: Duration = Duration::from_secs(30);
/// A line longer than this is not one that a person reads.
const LINE_MAX: usize = 600;

/// Runs a command that must end by itself.
async fn ends(command: &mut Command) -> Output {
    let mut process = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait::until("a start fails", FAIL_MAX, async || {
        process.try_wait().unwrap()
    })
    .await;
    process.wait_with_output().unwrap()
}

/// Asserts a non-zero exit and a last line that says all of `says`, without any panic.
async fn fails(command: &mut Command, says: &[&str]) -> Output {
    let output = ends(command).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{command:?} succeeded:\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    let last = text
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or_default();
    let all = text.to_lowercase();
    for word in says {
        assert!(
            all.contains(&word.to_lowercase()),
            "nothing about {word:?} in:\n{text}"
        );
    }
    assert!(last.len() < LINE_MAX, "too long for a person:\n{last}");
    output
}

fn spare(directory: &Path) -> Node {
    Node::new(directory, "spare", Vec::new())
}

#[tokio::test]
async fn a_flag_or_value_that_does_not_exist() {
    let directory = tempfile::tempdir().unwrap();
    let node = spare(directory.path());
    let output = fails(node.command().arg("--no-such-flag"), &["--no-such-flag"]).await;
    assert_eq!(output.status.code(), Some(2));
    fails(
        node.command().args(["--node-id", "zero"]),
        &["node-id", "zero"],
    )
    .await;
    fails(
        node.command().env("DUET_LONG_POLL_MAX_SECONDS", "soon"),
        &["soon"],
    )
    .await;
    let file = directory.path().join("duet.toml");
    std::fs::write(&file, "htpp = \"127.0.0.1:1\"\n").unwrap();
    fails(node.command().arg("--config").arg(&file), &["htpp"]).await;
    let missing = directory.path().join("none.toml");
    fails(node.command().arg("--config").arg(&missing), &["none.toml"]).await;
    assert!(!node.data_dir().exists(), "nothing was made");
}

#[tokio::test]
async fn a_port_that_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let node = spare(directory.path());
    for address in [node.http, node.rpc] {
        let taken = TcpListener::bind(address).unwrap();
        let output = fails(&mut node.command(), &[&address.to_string(), "in use"]).await;
        drop(taken);
        // Whoever collects logs learns it as well.
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = text
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .any(|line| line["level"] == "ERROR" && line.to_string().contains("in use"));
        assert!(said, "{text}");
    }
}

#[tokio::test]
async fn a_node_that_waits_to_be_let_in_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = spare(directory.path());
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let nobody = nobody.local_addr().unwrap().to_string();
    node.spawn(&["--join".into(), nobody]);
    let (api, url) = (cluster_tests::Api::new(vec![node.url()]), node.url());
    let health = wait::until("it listens", FAIL_MAX, async || {
        let health = api.send(reqwest::Method::GET, &url, "/health", None, &[]);
        health.await.ok()
    });
    assert_eq!(health.await.status, 200);
    let ready = api.get_from(&url, "/ready", &[]).await;
    assert_eq!(ready.status, 503);
    let reason = ready.body["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("starting"), "{ready:?}");
    let health = api.get_from(&url, "/v1/api/cluster/health", &[]).await;
    assert_eq!(
        (health.status, &health.body["status"]),
        (200, &json!("unhealthy"))
    );
    let login = json!({"user": "root", "password": "whatever"});
    let soon = [("Duet-Timeout-Ms", "100")];
    let login = api.post_to(&url, "/v1/api/auth/login", &login, &soon).await;
    login.refused(503, "CLUSTER_UNAVAILABLE");
}

#[tokio::test]
async fn an_empty_directory_without_instructions() {
    let directory = tempfile::tempdir().unwrap();
    let node = spare(directory.path());
    let says = ["--bootstrap", "--join"];
    let port = node.http.port();
    fails(node.command().args(["--node-id", "2"]), &says).await;
    let mut command = Command::new(cluster_tests::binary::duet());
    command.arg("serve").arg("--data-dir").arg(node.data_dir());
    command.args([
        "--http",
        &format!("0.0.0.0:{port}"),
        "--rpc",
        &node.rpc.to_string(),
    ]);
    fails(&mut command, &says).await;
}

#[tokio::test]
async fn a_data_directory_that_is_in_use_or_of_another_node() {
    let mut cluster = Cluster::start(1).await;
    let running = &cluster.nodes()[0];
    let mut other = spare(cluster.directory());
    let data = running.data_dir();
    let mut command = Command::new(cluster_tests::binary::duet());
    let addresses = [other.http.to_string(), other.rpc.to_string()];
    command.arg("serve").arg("--data-dir").arg(&data);
    command.args(["--http", &addresses[0], "--rpc", &addresses[1]]);
    fails(&mut command, &[&data.display().to_string()]).await;

    // The number in the directory is the node's; another one on the command line is a mistake.
    cluster.nodes_mut()[0].terminate().await;
    fails(
        command.args(["--node-id", "7"]),
        &["7", &data.display().to_string()],
    )
    .await;
    cluster.restart(&[0]).await;

    // Damage is not taken for an empty directory.
    other.spawn(&["--bootstrap".into()]);
    other.ready().await;
    other.terminate().await;
    for file in std::fs::read_dir(other.data_dir()).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            std::fs::write(&file, b"\x00garbage").unwrap();
        }
    }
    fails(
        &mut other.command(),
        &[&other.data_dir().display().to_string()],
    )
    .await;
}

#[tokio::test]
async fn a_second_cluster_where_there_is_one() {
    let cluster = Cluster::start(1).await;
    let member = cluster.nodes()[0].rpc.to_string();
    let secret = vec![(
        "DUET_CLUSTER_SECRET".to_owned(),
        "between us nodes".to_owned(),
    )];
    let other = Node::new(cluster.directory(), "other", secret);
    let mut command = other.command();
    fails(
        command.args(["--bootstrap", "--join", &member]),
        &["cluster"],
    )
    .await;
}

#[tokio::test]
async fn a_node_with_another_secret_cannot_join() {
    let mut cluster = Cluster::start(1).await;
    let member = cluster.nodes()[0].rpc.to_string();
    let secret = vec![(
        "DUET_CLUSTER_SECRET".to_owned(),
        "somebody else's".to_owned(),
    )];
    let stranger = Node::new(cluster.directory(), "stranger", secret);
    cluster.expect_errors("secret");
    fails(stranger.command().args(["--join", &member]), &["secret"]).await;
    let status = cluster.client().cluster_status().await.unwrap();
    assert_eq!(status.members.len(), 1);
}

#[tokio::test]
async fn a_node_alone_needs_no_flags_and_is_set_up_over_http() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = spare(directory.path());
    node.spawn(&[]);
    node.ready().await;
    let api = cluster_tests::Api::new(vec![node.url()]);
    let url = node.url();
    let status = api.get_from(&url, "/v1/api/auth/status", &[]).await;
    assert_eq!(status.body["needs_setup"], true, "{status:?}");
    let body = json!({
        "user": "admin", "password": "long enough", "root_password": "also long enough",
    });
    let setup = api.post("/v1/api/auth/setup", &body, &[]).await;
    assert_eq!(
        (setup.status, &setup.body["user"]["role"]),
        (200, &json!("dba")),
        "{setup:?}"
    );
    api.post("/v1/api/auth/setup", &body, &[])
        .await
        .refused(409, "CONFLICT");
    // Once that is done nobody's passwords are hashed, or looked at.
    let short = json!({"user": "admin", "password": "x", "root_password": "x"});
    let setup = api.post("/v1/api/auth/setup", &short, &[]).await;
    setup.refused(409, "CONFLICT");
    for (user, password) in [("admin", "long enough"), ("root", "also long enough")] {
        let login = json!({"user": user, "password": password});
        let login = api.post("/v1/api/auth/login", &login, &[]).await;
        assert_eq!(login.status, 200, "{login:?}");
    }
    assert!(node.terminate().await.success());
}

#[tokio::test]
async fn client_commands_say_why_on_stderr_and_end_with_one_or_two() {
    let cluster = Cluster::start(1).await;
    let url = cluster.urls()[0].clone();
    let duet = |args: &[&str]| {
        let mut command = Command::new(cluster_tests::binary::duet());
        command
            .args(args)
            .env_remove("DUET_URL")
            .stdin(Stdio::null());
        command
            .env("DUET_USER", "root")
            .env("DUET_PASSWORD", cluster_tests::ROOT_PASSWORD);
        command
    };
    let select = [
        "sql",
        "--url",
        &url,
        "-c",
        "SELECT 1 AS one",
        "--format",
        "csv",
    ];
    let ok = ends(&mut duet(&select)).await;
    assert_eq!(
        (ok.status.code(), ok.stdout),
        (Some(0), b"one\r\n1\r\n".to_vec())
    );
    let refused = ends(&mut duet(&["sql", "--url", &url, "-c", "SELEC 1"])).await;
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(
        text.contains("INVALID_SQL") && refused.stdout.is_empty(),
        "{text}"
    );
    let nobody = ends(&mut duet(&[
        "sql",
        "--url",
        "http://127.0.0.1:9",
        "-c",
        "SELECT 1",
    ]))
    .await;
    assert_eq!(nobody.status.code(), Some(1));
    let usage = ends(&mut duet(&["sql", "--format", "xml"])).await;
    assert_eq!(usage.status.code(), Some(2));
    let status = ends(&mut duet(&["cluster", "status", "--json", "--url", &url])).await;
    let body: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(body["members"][0]["role"], "leader");
    let unasked = ends(&mut duet(&["cluster", "remove", "1", "--url", &url])).await;
    assert_eq!(
        unasked.status.code(),
        Some(2),
        "--yes is required without a terminal"
    );
}
