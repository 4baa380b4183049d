//! Literals, operators and casts mean what a user of PostgreSQL expects of them.

use types::ErrorCode;
use types::schema::TableKind;
use types::value::{DataType, Value};

use super::fixture::{Database, alice, column, expr, text};

const PRICE: DataType = DataType::Decimal {
    precision: 10,
    scale: 2,
};

fn price(unscaled: i128) -> Value {
    Value::Decimal { unscaled, scale: 2 }
}

/// One row of types whose literals are of another type, called `typed`.
fn typed() -> (Database, Vec<Value>) {
    let database = Database::new();
    let table = database.table(
        3,
        "typed",
        TableKind::Shared,
        vec![
            column(1, "raw", DataType::Bytes),
            column(2, "price", PRICE),
            column(3, "d", DataType::Double),
            column(4, "at", DataType::Timestamp),
            column(5, "flag", DataType::Boolean),
            column(6, "n", DataType::Int),
            column(7, "big", DataType::BigInt),
            column(8, "small", DataType::SmallInt),
            column(9, "j", DataType::Json),
        ],
    );
    // 0001-01-01, which nanoseconds do not reach.
    let first_year = -62_135_596_800_000_000;
    let row = vec![
        Value::Bytes(vec![0, 255]),
        price(9_999_999),
        Value::Double(0.1),
        Value::Timestamp(first_year),
        Value::Boolean(true),
        Value::Int(i32::MAX),
        Value::BigInt(i64::MAX),
        Value::SmallInt(i16::MIN),
        Value::Json("{}".to_owned()),
    ];
    database.insert(&table, None, &row);
    (database, row)
}

/// Does the condition hold for the row, in a query and for UPDATE and DELETE alike?
fn holds(condition: &str, params: &[Value]) -> bool {
    let (database, row) = typed();
    let sql = format!("SELECT * FROM typed WHERE {condition}");
    let found = database
        .select(&sql, params)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    let snapshot = database.snapshot();
    let table = database
        .engine
        .catalog()
        .table(&*snapshot, "demo", "typed")
        .expect("memory")
        .expect("the table");
    let compiled = database
        .engine
        .compile(&table.record, &expr(condition), &alice(), params)
        .expect(condition);
    let holds = compiled.matches(&row).expect(condition);
    assert_eq!(!found.rows.is_empty(), holds, "{condition}");
    holds
}

#[test]
fn decimals_are_compared_as_they_are_written() {
    for condition in [
        "price = 99999.99",
        "price = '99999.99'",
        "99999.990 = price",
        "price IN (1.5, 99999.99)",
        "price BETWEEN 99999.989 AND 99999.991",
        "price + 0.01 = 100000",
        "price < 99999.991",
        "price = 9999999e-2",
        "d = 0.1",
        "d = '0.1'",
        "d IN (0.1, 1e300)",
        "d + 0.2 > 0.3",
        "d * 3 <> 0.3",
        "price > d",
        "coalesce(d, 0.5) = 0.1",
        "CASE WHEN n > 1 THEN d ELSE 0.5 END = 0.1",
        "CASE price WHEN 99999.99 THEN true ELSE false END",
        "7 / 2.0 = 3.5",
        "1.0 / 3 > 0.333333333",
    ] {
        assert!(holds(condition, &[]), "{condition}");
    }
    for condition in [
        "price = '99999.994'",
        "price = 99999.994",
        "price <> 99999.99",
        "price IN ('99999.994')",
    ] {
        assert!(!holds(condition, &[]), "{condition}");
    }
    assert!(holds("price = $1", &[Value::Double(99_999.99)]));
    assert!(holds("d = $1", &[Value::Double(0.1)]));
    assert!(holds("price > $1", &[Value::Double(-0.5)]));
    assert!(holds("d < $1", &[Value::Double(1e300)]));
    let (database, _) = typed();
    assert_eq!(
        database.rows("SELECT price + 0.01 FROM typed"),
        [[price(10_000_000)]]
    );
    let bad = "SELECT * FROM typed WHERE price = 'dear'";
    assert_eq!(database.code(bad, &[]), ErrorCode::TypeMismatch);
}

