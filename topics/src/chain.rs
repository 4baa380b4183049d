//! A partition's hash chain: at every offset a hash over all messages up to it, the first one that
//! ever was included. Two nodes with the same value there hold, or held, the same messages.
//!
//! Each message carries its own value, and the tail those at the end and below the floor, so any
//! offset that is kept can be asked for without reading the others. The chain goes on over
//! retention and CLEAR as offsets do.

use storage::keys;
use storage::{KeyRange, Read};
use types::ids::{Offset, PartitionId, TopicId};

use crate::{Tail, fetch, message};

/// The chain's value at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The offset; none: before the first message.
    pub offset: Option<Offset>,
    /// The value.
    pub value: u64,
}

/// The chain at an offset; at the last one if none is given. What a CLEAR or retention took can be
/// asked for at the last offset below the floor only.
///
/// # Errors
/// OFFSET_OUT_OF_RANGE below that and beyond the last message.
pub fn ask(
    read: &dyn Read,
    topic: TopicId,
    partition: PartitionId,
    offset: Option<Offset>,
) -> storage::Result<types::Result<Link>> {
    let tail = Tail::load(read, topic, partition)?;
    let Some(offset) = offset else {
        return Ok(Ok(Link {
            offset: tail.next.checked_sub(1),
            value: tail.chain,
        }));
    };
    if offset >= tail.next || offset.saturating_add(1) < tail.earliest {
        let error = types::Error::offset_out_of_range(offset, tail.earliest, tail.next);
        return Ok(Err(error));
    }
    let value = at(read, topic, partition, tail, offset)?;
    Ok(Ok(Link {
        offset: Some(offset),
        value,
    }))
}

/// The chain at `offset`, which is below the end and not below the last one that went.
pub(crate) fn at(
    read: &dyn Read,
    topic: TopicId,
    partition: PartitionId,
    tail: Tail,
    offset: Offset,
) -> storage::Result<u64> {
    if offset + 1 == tail.next {
        return Ok(tail.chain);
    }
    if offset + 1 == tail.earliest {
        return Ok(tail.floor_chain);
    }
    let key = keys::topics::message(topic, partition, offset);
    let stored = read
        .get(&key)?
        .ok_or_else(|| fetch::hole(&KeyRange::prefix(&key), offset))?;
    Ok(message::decode(&key, &stored)?.chain)
}
