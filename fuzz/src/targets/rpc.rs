//! What other nodes send, by the first byte.

use bytes::Bytes;
use prost::Message;
use raft::rpc::messages::{
    AppendOutcome, AppendRequest, AppendResponse, SnapshotPart, SnapshotRequest, TransferRequest,
    VoteRecord, VoteRequest,
};
use raft::rpc::{Said, reread};

/// What is understood is said again in the same words.
pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let said = Said::ALL[usize::from(*kind) % Said::ALL.len()];
    let Ok(again) = reread(said, bytes) else {
        return;
    };
    let third = reread(said, &again).unwrap();
    assert_eq!(third, again, "{said:?}");
}

pub fn seeds() -> Vec<Vec<u8>> {
    let vote = Some(VoteRecord {
        term: 4,
        node_id: 2,
        committed: true,
    });
    let mut entries: Vec<Bytes> = super::log::seeds().into_iter().map(Bytes::from).collect();
    entries.retain(|record| raft::codec::decode(record).is_ok());
    let append = AppendRequest {
        vote,
        entries,
        ..AppendRequest::default()
    };
    let answered = AppendResponse {
        outcome: vote.map(AppendOutcome::HigherVote),
    };
    let ask = VoteRequest {
        vote,
        pre_vote: true,
        ..VoteRequest::default()
    };
    let transfer = TransferRequest {
        from: vote,
        to: 3,
        last_log_id: None,
    };
    let chunk = SnapshotRequest {
        part: Some(SnapshotPart::Chunk(Default::default())),
    };
    let bodies = [
        append.encode_to_vec(),
        answered.encode_to_vec(),
        ask.encode_to_vec(),
        transfer.encode_to_vec(),
        chunk.encode_to_vec(),
    ];
    let numbered = (0_u8..).zip(bodies);
    numbered
        .map(|(kind, body)| [&[kind][..], &body].concat())
        .collect()
}
