//! Bodies of `POST /v1/api/sql`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::SqlError;

/// One or several statements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SqlRequest {
    /// Statements, separated by `;`.
    pub sql: String,
    /// Values of `$1…`: null, boolean, number or string. Only with a single statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Vec<Value>>,
    /// Namespace of names written without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_id: Option<String>,
}

impl SqlRequest {
    /// Statements without parameters.
    pub fn new(sql: impl Into<String>) -> SqlRequest {
        SqlRequest {
            sql: sql.into(),
            ..SqlRequest::default()
        }
    }

    /// One statement with its parameters.
    pub fn with_params(sql: impl Into<String>, params: Vec<Value>) -> SqlRequest {
        SqlRequest {
            sql: sql.into(),
            params: Some(params),
            namespace_id: None,
        }
    }
}

/// Whether all statements ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All ran.
    Success,
    /// One failed; [`SqlResponse::error`] says which.
    Error,
}

/// The answer to statements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SqlResponse {
    /// Whether all statements ran.
    pub status: Status,
    /// One per statement, in order; empty if one failed.
    #[serde(default)]
    pub results: Vec<ResultSet>,
    /// Milliseconds spent in the server.
    #[serde(default)]
    pub took: f64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<SqlError>,
}

impl SqlResponse {
    /// The answer when all statements ran.
    pub fn success(results: Vec<ResultSet>, took_ms: f64) -> SqlResponse {
        SqlResponse {
            status: Status::Success,
            results,
            took: took_ms,
            error: None,
        }
    }
}

/// What one statement gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResultSet {
    /// The columns; empty for a statement that returns no rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema: Vec<SchemaField>,
    /// The rows, cells in the columns' order; left out by a statement that returns none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Vec<Vec<Value>>>,
    /// Rows returned, or rows a write touched.
    pub row_count: u64,
    /// Whose rows a USER table showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_user: Option<String>,
    /// What a statement that returns no rows did, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where a write stands in the log; on COMMIT's result for a transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// With `CONSUME … GROUP`: the lease that holds the returned messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<String>,
}

/// One column of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaField {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Its position, from 0.
    pub index: u32,
    /// `pk` (part of the primary key), `nn` (never null), `uq` (unique).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// A column's type, in the spelling of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataType {
    /// Cells are `true` and `false`.
    Boolean,
    /// 16 bits; cells are numbers.
    SmallInt,
    /// 32 bits; cells are numbers.
    Int,
    /// 64 bits; cells are strings, which every JSON reader keeps exact.
    BigInt,
    /// 32 bits; cells are numbers.
    Float,
    /// 64 bits; cells are numbers.
    Double,
    /// Cells are strings.
    Text,
    /// RFC 3339 in UTC, to the microsecond.
    Timestamp,
    /// `2026-04-18`.
    Date,
    /// RFC 3339 in UTC, to the microsecond.
    DateTime,
    /// `12:00:00.000000`.
    Time,
    /// JSON text in a string.
    Json,
    /// An array of byte numbers.
    Bytes,
    /// Cells are strings.
    Uuid,
    /// An object that describes the file.
    File,
    /// Exact; cells are strings.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
}

/// Where a write stands in the log, and the messages it made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Log index: send it as `Duet-Min-Index` to see this write on any node.
    pub index: u64,
    /// The messages of this write, one entry per partition it wrote to.
    #[serde(default)]
    pub messages: Vec<MessageRange>,
}

/// A run of messages that one write made in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRange {
    /// The topic's name.
    pub topic_id: String,
    /// The partition.
    pub partition_id: u32,
    /// Offset of the first message.
    pub first_offset: u64,
    /// How many, at consecutive offsets.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn request() {
        let text = r#"{"sql":"SELECT $1","params":["x",null,1.5,true],"namespace_id":"demo"}"#;
        let request: SqlRequest = serde_json::from_str(text).unwrap();
        assert_eq!(request.params.as_ref().unwrap().len(), 4);
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
    }

    #[test]
    fn request_fields_may_be_left_out_null_or_unknown() {
        let text = r#"{"sql":"SELECT 1","params":null,"namespace_id":null,"serialization":"x"}"#;
        let request: SqlRequest = serde_json::from_str(text).unwrap();
        assert_eq!(request, SqlRequest::new("SELECT 1"));
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"sql":"SELECT 1"}"#
        );
    }

    #[test]
    fn rows() {
        let result = ResultSet {
            schema: vec![SchemaField {
                name: "id".into(),
                data_type: DataType::Text,
                index: 0,
                flags: vec!["pk".into(), "nn".into()],
            }],
            rows: Some(vec![vec![json!("01HS")]]),
            row_count: 1,
            as_user: Some("alice".into()),
            ..ResultSet::default()
        };
        let text = serde_json::to_string(&SqlResponse::success(vec![result], 1.25)).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"status":"success","results":[{"schema":[{"name":"id","data_type":"Text","#,
                r#""index":0,"flags":["pk","nn"]}],"rows":[["01HS"]],"row_count":1,"#,
                r#""as_user":"alice"}],"took":1.25}"#
            )
        );
    }

    #[test]
    fn no_rows_is_not_the_same_as_no_row_set() {
        let empty = ResultSet {
            rows: Some(Vec::new()),
            ..ResultSet::default()
        };
        assert_eq!(
            serde_json::to_string(&empty).unwrap(),
            r#"{"rows":[],"row_count":0}"#
        );
        let none = ResultSet::default();
        assert_eq!(serde_json::to_string(&none).unwrap(), r#"{"row_count":0}"#);
    }

    #[test]
    fn write() {
        let result = ResultSet {
            row_count: 1,
            message: Some("Inserted 1 row(s)".into()),
            receipt: Some(Receipt {
                index: 9,
                messages: vec![MessageRange {
                    topic_id: "demo.events".into(),
                    partition_id: 0,
                    first_offset: 4,
                    count: 1,
                }],
            }),
            ..ResultSet::default()
        };
        let text = serde_json::to_string(&result).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"row_count":1,"message":"Inserted 1 row(s)","receipt":{"index":9,"#,
                r#""messages":[{"topic_id":"demo.events","partition_id":0,"first_offset":4,"#,
                r#""count":1}]}}"#
            )
        );
        assert_eq!(serde_json::from_str::<ResultSet>(&text).unwrap(), result);
    }

    #[test]
    fn data_types() {
        use DataType::*;
        let plain = [
            (Boolean, "Boolean"),
            (SmallInt, "SmallInt"),
            (Int, "Int"),
            (BigInt, "BigInt"),
            (Float, "Float"),
            (Double, "Double"),
            (Text, "Text"),
            (Timestamp, "Timestamp"),
            (Date, "Date"),
            (DateTime, "DateTime"),
            (Time, "Time"),
            (Json, "Json"),
            (Bytes, "Bytes"),
            (Uuid, "Uuid"),
            (File, "File"),
        ];
        for (data_type, name) in plain {
            assert_eq!(serde_json::to_value(data_type).unwrap(), json!(name));
        }
        let decimal = serde_json::to_string(&Decimal {
            precision: 10,
            scale: 2,
        })
        .unwrap();
        assert_eq!(decimal, r#"{"Decimal":{"precision":10,"scale":2}}"#);
    }
}
