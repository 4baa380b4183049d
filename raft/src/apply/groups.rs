//! Topics and consumer groups. What these commands mean is the crate `topics`' to say; apply gives
//! them their place in the log.

pub(super) use topics::groups::{ack, claim, extend, nack, release, reset};

use storage::Batch;
use types::command::{ClearTopic, Retain};
use types::outcome::CommandResult;

/// All messages of a topic go.
pub(super) fn clear(batch: &mut Batch, command: &ClearTopic) -> storage::Result<CommandResult> {
    topics::retention::clear(batch, command).map(|()| CommandResult::Done)
}

/// Old messages of a partition go.
pub(super) fn retain(batch: &mut Batch, command: &Retain) -> storage::Result<CommandResult> {
    topics::retention::retain(batch, command).map(|()| CommandResult::Done)
}
