//! Reads spelt as a query: `GET /v1/api/topics/{topic}/messages` and `…/stream`.

use api::topics::{ConsumeRequest, StartPosition};
use types::{Error, ErrorCode, Result};

use super::bad_input;
use super::stream::StreamRequest;
use super::wire::Start;

/// What a query asks for.
#[derive(Debug)]
pub struct Asked {
    /// The body of the consume it stands for.
    pub body: Vec<u8>,
    /// How long to wait for a message.
    pub wait_ms: u64,
}

impl Asked {
    /// A body that is answered without waiting for anything.
    pub fn at_once(body: Vec<u8>) -> Asked {
        Asked { body, wait_ms: 0 }
    }
}

/// The consume that a query of `…/messages` asks for. INVALID_INPUT for what is not a number, or a
/// parameter that does not exist.
pub fn messages_query(topic: String, query: &[(String, String)]) -> Result<Asked> {
    let mut request = ConsumeRequest {
        topic_id: topic,
        start: Some(StartPosition::Earliest),
        ..ConsumeRequest::default()
    };
    let mut wait_ms = 0;
    for (name, value) in query {
        match name.as_str() {
            "partition" => request.partition_id = Some(number(name, value)?),
            "from" => request.start = Some(StartPosition::Offset(number(name, value)?)),
            "limit" => request.limit = Some(number(name, value)?),
            "wait_ms" => wait_ms = number(name, value)?,
            _ => return Err(unknown(name)),
        }
    }
    let body = serde_json::to_vec(&request)
        .map_err(|e| Error::new(ErrorCode::InternalError, format!("query not written: {e}")))?;
    Ok(Asked { body, wait_ms })
}

/// The stream that a query of `…/stream` asks for, or goes on with: `last_event` is the id of the
/// last event its client saw. INVALID_INPUT as above, and for an id that no stream of the partition
/// gave.
pub fn stream_query(
    topic: String,
    query: &[(String, String)],
    last_event: Option<&str>,
) -> Result<StreamRequest> {
    let (mut partition, mut start) = (None, Start::Latest);
    for (name, value) in query {
        match name.as_str() {
            "partition" => partition = Some(number(name, value)?),
            "from" if value.eq_ignore_ascii_case("earliest") => start = Start::Earliest,
            "from" if value.eq_ignore_ascii_case("latest") => start = Start::Latest,
            "from" => start = Start::Offset(number(name, value)?),
            _ => return Err(unknown(name)),
        }
    }
    if let Some(id) = last_event {
        let (of, offset) = event_id(id)
            .filter(|(of, _)| partition.is_none_or(|partition| partition == *of))
            .ok_or_else(|| bad_input("Last-Event-ID is not an id of this partition's stream"))?;
        // No message has the highest number, so none comes after it either.
        start = Start::Offset(offset.saturating_add(1));
        partition = Some(of);
    }
    Ok(StreamRequest {
        topic,
        partition: partition.unwrap_or(0),
        start,
    })
}

/// `partition:offset`.
fn event_id(id: &str) -> Option<(u32, u64)> {
    let (partition, offset) = id.split_once(':')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T> {
    value
        .parse()
        .map_err(|_| bad_input(format!("{name} must be a whole number")))
}

fn unknown(name: &str) -> Error {
    bad_input(format!("there is no query parameter {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(n, v): &(&str, &str)| (n.to_string(), v.to_string());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn parameters_become_the_consumes_fields() {
        let pairs = owned(&[
            ("partition", "2"),
            ("from", "7"),
            ("limit", "3"),
            ("wait_ms", "1"),
        ]);
        let asked = messages_query("demo.events".into(), &pairs).expect("reads");
        assert_eq!(asked.wait_ms, 1, "milliseconds, not seconds");
        let request: ConsumeRequest = serde_json::from_slice(&asked.body).expect("is a consume");
        assert_eq!(request.partition_id, Some(2));
        assert_eq!(request.start, Some(StartPosition::Offset(7)));
        assert_eq!((request.limit, request.group_id), (Some(3), None));
    }

    #[test]
    fn nonsense_is_refused() {
        for pair in [("from", "x"), ("limit", "-1"), ("form", "1")] {
            let refused = messages_query("demo.events".into(), &owned(&[pair]));
            assert_eq!(refused.expect_err("refused").code, ErrorCode::InvalidInput);
        }
        for (pair, last) in [
            (("from", "x"), None),
            (("limit", "1"), None),
            (("partition", "1"), Some("2:5")),
            (("partition", "1"), Some("1")),
            (("partition", "1"), Some("1:x")),
        ] {
            let refused = stream_query("demo.events".into(), &owned(&[pair]), last);
            assert_eq!(
                refused.expect_err("refused").code,
                ErrorCode::InvalidInput,
                "{pair:?} {last:?}"
            );
        }
    }

    #[test]
    fn a_stream_goes_on_after_the_last_event_wherever_it_began() {
        let start = |pairs: &[(&str, &str)], last| {
            let request = stream_query("demo.events".into(), &owned(pairs), last).expect("reads");
            (request.partition, request.start)
        };
        assert_eq!(start(&[], None), (0, Start::Latest));
        let began = [("partition", "3"), ("from", "EARLIEST")];
        assert_eq!(start(&began, None), (3, Start::Earliest));
        assert_eq!(start(&began, Some("3:41")), (3, Start::Offset(42)));
        assert_eq!(start(&[], Some("3:41")), (3, Start::Offset(42)));
        let end = format!("0:{}", u64::MAX);
        assert_eq!(start(&[], Some(&end)), (0, Start::Offset(u64::MAX)));
    }
}
