//! Rows as they stand in the state, in the log and in messages.

use types::row;
use types::value::Value;

pub fn run(data: &[u8]) {
    let version = row::schema_version(data);
    let Ok(fields) = row::decode(data) else {
        return;
    };
    let ascending = fields.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let columns: Vec<u32> = fields.iter().map(|(column, _)| *column).collect();
    let mut found = Vec::new();
    if ascending {
        row::decode_columns(data, &columns, |at, value| found.push((columns[at], value))).unwrap();
        assert_eq!(format!("{found:?}"), format!("{fields:?}"));
    }
    let pairs = fields.iter().map(|(column, value)| (*column, value));
    let written = row::encode(version.unwrap(), pairs);
    // Numbers may stand in more bytes than they need; what is written never does.
    assert_eq!(
        format!("{:?}", row::decode(&written)),
        format!("{:?}", Ok::<_, row::MalformedRow>(fields))
    );
}

pub fn seeds() -> Vec<Vec<u8>> {
    let values = [
        Value::Null,
        Value::Boolean(true),
        Value::SmallInt(-3),
        Value::BigInt(i64::MIN),
        Value::Float(0.5),
        Value::Decimal {
            unscaled: i128::MAX,
            scale: 10,
        },
        Value::Text("text".into()),
        Value::Timestamp(1),
        Value::Date(-1),
        Value::Uuid([7; 16]),
        Value::Json("{}".into()),
        Value::Bytes(vec![0, 1]),
    ];
    let whole = row::encode(3, (1..).zip(&values));
    let few = row::encode(1, [(5, &values[6]), (300, &values[3])]);
    vec![whole, few, row::encode(1, [])]
}
