use serde_json::json;

use super::*;

fn start(text: &str) -> Result<StartPosition, serde_json::Error> {
    serde_json::from_str(text)
}

#[test]
fn start_is_read_in_any_case() {
    for text in [r#""Latest""#, r#""latest""#, r#""LATEST""#] {
        assert_eq!(start(text).unwrap(), StartPosition::Latest);
    }
    for text in [r#""Earliest""#, r#""earliest""#, r#""EARLIEST""#] {
        assert_eq!(start(text).unwrap(), StartPosition::Earliest);
    }
    for text in [r#"{"Offset":7}"#, r#"{"offset":7}"#, r#"{"OFFSET":7}"#] {
        assert_eq!(start(text).unwrap(), StartPosition::Offset(7));
    }
    let time = StartPosition::Timestamp("2026-04-18T12:00:00Z".into());
    for text in [
        r#"{"Timestamp":"2026-04-18T12:00:00Z"}"#,
        r#"{"timestamp":"2026-04-18T12:00:00Z"}"#,
    ] {
        assert_eq!(start(text).unwrap(), time);
    }
}

#[test]
fn start_is_written_as_existing_clients_write_it() {
    let cases = [
        (StartPosition::Latest, r#""Latest""#),
        (StartPosition::Earliest, r#""Earliest""#),
        (StartPosition::Offset(7), r#"{"Offset":7}"#),
        (StartPosition::Timestamp("t".into()), r#"{"Timestamp":"t"}"#),
    ];
    for (start, text) in cases {
        assert_eq!(serde_json::to_string(&start).unwrap(), text);
    }
}

#[test]
fn start_refuses_what_it_does_not_know() {
    let bad = [
        r#""middle""#,
        "7",
        "true",
        "{}",
        r#"{"Offset":-1}"#,
        r#"{"Offset":"7"}"#,
        r#"{"Offset":1.5}"#,
        r#"{"Offset":1,"Timestamp":"t"}"#,
        r#"{"Where":1}"#,
        "[]",
    ];
    for text in bad {
        assert!(start(text).is_err(), "{text}");
    }
}

#[test]
fn consume_request() {
    let text = concat!(
        r#"{"topic_id":"demo.message_events","group_id":"ai-worker","start":"Earliest","#,
        r#""limit":100,"partition_id":0,"timeout_seconds":10}"#
    );
    let request: ConsumeRequest = serde_json::from_str(text).unwrap();
    assert_eq!(request.start, Some(StartPosition::Earliest));
    assert_eq!(serde_json::to_string(&request).unwrap(), text);
}

#[test]
fn consume_request_needs_only_a_topic() {
    let text = r#"{"topic_id":"t","group_id":null,"start":null,"limit":null,"auto_ack":true}"#;
    let request: ConsumeRequest = serde_json::from_str(text).unwrap();
    assert_eq!(
        request,
        ConsumeRequest {
            topic_id: "t".into(),
            ..ConsumeRequest::default()
        }
    );
    assert_eq!(
        serde_json::to_string(&request).unwrap(),
        r#"{"topic_id":"t"}"#
    );
    assert!(serde_json::from_str::<ConsumeRequest>("{}").is_err());
    assert!(serde_json::from_str::<ConsumeRequest>(r#"{"topic_id":"t","limit":"9"}"#).is_err());
    assert!(serde_json::from_str::<ConsumeRequest>(r#"{"topic_id":"t","limit":-9}"#).is_err());
}

#[test]
fn consume_request_additions() {
    let request: ConsumeRequest = serde_json::from_value(json!({
        "topic_id": "t", "group_id": "g", "consumer_id": "c", "lease_seconds": 30, "max_bytes": 10,
    }))
    .unwrap();
    assert_eq!(request.consumer_id.as_deref(), Some("c"));
    assert_eq!(
        (request.lease_seconds, request.max_bytes),
        (Some(30), Some(10))
    );
}

fn message() -> Message {
    Message {
        topic_id: "demo.message_events".into(),
        partition_id: 0,
        offset: 3,
        payload: "e30=".into(),
        key: Some("01HS".into()),
        timestamp_ms: 1_776_513_600_123,
        user: Some("user_123".into()),
        op: Op::Insert,
        deliveries: None,
        index: None,
    }
}

#[test]
fn consume_response() {
    let response = ConsumeResponse {
        messages: vec![message()],
        next_offset: 4,
        has_more: false,
        lease_id: None,
        lease_expires_ms: None,
    };
    assert_eq!(
        serde_json::to_string(&response).unwrap(),
        concat!(
            r#"{"messages":[{"topic_id":"demo.message_events","partition_id":0,"offset":3,"#,
            r#""payload":"e30=","key":"01HS","timestamp_ms":1776513600123,"user":"user_123","#,
            r#""op":"Insert"}],"next_offset":4,"has_more":false}"#
        )
    );
}

#[test]
fn consume_response_with_a_lease() {
    let message = Message {
        user: None,
        deliveries: Some(2),
        index: Some(9),
        ..message()
    };
    let response = ConsumeResponse {
        messages: vec![message],
        next_offset: 4,
        has_more: true,
        lease_id: Some("l1".into()),
        lease_expires_ms: Some(1_776_513_660_123),
    };
    let text = serde_json::to_string(&response).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"messages":[{"topic_id":"demo.message_events","partition_id":0,"offset":3,"#,
            r#""payload":"e30=","key":"01HS","timestamp_ms":1776513600123,"op":"Insert","#,
            r#""deliveries":2,"index":9}],"next_offset":4,"has_more":true,"lease_id":"l1","#,
            r#""lease_expires_ms":1776513660123}"#
        )
    );
    assert_eq!(
        serde_json::from_str::<ConsumeResponse>(&text).unwrap(),
        response
    );
}

#[test]
fn ops() {
    assert_eq!(serde_json::to_value(Op::Insert).unwrap(), json!("Insert"));
    assert_eq!(serde_json::to_value(Op::Update).unwrap(), json!("Update"));
    assert_eq!(serde_json::to_value(Op::Delete).unwrap(), json!("Delete"));
}

#[test]
fn ack() {
    let text = r#"{"topic_id":"t","group_id":"g","partition_id":0,"upto_offset":10}"#;
    let request: AckRequest = serde_json::from_str(text).unwrap();
    assert_eq!(request.upto_offset, Some(10));
    assert_eq!(serde_json::to_string(&request).unwrap(), text);

    let text = r#"{"topic_id":"t","group_id":"g","lease_id":"l","offsets":[1,3]}"#;
    let request: AckRequest = serde_json::from_str(text).unwrap();
    assert_eq!(request.offsets, Some(vec![1, 3]));
    assert_eq!(serde_json::to_string(&request).unwrap(), text);

    let response = AckResponse {
        success: true,
        acknowledged_offset: Some(10),
    };
    let text = r#"{"success":true,"acknowledged_offset":10}"#;
    assert_eq!(serde_json::to_string(&response).unwrap(), text);
}

#[test]
fn nack_and_extend() {
    let text = r#"{"topic_id":"t","group_id":"g","lease_id":"l","offsets":[1],"delay_ms":50}"#;
    let request: NackRequest = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&request).unwrap(), text);
    assert_eq!(
        serde_json::to_string(&NackResponse { success: true }).unwrap(),
        r#"{"success":true}"#
    );

    let text = r#"{"topic_id":"t","group_id":"g","lease_id":"l","lease_seconds":60}"#;
    let request: ExtendRequest = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&request).unwrap(), text);
    let response = ExtendResponse {
        success: true,
        lease_expires_ms: Some(5),
    };
    let text = r#"{"success":true,"lease_expires_ms":5}"#;
    assert_eq!(serde_json::to_string(&response).unwrap(), text);
}

#[test]
fn latest_offsets() {
    let text = r#"{"partitions":[{"topic_id":"t","partition_id":2}]}"#;
    let request: LatestOffsetsRequest = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&request).unwrap(), text);

    let end = |next_offset, last_offset| PartitionEnd {
        topic_id: "t".into(),
        partition_id: 2,
        next_offset,
        last_offset,
    };
    let response = LatestOffsetsResponse {
        offsets: vec![end(5, Some(4)), end(0, None)],
    };
    assert_eq!(
        serde_json::to_string(&response).unwrap(),
        concat!(
            r#"{"offsets":[{"topic_id":"t","partition_id":2,"next_offset":5,"last_offset":4},"#,
            r#"{"topic_id":"t","partition_id":2,"next_offset":0,"last_offset":null}]}"#
        )
    );
}
