//! Replicas at the same applied index hold the same state, and whoever asks can see that.

use std::collections::BTreeSet;
use std::time::Duration;

use client::Client;
use client::api::cluster::DigestQuery;
use cluster_tests::digests::{assert_same_state, clients, same};
use cluster_tests::load::{Load, Table, first_write};
use cluster_tests::{Cluster, User};

const WRITERS: u32 = 8;
/// More than the entries between two marks, however many writes share an entry.
const ACKED: u64 = 1_500;
/// Entries between two marks.
const MARK: u64 = 256;
/// In how long a write must succeed.
const WRITE_MAX: Duration = Duration::from_secs(30);

#[tokio::test]
async fn all_nodes_have_the_same_digests_under_load_and_after_it() {
    let cluster = Cluster::start(3).await;
    let root = cluster.root().await;
    let table = Table::create(&root, "shop").await;
    let clients = clients(&cluster);
    let mut load = Load::start(&cluster.client(), &table, WRITERS);
    load.progress(ACKED).await;
    let now = clients[0].digest(&DigestQuery::default()).await.unwrap();
    let now = now.body.index;
    let marked = DigestQuery {
        index: Some(now / MARK * MARK),
        ..DigestQuery::default()
    };
    assert!(
        marked.index >= Some(MARK),
        "too few entries to compare any: {now}"
    );
    // A node that is behind waits until it is there.
    let under_load = same(&clients, &marked).await;
    assert_eq!(
        (Some(under_load.index), under_load.digest.len()),
        (marked.index, 16)
    );
    load.finish().await;
    first_write(&cluster.client(), &table, "the-end", WRITE_MAX).await;
    assert_same_state(&cluster).await;
    for (topic, partitions) in table.topics() {
        for partition in 0..partitions {
            assert_partition(&clients, &topic, partition).await;
        }
    }
}

/// The chain at the end, in the middle and at the beginning of a partition.
async fn assert_partition(clients: &[Client], topic: &str, partition: u32) {
    let query = |offset| DigestQuery {
        topic: Some(topic.to_owned()),
        partition: Some(partition),
        offset,
        ..DigestQuery::default()
    };
    let last = same(clients, &query(None)).await;
    let end = last.offset.expect("the load wrote to every partition");
    let mut seen = BTreeSet::from([last.digest]);
    for offset in [0, end / 2] {
        let answer = same(clients, &query(Some(offset))).await;
        assert_eq!(answer.offset, Some(offset));
        seen.insert(answer.digest);
    }
    assert_eq!(seen.len(), 3, "another value at every offset");
}

async fn get(user: &User, url: &str, query: &str) -> cluster_tests::Reply {
    let bearer = user.bearer();
    let path = format!("/v1/api/cluster/digest{query}");
    let headers = [("Authorization", bearer.as_str())];
    user.api().get_from(url, &path, &headers).await
}

#[tokio::test]
async fn who_may_ask_for_digests_and_for_which() {
    let cluster = Cluster::shared().await;
    let root = cluster.root().await;
    let service = root.create("digest_reader", "service").await;
    root.ok("CREATE NAMESPACE digests").await;
    root.ok("CREATE TOPIC digests.t PARTITIONS 2").await;
    for url in &cluster.urls() {
        let path = "/v1/api/cluster/digest";
        root.api()
            .get_from(url, path, &[])
            .await
            .refused(401, "MISSING_AUTHORIZATION");
        get(&service, url, "").await.refused(403, "FORBIDDEN");
        let answer = get(&root, url, "").await;
        assert_eq!(
            (answer.status, answer.index()),
            (200, answer.body["index"].as_u64().unwrap())
        );
        for (query, status, code) in [
            ("?offset=1", 400, "INVALID_INPUT"),
            ("?topic=digests.t&scan=true", 400, "INVALID_INPUT"),
            ("?topic=digests.t&offset=minus", 400, "INVALID_INPUT"),
            ("?tpoic=digests.t", 400, "INVALID_INPUT"),
            ("?topic=digests.none", 404, "NOT_FOUND"),
            ("?topic=digests.t&partition=2", 404, "NOT_FOUND"),
            ("?index=1", 404, "NOT_FOUND"),
        ] {
            get(&root, url, query).await.refused(status, code);
        }
        let empty = get(&root, url, "?topic=digests.t&partition=1").await;
        assert_eq!(empty.body["digest"], "0000000000000000", "{empty:?}");
        let beyond = get(&root, url, "?topic=digests.t&offset=0").await;
        beyond.refused(416, "OFFSET_OUT_OF_RANGE");
    }
}
