use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{json, to_value};

use super::*;
use crate::{auth, cluster, error, paths, sql, topics};

#[test]
fn every_path_is_described_and_no_other() {
    let document = document();
    let described: BTreeSet<&str> = document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let ours = BTreeSet::from([
        paths::SQL,
        paths::TOPICS_CONSUME,
        paths::TOPICS_ACK,
        paths::TOPICS_NACK,
        paths::TOPICS_EXTEND,
        paths::TOPICS_LATEST_OFFSETS,
        paths::TOPIC_MESSAGES,
        paths::TOPIC_STREAM,
        paths::AUTH_LOGIN,
        paths::AUTH_REFRESH,
        paths::AUTH_LOGOUT,
        paths::AUTH_ME,
        paths::AUTH_STATUS,
        paths::AUTH_SETUP,
        paths::HEALTH,
        paths::READY,
        paths::METRICS,
        paths::OPENAPI,
        paths::CLUSTER,
        paths::CLUSTER_HEALTH,
        paths::CLUSTER_MEMBERS,
        paths::CLUSTER_MEMBER,
        paths::CLUSTER_PROMOTE,
        paths::CLUSTER_LEADER,
        paths::CLUSTER_DRAIN,
        paths::CLUSTER_SNAPSHOT,
        paths::CLUSTER_DIGEST,
    ]);
    assert_eq!(described, ours);
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, document: &Value, found: &mut usize) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    let pointer = target
                        .strip_prefix('#')
                        .expect("a reference within the file");
                    assert!(
                        document.pointer(pointer).is_some(),
                        "{target} leads nowhere"
                    );
                    *found += 1;
                }
                map.values().for_each(|inner| walk(inner, document, found));
            }
            Value::Array(items) => items.iter().for_each(|inner| walk(inner, document, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = 0;
    walk(&document, &document, &mut found);
    assert!(found > 50, "only {found} references");
}

/// The schema's properties are the fields of a sample with every field set, and every required
/// property is one of them.
fn same_fields<T: Serialize>(schema: &str, sample: &T) {
    let document = document();
    let schema_value = &document["components"]["schemas"][schema];
    let described: BTreeSet<String> = schema_value["properties"]
        .as_object()
        .unwrap_or_else(|| panic!("no schema {schema}"))
        .keys()
        .cloned()
        .collect();
    let sample = to_value(sample).unwrap();
    let real: BTreeSet<String> = sample.as_object().unwrap().keys().cloned().collect();
    assert_eq!(described, real, "{schema}");
    for name in schema_value["required"].as_array().unwrap() {
        assert!(
            described.contains(name.as_str().unwrap()),
            "{schema}.{name}"
        );
    }
}

/// Reads a body with every field set through the type, so that a field the type does not have is
/// lost and the comparison fails.
fn read<T: serde::de::DeserializeOwned + Serialize>(schema: &str, sample: Value) {
    let typed: T =
        serde_json::from_value(sample.clone()).unwrap_or_else(|error| panic!("{schema}: {error}"));
    assert_eq!(to_value(&typed).unwrap(), sample, "{schema} loses a field");
    same_fields(schema, &typed);
}

#[test]
fn sql_schemas_have_the_types_fields() {
    let range = json!({"topic_id": "t", "partition_id": 0, "first_offset": 0, "count": 1});
    let receipt = json!({"index": 1, "messages": [range]});
    let field = json!({"name": "a", "data_type": "Int", "index": 0, "flags": ["pk"]});
    let result = json!({
        "schema": [field], "rows": [[1]], "row_count": 1, "as_user": "u", "message": "m",
        "receipt": receipt, "lease_id": "l",
    });
    let details = json!({"statement": 0, "line": 1, "column": 1, "earliest": 0, "latest": 1});
    let failure = json!({
        "code": "C", "message": "m", "details": details, "retryable": true, "maybe_applied": true,
    });
    read::<sql::MessageRange>("MessageRange", range);
    read::<sql::Receipt>("Receipt", receipt);
    read::<sql::SchemaField>("SchemaField", field);
    read::<sql::ResultSet>("ResultSet", result.clone());
    read::<error::SqlErrorDetails>("SqlErrorDetails", details);
    read::<error::SqlError>("SqlError", failure.clone());
    let request = json!({"sql": "s", "params": [1], "namespace_id": "n"});
    read::<sql::SqlRequest>("SqlRequest", request);
    let response = json!({"status": "error", "results": [result], "took": 1.5, "error": failure});
    read::<sql::SqlResponse>("SqlResponse", response);
}

#[test]
fn topic_schemas_have_the_types_fields() {
    let message = json!({
        "topic_id": "t", "partition_id": 0, "offset": 0, "payload": "", "key": "k",
        "timestamp_ms": 1, "user": "u", "op": "Insert", "deliveries": 1, "index": 1,
    });
    read::<topics::Message>("Message", message.clone());
    let response = json!({
        "messages": [message], "next_offset": 1, "has_more": false, "lease_id": "l",
        "lease_expires_ms": 1,
    });
    read::<topics::ConsumeResponse>("ConsumeResponse", response);
    let request = json!({
        "topic_id": "t", "group_id": "g", "start": {"Offset": 1}, "limit": 1, "partition_id": 0,
        "timeout_seconds": 1, "consumer_id": "c", "lease_seconds": 1, "max_bytes": 1,
    });
    read::<topics::ConsumeRequest>("ConsumeRequest", request);
    let request = json!({
        "topic_id": "t", "group_id": "g", "partition_id": 0, "upto_offset": 1,
        "consumer_id": "c", "lease_id": "l", "offsets": [1],
    });
    read::<topics::AckRequest>("AckRequest", request);
    let response = json!({"success": true, "acknowledged_offset": 1});
    read::<topics::AckResponse>("AckResponse", response);
    let request = json!({
        "topic_id": "t", "group_id": "g", "partition_id": 0, "lease_id": "l", "offsets": [1],
        "delay_ms": 1,
    });
    read::<topics::NackRequest>("NackRequest", request);
    read::<topics::NackResponse>("NackResponse", json!({"success": true}));
    let request = json!({
        "topic_id": "t", "group_id": "g", "partition_id": 0, "lease_id": "l", "lease_seconds": 1,
    });
    read::<topics::ExtendRequest>("ExtendRequest", request);
    let response = json!({"success": true, "lease_expires_ms": 1});
    read::<topics::ExtendResponse>("ExtendResponse", response);
    let partition = json!({"topic_id": "t", "partition_id": 0});
    read::<topics::TopicPartition>("TopicPartition", partition.clone());
    let request = json!({"partitions": [partition]});
    read::<topics::LatestOffsetsRequest>("LatestOffsetsRequest", request);
    let end = json!({"topic_id": "t", "partition_id": 0, "next_offset": 1, "last_offset": 0});
    read::<topics::PartitionEnd>("PartitionEnd", end.clone());
    read::<topics::LatestOffsetsResponse>("LatestOffsetsResponse", json!({"offsets": [end]}));
    let failure = json!({
        "error": "e", "code": "C", "retryable": true, "maybe_applied": true, "earliest": 0,
        "latest": 1,
    });
    read::<error::TopicErrorBody>("TopicErrorBody", failure);
}

#[test]
fn auth_schemas_have_the_types_fields() {
    let user = json!({
        "id": "u", "role": "dba", "email": "e", "created_at": "t", "updated_at": "t",
    });
    read::<auth::UserInfo>("UserInfo", user.clone());
    read::<auth::LoginRequest>("LoginRequest", json!({"user": "u", "password": "p"}));
    let response = json!({
        "user": user, "admin_ui_access": true, "expires_at": "t", "access_token": "a",
        "refresh_token": "r", "refresh_expires_at": "t",
    });
    read::<auth::LoginResponse>("LoginResponse", response);
    read::<auth::MeResponse>("MeResponse", json!({"user": user}));
    read::<auth::LogoutResponse>("LogoutResponse", json!({"message": "m"}));
    let status = json!({"needs_setup": true, "message": "m"});
    read::<auth::AuthStatusResponse>("AuthStatusResponse", status);
    let request = json!({"user": "u", "password": "p", "root_password": "r", "email": "e"});
    read::<auth::SetupRequest>("SetupRequest", request);
    read::<auth::SetupResponse>("SetupResponse", json!({"user": user, "message": "m"}));
    let failure = json!({
        "error": "e", "message": "m", "code": "C", "retryable": true, "maybe_applied": true,
    });
    read::<error::AuthErrorBody>("AuthErrorBody", failure);
}

#[test]
fn cluster_schemas_have_the_types_fields() {
    let member = json!({
        "node_id": 1, "role": "leader", "http": "h", "rpc": "r", "last_log_index": 1,
        "applied_index": 1, "lag": 0, "version": "v", "disk_free_bytes": 1,
        "disk_reserve_bytes": 1, "disk_full": false, "voter": true, "voter_wanted": true,
        "draining": false, "clock_ahead_ms": -1, "certificate_expires_in_seconds": 1,
        "certificate_refused": false,
    });
    read::<cluster::Member>("Member", member.clone());
    let status = json!({"cluster_id": "c", "leader_id": 1, "term": 1, "members": [member]});
    read::<cluster::ClusterStatus>("ClusterStatus", status);
    let request = json!({"node_id": 1, "rpc": "r", "http": "h", "voter": true});
    read::<cluster::AddMemberRequest>("AddMemberRequest", request);
    read::<cluster::TransferLeaderRequest>("TransferLeaderRequest", json!({"node_id": 1}));
    read::<cluster::DrainRequest>("DrainRequest", json!({"node_id": 1}));
    let response = json!({"node_id": 1, "snapshot_index": 1});
    read::<cluster::SnapshotResponse>("SnapshotResponse", response);
    let response = json!({"node_id": 1, "index": 1, "offset": 1, "digest": "d"});
    read::<cluster::DigestResponse>("DigestResponse", response);
    let node = json!({
        "node_id": 1, "role": "leader", "status": "active", "api_addr": "a", "is_self": true,
        "is_leader": true, "replication_lag": 0, "catchup_progress_pct": 100,
    });
    read::<cluster::ClusterHealthNode>("ClusterHealthNode", node.clone());
    let health = json!({
        "status": "healthy", "version": "v", "is_cluster_mode": true, "cluster_id": "c",
        "node_id": 1, "is_leader": true, "total_groups": 1, "groups_leading": 1,
        "current_term": 1, "last_applied": 1, "millis_since_quorum_ack": 1, "nodes": [node],
    });
    read::<cluster::ClusterHealth>("ClusterHealth", health);
    let health = json!({"status": "healthy", "version": "v", "api_version": "v1"});
    read::<cluster::HealthResponse>("HealthResponse", health);
    read::<cluster::ReadyResponse>("ReadyResponse", json!({"ready": false, "reason": "r"}));
}

#[test]
fn every_schema_is_used() {
    let document = document();
    let text = document.to_string();
    for name in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        let reference = format!("\"#/components/schemas/{name}\"");
        assert!(text.contains(&reference), "{name} is not used");
    }
}
