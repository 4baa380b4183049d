//! TLS for clients, mutual TLS between nodes: the cluster works as without, and whoever has no
//! certificate of its authority, or another secret, gets no word in.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cluster_tests::certificates::Authority;
use cluster_tests::cluster::Ask;
use cluster_tests::node::Node;
use cluster_tests::{Cluster, ROOT_PASSWORD, wait};

/// How long a node that is turned away may take to say so and end.
const TURNED_AWAY_MAX: Duration = Duration::from_secs(40);

type Env = Vec<(String, String)>;

fn borrowed(env: &Env) -> Vec<(&str, &str)> {
    env.iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// A command that ends by itself.
async fn ends(command: &mut Command) -> Output {
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait::until("the command ends", TURNED_AWAY_MAX, async || {
        process.try_wait().unwrap()
    })
    .await;
    process.wait_with_output().unwrap()
}

async fn is_turned_away(cluster: &Cluster, name: &str, env: Env, says: &str) {
    let node = Node::new(cluster.directory(), name, env);
    let member = cluster.nodes()[0].rpc.to_string();
    let output = ends(node.command().args(["--join", &member])).await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(says),
        "{name}: nothing of {says:?} in\n{text}"
    );
    assert!(!text.contains("panicked"), "{text}");
}

#[tokio::test]
async fn three_nodes_over_tls_survive_the_loss_of_their_leader() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("duet tests");
    let files = authority.issue(directory.path(), "node", &authority);
    let mut env = [files.rpc(), files.http()].concat();
    // With certificates no secret is needed.
    env.push(("DUET_CLUSTER_SECRET".into(), String::new()));
    let mut cluster = Cluster::start_with(3, &borrowed(&env)).await;
    let root = cluster.root().await;
    root.ok("CREATE NAMESPACE t").await;
    root.ok("CREATE TABLE t.a (id INT PRIMARY KEY)").await;
    for (id, url) in cluster.urls().iter().enumerate() {
        assert!(url.starts_with("https://"));
        let sql = format!("INSERT INTO t.a VALUES ({id})");
        root.sql_on(url, &sql, &[]).await.results();
    }
    let status = cluster.client().cluster_status().await.unwrap();
    assert!(
        status
            .members
            .iter()
            .all(|member| member.http.starts_with("https://"))
    );

    let leader = cluster.leader().await;
    cluster.nodes_mut()[leader].kill9();
    let next = cluster.urls()[(leader + 1) % 3].clone();
    root.sql_on(&next, "INSERT INTO t.a VALUES (10)", &[])
        .await
        .results();
    cluster.restart(&[leader]).await;
    let last = root.sql_on(&next, "INSERT INTO t.a VALUES (11)", &[]).await;
    last.results();
    let ask = Ask::Rows("SELECT id FROM t.a ORDER BY id".into());
    let rows = cluster.same_everywhere(&root, last.index(), &ask).await;
    assert_eq!(rows.as_array().map(Vec::len), Some(5), "{rows}");
}

#[tokio::test]
async fn client_commands_trust_the_authority_they_are_given_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new("ours"), Authority::new("another"));
    let files = ours.issue(directory.path(), "node", &ours);
    let cluster = Cluster::start_with(1, &borrowed(&files.http())).await;
    let url = cluster.urls()[0].clone();
    let theirs = other.issue(directory.path(), "other", &other).authorities;
    let status = |cacert: Option<&Path>| {
        let mut command = Command::new(cluster_tests::binary::duet());
        command.args(["cluster", "status", "--url", &url, "--user", "root"]);
        command
            .args(["--password", ROOT_PASSWORD])
            .env_remove("DUET_CACERT");
        if let Some(cacert) = cacert {
            command.arg("--cacert").arg(cacert);
        }
        command
    };
    let ok = ends(&mut status(Some(&files.authorities))).await;
    let text = String::from_utf8_lossy(&ok.stdout);
    assert!(ok.status.success() && text.contains("https://"), "{ok:?}");
    for wrong in [Some(theirs.as_path()), None] {
        let refused = ends(&mut status(wrong)).await;
        let text = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{text}");
        assert!(text.contains("certificate"), "{text}");
    }
    let missing = ends(&mut status(Some(Path::new("/nowhere.pem")))).await;
    assert_eq!(missing.status.code(), Some(2));
}

#[tokio::test]
async fn strangers_are_turned_away_and_the_cluster_does_not_mind() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new("ours"), Authority::new("another"));
    let files = ours.issue(directory.path(), "node", &ours);
    let cluster = Cluster::start_with(3, &borrowed(&files.rpc())).await;
    let root = cluster.root().await;
    root.ok("CREATE NAMESPACE t").await;
    root.ok("CREATE TABLE t.a (id INT PRIMARY KEY)").await;
    let before = cluster.client().cluster_status().await.unwrap();

    let secret = |text: &str| vec![("DUET_CLUSTER_SECRET".to_owned(), text.to_owned())];
    let right = secret("between us nodes");
    // Of another authority, which it trusts: it does not trust the cluster.
    let theirs = other.issue(directory.path(), "theirs", &other);
    let env = [theirs.rpc(), right.clone()].concat();
    is_turned_away(&cluster, "theirs", env, "certificate").await;
    // Of another authority, and it trusts the cluster: the cluster does not trust it.
    let forged = other.issue(directory.path(), "forged", &ours);
    let env = [forged.rpc(), right].concat();
    is_turned_away(&cluster, "forged", env, "fatal alert").await;
    // Of the right authority, with another secret.
    let env = [files.rpc(), secret("somebody else's")].concat();
    is_turned_away(&cluster, "secret", env, "secret").await;

    root.ok("INSERT INTO t.a VALUES (1)").await;
    let after = cluster.client().cluster_status().await.unwrap();
    assert_eq!(
        (after.term, after.leader_id),
        (before.term, before.leader_id)
    );
    assert_eq!(after.members.len(), 3);
}

#[tokio::test]
async fn the_authority_is_changed_one_node_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let files = old.issue(directory.path(), "node", &old);
    let mut cluster = Cluster::start_with(3, &borrowed(&files.rpc())).await;
    let root = cluster.root().await;
    root.ok("CREATE NAMESPACE t").await;
    root.ok("CREATE TABLE t.a (id INT PRIMARY KEY)").await;

    let by_new = new.issue(directory.path(), "later", &new);
    let both = format!("{}{}", old.pem(), new.pem());
    let trust_both = || std::fs::write(&files.authorities, &both).unwrap();
    let show_new = || {
        std::fs::copy(&by_new.certificate, &files.certificate).unwrap();
        std::fs::copy(&by_new.key, &files.key).unwrap();
    };
    let trust_new = || std::fs::write(&files.authorities, new.pem()).unwrap();
    let steps: [&dyn Fn(); 3] = [&trust_both, &show_new, &trust_new];
    let mut last = 0;
    for (step, change) in steps.into_iter().enumerate() {
        change();
        for node in 0..3 {
            cluster.nodes_mut()[node].terminate().await;
            let other = cluster.urls()[(node + 1) % 3].clone();
            let sql = format!("INSERT INTO t.a VALUES ({})", step * 3 + node);
            last = root.sql_on(&other, &sql, &[]).await.index();
            cluster.restart(&[node]).await;
            cluster.wait_for_voters(3).await;
        }
    }
    let ask = Ask::Rows("SELECT id FROM t.a ORDER BY id".into());
    let rows = cluster.same_everywhere(&root, last, &ask).await;
    assert_eq!(rows.as_array().map(Vec::len), Some(9), "{rows}");
}
