//! etcd, through its HTTP gateway.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_tests::{Api, wait};
use serde_json::{Value, json};

use super::{Machines, NODES, READY_MAX, available, load, lost};

const PROGRAM: &str = "etcd";
const CLIENT: u16 = 2379;
const PEER: u16 = 2380;

#[tokio::test]
#[ignore = "slow: another server, which has to be installed"]
async fn etcd_loses_nothing_when_all_lose_their_power() {
    if !available(PROGRAM) {
        return;
    }
    let mut machines = Machines::new();
    start(&mut machines, "new");
    let urls: Vec<String> = (0..NODES)
        .map(|host| format!("http://{}", machines.address(host, CLIENT)))
        .collect();
    let api = Api::new(urls);
    answers(&api).await;
    let writer = |number: u32| load(number, async |name: &str| put(&api, name).await);
    let (a, b, c) = tokio::join!(writer(0), writer(1), writer(2));
    let acked: BTreeSet<String> = [a, b, c].into_iter().flatten().collect();
    machines.lose_power().await;
    start(&mut machines, "existing");
    answers(&api).await;
    let there = all(&api).await;
    assert_eq!(lost(PROGRAM, &acked, &there), 0);
}

fn start(machines: &mut Machines, state: &str) {
    let url = |host, port| format!("http://{}", machines.address(host, port));
    let peers: Vec<String> = (0..NODES)
        .map(|host| format!("n{host}={}", url(host, PEER)))
        .collect();
    let commands: Vec<Vec<String>> = (0..NODES)
        .map(|host| {
            let (client, peer) = (url(host, CLIENT), url(host, PEER));
            let data = machines.disk(host).join("data").display().to_string();
            [
                ("--name", format!("n{host}")),
                ("--data-dir", data),
                ("--listen-client-urls", client.clone()),
                ("--advertise-client-urls", client),
                ("--listen-peer-urls", peer.clone()),
                ("--initial-advertise-peer-urls", peer),
                ("--initial-cluster", peers.join(",")),
                ("--initial-cluster-state", state.to_owned()),
            ]
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect()
        })
        .collect();
    for (host, args) in (0..NODES).zip(commands) {
        machines.start(host, PROGRAM, &args);
    }
}

async fn answers(api: &Api) {
    wait::until("etcd takes a write", READY_MAX, async || {
        put(api, "first").await.then_some(())
    })
    .await;
}

async fn call(api: &Api, path: &str, body: &Value) -> Option<Value> {
    let body = Some(body.to_string().into_bytes());
    let reply = api
        .send(reqwest::Method::POST, api.next_url(), path, body, &[])
        .await;
    let reply = reply.ok()?;
    (reply.status == 200).then_some(reply.body)
}

async fn put(api: &Api, name: &str) -> bool {
    let body = json!({"key": STANDARD.encode(name), "value": STANDARD.encode(name)});
    call(api, "/v3/kv/put", &body).await.is_some()
}

/// Every key.
async fn all(api: &Api) -> BTreeSet<String> {
    let body = json!({"key": "AA==", "range_end": "AA==", "keys_only": true});
    let answer = call(api, "/v3/kv/range", &body).await.unwrap();
    let pairs = answer["kvs"].as_array().cloned().unwrap_or_default();
    let keys = pairs.iter().map(|pair| pair["key"].as_str().unwrap());
    keys.map(|key| String::from_utf8(STANDARD.decode(key).unwrap()).unwrap())
        .collect()
}
