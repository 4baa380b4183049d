//! Where a group begins, or goes on after a reset.

use storage::Read;
use types::command::Position;
use types::ids::{Offset, PartitionId, TopicId};
use types::{Error, ErrorCode};

use super::stop::Stop;
use crate::{Tail, fetch};

/// The offset behind a position.
///
/// # Refusals
/// `OFFSET_OUT_OF_RANGE` for an offset below the floor or beyond the end.
pub fn resolve(
    read: &dyn Read,
    topic: TopicId,
    partition: PartitionId,
    position: Position,
) -> Result<Offset, Stop> {
    let tail = Tail::load(read, topic, partition)?;
    Ok(match position {
        Position::Latest(_) => tail.next,
        Position::Earliest(_) => tail.earliest,
        Position::Offset(offset) => {
            fetch::check_start(tail, offset)?;
            offset
        }
        Position::Timestamp(timestamp) => fetch::offset_at(read, topic, partition, timestamp)?,
    })
}

/// The partitions a command names: one, or all.
///
/// # Refusals
/// `NOT_FOUND` for one that the topic does not have.
pub fn addressed(
    partition: Option<PartitionId>,
    partitions: u32,
) -> Result<std::ops::Range<PartitionId>, Stop> {
    match partition {
        None => Ok(0..partitions),
        Some(one) if one < partitions => Ok(one..one + 1),
        Some(other) => Err(Stop::Refused(Error::new(
            ErrorCode::NotFound,
            format!("partition {other} does not exist: the topic has {partitions}, from 0"),
        ))),
    }
}
