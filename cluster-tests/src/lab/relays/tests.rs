//! Host 0, which is this process, connects to host 1, which is this process too.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use std::time::{Duration, Instant};

use super::*;

/// Within this time what comes has come.
const SOON: Duration = Duration::from_secs(10);
/// What has not come within this time was kept from coming.
const KEPT: Duration = Duration::from_millis(300);

struct Pair {
    relays: Relays,
    listener: TcpListener,
}

impl Pair {
    async fn new() -> Pair {
        let relays = Relays::new(2);
        relays.seat(0).take(std::process::id());
        let listener = TcpListener::bind(relays.seat(1).listens()).await.unwrap();
        Pair { relays, listener }
    }

    /// The end of host 0.
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.relays.seat(1).relay())
            .await
            .unwrap()
    }

    /// The end of host 1.
    async fn accept(&self) -> TcpStream {
        timeout(SOON, self.listener.accept())
            .await
            .unwrap()
            .unwrap()
            .0
    }

    async fn both(&self) -> (TcpStream, TcpStream) {
        let client = self.connect().await;
        (client, self.accept().await)
    }
}

async fn comes(stream: &mut TcpStream) -> io::Result<u8> {
    timeout(SOON, stream.read_u8())
        .await
        .expect("something comes")
}

async fn assert_silent(stream: &mut TcpStream) {
    let came = timeout(KEPT, stream.read_u8()).await;
    assert!(came.is_err(), "{came:?}");
}

#[tokio::test]
async fn bytes_pass_unchanged_in_both_directions() {
    let pair = Pair::new().await;
    let (client, node) = pair.both().await;
    let bytes = |seed: u32| -> Vec<u8> {
        let numbers = (0..500_000).map(|i: u32| i.wrapping_mul(2_654_435_761) ^ seed);
        numbers.flat_map(u32::to_le_bytes).collect()
    };
    let (asked, answered) = (bytes(1), bytes(2));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_node, mut to_node) = node.into_split();
    let (mut got_asked, mut got_answered) = (vec![0; asked.len()], vec![0; answered.len()]);
    let all = async {
        tokio::try_join!(
            to_client.write_all(&asked),
            to_node.write_all(&answered),
            from_node.read_exact(&mut got_asked),
            from_client.read_exact(&mut got_answered),
        )
    };
    timeout(SOON, all).await.unwrap().unwrap();
    assert!(got_asked == asked && got_answered == answered);
    drop((to_client, from_client));
    let end = timeout(SOON, from_node.read_u8()).await.unwrap();
    assert!(end.is_err(), "the end comes through as well");
}

#[tokio::test]
async fn one_direction_is_cut_and_the_other_works() {
    let pair = Pair::new().await;
    let (mut one, mut other) = pair.both().await;
    for (from, to) in [(0, 1), (1, 0)] {
        pair.relays.deafen(from, to);
        one.write_all(b"1").await.unwrap();
        assert_silent(&mut other).await;
        other.write_all(b"2").await.unwrap();
        assert_eq!(comes(&mut one).await.unwrap(), b'2');
        pair.relays.heal();
        assert_eq!(comes(&mut other).await.unwrap(), b'1');
        std::mem::swap(&mut one, &mut other);
    }
}

#[tokio::test]
async fn a_connection_that_is_begun_under_a_cut_is_there_when_it_is_mended() {
    let pair = Pair::new().await;
    for (from, to) in [(0, 1), (1, 0)] {
        pair.relays.deafen(from, to);
        let mut client = pair.connect().await;
        client.write_all(b"1").await.unwrap();
        let accepted = timeout(KEPT, pair.listener.accept()).await;
        assert!(accepted.is_err(), "{accepted:?}");
        pair.relays.heal();
        assert_eq!(comes(&mut pair.accept().await).await.unwrap(), b'1');
    }
}

#[tokio::test]
async fn a_cut_strikes_two_hosts_and_isolation_all() {
    let relays = Relays::new(3);
    let links = &relays.links;
    let cut = |from, to| Link::new(Arc::clone(links), from, to).is_cut();
    let all = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)];
    let which = || all.map(|(from, to)| cut(from, to));
    relays.cut(0, 1);
    assert_eq!(which(), [true, true, false, false, false, false]);
    relays.isolate(2);
    assert_eq!(which(), [true; 6]);
    relays.heal();
    assert_eq!(which(), [false; 6]);
}

#[tokio::test]
async fn connections_are_reset_on_both_sides_and_counted_until_links_are_mended() {
    let pair = Pair::new().await;
    let (mut client, mut node) = pair.both().await;
    pair.relays.reset(1, 1_000);
    // Answers end nothing: only what the others begin to say.
    node.write_all(b"2").await.unwrap();
    assert_eq!(comes(&mut client).await.unwrap(), b'2');
    client.write_all(b"1").await.unwrap();
    for side in [&mut client, &mut node] {
        let error = comes(side).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    assert_eq!((pair.relays.hits(0), pair.relays.hits(1)), (0, 1));
    pair.relays.mend_links();
    assert_eq!(pair.relays.hits(1), 0);
    let (mut client, mut node) = pair.both().await;
    client.write_all(b"1").await.unwrap();
    assert_eq!(comes(&mut node).await.unwrap(), b'1');
}

#[tokio::test]
async fn a_slow_link_has_its_rate_and_the_other_direction_is_fast() {
    let pair = Pair::new().await;
    let (mut client, mut node) = pair.both().await;
    // 4,000 bytes take 0.4 s.
    pair.relays.slow(0, 80);
    let mut buffer = vec![0; 4_000];
    let began = Instant::now();
    client.write_all(&buffer).await.unwrap();
    timeout(SOON, node.read_exact(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert!(began.elapsed() >= Duration::from_millis(400));
    let hits = pair.relays.hits(0);
    assert!(hits >= 3, "{hits}");
    node.write_all(&buffer).await.unwrap();
    timeout(SOON, client.read_exact(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((pair.relays.hits(0), pair.relays.hits(1)), (hits, 0));
}

#[tokio::test]
async fn an_end_under_a_cut_is_heard_of_only_by_who_goes_on_speaking() {
    let pair = Pair::new().await;
    let (mut client, node) = pair.both().await;
    pair.relays.cut(0, 1);
    drop(node);
    assert_silent(&mut client).await;
    pair.relays.heal();
    assert_silent(&mut client).await;
    client.write_all(b"1").await.unwrap();
    let error = comes(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn nobody_but_nodes_is_let_in() {
    let pair = Pair::new().await;
    pair.relays.seat(0).take(0);
    let mut client = pair.connect().await;
    assert!(comes(&mut client).await.is_err());
    let accepted = timeout(KEPT, pair.listener.accept()).await;
    assert!(accepted.is_err(), "{accepted:?}");
}

#[tokio::test]
async fn a_connection_to_a_node_that_does_not_run_ends() {
    let relays = Relays::new(2);
    relays.seat(0).take(std::process::id());
    let client = TcpStream::connect(relays.seat(1).relay()).await;
    assert!(comes(&mut client.unwrap()).await.is_err());
}
