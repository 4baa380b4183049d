//! BEGIN … COMMIT: statements see those before them, and become one Envelope that holds.

use types::ErrorCode;
use types::command::CommandKind;

use super::fixture::{Database, assert_error};

fn shared() -> Database {
    let database = Database::new();
    database.ok("root", "CREATE NAMESPACE demo");
    database.ok(
        "root",
        "CREATE TABLE demo.t (id INT PRIMARY KEY, email TEXT UNIQUE)",
    );
    database.ok("root", "CREATE TOPIC demo.e");
    database.ok("root", "INSERT INTO demo.t VALUES (1, 'a'), (2, 'b')");
    database
}

#[test]
fn statements_see_those_before_them() {
    for (inner, rows) in [
        (
            "INSERT INTO t VALUES (3, 'c'); UPDATE t SET email = 'cc' WHERE id = 3",
            "1|a 2|b 3|cc",
        ),
        (
            "INSERT INTO t VALUES (3, 'c'); DELETE FROM t WHERE id = 3",
            "1|a 2|b",
        ),
        (
            "DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 'a')",
            "1|a 2|b",
        ),
        (
            "DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (9, 'a')",
            "2|b 9|a",
        ),
        (
            "UPDATE t SET email = 'x' WHERE id = 1; INSERT INTO t VALUES (9, 'a')",
            "1|x 2|b 9|a",
        ),
        (
            "UPDATE t SET id = 5 WHERE id = 1; INSERT INTO t VALUES (1, 'z')",
            "1|z 2|b 5|a",
        ),
        (
            "UPDATE t SET email = 'x' WHERE id = 1; UPDATE t SET email = 'y' WHERE id = 1",
            "1|y 2|b",
        ),
        (
            "DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 'q') ON CONFLICT DO NOTHING",
            "1|q 2|b",
        ),
        (
            "INSERT INTO t VALUES (3, 'c'); INSERT INTO t VALUES (3, 'd') ON CONFLICT DO NOTHING;
             INSERT INTO t VALUES (3, 'd'), (4, 'd') ON CONFLICT (id) DO NOTHING",
            "1|a 2|b 3|c 4|d",
        ),
        (
            "DROP TABLE t; CREATE TABLE t (id INT PRIMARY KEY, email TEXT UNIQUE);
          INSERT INTO t VALUES (7, 'a')",
            "7|a",
        ),
    ] {
        let database = shared();
        database.ok("root", &format!("BEGIN; {inner}; COMMIT"));
        let found = database.texts("root", "SELECT id, email FROM t ORDER BY id");
        assert_eq!(found.join(" "), rows, "{inner}");
    }
}

#[test]
fn a_table_can_be_made_filled_and_routed_at_once() {
    let database = Database::new();
    database.ok(
        "root",
        "BEGIN; CREATE NAMESPACE demo; CREATE TABLE demo.t (id INT PRIMARY KEY); \
         CREATE TABLE demo.u (id INT PRIMARY KEY); CREATE TOPIC demo.e; \
         ALTER TOPIC demo.e ADD SOURCE t ON INSERT WHERE id > 1; \
         INSERT INTO demo.t VALUES (1), (2); SELECT * FROM demo.t; COMMIT",
    );
    assert_eq!(database.told_keys(), ["insert 2"]);
    assert_eq!(
        database.texts("root", "SELECT id FROM demo.t ORDER BY id"),
        ["1", "2"]
    );
    // What was cached while the transaction was open is not what another one sees.
    database.ok(
        "root",
        "BEGIN; DROP TABLE demo.u; CREATE TABLE demo.u (x TEXT PRIMARY KEY); COMMIT",
    );
    database.ok("root", "INSERT INTO demo.u VALUES ('x')");
}

#[test]
fn an_error_leaves_nothing() {
    let database = shared();
    let error = database.refused(
        "root",
        "BEGIN; INSERT INTO t VALUES (3, 'c'), (4, 'a'); COMMIT",
    );
    assert_error(&error, ErrorCode::UniqueViolation, "(email) = (a)");
    let error = database.refused(
        "root",
        "BEGIN; INSERT INTO t VALUES (3, 'c'); INSERT INTO t VALUES (3, 'd'); COMMIT",
    );
    assert_error(&error, ErrorCode::UniqueViolation, "(id) = (3)");
}

#[test]
fn acks_are_strict_inside() {
    let database = shared();
    database.ok(
        "root",
        "BEGIN; INSERT INTO t VALUES (3, 'c'); ACK e GROUP 'g' LEASE 'l' OFFSETS (4, 5); \
         NACK e GROUP 'g' LEASE 'l' OFFSETS (6) DELAY 10; COMMIT; \
         ACK e GROUP 'g' UPTO OFFSET 3",
    );
    let others = database.others();
    let [
        CommandKind::Ack(by_lease),
        CommandKind::Nack(nack),
        CommandKind::Ack(upto),
    ] = others.as_slice()
    else {
        panic!("{others:?}");
    };
    assert!(by_lease.strict && nack.strict && !upto.strict);
    assert_eq!(
        (by_lease.lease_id.as_str(), by_lease.offsets.as_slice()),
        ("l", &[4, 5][..])
    );
    assert_eq!((nack.offsets.as_slice(), nack.delay_ms), (&[6][..], 10));
    assert_eq!(
        (upto.upto_offset, upto.partition, upto.group.as_str()),
        (Some(3), 0, "g")
    );
}
