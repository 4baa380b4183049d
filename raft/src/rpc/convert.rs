//! Messages to openraft's types and back.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tonic::Status;

use super::messages::{
    self, AppendOutcome, AppendRequest, AppendResponse, TransferRequest, TransferResponse,
    VoteRecord,
};
use crate::codec::{self, LogIdRecord};
use crate::type_config::{LogId, TypeConfig, Vote};

/// A message without what it cannot be without.
fn incomplete(what: &'static str) -> Status {
    Status::invalid_argument(format!("the message has no {what}"))
}

fn vote(record: Option<VoteRecord>) -> Result<Vote, Status> {
    record.map(Vote::from).ok_or_else(|| incomplete("vote"))
}

fn log_id(record: Option<&LogIdRecord>) -> Option<LogId> {
    record.map(LogId::from)
}

impl From<AppendEntriesRequest<TypeConfig>> for AppendRequest {
    fn from(request: AppendEntriesRequest<TypeConfig>) -> AppendRequest {
        AppendRequest {
            vote: Some(VoteRecord::from(&request.vote)),
            prev: request.prev_log_id.as_ref().map(LogIdRecord::from),
            committed: request.leader_commit.as_ref().map(LogIdRecord::from),
            entries: request
                .entries
                .iter()
                .map(|entry| codec::encode(entry).into())
                .collect(),
        }
    }
}

impl TryFrom<AppendRequest> for AppendEntriesRequest<TypeConfig> {
    type Error = Status;

    fn try_from(request: AppendRequest) -> Result<Self, Status> {
        let decode = |record: &Bytes| {
            codec::decode(record).map_err(|error| Status::data_loss(error.to_string()))
        };
        Ok(AppendEntriesRequest {
            vote: vote(request.vote)?,
            prev_log_id: log_id(request.prev.as_ref()),
            entries: request
                .entries
                .iter()
                .map(decode)
                .collect::<Result<_, _>>()?,
            leader_commit: log_id(request.committed.as_ref()),
        })
    }
}

impl From<StreamAppendResult<TypeConfig>> for AppendResponse {
    fn from(result: StreamAppendResult<TypeConfig>) -> AppendResponse {
        let outcome = match &result {
            Ok(Some(matching)) => AppendOutcome::Matching(matching.into()),
            Ok(None) => AppendOutcome::MatchingEmpty(true),
            Err(StreamAppendError::Conflict(at)) => AppendOutcome::Conflict(at.into()),
            Err(StreamAppendError::HigherVote(vote)) => AppendOutcome::HigherVote(vote.into()),
        };
        AppendResponse {
            outcome: Some(outcome),
        }
    }
}