#[test]
fn text_is_of_the_type_it_is_compared_with() {
    for condition in [
        r"raw = '\x00ff'",
        r"raw = '\x00FF'",
        "raw = X'00ff'",
        r"raw IN ('\x00ff')",
        r"raw = CAST('\x00ff' AS BYTES)",
        "at = '0001-01-01T00:00:00Z'",
        "at < '9999-12-31'",
        "at BETWEEN '0001-01-01' AND '1500-01-01'",
        "at IN ('0001-01-01')",
        "flag = 'true'",
        "flag = 'yes'",
        "flag <> 'f'",
        "flag IN ('t')",
    ] {
        assert!(holds(condition, &[]), "{condition}");
    }
    assert!(holds("raw = $1", &[text(r"\x00ff")]));
    assert!(holds("at = $1", &[text("0001-01-01")]));
    assert!(holds("flag = $1", &[text("true")]));
    let (database, _) = typed();
    for condition in ["flag = 'maybe'", "at = 'yesterday'", r"raw = '\x0'"] {
        let sql = format!("SELECT * FROM typed WHERE {condition}");
        assert_eq!(database.code(&sql, &[]), ErrorCode::TypeMismatch, "{sql}");
    }
}

#[test]
fn whole_numbers_do_not_wrap() {
    let (database, _) = typed();
    for expression in [
        "big + 1",
        "n + n",
        "-small",
        "small - CAST(1 AS SMALLINT)",
        "big * 2",
        "9223372036854775807 + 1",
        "-(-9223372036854775808)",
        "1 - (-9223372036854775807)",
        "sum(big)",
    ] {
        let sql = match expression {
            "sum(big)" => {
                "SELECT sum(big) FROM (SELECT big FROM typed UNION ALL SELECT big FROM typed) x"
                    .to_owned()
            }
            _ => format!("SELECT {expression} FROM typed"),
        };
        let error = database.select(&sql, &[]).expect_err(&sql);
        assert_eq!(error.code, ErrorCode::SqlExecutionError, "{sql}: {error}");
        assert!(error.message.contains("out of range"), "{sql}: {error}");
    }
    let grouped = "SELECT flag, sum(big) FROM (SELECT * FROM typed UNION ALL SELECT * FROM typed) \
                   x GROUP BY flag";
    assert_eq!(database.code(grouped, &[]), ErrorCode::SqlExecutionError);
    let compiled = database
        .engine
        .constant(&expr("9223372036854775807 + 1"), &alice(), &[]);
    assert_eq!(
        compiled.expect_err("no such number").code,
        ErrorCode::SqlExecutionError
    );
}

#[test]
fn whole_numbers_add_up() {
    let (database, _) = typed();
    for (sql, expected) in [
        ("SELECT n + 1 FROM typed", Value::BigInt(2_147_483_648)),
        ("SELECT -n FROM typed", Value::Int(-i32::MAX)),
        ("SELECT 2 * 3 - 10", Value::BigInt(-4)),
        ("SELECT n + NULL FROM typed", Value::Null),
        (
            "SELECT sum(n) FROM typed",
            Value::BigInt(i64::from(i32::MAX)),
        ),
        ("SELECT sum(n) FROM typed WHERE n = 0", Value::Null),
        (
            "SELECT sum(DISTINCT small) FROM typed",
            Value::BigInt(-32_768),
        ),
        (
            "SELECT sum(x) FROM (VALUES (9223372036854775807), (-1), (-9223372036854775806)) v(x)",
            Value::BigInt(0),
        ),
        (
            "SELECT sum(x) OVER (ORDER BY x ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) \
             FROM (VALUES (1), (2), (3)) v(x) ORDER BY x DESC LIMIT 1",
            Value::BigInt(5),
        ),
        ("SELECT sum(price) FROM typed", price(9_999_999)),
        (
            "SELECT n + count(*) FROM typed GROUP BY n",
            Value::BigInt(2_147_483_648),
        ),
        (
            "SELECT big - 1 FROM typed GROUP BY big - 1",
            Value::BigInt(i64::MAX - 1),
        ),
    ] {
        let rows = database
            .select(sql, &[])
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let mut found = rows.rows[0][0].clone();
        if let (Value::Decimal { unscaled, .. }, Value::Decimal { .. }) = (&found, &expected) {
            found = price(*unscaled);
        }
        assert_eq!(found, expected, "{sql}");
    }
}

