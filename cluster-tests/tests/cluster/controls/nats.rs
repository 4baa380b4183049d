//! NATS JetStream, in the few words of its protocol that are needed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_tests::wait;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Machines, NODES, READY_MAX, available, load, lost};

const PROGRAM: &str = "nats-server";
const CLIENT: u16 = 4222;
const ROUTES: u16 = 6222;
const ANSWER_MAX: std::time::Duration = std::time::Duration::from_secs(5);

#[tokio::test]
#[ignore = "slow: another server, which has to be installed"]
async fn nats_loses_what_it_acknowledged_when_all_lose_their_power() {
    if !available(PROGRAM) {
        return;
    }
    let mut machines = Machines::new();
    start(&mut machines);
    let stream = json!({
        "name": "CONTROL", "subjects": ["control"], "num_replicas": 3, "storage": "file",
    })
    .to_string();
    wait::until("there is a stream", READY_MAX, async || {
        let mut nats = Nats::connect(&machines.address(0, CLIENT)).await?;
        let answer = nats.ask("$JS.API.STREAM.CREATE.CONTROL", &stream);
        answer.await?["config"].is_object().then_some(())
    })
    .await;
    // What made the stream is to survive.
    machines.sync();
    let address = |host| machines.address(host, CLIENT);
    let (a, b, c) = tokio::join!(
        publish(address(0), 0),
        publish(address(1), 1),
        publish(address(2), 2)
    );
    let acked: BTreeSet<String> = [a, b, c].into_iter().flatten().collect();
    machines.lose_power().await;
    start(&mut machines);
    let there = wait::until("the stream is back", READY_MAX, async || {
        all(&machines.address(0, CLIENT)).await
    })
    .await;
    assert!(
        lost(PROGRAM, &acked, &there) > 0,
        "a server that had synced nothing lost nothing: the lab loses nothing"
    );
}

fn start(machines: &mut Machines) {
    let mut routes = String::new();
    for host in 0..NODES {
        let address = machines.address(host, ROUTES);
        writeln!(routes, "nats-route://{address}").unwrap();
    }
    for host in 0..NODES {
        let disk = machines.disk(host).to_owned();
        let config = format!(
            "server_name: n{host}\nlisten: {client}\njetstream {{ store_dir: {store:?} }}\n\
             cluster {{ name: control, listen: {own}, routes: [\n{routes}] }}\n",
            client = machines.address(host, CLIENT),
            own = machines.address(host, ROUTES),
            store = disk.join("js"),
        );
        let path = machines.directory.path().join(format!("nats-{host}.conf"));
        std::fs::write(&path, config).unwrap();
        machines.start(host, PROGRAM, &["-c".into(), path.display().to_string()]);
    }
}

async fn publish(address: String, writer: u32) -> BTreeSet<String> {
    let mut nats = Nats::connect(&address).await.unwrap();
    load(writer, async |name: &str| {
        let answer = nats.ask("control", name).await;
        answer.is_some_and(|answer| answer["seq"].is_u64())
    })
    .await
}

/// Every message of the stream; none while it is not there.
async fn all(address: &str) -> Option<BTreeSet<String>> {
    let mut nats = Nats::connect(address).await?;
    let info = nats.ask("$JS.API.STREAM.INFO.CONTROL", "").await?;
    let last = info["state"]["last_seq"].as_u64()?;
    // Without a leader nobody knows what is there.
    info["cluster"]["leader"].as_str()?;
    let mut there = BTreeSet::new();
    for seq in 1..=last {
        let body = json!({"seq": seq}).to_string();
        let answer = nats.ask("$JS.API.STREAM.MSG.GET.CONTROL", &body).await?;
        if let Some(data) = answer["message"]["data"].as_str() {
            there.insert(String::from_utf8(STANDARD.decode(data).unwrap()).unwrap());
        }
    }
    Some(there)
}

/// A connection.
struct Nats(BufReader<TcpStream>);

impl Nats {
    async fn connect(address: &str) -> Option<Nats> {
        let mut nats = Nats(BufReader::new(TcpStream::connect(address).await.ok()?));
        // INFO comes by itself.
        nats.line().await?;
        let hello = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB answers 1\r\nPING\r\n";
        nats.0.write_all(hello.as_bytes()).await.ok()?;
        while nats.line().await? != "PONG" {}
        Some(nats)
    }

    /// Publishes, and waits for the answer; none if there is none in time.
    async fn ask(&mut self, subject: &str, body: &str) -> Option<Value> {
        let length = body.len();
        let text = format!("PUB {subject} answers {length}\r\n{body}\r\n");
        let asked = async {
            self.0.write_all(text.as_bytes()).await.ok()?;
            loop {
                let line = self.line().await?;
                if line == "PING" {
                    self.0.write_all(b"PONG\r\n").await.ok()?;
                }
                let Some(message) = line.strip_prefix("MSG ") else {
                    continue;
                };
                let length: usize = message.rsplit(' ').next()?.parse().ok()?;
                let mut payload = vec![0; length + 2];
                self.0.read_exact(&mut payload).await.ok()?;
                return serde_json::from_slice(&payload[..length]).ok();
            }
        };
        tokio::time::timeout(ANSWER_MAX, asked).await.ok()?
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).await.ok()?;
        (!line.is_empty()).then(|| line.trim_end().to_owned())
    }
}