/// What a follower said of one message of the append stream.
pub(crate) fn append_result(
    response: AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, Status> {
    Ok(
        match response.outcome.ok_or_else(|| incomplete("outcome"))? {
            AppendOutcome::Matching(matching) => Ok(Some(LogId::from(&matching))),
            AppendOutcome::MatchingEmpty(_) => Ok(None),
            AppendOutcome::Conflict(at) => Err(StreamAppendError::Conflict(LogId::from(&at))),
            AppendOutcome::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
        },
    )
}

/// A request for a vote, or with `pre_vote` for whether it would be given.
pub(crate) fn vote_message(
    request: &VoteRequest<TypeConfig>,
    pre_vote: bool,
) -> messages::VoteRequest {
    messages::VoteRequest {
        vote: Some(VoteRecord::from(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(LogIdRecord::from),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

impl TryFrom<messages::VoteRequest> for VoteRequest<TypeConfig> {
    type Error = Status;

    fn try_from(message: messages::VoteRequest) -> Result<Self, Status> {
        let mut request =
            VoteRequest::new(vote(message.vote)?, log_id(message.last_log_id.as_ref()));
        request.leadership_transfer = message.leadership_transfer;
        Ok(request)
    }
}

impl From<VoteResponse<TypeConfig>> for messages::VoteResponse {
    fn from(response: VoteResponse<TypeConfig>) -> messages::VoteResponse {
        messages::VoteResponse {
            vote: Some(VoteRecord::from(&response.vote)),
            granted: response.vote_granted,
            last_log_id: response.last_log_id.as_ref().map(LogIdRecord::from),
        }
    }
}

impl TryFrom<messages::VoteResponse> for VoteResponse<TypeConfig> {
    type Error = Status;

    fn try_from(message: messages::VoteResponse) -> Result<Self, Status> {
        let last_log_id = log_id(message.last_log_id.as_ref());
        Ok(VoteResponse::new(
            vote(message.vote)?,
            last_log_id,
            message.granted,
        ))
    }
}

impl From<&TransferLeaderRequest<TypeConfig>> for TransferRequest {
    fn from(request: &TransferLeaderRequest<TypeConfig>) -> TransferRequest {
        TransferRequest {
            from: Some(VoteRecord::from(request.from_leader())),
            to: *request.to_node_id(),
            last_log_id: request.last_log_id().map(LogIdRecord::from),
        }
    }
}

impl TryFrom<TransferRequest> for TransferLeaderRequest<TypeConfig> {
    type Error = Status;

    fn try_from(message: TransferRequest) -> Result<Self, Status> {
        let last_log_id = log_id(message.last_log_id.as_ref());
        Ok(TransferLeaderRequest::new(
            vote(message.from)?,
            message.to,
            last_log_id,
        ))
    }
}

impl From<TransferLeaderResponse<TypeConfig>> for TransferResponse {
    fn from(response: TransferLeaderResponse<TypeConfig>) -> TransferResponse {
        match response {
            Ok(()) => TransferResponse {
                accepted: true,
                actual_vote: None,
                actual_last: None,
            },
            Err(TransferLeaderError::VoteChanged { actual, .. }) => TransferResponse {
                accepted: false,
                actual_vote: Some(VoteRecord::from(&actual)),
                actual_last: None,
            },
            Err(TransferLeaderError::LogNotFlushed { actual, .. }) => TransferResponse {
                accepted: false,
                actual_vote: None,
                actual_last: actual.as_ref().map(LogIdRecord::from),
            },
        }
    }
}

/// What the target said to `request`.
pub(crate) fn transfer_result(
    request: &TransferLeaderRequest<TypeConfig>,
    response: &TransferResponse,
) -> TransferLeaderResponse<TypeConfig> {
    if response.accepted {
        return Ok(());
    }
    Err(match response.actual_vote {
        Some(actual) => {
            let (expected, actual) = (*request.from_leader(), actual.into());
            TransferLeaderError::VoteChanged { expected, actual }
        }
        None => TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: log_id(response.actual_last.as_ref()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::type_config::{LeaderId, LogEntry, Payload, Proposal};

    fn id(index: u64) -> LogId {
        LogId::new(
            LeaderId {
                term: 4,
                node_id: 2,
            },
            index,
        )
    }

    fn a_vote() -> Vote {
        Vote {
            leader_id: LeaderId {
                term: 5,
                node_id: 3,
            },
            committed: true,
        }
    }

    #[test]
    fn append_messages_come_back_as_they_were() {
        let proposal = Proposal::new(types::command::Entry {
            lease_time: 9,
            ..Default::default()
        });
        let request = || AppendEntriesRequest::<TypeConfig> {
            vote: a_vote(),
            prev_log_id: Some(id(6)),
            entries: vec![LogEntry {
                log_id: id(7),
                payload: Payload::Normal(proposal.clone()),
            }],
            leader_commit: Some(id(5)),
        };
        let back = AppendEntriesRequest::try_from(AppendRequest::from(request())).unwrap();
        let parts = |r: AppendEntriesRequest<TypeConfig>| {
            (r.vote, r.prev_log_id, r.entries, r.leader_commit)
        };
        assert_eq!(parts(back), parts(request()));
        for result in [
            Ok(Some(id(3))),
            Ok(None),
            Err(StreamAppendError::Conflict(id(2))),
            Err(StreamAppendError::HigherVote(a_vote())),
        ] {
            assert_eq!(append_result(result.clone().into()).unwrap(), result);
        }
    }

    #[test]
    fn a_damaged_entry_is_refused() {
        let mut message = AppendRequest {
            vote: Some(VoteRecord::from(&a_vote())),
            prev: None,
            committed: None,
            entries: vec![
                codec::encode(&LogEntry {
                    log_id: id(1),
                    payload: Payload::Blank,
                })
                .into(),
            ],
        };
        assert!(AppendEntriesRequest::try_from(message.clone()).is_ok());
        let mut damaged = message.entries[0].to_vec();
        damaged[5] ^= 1;
        message.entries[0] = damaged.into();
        let error = AppendEntriesRequest::try_from(message).unwrap_err();
        assert_eq!(error.code(), tonic::Code::DataLoss);
    }

    #[test]
    fn vote_and_transfer_messages_come_back_as_they_were() {
        let mut request = VoteRequest::<TypeConfig>::new(a_vote(), Some(id(8)));
        request.leadership_transfer = true;
        assert_eq!(
            VoteRequest::try_from(vote_message(&request, false)).unwrap(),
            request
        );
        let response = VoteResponse::<TypeConfig>::new(a_vote(), Some(id(8)), true);
        let message = messages::VoteResponse::from(response.clone());
        assert_eq!(VoteResponse::try_from(message).unwrap(), response);
        let transfer = TransferLeaderRequest::<TypeConfig>::new(a_vote(), 3, Some(id(8)));
        let back = TransferLeaderRequest::try_from(TransferRequest::from(&transfer)).unwrap();
        assert_eq!(back, transfer);
        let refused = Err(TransferLeaderError::LogNotFlushed {
            expected: Some(id(8)),
            actual: Some(id(7)),
        });
        for result in [Ok(()), refused] {
            assert_eq!(transfer_result(&transfer, &result.clone().into()), result);
        }
    }
}
