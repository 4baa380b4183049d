//! What is deployed with, read by those who read it: each file of deploy/ goes through the tool it
//! is written for. Where a tool is missing, the test says so and shows nothing.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use cluster_tests::Cluster;
use cluster_tests::cluster::Ask;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn deploy(file: &str) -> PathBuf {
    repository().join("deploy").join(file)
}

/// A tool with its first arguments, if this machine has it.
fn tool(words: &[&str], says_so: &[&str]) -> Option<Command> {
    let command = || {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command
    };
    let asked = command().args(says_so).output();
    let there = asked.is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("{} is missing: nothing is shown here", words.join(" "));
    }
    there.then(command)
}

/// Runs it; it must find nothing wrong.
fn agrees(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

#[test]
fn prometheus_reads_the_alert_rules() {
    if let Some(mut promtool) = tool(&["promtool"], &["--version"]) {
        promtool.args(["check", "rules"]);
        let said = agrees(promtool.arg(deploy("monitoring/alerts.yml")));
        assert!(said.contains("SUCCESS"), "{said}");
    }
}

#[test]
fn systemd_reads_the_unit() {
    let Some(mut analyze) = tool(&["systemd-analyze"], &["--version"]) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let unit = std::fs::read_to_string(deploy("duet.service")).unwrap();
    // It looks for the program, too.
    let binary = cluster_tests::binary::duet();
    let unit = unit.replace("/usr/local/bin/duet", &binary.display().to_string());
    let file = directory.path().join("duet.service");
    std::fs::write(&file, unit).unwrap();
    let said = agrees(analyze.arg("verify").arg(&file));
    assert!(!said.contains("duet.service"), "{said}");
}

#[test]
fn compose_reads_its_file_and_wants_the_secrets() {
    let plugin = tool(&["docker", "compose"], &["version"]);
    let Some(compose) = plugin.or_else(|| tool(&["docker-compose"], &["version"])) else {
        return;
    };
    let config = |variables: &[(&str, &str)]| {
        let mut command = Command::new(compose.get_program());
        command.args(compose.get_args()).arg("--file");
        command
            .arg(deploy("compose.yml"))
            .args(["config", "--quiet"]);
        command
            .env_remove("DUET_CLUSTER_SECRET")
            .env_remove("DUET_ROOT_PASSWORD");
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        command
    };
    let (secret, password) = (("DUET_CLUSTER_SECRET", "s"), ("DUET_ROOT_PASSWORD", "p"));
    agrees(&mut config(&[secret, password]));
    for missing in [secret, password] {
        let refused = config(&[missing]).output().unwrap();
        assert!(!refused.status.success(), "{refused:?}");
    }
}

#[test]
fn kubernetes_knows_every_field_of_the_manifests() {
    if let Some(mut validate) = tool(&["kubernetes-validate"], &["--version"]) {
        validate.args(["--kubernetes-version", "1.29", "--strict"]);
        agrees(validate.arg(deploy("kubernetes/duet.yml")));
    }
}

/// The commands of a code block of the runbook, which begins with these words.
fn commands(begin: &str) -> String {
    let text = std::fs::read_to_string(repository().join("docs/operations.md")).unwrap();
    let mut blocks = text.split("```\n").skip(1).step_by(2);
    let block = blocks.find(|block| block.starts_with(begin));
    block.expect("the runbook has these commands").to_owned()
}

#[tokio::test]
async fn the_runbooks_commands_make_certificates_that_nodes_accept() {
    if tool(&["openssl"], &["version"]).is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = commands("openssl req -x509").replace("IP:10.0.0.1", "IP:127.0.0.1");
    let mut shell = Command::new("sh");
    shell
        .args(["-e", "-c", &script])
        .current_dir(directory.path());
    agrees(&mut shell);
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (certificate, key, ca) = (file("rpc.pem"), file("rpc.key"), file("rpc-ca.pem"));
    let env = [
        ("DUET_RPC_TLS_CERT", certificate.as_str()),
        ("DUET_RPC_TLS_KEY", &key),
        ("DUET_RPC_TLS_CA", &ca),
        ("DUET_CLUSTER_SECRET", ""),
    ];
    let cluster = Cluster::start_with(2, &env).await;
    let root = cluster.root().await;
    root.ok("CREATE NAMESPACE t").await;
    root.ok("CREATE TABLE t.a (id INT PRIMARY KEY)").await;
    let last = root.sql("INSERT INTO t.a VALUES (1)").await.index();
    let ask = Ask::Rows("SELECT id FROM t.a".into());
    cluster.same_everywhere(&root, last, &ask).await;
}