#[test]
fn a_negative_parameter_may_have_a_sign_before_it() {
    let (database, _) = typed();
    for (param, expected) in [
        (Value::BigInt(-5), Value::BigInt(5)),
        (Value::BigInt(5), Value::BigInt(-5)),
    ] {
        assert_eq!(
            database
                .engine
                .constant(&expr("-$1"), &alice(), std::slice::from_ref(&param)),
            Ok(expected.clone())
        );
        let rows = database.select("SELECT -$1", &[param]).expect("-$1");
        assert_eq!(rows.rows, [[expected]]);
    }
    let smallest = [Value::BigInt(i64::MIN)];
    let rows = database.select("SELECT $1 + 0", &smallest).expect("$1 + 0");
    assert_eq!(rows.rows, [smallest]);
}

#[test]
fn columns_of_one_name_may_stand_beside_each_other() {
    let (database, _) = typed();
    for (sql, names) in [
        ("SELECT n, n FROM typed", vec!["n", "n"]),
        (
            "SELECT n, CAST(n AS TEXT) FROM typed",
            vec!["n", "CAST(n AS TEXT)"],
        ),
        ("SELECT NULL, NULL", vec!["NULL", "NULL"]),
        (
            "SELECT count(*), count(*) FROM typed",
            vec!["count(*)", "count(*)"],
        ),
        ("SELECT n AS x, big AS x FROM typed", vec!["x", "x"]),
        ("SELECT n, 0, 0 FROM typed ORDER BY n", vec!["n", "0", "0"]),
        ("SELECT DISTINCT n, n FROM typed ORDER BY n", vec!["n", "n"]),
        ("SELECT 0, 0 UNION ALL SELECT 1, 1", vec!["0", "0"]),
    ] {
        let rows = database
            .select(sql, &[])
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let found: Vec<&str> = rows.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(found, names, "{sql}");
        assert_eq!(rows.rows[0].len(), names.len(), "{sql}");
    }
    let all = database.select("SELECT *, n FROM typed", &[]).expect("all");
    assert_eq!(all.columns.len(), 10);
    assert_eq!(all.columns[9].name, "n");
    let ambiguous = "SELECT n FROM (SELECT n, n AS m FROM typed) x ORDER BY nothing";
    assert_eq!(database.code(ambiguous, &[]), ErrorCode::InvalidSql);
}

#[test]
fn checked_casts_group_and_order() {
    let (database, _) = typed();
    for sql in [
        "SELECT CAST('{}' AS JSON) FROM typed GROUP BY CAST('{}' AS JSON)",
        "SELECT CAST(CAST(j AS TEXT) AS JSON) AS x FROM typed GROUP BY CAST(CAST(j AS TEXT) AS JSON)",
        "SELECT CAST(j AS TEXT) FROM typed ORDER BY CAST(CAST(j AS TEXT) AS JSON)",
        "SELECT count(DISTINCT CAST('{}' AS JSON)), CAST('{}' AS JSON) AS k FROM typed GROUP BY k",
        "SELECT max(d + 0.5), n + 1 FROM typed GROUP BY n + 1 HAVING n + 1 > 0 ORDER BY n + 1",
    ] {
        let rows = database
            .select(sql, &[])
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(rows.rows.len(), 1, "{sql}");
    }
}

#[test]
fn floats_are_spelt_as_in_postgresql() {
    let (database, _) = typed();
    for (sql, expected) in [
        ("SELECT CAST(1e300 AS TEXT)", "1e+300"),
        ("SELECT CAST(d AS TEXT) FROM typed", "0.1"),
        ("SELECT CAST(CAST('NaN' AS DOUBLE) AS TEXT)", "NaN"),
        ("SELECT CAST(CAST('-inf' AS DOUBLE) AS TEXT)", "-Infinity"),
        ("SELECT d * 1e6 || '!' FROM typed", "100000!"),
        ("SELECT concat(1e-7, ';') ", "1e-07;"),
    ] {
        assert_eq!(database.rows(sql), [[text(expected)]], "{sql}");
    }
}

