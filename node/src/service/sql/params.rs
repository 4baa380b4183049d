//! Parameters of a statement, from JSON.

use serde_json::Value as Json;
use sql::Param;
use types::value::Value;
use types::{Error, ErrorCode, Result, limits};

/// Null, booleans, numbers and strings. INVALID_PARAMETER for anything else, by its number.
pub fn read(params: &[Json]) -> Result<Vec<Param>> {
    if params.len() > limits::PARAMS_MAX {
        return Err(invalid(format!(
            "at most {} parameters",
            limits::PARAMS_MAX
        )));
    }
    params
        .iter()
        .enumerate()
        .map(|(i, json)| param(i + 1, json))
        .collect()
}

fn param(number: usize, json: &Json) -> Result<Param> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(v) => Value::Boolean(*v),
        Json::String(v) => Value::Text(v.clone()),
        Json::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(v), ..) => Value::BigInt(v),
            (None, Some(v), _) => Value::Decimal {
                unscaled: i128::from(v),
                scale: 0,
            },
            (None, None, Some(v)) => Value::Double(v),
            (None, None, None) => return Err(invalid(format!("${number} is out of range"))),
        },
        Json::Array(_) | Json::Object(_) => {
            return Err(invalid(format!(
                "${number} must be null, a boolean, a number or a string"
            )));
        }
    })
}

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::InvalidParameter, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_keep_their_value() {
        let params = read(&[
            json!(1),
            json!(u64::MAX),
            json!(0.5),
            json!("x"),
            json!(null),
        ]);
        assert_eq!(
            params.expect("reads"),
            [
                Value::BigInt(1),
                Value::Decimal {
                    unscaled: i128::from(u64::MAX),
                    scale: 0
                },
                Value::Double(0.5),
                Value::Text("x".into()),
                Value::Null
            ]
        );
    }

    #[test]
    fn an_array_is_refused_by_its_number() {
        let error = read(&[json!(1), json!([1])]).expect_err("refused");
        assert_eq!(error.code, ErrorCode::InvalidParameter);
        assert!(error.message.contains("$2"), "{}", error.message);
    }
}
