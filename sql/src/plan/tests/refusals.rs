//! The seed flow's bad input and its like: a code, a message, and nothing changes.

use types::ErrorCode;
use types::value::Value;

use super::fixture::{Database, assert_error};

#[test]
fn each_has_its_code() {
    let database = Database::seeded();
    for (text, code, part) in [
        ("SELEC 1", ErrorCode::InvalidSql, "SELEC"),
        (
            "SELECT * FROM demo.nope",
            ErrorCode::TableNotFound,
            "demo.nope",
        ),
        ("SELECT * FROM nope.nope", ErrorCode::TableNotFound, "nope"),
        (
            "INSERT INTO demo.nope VALUES (1)",
            ErrorCode::TableNotFound,
            "demo.nope",
        ),
        (
            "INSERT INTO nope.messages VALUES (1)",
            ErrorCode::TableNotFound,
            "nope.messages",
        ),
        (
            "UPDATE demo.nope SET a = 1",
            ErrorCode::TableNotFound,
            "demo.nope",
        ),
        (
            "DELETE FROM demo.nope",
            ErrorCode::TableNotFound,
            "demo.nope",
        ),
        (
            "INSERT INTO demo.messages (author) VALUES ('x')",
            ErrorCode::NotNullViolation,
            "\"msg\"",
        ),
        (
            "INSERT INTO demo.messages (nope) VALUES ('x')",
            ErrorCode::InvalidSql,
            "\"nope\"",
        ),
        (
            "INSERT INTO demo.messages VALUES (1, 2, 3, 4, 5, 6)",
            ErrorCode::InvalidSql,
            "6 value(s)",
        ),
        (
            "INSERT INTO demo.messages (author, msg) SELECT 1",
            ErrorCode::InvalidSql,
            "1 value(s)",
        ),
        (
            "DELETE FROM demo.messages WHERE nope = 1",
            ErrorCode::InvalidSql,
            "nope",
        ),
        (
            "DELETE FROM demo.messages WHERE msg",
            ErrorCode::InvalidSql,
            "BOOLEAN",
        ),
        (
            "DELETE FROM demo.messages RETURNING nope",
            ErrorCode::InvalidSql,
            "nope",
        ),
        (
            "CREATE TABLE nope.t (a INT PRIMARY KEY)",
            ErrorCode::TableNotFound,
            "namespace nope",
        ),
        (
            "CREATE TOPIC nope.t",
            ErrorCode::TableNotFound,
            "namespace nope",
        ),
        (
            "ALTER TOPIC demo.nope CLEAR RETENTION",
            ErrorCode::TableNotFound,
            "topic demo.nope",
        ),
        (
            "ALTER TOPIC demo.message_events ADD SOURCE nope ON INSERT",
            ErrorCode::TableNotFound,
            "table demo.nope",
        ),
        (
            "ACK demo.nope GROUP 'g' UPTO OFFSET 1",
            ErrorCode::TableNotFound,
            "topic demo.nope",
        ),
        (
            "INSERT INTO demo.messages (author, msg, attachment) VALUES ('a', 'b', FILE('x'))",
            ErrorCode::InvalidInput,
            "FILE",
        ),
    ] {
        assert_error(&database.refused("root", text), code, part);
    }
}

#[test]
fn ddl_takes_no_parameters() {
    let database = Database::seeded();
    let error = database
        .run_with("root", "CREATE NAMESPACE x", &[Value::Null])
        .unwrap_err();
    assert_error(&error, ErrorCode::InvalidParameter, "0 parameter(s)");
}