#[test]
fn functions_that_make_much_of_little_have_a_bound() {
    let (database, _) = typed();
    let doubled = "WITH a AS (SELECT repeat('x', 30000000) AS t), \
                   b AS (SELECT t || t AS t FROM a), c AS (SELECT t || t AS t FROM b) \
                   SELECT length(t) FROM c";
    for sql in [
        "SELECT repeat('x', 2000000000)",
        "SELECT length(repeat('x', 2000000000))",
        "SELECT lpad('x', 2000000000)",
        "SELECT rpad('x', 2000000000, 'yz')",
        "SELECT repeat(CAST(n AS TEXT), 1000000000) FROM typed",
        "SELECT length(replace(repeat('x', 50000000), 'x', 'yyyyyyyyyy'))",
        "SELECT length(concat(repeat('x', 30000000), repeat('y', 30000000), repeat('z', 30000000)))",
        doubled,
        "WITH a AS (SELECT repeat('x', 30000000) AS t) SELECT cardinality([t, t, t]) FROM a",
        "WITH a AS (SELECT [repeat('x', 30000000)] AS t) \
         SELECT cardinality(array_concat(t, t, t)) FROM a",
        "SELECT range(0, 1000000000)",
        "SELECT generate_series(0, 1000000000)",
        "SELECT array_repeat('x', 1000000000)",
    ] {
        let error = database.select(sql, &[]).expect_err(sql);
        assert!(
            matches!(
                error.code,
                ErrorCode::SqlExecutionError | ErrorCode::InvalidSql
            ),
            "{sql}: {error}"
        );
    }
    for (sql, expected) in [
        ("SELECT repeat('ab', 3)", text("ababab")),
        ("SELECT lpad('x', 3, '-')", text("--x")),
        ("SELECT replace('a-b', '-', '+')", text("a+b")),
        ("SELECT concat('a', NULL, 'b')", text("ab")),
        ("SELECT concat_ws('-', 'a', 'b')", text("a-b")),
        ("SELECT 'a' || NULL", Value::Null),
        ("SELECT 'a' || 1", text("a1")),
        ("SELECT repeat('x', -1)", text("")),
        (
            "SELECT array_concat([1, 2], [n - n]) FROM typed",
            Value::Json("[\"1\",\"2\",\"0\"]".to_owned()),
        ),
    ] {
        assert_eq!(database.rows(sql), [[expected]], "{sql}");
    }
}

#[test]
fn calculations_stand_wherever_expressions_do() {
    let (database, _) = typed();
    for (sql, rows) in [
        ("SELECT small + 1 FROM typed GROUP BY ROLLUP (small + 1)", 2),
        (
            "SELECT count(*) FROM typed GROUP BY GROUPING SETS ((small + 1), (d + 0.5), ())",
            3,
        ),
        (
            "SELECT * FROM generate_series(1, 10) LIMIT 2 + 3 OFFSET 1 + 1",
            5,
        ),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 5) \
             SELECT i FROM r",
            5,
        ),
        (
            "SELECT a.n FROM typed a JOIN typed b ON a.small + 1 = b.small + 1 AND a.d = 0.1",
            1,
        ),
        (
            "SELECT n FROM typed a WHERE small + 1 = \
             (SELECT max(b.small + 1) FROM typed b WHERE b.big = a.big - 0)",
            1,
        ),
        (
            "SELECT sum(small + 1) OVER (PARTITION BY small + 1 ORDER BY d + 0.5) FROM typed",
            1,
        ),
        (
            "SELECT DISTINCT small - 1 AS x FROM typed ORDER BY x + 1",
            1,
        ),
        (
            "SELECT price FROM typed UNION SELECT 1.5 UNION SELECT small + 1 FROM typed",
            3,
        ),
        ("SELECT n FROM typed WHERE EXISTS (SELECT 1 + 1)", 1),
        (
            "SELECT 'a' || n || 'b' || d FROM typed GROUP BY 'a' || n || 'b' || d",
            1,
        ),
    ] {
        let answer = database
            .select(sql, &[])
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(answer.rows.len(), rows, "{sql}");
    }
}
