//! `duet cluster replace OLD [NEW]`: a new node takes the place of a dead one.
//!
//! The new node was started with `--join`, so it joins by itself, catches up and gets a vote; then
//! the old one goes. In this order the cluster never needs more votes than it has: with the new
//! one there is one more to count and one more that answers. Each step may be repeated, and so may
//! all of it.

use std::time::Duration;

use clap::Args;
use client::Client;
use client::api::cluster::{ClusterStatus, Member, MemberRole};
use tokio::time::Instant;

use crate::cli::ask::confirm;
use crate::cli::error::CliError;

/// How often the cluster is asked how far the new node is.
const POLL: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
pub struct ReplaceArgs {
    /// The number of the node that is lost
    old: u64,
    /// The number of the node that takes its place; left out: the one that has joined since
    new: Option<u64>,
    /// How long the new node may take to join and catch up, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

/// Replaces a node. Returns the cluster as it is then.
pub async fn run(
    client: &Client,
    args: &ReplaceArgs,
    yes: bool,
) -> Result<ClusterStatus, CliError> {
    let old = args.old;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let status = client.cluster_status().await?.body;
    if args.new == Some(old) {
        return Err(CliError::Usage("a node cannot replace itself".into()));
    }
    let Some(member) = find(&status, old) else {
        // Done before, or a number that never was: the cluster knows.
        return Ok(client.remove_member(old).await?.body);
    };
    let new = successor(&status, args)?.map(|member| member.node_id);
    confirm(&question(member, new.or(args.new)), yes)?;
    let new = wait_for_vote(client, args, deadline).await?;
    eprintln!("node {new} has a vote; removing node {old}");
    Ok(client.remove_member(old).await?.body)
}

fn question(old: &Member, new: Option<u64>) -> String {
    let id = old.node_id;
    let role = old.role.as_str();
    let by = match new {
        Some(new) => format!("node {new}"),
        None => "the next node that joins".to_owned(),
    };
    format!(
        "Remove node {id} ({role}, {}) for good once {by} has a vote? \
         It cannot come back under its number.",
        old.http
    )
}

/// Waits until the new node votes, whichever it is.
async fn wait_for_vote(
    client: &Client,
    args: &ReplaceArgs,
    deadline: Instant,
) -> Result<u64, CliError> {
    let mut said = String::new();
    loop {
        let status = client.cluster_status().await?.body;
        let progress = match successor(&status, args)? {
            Some(member) if votes(member) => return Ok(member.node_id),
            Some(member) => match member.lag.filter(|lag| *lag > 0) {
                Some(_) => format!("node {} is catching up", member.node_id),
                None => format!("node {} is about to get its vote", member.node_id),
            },
            None => waiting(&status, args.old),
        };
        if progress != said {
            eprintln!("{progress}");
            said = progress;
        }
        if let Some(learner) = successor(&status, args)?.filter(|it| !votes(it)) {
            // One that is named and was started with --learner would wait for ever; one that is
            // behind is refused, and asked again.
            promote(client, learner).await?;
        }
        if Instant::now() >= deadline {
            return Err(CliError::Answer(format!(
                "{said}: not done within {} s; nothing was removed, and the command may be repeated",
                args.timeout
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What is waited for. A learner that was to stay one is a copy somebody reads from; it takes the
/// place of a voter only if it is named.
fn waiting(status: &ClusterStatus, old: u64) -> String {
    let copies = status
        .members
        .iter()
        .filter(|it| is_copy(it) && it.node_id != old);
    let copies: Vec<String> = copies.map(|it| it.node_id.to_string()).collect();
    let mut text =
        "waiting for the new node: start it with --join and an empty data directory".to_owned();
    if !copies.is_empty() {
        text = format!(
            "{text} (or name a learner that is to vote from now on: {})",
            copies.join(", ")
        );
    }
    text
}

async fn promote(client: &Client, learner: &Member) -> Result<(), CliError> {
    if learner.role == MemberRole::Unreachable {
        return Ok(());
    }
    match client.promote_member(learner.node_id).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(types::ErrorCode::Conflict) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The member that takes the old one's place, as far as it has joined: the one named; the only
/// learner that is to vote; or, where a joiner has got its vote already and so made the number of
/// voters even, the last one that joined.
fn successor<'a>(
    status: &'a ClusterStatus,
    args: &ReplaceArgs,
) -> Result<Option<&'a Member>, CliError> {
    if let Some(new) = args.new {
        return Ok(find(status, new));
    }
    let others = || status.members.iter().filter(|it| it.node_id != args.old);
    let joins = |member: &&Member| !member.voter && !is_copy(member);
    let learners: Vec<&Member> = others().filter(joins).collect();
    match learners.as_slice() {
        [one] => return Ok(Some(one)),
        [] => {}
        several => {
            let numbers: Vec<String> = several.iter().map(|it| it.node_id.to_string()).collect();
            return Err(CliError::Usage(format!(
                "which one? There are several learners: {}",
                numbers.join(", ")
            )));
        }
    }
    let voters = status.members.iter().filter(|member| member.voter).count();
    let last = others()
        .filter(|it| it.voter)
        .max_by_key(|member| member.node_id);
    Ok(last.filter(|last| voters.is_multiple_of(2) && last.node_id > args.old))
}

fn find(status: &ClusterStatus, node_id: u64) -> Option<&Member> {
    let mut members = status.members.iter();
    members.find(|member| member.node_id == node_id)
}

/// Is it a learner that was to stay one?
fn is_copy(member: &Member) -> bool {
    !member.voter && !member.voter_wanted
}

fn votes(member: &Member) -> bool {
    member.voter && member.role != MemberRole::Unreachable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::fixture::{cluster, copy, gone, learner, voter};

    fn takes_place(members: Vec<Member>, old: u64, new: Option<u64>) -> Option<u64> {
        let args = ReplaceArgs {
            old,
            new,
            timeout: 1,
        };
        let status = cluster(members);
        successor(&status, &args)
            .unwrap()
            .map(|member| member.node_id)
    }

    #[test]
    fn the_one_named() {
        let three = || vec![voter(1), gone(2), voter(3)];
        assert_eq!(takes_place(three(), 2, Some(3)), Some(3));
        assert_eq!(takes_place(three(), 2, Some(4)), None);
    }

    #[test]
    fn the_only_learner() {
        let members = vec![voter(1), gone(2), voter(3), learner(4)];
        assert_eq!(takes_place(members, 2, None), Some(4));
    }

    #[test]
    fn the_last_that_joined_if_it_has_its_vote_already() {
        let members = vec![voter(1), gone(2), voter(3), voter(4)];
        assert_eq!(takes_place(members, 2, None), Some(4));
        // Nobody has joined: no other voter is taken for the new one.
        assert_eq!(
            takes_place(vec![voter(1), gone(2), voter(3)], 2, None),
            None
        );
        // The last one is the one that is to go.
        let members = vec![voter(1), voter(2), voter(3), gone(4)];
        assert_eq!(takes_place(members, 4, None), None);
    }

    #[test]
    fn a_learner_that_was_to_stay_one_only_if_it_is_named() {
        let members = || vec![voter(1), gone(2), voter(3), copy(4)];
        assert_eq!(takes_place(members(), 2, None), None);
        assert_eq!(takes_place(members(), 2, Some(4)), Some(4));
        let said = waiting(&cluster(members()), 2);
        assert!(said.contains("is to vote from now on: 4"), "{said}");
        // Beside it, the one that has joined is no question.
        let with = |new| [members(), vec![new]].concat();
        assert_eq!(takes_place(with(learner(5)), 2, None), Some(5));
        assert_eq!(takes_place(with(voter(5)), 2, None), Some(5));
        // The copy has a higher number than the new voter.
        let members = vec![voter(1), gone(2), voter(3), voter(4), copy(5)];
        assert_eq!(takes_place(members, 2, None), Some(4));
    }

    #[test]
    fn several_learners_are_a_question() {
        let args = ReplaceArgs {
            old: 2,
            new: None,
            timeout: 1,
        };
        let status = cluster(vec![voter(1), gone(2), learner(4), learner(5)]);
        let error = successor(&status, &args).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("4, 5"), "{error}");
    }
}
