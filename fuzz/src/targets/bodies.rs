//! What clients send: bodies, by the first byte, and the values of headers.

use api::cluster::{AddMemberRequest, DigestQuery, DrainRequest, TransferLeaderRequest};
use api::headers::Consistency;
use api::sql::{SqlRequest, SqlResponse};
use api::topics::{
    AckRequest, ConsumeRequest, ConsumeResponse, ExtendRequest, LatestOffsetsRequest, NackRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a body is read as comes back from what it is written as.
pub fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    match kind % 12 {
        0 => comes_back::<SqlRequest>(body),
        1 => comes_back::<ConsumeRequest>(body),
        2 => comes_back::<AckRequest>(body),
        3 => comes_back::<NackRequest>(body),
        4 => comes_back::<ExtendRequest>(body),
        5 => comes_back::<LatestOffsetsRequest>(body),
        6 => comes_back::<AddMemberRequest>(body),
        7 => comes_back::<TransferLeaderRequest>(body),
        8 => comes_back::<DrainRequest>(body),
        9 => comes_back::<DigestQuery>(body),
        10 => {
            comes_back::<SqlResponse>(body);
            comes_back::<ConsumeResponse>(body);
        }
        _ => header(body),
    }
}

fn comes_back<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(body: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(body) else {
        return;
    };
    let written = serde_json::to_vec(&read).unwrap();
    let again: T = serde_json::from_slice(&written).unwrap();
    assert_eq!(again, read);
}

fn header(value: &[u8]) {
    let Ok(text) = std::str::from_utf8(value) else {
        return;
    };
    if let Ok(consistency) = text.parse::<Consistency>() {
        assert_eq!(consistency.as_str().parse(), Ok(consistency));
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let bodies = [
        r#"{"sql":"SELECT $1","params":[1,0.5,"x",null,true],"namespace_id":"demo"}"#,
        r#"{"topic_id":"demo.e","group_id":"g","partition_id":0,"start":"Earliest","limit":10}"#,
        r#"{"topic_id":"demo.e","group_id":"g","partition_id":0,"upto_offset":41}"#,
        r#"{"topic_id":"demo.e","group_id":"g","lease_id":"00","offsets":[1,2],"delay_ms":5}"#,
        r#"{"topic_id":"demo.e","group_id":"g","lease_id":"00","lease_ms":30000}"#,
        r#"{"partitions":[{"topic_id":"demo.e","partition_id":1}]}"#,
        r#"{"rpc":"node-4:7000","voter":false}"#,
        r#"{"to":2}"#,
        r#"{"drain":true}"#,
        r#"{"topic":"demo.e","partition":0,"offset":7}"#,
        r#"{"status":"success","results":[{"schema":[],"rows":[[1]],"row_count":1}],"took":0.1}"#,
        "linearizable",
    ];
    let numbered = (0_u8..).zip(bodies);
    let mut seeds: Vec<Vec<u8>> = numbered
        .map(|(kind, body)| [&[kind][..], body.as_bytes()].concat())
        .collect();
    for start in [
        r#""Latest""#,
        r#"{"Offset":5}"#,
        r#"{"Timestamp":"2026-01-01T00:00:00Z"}"#,
    ] {
        let body = format!(r#"{{"topic_id":"demo.e","group_id":"g","start":{start}}}"#);
        seeds.push([&[1][..], body.as_bytes()].concat());
    }
    seeds
}
