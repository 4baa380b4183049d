//! What is refused, with what message, where.

use types::ErrorCode;

use crate::parse::parse;

/// Text, line and column (1-based), and a part of the message.
const BAD: &[(&str, (u64, u64), &str)] = &[
    ("SELEC 1", (1, 1), "unknown statement SELEC"),
    ("SELECT 1 FROM", (1, 14), "found the end"),
    ("SELECT 1; SELEC 2", (1, 11), "unknown statement"),
    ("SELECT 1\nSELECT 2", (2, 1), "expected"),
    ("'text'", (1, 1), "expected a statement"),
    ("SELECT 'open", (1, 8), "Unterminated"),
    ("SELECT * FROM t FOR UPDATE", (1, 1), "FOR UPDATE"),
    ("SELECT 1 INTO x", (1, 1), "SELECT INTO"),
    (
        "WITH x AS (SELECT 1) INSERT INTO t VALUES (1)",
        (1, 1),
        "INSERT",
    ),
    ("CREATE TABEL t (a INT)", (1, 8), "expected NAMESPACE"),
    ("CREATE TABLE t", (1, 15), "expected (, found the end"),
    ("CREATE TABLE t (a INTT)", (1, 19), "there is no type INTT"),
    ("CREATE TABLE t (a INT, a TEXT)", (1, 24), "given twice"),
    ("CREATE TABLE t (a VARCHAR(10))", (1, 26), "no length"),
    (
        "CREATE TABLE t (a DECIMAL)",
        (1, 26),
        "DECIMAL(precision, scale)",
    ),
    (
        "CREATE TABLE t (a DECIMAL(39,2))",
        (1, 26),
        "precision is 1 to 38",
    ),
    ("CREATE TABLE t (a DECIMAL(5,6))", (1, 26), "the scale 0 to"),
    ("CREATE TABLE t (a INT NOT NUL)", (1, 23), "expected"),
    (
        "CREATE TABLE t (a INT PRIMARY KEY, PRIMARY KEY (a))",
        (1, 36),
        "one PRIMARY KEY",
    ),
    (
        "CREATE TABLE t (a INT NULL NOT NULL)",
        (1, 28),
        "contradict",
    ),
    (
        "CREATE TABLE t (a INT DEFAULT random())",
        (1, 31),
        "DEFAULT takes",
    ),
    (
        "CREATE TABLE t (a INT DEFAULT $1)",
        (1, 31),
        "DEFAULT takes",
    ),
    (
        "CREATE TABLE t (a INT CHECK (a > 1))",
        (1, 23),
        "CHECK is not supported",
    ),
    (
        "CREATE TABLE t (a INT REFERENCES u)",
        (1, 23),
        "REFERENCES is not supported",
    ),
    (
        "CREATE TABLE t (a INT) WITH (FOO = 1)",
        (1, 30),
        "unknown option foo",
    ),
    (
        "CREATE TABLE t (a INT) WITH (TYPE='USER', TYPE='USER')",
        (1, 43),
        "given twice",
    ),
    (
        "CREATE TABLE t (a INT) WITH (TYPE='PRIVATE')",
        (1, 30),
        "'USER', 'SHARED' or 'STREAM'",
    ),
    (
        "CREATE USER TABLE t (a INT) WITH (TYPE='SHARED')",
        (1, 29),
        "the statement USER",
    ),
    (
        "CREATE STREAM TABLE t (a INT)",
        (1, 30),
        "not supported yet",
    ),
    (
        "CREATE TABLE t (a INT) WIT (TYPE='USER')",
        (1, 24),
        "expected ; or the end",
    ),
    ("CREATE TABLE a.b.c (a INT)", (1, 17), "at most two parts"),
    ("CREATE TABLE select (a INT)", (1, 14), "reserved word"),
    ("CREATE INDEX ON t (a)", (1, 14), "reserved word"),
    ("CREATE INDEX i ON t (a) WHERE a > 1", (1, 25), "all rows"),
    ("CREATE INDEX i ON t ()", (1, 22), "expected a column"),
    ("DROP INDEX", (1, 11), "expected an index"),
    ("ALTER TABLE t", (1, 14), "expected ADD"),
    (
        "ALTER TABLE t ADD COLUMN b INT UNIQUE",
        (1, 26),
        "CREATE UNIQUE INDEX",
    ),
    ("ALTER TABLE t ADD b INT, ADD c INT", (1, 24), "one change"),
    ("ALTER TABLE t ALTER b SET", (1, 23), "expected SET DEFAULT"),
    ("ALTER TABLE t RENAME TO u", (1, 22), "cannot be renamed"),
    ("CREATE NAMESPACE IF EXISTS n", (1, 21), "expected NOT"),
    ("DROP VIEW v", (1, 6), "expected NAMESPACE"),
    ("INSERT t VALUES (1)", (1, 8), "expected INTO"),
    ("INSERT INTO t (a, a) VALUES (1, 2)", (1, 19), "given twice"),
    (
        "INSERT INTO t (a) VALUES (1, 2)",
        (1, 19),
        "2 value(s) instead of 1",
    ),
    (
        "INSERT INTO t VALUES (1), (1, 2)",
        (1, 15),
        "row 2 has 2 value(s)",
    ),
    (
        "INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1",
        (1, 38),
        "needs the columns",
    ),
    (
        "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1",
        (1, 29),
        "expected CONFLICT",
    ),
    ("UPDATE t SET a = 1, a = 2", (1, 21), "set twice"),
    ("UPDATE t SET a 1", (1, 16), "expected ="),
    (
        "UPDATE t SET a = 1 WHER b = 2",
        (1, 20),
        "expected ; or the end",
    ),
    ("UPDATE t SET a = 1 FROM u", (1, 20), "not supported yet"),
    ("DELETE t", (1, 8), "expected FROM"),
    ("DELETE FROM t LIMIT 1", (1, 15), "expected ; or the end"),
    (
        "EXECUTE AS USER 'u' (DROP TABLE t)",
        (1, 22),
        "SELECT, INSERT, UPDATE or DELETE",
    ),
    (
        "EXECUTE AS USER 'u' (EXECUTE AS USER 'v' (SELECT 1))",
        (1, 22),
        "SELECT, INSERT",
    ),
    ("EXECUTE AS USER 'u' SELECT 1", (1, 21), "expected ("),
    (
        "EXECUTE AS USER 'u' (SELECT 1; SELECT 2)",
        (1, 32),
        "expected )",
    ),
    ("CREATE USER u WITH PASSWORD p", (1, 29), "in single quotes"),
    (
        "CREATE USER u WITH PASSWORD 'p' ROLE 'admin'",
        (1, 38),
        "there is no role admin",
    ),
    (
        "ALTER USER u SET NAME 'x'",
        (1, 18),
        "PASSWORD, ROLE or EMAIL",
    ),
    ("CREATE TOPIC t PARTITIONS -1", (1, 27), "whole number"),
    (
        "CREATE TOPIC t WITH (retention_second = 1)",
        (1, 22),
        "unknown option",
    ),
    (
        "CREATE TOPIC t WITH (retention_seconds = 0)",
        (1, 22),
        "whole number from 1",
    ),
    (
        "ALTER TOPIC t ADD SOURCE u ON TRUNCATE",
        (1, 31),
        "INSERT, UPDATE or DELETE",
    ),
    (
        "ALTER TOPIC t ADD SOURCE u ON INSERT WITH (payload = 'all')",
        (1, 44),
        "'full', 'key'",
    ),
    ("ALTER TOPIC t SET RETENTION", (1, 28), "expected WITH"),
    ("CONSUME FROM t LIMIT 10001", (1, 22), "LIMIT is 1 to 10000"),
    ("CONSUME FROM t LIMIT 0", (1, 22), "LIMIT is 1 to 10000"),
    ("CONSUME FROM t FROM -1", (1, 21), "EARLIEST, LATEST"),
    (
        "CONSUME FROM t LIMIT 1 LIMIT 2",
        (1, 24),
        "expected ; or the end",
    ),
    ("ACK t GROUP 'g'", (1, 16), "UPTO OFFSET or LEASE"),
    (
        "ACK t GROUP 'g' UPTO OFFSET 99999999999999999999",
        (1, 29),
        "out of range",
    ),
    ("NACK t GROUP 'g' UPTO OFFSET 1", (1, 18), "expected LEASE"),
    (
        "RESET CONSUMER GROUP 'g' ON t TO TIMESTAMP 'yesterday'",
        (1, 44),
        "RFC 3339",
    ),
    (
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        (1, 7),
        "expected ; or the end",
    ),
    ("ROLLBACK TO SAVEPOINT s", (1, 10), "savepoints"),
    ("SHOW COLUMNS", (1, 6), "NAMESPACES or TABLES"),
    ("EXPLAIN CREATE TABLE t (a INT)", (1, 9), "expected SELECT"),
];

