use super::*;

fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap()
}

fn error() -> Error {
    Error::new(ErrorCode::UniqueViolation, "key exists")
}

#[test]
fn sql_shape() {
    assert_eq!(
        text(&sql_error(&error(), 0.5)),
        concat!(
            r#"{"status":"error","results":[],"took":0.5,"error":{"code":"UNIQUE_VIOLATION","#,
            r#""message":"key exists","retryable":false,"maybe_applied":false}}"#
        )
    );
    assert_eq!(
        text(
            &sql_error(&error().at_statement(2).at_position(1, 7), 0.5)
                .error
                .unwrap()
        ),
        concat!(
            r#"{"code":"UNIQUE_VIOLATION","message":"key exists","details":{"statement":2,"#,
            r#""line":1,"column":7},"retryable":false,"maybe_applied":false}"#
        )
    );
    assert_eq!(
        text(
            &sql_error(&Error::offset_out_of_range(9, 2, 5), 0.5)
                .error
                .unwrap()
                .details
        ),
        r#"{"earliest":2,"latest":5}"#
    );
}

#[test]
fn topic_shape() {
    assert_eq!(
        text(&topic_error(&Error::new(ErrorCode::NotFound, "no topic t"))),
        r#"{"error":"no topic t","code":"NOT_FOUND","retryable":false,"maybe_applied":false}"#
    );
    assert_eq!(
        text(&topic_error(&Error::offset_out_of_range(9, 2, 5))),
        concat!(
            r#"{"error":"offset 9 is outside the readable range 2..=5","#,
            r#""code":"OFFSET_OUT_OF_RANGE","retryable":false,"maybe_applied":false,"#,
            r#""earliest":2,"latest":5}"#
        )
    );
    let unknown = Error::new(ErrorCode::DeadlineExceeded, "late").maybe_applied();
    assert_eq!(
        text(&topic_error(&unknown)),
        r#"{"error":"late","code":"DEADLINE_EXCEEDED","retryable":true,"maybe_applied":true}"#
    );
}

#[test]
fn auth_shape() {
    let wrong = Error::new(ErrorCode::InvalidCredentials, "wrong password");
    assert_eq!(
        text(&auth_error(&wrong)),
        concat!(
            r#"{"error":"unauthorized","message":"wrong password","code":"INVALID_CREDENTIALS","#,
            r#""retryable":false,"maybe_applied":false}"#
        )
    );
}

#[test]
fn every_code_has_a_word_on_auth_routes() {
    for code in ErrorCode::ALL {
        let body = auth_error(&Error::new(code, "x"));
        assert!(!body.error.is_empty() && body.code == code.as_str());
    }
}

#[test]
fn all_three_shapes_are_read_back() {
    let error = Error::new(ErrorCode::Overloaded, "busy")
        .maybe_applied()
        .at_statement(1);
    let bodies = [
        text(&sql_error(&error, 1.0)),
        text(&topic_error(&error)),
        text(&auth_error(&error)),
    ];
    for body in &bodies {
        let read = ReceivedError::read(503, body.as_bytes());
        assert_eq!(read.known_code(), Some(ErrorCode::Overloaded), "{body}");
        assert_eq!(read.message, "busy", "{body}");
        assert!(read.retryable && read.maybe_applied, "{body}");
    }
    let read = ReceivedError::read(503, bodies[0].as_bytes());
    assert_eq!(read.details.statement, Some(1));
    assert_eq!(read.to_string(), "OVERLOADED: busy (statement 1)");
}

#[test]
fn a_foreign_body_leaves_a_5xx_unknown() {
    let read = ReceivedError::read(502, b"<html>Bad Gateway</html>");
    assert!(read.maybe_applied && !read.retryable && read.known_code().is_none());
    assert!(!ReceivedError::read(404, b"not found").maybe_applied);
    assert_eq!(read.to_string(), "HTTP 502: <html>Bad Gateway</html>");
}

#[test]
fn a_code_of_a_later_version_keeps_its_spelling() {
    let body = br#"{"error":"x","code":"NEW_CODE","retryable":true,"maybe_applied":false}"#;
    let read = ReceivedError::read(400, body);
    assert_eq!((read.code.as_str(), read.known_code()), ("NEW_CODE", None));
    assert!(read.retryable);
}
