//! TLS for clients, mutual TLS between nodes: the cluster works as without, and whoever has no
//! certificate of its authority, or another secret, gets no word in.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cluster_tests::certificates::Authority;
use cluster_tests::cluster::Ask;
use cluster_tests::metrics::Metrics;
use cluster_tests::node::Node;
use cluster_tests::{Api, Cluster, ROOT_PASSWORD, wait};

/// How long a node that is turned away may take to say so and end.
const TURNED_AWAY_MAX: Duration = Duration::from_secs(40);

/// How long a node may take to notice that files were replaced, where nobody tells it.
const NOTICED_MAX: Duration = Duration::from_secs(40);

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

/// Waits until a node's metrics are as they should be.
async fn shows(api: &Api, url: &str, what: &str, is: impl Fn(&Metrics) -> bool) {
    wait::until(what, NOTICED_MAX, async || {
        let text = api.text_from(url, "/metrics").await;
        let metrics = Metrics::parse(&text).unwrap();
        is(&metrics).then_some(())
    })
    .await;
}

#[tokio::test]
async fn certificates_and_their_authority_are_replaced_while_all_nodes_run() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let files = old.issue(directory.path(), "node", &old);
    let front = old.issue(directory.path(), "front", &old);
    let env = [files.rpc(), front.http()].concat();
    let mut cluster = Cluster::start_with(3, &borrowed(&env)).await;
    let (api, root) = (cluster.api(), cluster.root().await);
    root.ok("CREATE NAMESPACE t").await;
    root.ok("CREATE TABLE t.a (id INT PRIMARY KEY)").await;
    let urls = cluster.urls();

    let by_new = new.issue(directory.path(), "later", &new);
    let both = format!("{}{}", old.pem(), new.pem());
    let trust_both = || std::fs::write(&files.authorities, &both).unwrap();
    let show_new = || {
        std::fs::copy(&by_new.certificate, &files.certificate).unwrap();
        std::fs::copy(&by_new.key, &files.key).unwrap();
    };
    let trust_new = || std::fs::write(&files.authorities, new.pem()).unwrap();
    let steps: [(&dyn Fn(), f64); 3] = [(&trust_both, 1.0), (&show_new, 2.0), (&trust_new, 3.0)];
    for (change, replaced) in steps {
        change();
        for node in cluster.nodes() {
            node.reload();
        }
        for url in &urls {
            let series = "duet_tls_certificate_replacements_total{listener=\"rpc\"}";
            let is = |metrics: &Metrics| metrics.find(series) == Some(replaced);
            shows(&api, url, "the files were read again", is).await;
        }
        // On a connection that is there already.
        let sql = format!("INSERT INTO t.a VALUES ({replaced})");
        root.sql_on(&urls[0], &sql, &[]).await.results();
    }
    // New connections of clients get the new certificate, on each node.
    std::fs::copy(&by_new.certificate, &front.certificate).unwrap();
    std::fs::copy(&by_new.key, &front.key).unwrap();
    for node in cluster.nodes() {
        node.reload();
    }
    let after = Api::trusting(urls.clone(), Some(new.pem().as_bytes()));
    let stale = Api::trusting(urls.clone(), Some(old.pem().as_bytes()));
    for url in &urls {
        wait::until("the new one is shown", NOTICED_MAX, async || {
            let asked = after.send(reqwest::Method::GET, url, "/ready", None, &[]);
            asked.await.ok().filter(|reply| reply.status == 200)
        })
        .await;
        let refused = stale.send(reqwest::Method::GET, url, "/ready", None, &[]);
        let refused = refused
            .await
            .expect_err("nobody shows the old one any more");
        assert!(refused.is_connect(), "{refused:?}");
    }
    // A node that trusts and shows only what is new is understood by those that were never
    // restarted, and understands them.
    std::fs::write(&front.authorities, new.pem()).unwrap();
    let restarted = cluster.leader().await;
    cluster.nodes_mut()[restarted].kill9();
    cluster.restart(&[restarted]).await;
    cluster.wait_for_voters(3).await;
    let root = cluster.root().await;
    let last = root.sql_on(&urls[restarted], "INSERT INTO t.a VALUES (4)", &[]);
    let last = last.await.index();
    let ask = Ask::Rows("SELECT id FROM t.a ORDER BY id".into());
    let rows = cluster.same_everywhere(&root, last, &ask).await;
    assert_eq!(rows.as_array().map(Vec::len), Some(4), "{rows}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told_and_the_old_certificate_stays() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let files = authority.issue_for(days(3), directory.path(), "node", &authority);
    let cluster = Cluster::start_with(1, &borrowed(&files.http())).await;
    let url = cluster.urls()[0].clone();
    let doctor = async || {
        let said = cluster.duet(&["cluster", "doctor"]).await;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        (said.status.code(), text)
    };
    let (code, said) = doctor().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a certificate of node 1 ends in"), "{said}");

    let refused = "duet_tls_certificate_refused{listener=\"http\"}";
    let key = std::fs::read(&files.key).unwrap();
    let lasting = authority.issue(directory.path(), "lasting", &authority);
    // A certificate whose key is another's, which is also what half of a replacement looks like.
    std::fs::copy(&lasting.certificate, &files.certificate).unwrap();
    cluster.nodes()[0].reload();
    let api = cluster.api();
    let is = |metrics: &Metrics| metrics.find(refused) == Some(1.0);
    shows(&api, &url, "they are refused", is).await;
    let (_, said) = doctor().await;
    assert!(
        said.contains("cannot use the new files of its certificate"),
        "{said}"
    );
    // Who comes now is served with the old one.
    let ready = Api::trusting(cluster.urls(), Some(authority.pem().as_bytes()));
    assert_eq!(ready.get_from(&url, "/ready", &[]).await.status, 200);

    // The other half comes, and nobody says so.
    assert_ne!(std::fs::read(&lasting.key).unwrap(), key);
    std::fs::copy(&lasting.key, &files.key).unwrap();
    let series = "duet_tls_certificate_replacements_total{listener=\"http\"}";
    let is =
        |metrics: &Metrics| metrics.find(series) == Some(1.0) && metrics.find(refused) == Some(0.0);
    shows(&api, &url, "they are used", is).await;
    let (code, said) = doctor().await;
    assert_eq!(code, Some(0), "{said}");
}
