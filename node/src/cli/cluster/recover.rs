//! `duet cluster recover`: a quorum is lost for good, and one node goes on alone.
//!
//! The only command of this family that talks to nobody: it changes the files of a node that does
//! not run. The new cluster has a name of its own, so what is left of the old one is refused by it
//! and refuses it; should the old one get its quorum back after all, there are two clusters that
//! know nothing of each other.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use raft::recover::{Remains, StoppedNode};

use crate::cli::ask::confirm;
use crate::cli::error::CliError;
use crate::data_dir::{DataDir, DataDirError, Identity};

#[derive(Args, Debug)]
pub struct RecoverArgs {
    /// The data directory of the node, which must not be running
    #[arg(
        long,
        env = "DUET_DATA_DIR",
        value_name = "DIR",
        default_value = "./duet-data"
    )]
    data_dir: PathBuf,
}

/// Makes the node of a data directory a cluster of its own.
pub async fn run(args: &RecoverArgs, yes: bool) -> Result<(), CliError> {
    let files = |error: DataDirError| CliError::Files(error.to_string());
    let dir = args.data_dir.display();
    if !args.data_dir.is_dir() {
        return Err(CliError::Files(format!("there is no data directory {dir}")));
    }
    let data = DataDir::open(&args.data_dir).map_err(files)?;
    let identity = data.identity().map_err(files)?;
    let identity = identity.ok_or_else(|| {
        CliError::Files(format!(
            "{dir} belongs to no cluster: there is nothing to recover"
        ))
    })?;
    let unusable = |error: raft::StartError| CliError::Files(format!("{dir}: {error}"));
    let node = StoppedNode::open(&data.raft(), identity.node_id)
        .await
        .map_err(unusable)?;
    eprintln!("{}", warning(&identity, node.remains()));
    confirm("Make this node the first one of a new cluster?", yes)?;

    // The name first: with the old one the node could be elected beside the old members.
    let new = Identity {
        cluster_id: ulid::Ulid::generate().to_string(),
        ..identity.clone()
    };
    data.set_identity(&new).map_err(files)?;
    node.go_on_alone().await.map_err(unusable)?;
    writeln!(
        std::io::stdout(),
        "node {} is the only member of the new cluster {}. Start it as before; then start the \
         others with empty data directories and --join its RPC address.",
        new.node_id,
        new.cluster_id
    )?;
    Ok(())
}

fn warning(identity: &Identity, remains: &Remains) -> String {
    let others: Vec<String> = remains
        .members
        .iter()
        .filter(|(id, _)| *id != identity.node_id)
        .map(|(id, member)| format!("{id} ({})", member.rpc))
        .collect();
    let open = remains.last.saturating_sub(remains.committed);
    format!(
        "This is node {} of cluster {}, with the log up to entry {}.\n\
         - What was answered after that entry is lost. Use the node with the longest log.\n\
         - {open} entries at its end are not known to be committed; they will be, even if their \
         writers were told that the outcome is unknown.\n\
         - The other members {} must not be started again on their data.\n\
         - Backups of the data directory first, if this is the last copy.",
        identity.node_id,
        identity.cluster_id,
        remains.last,
        if others.is_empty() {
            "(none)".to_owned()
        } else {
            others.join(", ")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::Origin;

    #[test]
    fn the_warning_says_what_is_lost_and_who_must_stay_away() {
        let member = |id: u64| {
            let member = raft::Member {
                rpc: format!("h{id}:2"),
                ..raft::Member::default()
            };
            (id, member)
        };
        let identity = Identity::new("C".into(), 1, Origin::Founder);
        let remains = Remains {
            last: 20,
            committed: 17,
            members: vec![member(1), member(2), member(3)],
        };
        let text = warning(&identity, &remains);
        for part in [
            "up to entry 20",
            "3 entries at its end",
            "2 (h2:2), 3 (h3:2)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
