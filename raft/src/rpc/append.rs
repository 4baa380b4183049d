//! The follower's side of the append stream.

use futures::StreamExt;
use openraft::raft::AppendEntriesRequest;
use tonic::codegen::BoxStream;
use tonic::{Code, Status, Streaming};

use super::messages::{AppendRequest, AppendResponse};
use crate::handle::Core;

/// Gives the leader's messages to the core as they come, and its answers back in their order. A
/// message that cannot be read ends the stream: the leader starts again from what was acknowledged.
pub(super) fn serve(core: &Core, incoming: Streaming<AppendRequest>) -> BoxStream<AppendResponse> {
    let requests = incoming.map(|message| AppendEntriesRequest::try_from(message?));
    let readable = requests.scan((), |(), request| {
        let request = request.inspect_err(|status: &Status| match status.code() {
            Code::DataLoss => tracing::error!(%status, "the leader sent a damaged entry"),
            _ => tracing::debug!(%status, "the append stream of the leader ended"),
        });
        std::future::ready(request.ok())
    });
    let answers = core.stream_append(readable).map(|answer| match answer {
        Ok(result) => Ok(AppendResponse::from(result)),
        Err(fatal) => Err(Status::unavailable(fatal.to_string())),
    });
    Box::pin(answers)
}
