//! Answers as the JSON of CONTRACT §2.1, written straight into the response.

use std::fmt::Write;

use sql::{Answer, Rows};
use types::cell::{JsonStyle, push_json_string, write_json};
use types::ids::LogIndex;
use types::value::DataType;
use types::{Error, ErrorCode, Result, limits};

/// The JSON object of a result, without its closing brace, so that a receipt can follow.
/// SQL_EXECUTION_ERROR if it is larger than the `room`, in bytes, that its request's answer has.
pub fn result(answer: &Answer, as_user: &str, room: usize) -> Result<String> {
    let mut out = String::with_capacity(128);
    match answer {
        Answer::Rows(rows) => {
            out.push('{');
            push_rows(&mut out, rows, room)?;
            write_to(&mut out, format_args!(",\"row_count\":{}", rows.rows.len()));
        }
        Answer::Done {
            message,
            row_count,
            returning,
        } => {
            out.push('{');
            if let Some(rows) = returning {
                push_rows(&mut out, rows, room)?;
                out.push(',');
            }
            write_to(
                &mut out,
                format_args!("\"row_count\":{row_count},\"message\":"),
            );
            push_json_string(&mut out, message);
        }
    }
    out.push_str(",\"as_user\":");
    push_json_string(&mut out, as_user);
    Ok(out)
}

/// Messages of one partition, with the topic's name.
pub struct ReceiptRange {
    /// `namespace.name`.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The first offset.
    pub first_offset: u64,
    /// How many.
    pub count: u64,
}

/// The receipt of a write.
pub fn receipt(index: LogIndex, messages: &[ReceiptRange]) -> String {
    let mut out = String::with_capacity(96);
    write_to(&mut out, format_args!("{{\"index\":{index},\"messages\":["));
    for (i, range) in messages.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str("{\"topic_id\":");
        push_json_string(&mut out, &range.topic);
        let ReceiptRange {
            partition,
            first_offset,
            count,
            ..
        } = range;
        write_to(
            &mut out,
            format_args!(
                ",\"partition_id\":{partition},\"first_offset\":{first_offset},\"count\":{count}}}"
            ),
        );
    }
    out.push_str("]}");
    out
}

/// The whole response.
pub fn response<'a>(
    results: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    took_ms: f64,
) -> String {
    let mut out = String::from("{\"status\":\"success\",\"results\":[");
    for (i, (json, receipt)) in results.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(json);
        if let Some(receipt) = receipt {
            out.push_str(",\"receipt\":");
            out.push_str(receipt);
        }
        out.push('}');
    }
    write_to(&mut out, format_args!("],\"took\":{took_ms:.3}}}"));
    out
}

fn push_rows(out: &mut String, rows: &Rows, room: usize) -> Result<()> {
    out.push_str("\"schema\":[");
    for (i, column) in rows.columns.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str("{\"name\":");
        push_json_string(out, &column.name);
        out.push_str(",\"data_type\":");
        push_data_type(out, column.data_type);
        write_to(out, format_args!(",\"index\":{i}"));
        if !column.flags.is_empty() {
            write_to(
                out,
                format_args!(",\"flags\":[\"{}\"]", column.flags.join("\",\"")),
            );
        }
        out.push('}');
    }
    out.push_str("],\"rows\":[");
    for (i, row) in rows.rows.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push('[');
        for (j, value) in row.iter().enumerate() {
            if j > 0 {
                out.push(',');
            }
            write_json(value, JsonStyle::Cell, out);
        }
        out.push(']');
        if out.len() > room {
            let most = limits::RESULT_MAX_BYTES;
            return Err(Error::new(
                ErrorCode::SqlExecutionError,
                format!("the answer of the request is larger than {most} bytes: add a LIMIT"),
            ));
        }
    }
    out.push(']');
    Ok(())
}

fn push_data_type(out: &mut String, data_type: DataType) {
    let name = match data_type {
        DataType::Boolean => "Boolean",
        DataType::SmallInt => "SmallInt",
        DataType::Int => "Int",
        DataType::BigInt => "BigInt",
        DataType::Float => "Float",
        DataType::Double => "Double",
        DataType::Decimal { precision, scale } => {
            return write_to(
                out,
                format_args!("{{\"Decimal\":{{\"precision\":{precision},\"scale\":{scale}}}}}"),
            );
        }
        DataType::Text => "Text",
        DataType::Timestamp => "Timestamp",
        DataType::DateTime => "DateTime",
        DataType::Date => "Date",
        DataType::Time => "Time",
        DataType::Uuid => "Uuid",
        DataType::Json => "Json",
        DataType::Bytes => "Bytes",
        DataType::File => "File",
    };
    write_to(out, format_args!("\"{name}\""));
}

fn write_to(out: &mut String, text: std::fmt::Arguments<'_>) {
    if out.write_fmt(text).is_err() {
        unreachable!("writing to a String cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use sql::ResultColumn;
    use types::value::Value;

    use super::*;

    fn parse(json: &str) -> api::SqlResponse {
        serde_json::from_str(json).expect("is a SQL response")
    }

    #[test]
    fn rows_read_back_as_the_apis_type() {
        let rows = Rows {
            columns: vec![
                ResultColumn {
                    name: "id".into(),
                    data_type: DataType::Text,
                    flags: vec!["pk", "nn"],
                },
                ResultColumn::new(
                    "d",
                    DataType::Decimal {
                        precision: 5,
                        scale: 2,
                    },
                ),
            ],
            rows: vec![vec![
                Value::Text("a\"b".into()),
                Value::Decimal {
                    unscaled: -105,
                    scale: 2,
                },
            ]],
        };
        let answer = Answer::Rows(rows);
        let json = result(&answer, "alice", limits::RESULT_MAX_BYTES).expect("renders");
        let response = parse(&response([(json.as_str(), None)], 1.25));
        let set = &response.results[0];
        assert_eq!(set.schema[0].flags, ["pk", "nn"]);
        assert_eq!(
            set.schema[1].data_type,
            api::sql::DataType::Decimal {
                precision: 5,
                scale: 2
            }
        );
        assert_eq!(set.rows, Some(vec![vec!["a\"b".into(), "-1.05".into()]]));
        assert_eq!((set.row_count, set.as_user.as_deref()), (1, Some("alice")));
    }

    #[test]
    fn rows_beyond_the_room_of_the_answer_are_refused() {
        let rows = |count: usize| {
            Answer::Rows(Rows {
                columns: vec![ResultColumn::new("v", DataType::Text)],
                rows: vec![vec![Value::Text("x".repeat(100))]; count],
            })
        };
        assert!(result(&rows(3), "alice", 500).is_ok());
        let error = result(&rows(9), "alice", 500).expect_err("too large");
        assert_eq!(error.code, ErrorCode::SqlExecutionError);
    }

    #[test]
    fn a_receipt_follows_the_result() {
        let answer = Answer::Done {
            message: "Inserted 1 row(s)".into(),
            row_count: 1,
            returning: None,
        };
        let json = result(&answer, "bob", limits::RESULT_MAX_BYTES).expect("renders");
        let range = ReceiptRange {
            topic: "demo.e".into(),
            partition: 2,
            first_offset: 7,
            count: 1,
        };
        let receipt = receipt(9, &[range]);
        let response = parse(&response([(json.as_str(), Some(receipt.as_str()))], 0.5));
        let receipt = response.results[0].receipt.as_ref().expect("has a receipt");
        assert_eq!((receipt.index, receipt.messages[0].first_offset), (9, 7));
        assert_eq!(
            response.results[0].message.as_deref(),
            Some("Inserted 1 row(s)")
        );
    }
}
