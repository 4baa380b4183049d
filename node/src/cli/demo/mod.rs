//! `duet demo`: a cluster on this machine, a chat with an agent, a killed leader, and the proof
//! that rows and messages still agree on every node.

mod flow;
mod nodes;
mod proof;
mod screen;

use std::time::Duration;

use clap::Args;
use client::Client;
use tokio::signal::unix::{SignalKind, signal};

use self::nodes::Nodes;
use self::screen::Screen;
use super::error::CliError;

/// The whole demonstration takes well under half of this on two cores.
const TIME_MAX: Duration = Duration::from_secs(110);
/// In how long a write must succeed after the leader was killed.
const FAILOVER_MAX: Duration = Duration::from_secs(10);

/// Arguments of `duet demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Leave the cluster running, and print how to reach and how to stop it
    #[arg(long)]
    keep: bool,
}

/// Runs the demonstration. Whatever happens, no process is left behind, unless `--keep` asks for it
/// and all went well.
pub async fn run(args: DemoArgs) -> Result<(), CliError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut nodes = Nodes::prepare()?;
    let result = tokio::select! {
        result = tokio::time::timeout(TIME_MAX, play(&mut nodes)) => match result {
            Ok(result) => result,
            Err(_) => Err(CliError::Demo(format!("not done after {} s", TIME_MAX.as_secs()))),
        },
        _ = tokio::signal::ctrl_c() => Err(CliError::Demo("interrupted".into())),
        _ = terminate.recv() => Err(CliError::Demo("terminated".into())),
    };
    match result {
        Ok(()) if args.keep => {
            nodes.keep();
            Ok(())
        }
        Ok(()) => nodes.remove().await,
        Err(error) => {
            nodes.stop().await;
            eprintln!("logs and data: {}", nodes.directory().display());
            Err(error)
        }
    }
}

async fn play(nodes: &mut Nodes) -> Result<(), CliError> {
    let screen = Screen::start();
    screen.chapter("A cluster of three nodes on this machine");
    nodes.start(&screen).await?;
    let root = nodes.client("root", nodes.root_password())?;
    nodes.wait_for_voters(&root, &screen).await?;

    screen.chapter("A user writes, a message comes out, an agent answers");
    let people = flow::set_up(&root, &screen).await?;
    flow::chat(&people, &screen).await?;

    screen.chapter("kill -9 the leader");
    let leader = nodes.leader(&root).await?;
    nodes.kill(leader, &screen).await?;
    let follower = (leader + 1) % nodes.len();
    let (index, took) = flow::write_after_kill(&people, follower, &screen).await?;
    if took > FAILOVER_MAX {
        return Err(CliError::Demo(format!(
            "the write took {} ms",
            took.as_millis()
        )));
    }
    nodes.restart(leader, &screen).await?;

    screen.chapter("Nothing was lost: the same rows and messages on every node");
    proof::compare(&people, nodes.len(), index, &screen).await?;
    screen.end();
    Ok(())
}

/// The people of the demonstration, each with a client that knows all nodes.
struct People {
    user: Client,
    other: Client,
    agent: Client,
}
