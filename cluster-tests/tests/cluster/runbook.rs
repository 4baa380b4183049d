//! Items of docs/operations.md that no other test plays, and that each item names one that does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster_tests::Cluster;
use cluster_tests::certificates::Authority;
use cluster_tests::cluster::Ask;
use cluster_tests::node::Node;

/// How long a removed node may take to end.
const ENDS_MAX: Duration = Duration::from_secs(60);

/// Runs a command of the runbook, which succeeds, and returns what it printed.
async fn done(cluster: &Cluster, words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    let output = cluster.duet(&words).await;
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_copy_is_added_gets_a_vote_leads_and_is_removed_by_commands() {
    let cluster = Cluster::start(3).await;
    let through = cluster.nodes()[0].rpc.to_string();
    let secret = vec![(
        "DUET_CLUSTER_SECRET".to_owned(),
        "between us nodes".to_owned(),
    )];
    let mut fourth = Node::new(cluster.directory(), "fourth", secret);
    fourth.spawn(&["--join".to_owned(), through, "--learner".to_owned()]);
    fourth.ready().await;
    let line = |screen: &str| {
        let mut lines = screen.lines();
        let own = lines.find(|line| line.trim_start().starts_with("4 |"));
        own.expect("node 4 is a member").to_owned()
    };
    let screen = line(&done(&cluster, "cluster status").await);
    assert!(
        screen.contains("learner") && screen.contains("| no "),
        "{screen}"
    );
    assert!(screen.contains("iB |"), "its free room: {screen}");
    let screen = line(&done(&cluster, "cluster promote 4").await);
    assert!(screen.contains("| yes "), "{screen}");
    let heading = done(&cluster, "cluster transfer-leader 4").await;
    assert!(heading.contains("leader   node 4 "), "{heading}");
    let said = done(&cluster, "cluster snapshot").await;
    assert!(said.contains("took a snapshot at log index"), "{said}");
    // The leader itself: it hands over first, and ends once it is told.
    let screen = done(&cluster, "cluster remove 4 --yes").await;
    assert!(
        !screen
            .lines()
            .any(|line| line.trim_start().starts_with("4 |")),
        "{screen}"
    );
    let ended = fourth.ends(ENDS_MAX).await;
    assert!(ended.success(), "{ended}");
    cluster.wait_for_voters(3).await;
    let doctor = cluster.duet(&["cluster", "doctor"]).await;
    assert!(doctor.status.success(), "{doctor:?}");
}

#[tokio::test]
async fn tls_and_another_secret_are_turned_on_with_all_nodes_down() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    root.ok("CREATE NAMESPACE t").await;
    root.ok("CREATE TABLE t.a (id INT PRIMARY KEY)").await;
    root.ok("INSERT INTO t.a VALUES (1)").await;
    for node in cluster.nodes_mut() {
        assert!(node.terminate().await.success());
    }
    // The last one that ends has no quorum any more, and breaks off what waited for one.
    cluster.expect_errors("failed to receive from RaftCore");
    let authority = Authority::new("ours");
    let files = authority.issue(directory.path(), "node", &authority);
    for node in cluster.nodes_mut() {
        for (name, value) in files.rpc() {
            node.set(&name, &value);
        }
        node.set("DUET_CLUSTER_SECRET", "another one");
    }
    cluster.restart(&[0, 1, 2]).await;
    cluster.wait_for_voters(3).await;
    let root = cluster.root().await;
    let last = root.sql("INSERT INTO t.a VALUES (2)").await.index();
    let ask = Ask::Rows("SELECT id FROM t.a ORDER BY id".into());
    let rows = cluster.same_everywhere(&root, last, &ask).await;
    assert_eq!(rows.as_array().map(Vec::len), Some(2), "{rows}");
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

/// `file::test` of every test of this directory.
fn tests() -> BTreeSet<String> {
    let here = repository().join("cluster-tests/tests/cluster");
    let files = std::fs::read_dir(here).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|it| it == "rs"))
        .flat_map(|path| {
            let file = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let functions = text.split("fn ").skip(1).map(|rest| {
                let name = rest.split('(').next().unwrap_or_default();
                format!("{file}::{name}")
            });
            functions.collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn each_item_of_the_runbook_names_the_tests_that_play_it() {
    let (runbook, testing) = (read("docs/operations.md"), read("docs/testing.md"));
    let (_, table) = testing.split_once("\n## The runbook\n").expect("a table");
    let table = table.split("\n## ").next().unwrap_or_default();
    let rows = table.lines().filter(|line| line.starts_with("| *"));
    let tests = tests();
    let mut played = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        played.insert(cells[0].trim_matches('*').to_owned());
        for name in cells[1].split('`').skip(1).step_by(2) {
            // What is played elsewhere is named with its directory.
            let known = tests.contains(name) || name.contains('/');
            assert!(known, "{name} is no test");
        }
    }
    // What is read and not done.
    let read = ["What must be true", "Metrics"];
    let items = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    for item in items.filter(|item| !read.contains(item)) {
        assert!(
            played.contains(item),
            "nothing plays {item:?}: see docs/testing.md"
        );
    }
}