#[test]
fn each_with_its_position() {
    for (text, position, part) in BAD {
        let error = parse(text).expect_err(text);
        assert_eq!(error.code, ErrorCode::InvalidSql, "{text}: {error}");
        assert!(error.message.contains(part), "{text}: {error}");
        assert_eq!(error.details.position, Some(*position), "{text}: {error}");
    }
}

#[test]
fn a_number_out_of_its_bounds_is_bad_input() {
    for text in [
        "CREATE TOPIC t PARTITIONS 0",
        "CREATE TOPIC t PARTITIONS 1025",
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.code, ErrorCode::InvalidInput, "{text}: {error}");
        assert!(error.message.contains("1 to 1024"), "{text}: {error}");
        assert_eq!(error.details.position, Some((1, 27)), "{text}: {error}");
    }
}

#[test]
fn nothing_is_empty() {
    for text in ["", "  \n", ";;", "-- only a comment", "/* ; */"] {
        assert_eq!(
            parse(text).expect_err(text).code,
            ErrorCode::EmptySql,
            "{text:?}"
        );
    }
}

#[test]
fn bounds_of_a_request() {
    let long = format!("SELECT '{}'", "x".repeat(types::limits::SQL_MAX_BYTES));
    assert_eq!(parse(&long).expect_err("long").code, ErrorCode::InvalidSql);
    let many = "SELECT 1;".repeat(types::limits::STATEMENTS_MAX + 1);
    let error = parse(&many).expect_err("many");
    assert_eq!(error.code, ErrorCode::InvalidSql);
    assert!(
        error.message.contains("more than 1000 statements"),
        "{error}"
    );
}
