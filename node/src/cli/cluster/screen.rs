//! The cluster on a screen, once or again and again.

use std::io::{self, Write};
use std::time::Duration;

use client::Client;
use client::api::cluster::{ClusterStatus, Member};

use super::findings::{Votes, findings};
use crate::cli::error::CliError;
use crate::cli::output::{Cell, in_units, table};

/// How often `--watch` looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// To the first place of the screen, and clear what is there.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows the cluster until the process is ended; what cannot be had now is said, and asked again.
pub async fn watch(client: &Client) -> Result<(), CliError> {
    loop {
        let mut screen = Vec::new();
        match client.cluster_status().await {
            Ok(status) => show(&mut screen, &status)?,
            Err(error) => writeln!(screen, "{error}")?,
        }
        let mut out = io::stdout().lock();
        out.write_all(CLEAR.as_bytes())?;
        out.write_all(&screen)?;
        out.flush()?;
        drop(out);
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// Leader, votes, members, and what is not as it should be.
pub fn show(out: &mut dyn Write, status: &ClusterStatus) -> io::Result<()> {
    heading(out, status)?;
    members(out, status)?;
    let found = findings(status);
    if !found.is_empty() {
        writeln!(out)?;
    }
    for found in found {
        writeln!(out, "! {}: {}", found.what, found.todo)?;
    }
    Ok(())
}

/// Leader and votes.
pub fn heading(out: &mut dyn Write, status: &ClusterStatus) -> io::Result<()> {
    writeln!(out, "cluster  {}", status.cluster_id)?;
    match status.leader() {
        Some(leader) => writeln!(out, "leader   node {} ({})", leader.node_id, leader.http)?,
        None => writeln!(out, "leader   none: writes wait until one is elected")?,
    }
    writeln!(out, "term     {}", status.term)?;
    let votes = Votes::of(status);
    let Votes { voters, answer, .. } = votes;
    let survives = match votes.spare() {
        None => "not enough for a write".to_owned(),
        Some(0) => "none may be lost".to_owned(),
        Some(1) => "one may be lost".to_owned(),
        Some(spare) => format!("{spare} may be lost"),
    };
    writeln!(out, "votes    {answer} of {voters} answer, {survives}\n")
}

/// A table of the members.
pub fn members(out: &mut dyn Write, status: &ClusterStatus) -> io::Result<()> {
    let headers = [
        "node",
        "role",
        "vote",
        "http",
        "rpc",
        "log",
        "applied",
        "lag",
        "disk free",
        "version",
    ];
    let rows: Vec<Vec<Cell>> = status.members.iter().map(member).collect();
    table(out, &headers.map(Cell::left), &rows)
}

fn member(member: &Member) -> Vec<Cell> {
    let number =
        |value: Option<u64>| Cell::right(value.map_or_else(|| "?".into(), |n| n.to_string()));
    let role = match member.draining {
        true => format!("{}, draining", member.role.as_str()),
        false => member.role.as_str().to_owned(),
    };
    vec![
        Cell::right(member.node_id),
        Cell::left(role),
        Cell::left(if member.voter { "yes" } else { "no" }),
        Cell::left(member.http.as_str()),
        Cell::left(member.rpc.as_str()),
        number(member.last_log_index),
        number(member.applied_index),
        number(member.lag),
        Cell::right(member.disk_free_bytes.map_or_else(|| "-".into(), in_units)),
        Cell::left(member.version.as_deref().unwrap_or("?")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::fixture::{cluster, gone, learner, voter};

    fn text(status: &ClusterStatus) -> String {
        let mut out = Vec::new();
        show(&mut out, status).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_member_that_cannot_be_asked_is_shown_with_question_marks() {
        let mut status = cluster(vec![gone(2)]);
        status.leader_id = None;
        let mut out = Vec::new();
        heading(&mut out, &status).unwrap();
        members(&mut out, &status).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("leader   none"), "{text}");
        let last = text.lines().last().unwrap();
        assert_eq!(last.matches('?').count(), 4, "{text}");
    }

    #[test]
    fn free_room_is_shown_in_units_and_a_disk_that_nobody_knows_as_a_dash() {
        let mut small = voter(2);
        small.disk_free_bytes = Some(1_610_612_736);
        let mut out = Vec::new();
        members(&mut out, &cluster(vec![voter(1), small, gone(3)])).unwrap();
        let text = String::from_utf8(out).unwrap();
        let column = |line: &str| line.split('|').nth(8).unwrap().trim().to_owned();
        let column: Vec<String> = text
            .lines()
            .filter(|line| line.contains('|'))
            .map(column)
            .collect();
        assert_eq!(column, ["disk free", "1.0 TiB", "1.5 GiB", "-"], "{text}");
    }

    #[test]
    fn a_cluster_in_order_says_what_it_survives_and_nothing_more() {
        let status = cluster(vec![voter(1), voter(2), voter(3), learner(4)]);
        let text = text(&status);
        assert!(text.contains("leader   node 1 (http://h1:1)"), "{text}");
        assert!(
            text.contains("votes    3 of 3 answer, one may be lost"),
            "{text}"
        );
        assert!(!text.contains('!'), "{text}");
    }

    #[test]
    fn what_is_wrong_stands_below_the_members_with_what_to_do() {
        let text = text(&cluster(vec![voter(1), voter(2), gone(3)]));
        assert!(
            text.contains("votes    2 of 3 answer, none may be lost"),
            "{text}"
        );
        assert!(text.contains("! one more lost node stops writes"), "{text}");
        assert!(text.contains("duet cluster replace 3"), "{text}");
    }
}
