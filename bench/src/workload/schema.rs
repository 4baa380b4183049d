//! Table, topic and route, made if they are not there.

use api::SqlResponse;
use serde_json::Value;

use super::{Bench, TABLE, TOPIC};
use crate::error::BenchError;

/// Makes what is missing; a second call changes nothing.
pub async fn create(bench: &Bench) -> Result<(), BenchError> {
    for sql in [
        "CREATE NAMESPACE IF NOT EXISTS bench".to_owned(),
        format!(
            "CREATE SHARED TABLE IF NOT EXISTS {TABLE} (\
             id TEXT PRIMARY KEY DEFAULT ULID(), \
             author TEXT NOT NULL, \
             msg TEXT NOT NULL, \
             n BIGINT, \
             created TIMESTAMP NOT NULL DEFAULT NOW())"
        ),
        format!("CREATE TOPIC IF NOT EXISTS {TOPIC} PARTITIONS 1"),
    ] {
        bench.client.sql(sql).await?;
    }
    let topics = bench
        .client
        .query("SELECT topic_id, routes FROM system.topics")
        .await?;
    if !has_route(&topics.body) {
        let sql =
            format!("ALTER TOPIC {TOPIC} ADD SOURCE {TABLE} ON INSERT WITH (payload = 'full')");
        bench.client.sql(sql).await?;
    }
    Ok(())
}

/// Whether INSERTs into the table go to the topic.
fn has_route(topics: &SqlResponse) -> bool {
    let rows = topics.results.iter().flat_map(|result| &result.rows);
    rows.flatten()
        .filter(|row| row.first().and_then(Value::as_str) == Some(TOPIC))
        .filter_map(|row| serde_json::from_str::<Vec<Value>>(row.get(1)?.as_str()?).ok())
        .flatten()
        .any(|route| {
            let inserts = route["op"]
                .as_str()
                .is_some_and(|op| op.eq_ignore_ascii_case("insert"));
            inserts && route["table_id"] == TABLE
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn topics(topic: &str, routes: &Value) -> SqlResponse {
        let rows = json!([["bench.other", "[]"], [topic, routes.to_string()]]);
        serde_json::from_value(json!({
            "status": "success",
            "results": [{"rows": rows, "row_count": 2}],
        }))
        .unwrap()
    }

    #[test]
    fn the_route_is_recognised_and_no_other() {
        let route = json!([{"table_id": TABLE, "op": "INSERT", "payload_mode": "full"}]);
        assert!(has_route(&topics(TOPIC, &route)));
        assert!(!has_route(&topics("bench.third", &route)));
        assert!(!has_route(&topics(
            TOPIC,
            &json!([{"table_id": TABLE, "op": "delete"}])
        )));
        assert!(!has_route(&topics(
            TOPIC,
            &json!([{"table_id": "bench.x", "op": "insert"}])
        )));
        assert!(!has_route(&topics(TOPIC, &json!([]))));
    }
}
