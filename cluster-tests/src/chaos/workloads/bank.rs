//! W4: money moves between accounts and none is made or lost. Every read shows the whole of every
//! transfer or nothing of it, on any node, also where it may be old.

use client::api::headers::Consistency;
use client::{Client, RequestOptions};
use rand::RngExt;

use super::{Crowd, Kind, Notes, REQUEST_MAX, Running, Verdict, anywhere, cell, pause, whole};
use crate::chaos::Task;
use crate::chaos::history::{History, Voice};
use crate::{Cluster, User};

/// The kinds.
pub(super) const KINDS: &[Kind] = &[Kind {
    name: "W4",
    start: |cluster, root, history| {
        Box::pin(async { Box::new(Bank::start(cluster, root, history).await) as Box<dyn Running> })
    },
}];

const ACCOUNTS: i64 = 10;
const EACH: i64 = 100;
const SUM: &str = "SELECT SUM(balance) FROM chaos_bank.accounts";

/// The running workload.
#[derive(Debug)]
struct Bank {
    crowd: Crowd,
    sums: Notes<i64>,
}

impl Bank {
    /// Makes the accounts, and starts those who move money and those who count it.
    async fn start(cluster: &Cluster, root: &User, history: &History) -> Bank {
        root.ok("CREATE NAMESPACE chaos_bank").await;
        root.ok("CREATE TABLE chaos_bank.accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL)")
            .await;
        let rows: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id}, {EACH})")).collect();
        root.ok(&format!(
            "INSERT INTO chaos_bank.accounts VALUES {}",
            rows.join(", ")
        ))
        .await;
        let (mut crowd, sums) = (Crowd::new(), Notes::default());
        for number in 0..3 {
            let voice = history.voice(format!("bank-{number}"), cluster.client());
            crowd.add(transfer(voice, crowd.stopped()));
        }
        for consistency in [Consistency::Linearizable, Consistency::Local] {
            crowd.add(count(
                cluster.client(),
                consistency,
                sums.clone(),
                crowd.stopped(),
            ));
        }
        Bank { crowd, sums }
    }

    /// Ends it, and compares all sums that were seen, the last on each node among them.
    async fn verdict(self, cluster: &Cluster) -> Verdict {
        self.crowd.finish().await;
        let mut sums = self.sums.take();
        for node in 0..cluster.nodes().len() {
            let client = cluster.client().pinned_to(node);
            let options = RequestOptions::read().timeout(REQUEST_MAX);
            let sum = cell(&client, SUM, &options).await;
            sums.push(sum.as_ref().and_then(whole).unwrap_or(i64::MIN));
        }
        Verdict {
            checked: vec![("sums", sums.len() as u64)],
            violations: violations(&sums),
        }
    }
}

impl Running for Bank {
    fn finish<'a>(self: Box<Self>, cluster: &'a Cluster, _: &'a User) -> Task<'a, Verdict> {
        Box::pin(self.verdict(cluster))
    }
}

/// Every sum is what there was at the beginning.
fn violations(sums: &[i64]) -> Vec<String> {
    let wrong = sums.iter().filter(|sum| **sum != ACCOUNTS * EACH);
    wrong
        .map(|sum| format!("bank: a sum was {sum}, not {}", ACCOUNTS * EACH))
        .collect()
}

async fn transfer(voice: Voice, stopped: tokio::sync::watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let (from, to, amount) = {
            let mut random = rand::rng();
            let from = random.random_range(0..ACCOUNTS);
            let to = (from + random.random_range(1..ACCOUNTS)) % ACCOUNTS;
            (from, to, random.random_range(1..20))
        };
        let sql = format!(
            "BEGIN; UPDATE chaos_bank.accounts SET balance = balance - {amount} WHERE id = {from}; \
             UPDATE chaos_bank.accounts SET balance = balance + {amount} WHERE id = {to}; COMMIT"
        );
        let options = RequestOptions::default().timeout(REQUEST_MAX);
        // Whether it happened is nobody's concern here: half of it must never be seen.
        let key = format!("{from} {to} {amount}");
        let told = voice.sql("transfer", &key, sql, &options).await;
        if told.answer.is_err() {
            pause().await;
        }
    }
}

async fn count(
    client: Client,
    consistency: Consistency,
    sums: Notes<i64>,
    stopped: tokio::sync::watch::Receiver<bool>,
) {
    let options = RequestOptions {
        consistency: Some(consistency),
        ..RequestOptions::read().timeout(REQUEST_MAX)
    };
    while !*stopped.borrow() {
        match cell(&anywhere(&client), SUM, &options).await {
            Some(sum) => sums.add(whole(&sum).unwrap_or(i64::MIN)),
            None => pause().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_transfer_is_seen() {
        assert_eq!(violations(&[ACCOUNTS * EACH, 1_000]), [""; 0]);
        assert_eq!(violations(&[ACCOUNTS * EACH - 5]).len(), 1);
    }
}
