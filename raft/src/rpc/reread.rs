//! Messages as they are understood: for whoever sends this node any bytes and wants to know what
//! becomes of them.

use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest, VoteResponse};
use prost::Message;
use tonic::Status;

use super::convert;
use super::messages::{self, AppendRequest, AppendResponse, SnapshotRequest, TransferRequest};
use crate::type_config::TypeConfig;

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// [`AppendRequest`].
    Append,
    /// [`AppendResponse`].
    Appended,
    /// [`messages::VoteRequest`].
    Vote,
    /// [`TransferRequest`].
    Transfer,
    /// [`SnapshotRequest`].
    Snapshot,
    /// [`messages::VoteResponse`].
    Voted,
    /// [`messages::JoinResponse`].
    Joined,
}

impl Said {
    /// All kinds.
    pub const ALL: [Said; 7] = [
        Said::Append,
        Said::Appended,
        Said::Vote,
        Said::Transfer,
        Said::Snapshot,
        Said::Voted,
        Said::Joined,
    ];
}

/// The message in `bytes`, turned into what consensus works with and written again.
///
/// # Errors
/// What the node would answer to a message that it does not understand.
pub fn reread(said: Said, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    Ok(match said {
        Said::Append => {
            let request =
                AppendEntriesRequest::<TypeConfig>::try_from(read::<AppendRequest>(bytes)?)?;
            AppendRequest::from(request).encode_to_vec()
        }
        Said::Appended => {
            let result = convert::append_result(read(bytes)?)?;
            AppendResponse::from(result).encode_to_vec()
        }
        Said::Vote => {
            let message: messages::VoteRequest = read(bytes)?;
            let pre_vote = message.pre_vote;
            let request = VoteRequest::try_from(message)?;
            convert::vote_message(&request, pre_vote).encode_to_vec()
        }
        Said::Voted => {
            let response = VoteResponse::try_from(read::<messages::VoteResponse>(bytes)?)?;
            messages::VoteResponse::from(response).encode_to_vec()
        }
        Said::Transfer => {
            let request = TransferLeaderRequest::try_from(read::<TransferRequest>(bytes)?)?;
            TransferRequest::from(&request).encode_to_vec()
        }
        Said::Snapshot => read::<SnapshotRequest>(bytes)?.encode_to_vec(),
        Said::Joined => read::<messages::JoinResponse>(bytes)?.encode_to_vec(),
    })
}

fn read<M: Message + Default>(bytes: &[u8]) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| Status::invalid_argument(error.to_string()))
}
