//! Numbers for nodes. A number once given out is never given to another node, whatever became of
//! the first: a node under an old number would be taken for the one that had the old log.

use std::collections::BTreeSet;

use storage::keys::{Kind, catalog};
use storage::{Batch, Direction, Error, KeyRange, Read};
use types::command::RegisterNode;
use types::ids::NodeId;
use types::limits::NODE_ID_MAX;
use types::outcome::CommandResult;
use types::{Error as Refusal, ErrorCode};

/// Gives out a number: the one its nonce has already; the one it asks for, if it was never given
/// out; or the one after all that were.
pub(super) fn register(
    batch: &mut Batch,
    command: &RegisterNode,
    members: &BTreeSet<NodeId>,
) -> storage::Result<types::Result<CommandResult>> {
    if let Some(id) = given_to(batch, &command.nonce)? {
        return Ok(Ok(CommandResult::NodeRegistered(id)));
    }
    let highest = highest_given(batch)?;
    let id = match command.requested_id {
        0 => highest
            .into_iter()
            .chain(members.last().copied())
            .max()
            .unwrap_or(0)
            .saturating_add(1),
        requested => {
            // The first node of a cluster is a member before it can register.
            let member = highest.is_some() && members.contains(&requested);
            if member || batch.get(&catalog::node(requested))?.is_some() {
                let message = format!("node number {requested} was given out before");
                return Ok(Err(Refusal::new(ErrorCode::Conflict, message)));
            }
            requested
        }
    };
    if id > NODE_ID_MAX {
        let message = format!("a node's number is at most {NODE_ID_MAX}; name one that is free");
        return Ok(Err(Refusal::new(ErrorCode::Conflict, message)));
    }
    batch.put(catalog::node(id), command.nonce.to_vec());
    batch.put(
        catalog::node_nonce(&command.nonce),
        id.to_be_bytes().to_vec(),
    );
    Ok(Ok(CommandResult::NodeRegistered(id)))
}

fn given_to(read: &dyn Read, nonce: &[u8]) -> storage::Result<Option<NodeId>> {
    let Some(value) = read.get(&catalog::node_nonce(nonce))? else {
        return Ok(None);
    };
    let bytes = <[u8; 8]>::try_from(value.as_slice())
        .map_err(|_length| corrupt(format!("a nonce's node number has {} bytes", value.len())))?;
    Ok(Some(NodeId::from_be_bytes(bytes)))
}

fn highest_given(read: &dyn Read) -> storage::Result<Option<NodeId>> {
    let prefix = Kind::Node.prefix();
    let mut numbers = read.scan(&KeyRange::prefix(&prefix), Direction::Reverse);
    let Some((key, _)) = numbers.next().transpose()? else {
        return Ok(None);
    };
    let bytes = key
        .strip_prefix(prefix.as_slice())
        .and_then(|number| <[u8; 8]>::try_from(number).ok())
        .ok_or_else(|| corrupt(format!("a node's key has {} bytes", key.len())))?;
    Ok(Some(NodeId::from_be_bytes(bytes)))
}

fn corrupt(what: String) -> Error {
    Error::Corrupt { what }
}
