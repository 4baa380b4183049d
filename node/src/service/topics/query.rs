//! `GET /v1/api/topics/{topic}/messages` as the consume it is.

use api::topics::{ConsumeRequest, StartPosition};
use types::{Error, ErrorCode, Result};

use super::bad_input;

/// The body of the consume that a query asks for. INVALID_INPUT for what is not a number, or a
/// parameter that does not exist.
pub fn messages_query(topic: String, query: &[(String, String)]) -> Result<Vec<u8>> {
    let mut request = ConsumeRequest {
        topic_id: topic,
        start: Some(StartPosition::Earliest),
        timeout_seconds: Some(0),
        ..ConsumeRequest::default()
    };
    for (name, value) in query {
        match name.as_str() {
            "partition" => request.partition_id = Some(number(name, value)?),
            "from" => request.start = Some(StartPosition::Offset(number(name, value)?)),
            "limit" => request.limit = Some(number(name, value)?),
            // Whole seconds are what a consume waits in; a part of one counts as one.
            "wait_ms" => {
                request.timeout_seconds = Some(number::<u64>(name, value)?.div_ceil(1_000));
            }
            _ => return Err(bad_input(format!("there is no query parameter {name:?}"))),
        }
    }
    serde_json::to_vec(&request)
        .map_err(|e| Error::new(ErrorCode::InternalError, format!("query not written: {e}")))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T> {
    value
        .parse()
        .map_err(|_| bad_input(format!("{name} must be a whole number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Result<ConsumeRequest> {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect();
        let body = messages_query("demo.events".into(), &pairs)?;
        Ok(serde_json::from_slice(&body).expect("is a consume"))
    }

    #[test]
    fn parameters_become_the_consumes_fields() {
        let request = query(&[
            ("partition", "2"),
            ("from", "7"),
            ("limit", "3"),
            ("wait_ms", "1"),
        ])
        .expect("reads");
        assert_eq!(request.partition_id, Some(2));
        assert_eq!(request.start, Some(StartPosition::Offset(7)));
        assert_eq!((request.limit, request.timeout_seconds), (Some(3), Some(1)));
        assert_eq!(request.group_id, None);
    }

    #[test]
    fn nonsense_is_refused() {
        for pair in [("from", "x"), ("limit", "-1"), ("form", "1")] {
            assert_eq!(
                query(&[pair]).expect_err("refused").code,
                ErrorCode::InvalidInput
            );
        }
    }
}
