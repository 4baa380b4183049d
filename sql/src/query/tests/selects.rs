//! SELECT in full, and its errors.

use std::sync::Arc;

use types::ErrorCode;
use types::schema::{AccessLevel, Role, TableKind};
use types::value::{DataType, Value};

use super::fixture::{Database, chat, column, query, run, session, text};
use crate::query::{Keep, Meant};

fn ints(database: &Database, sql: &str) -> Vec<i64> {
    let rows = database.rows(sql);
    rows.iter()
        .map(|row| match row.as_slice() {
            [Value::BigInt(v)] => *v,
            [Value::Int(v)] => i64::from(*v),
            other => panic!("{sql}: {other:?}"),
        })
        .collect()
}

#[test]
fn owners_see_their_own_rows() {
    let (database, ..) = chat();
    assert_eq!(ints(&database, "SELECT id FROM messages"), [1, 2, 3, 4]);
    let bert = session("bert", Role::User);
    let rows = database
        .select_as(&bert, "SELECT msg FROM demo.messages", &[])
        .expect("rows");
    assert_eq!(rows.rows, [[text("bert's")]]);
    let mut as_alice = session("root", Role::System);
    let own = database
        .select_as(&as_alice, "SELECT * FROM demo.messages", &[])
        .expect("rows");
    assert!(own.rows.is_empty(), "{own:?}");
    as_alice.effective_user = "alice";
    let hers = database
        .select_as(&as_alice, "SELECT id FROM demo.messages", &[])
        .expect("rows");
    assert_eq!(hers.rows.len(), 4);
    let shared = database.select_as(&as_alice, "SELECT * FROM demo.authors", &[]);
    assert_eq!(
        shared.expect_err("not as another user").code,
        ErrorCode::PermissionDenied
    );
}

#[test]
fn joins_groups_orders_and_limits() {
    let (database, ..) = chat();
    let rows = database.rows(
        "SELECT a.name, count(*) AS n FROM messages m JOIN authors a ON a.name = m.author \
         GROUP BY a.name ORDER BY n DESC, a.name",
    );
    assert_eq!(
        rows,
        [
            [text("ann"), Value::BigInt(2)],
            [text("bob"), Value::BigInt(1)]
        ]
    );
    let rows = database.rows(
        "SELECT m.author, a.age FROM messages m LEFT JOIN authors a ON a.name = m.author \
         ORDER BY m.id DESC LIMIT 1",
    );
    assert_eq!(rows, [[text("dan"), Value::Null]]);
    assert_eq!(
        ints(
            &database,
            "SELECT id FROM messages ORDER BY id LIMIT 2 OFFSET 1"
        ),
        [2, 3]
    );
    assert_eq!(
        ints(
            &database,
            "SELECT id FROM messages ORDER BY msg NULLS FIRST, id"
        ),
        [3, 4, 1, 2]
    );
    assert_eq!(
        ints(&database, "SELECT DISTINCT length(author) FROM messages"),
        [3]
    );
    assert_eq!(
        ints(&database, "SELECT id FROM messages WHERE msg IS NULL"),
        [3]
    );
    assert_eq!(
        ints(&database, "SELECT id FROM messages WHERE author LIKE 'b%'"),
        [2]
    );
}

#[test]
fn subqueries_ctes_sets_and_windows() {
    let (database, ..) = chat();
    let by_age =
        "SELECT id FROM messages WHERE author IN (SELECT name FROM authors WHERE age > 35)";
    assert_eq!(ints(&database, by_age), [2]);
    let correlated = "SELECT id FROM messages m WHERE NOT EXISTS \
                      (SELECT 1 FROM authors a WHERE a.name = m.author)";
    assert_eq!(ints(&database, correlated), [4]);
    let cte = "WITH old AS (SELECT name FROM authors WHERE age >= 40) SELECT count(*) FROM old";
    assert_eq!(ints(&database, cte), [2]);
    let recursive = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4) \
                     SELECT sum(i) FROM n";
    assert_eq!(ints(&database, recursive), [10]);
    assert_eq!(
        ints(&database, "SELECT 2 AS n UNION ALL SELECT 1 ORDER BY n"),
        [1, 2]
    );
    assert_eq!(ints(&database, "VALUES (1), (2)"), [1, 2]);
    let window = "SELECT row_number() OVER (ORDER BY id DESC) FROM messages WHERE id = 4";
    assert_eq!(ints(&database, window), [1]);
    let scalar = "SELECT (SELECT max(age) FROM authors)";
    assert_eq!(ints(&database, scalar), [50]);
}

#[test]
fn parameters_are_literals() {
    let (database, ..) = chat();
    let one = |sql: &str, params: &[Value]| database.select(sql, params).expect(sql).rows;
    let by_author = "SELECT id FROM messages WHERE author = $1 AND id > $2 ORDER BY id LIMIT $3";
    let params = [text("ann"), Value::BigInt(1), Value::BigInt(5)];
    assert_eq!(one(by_author, &params), [[Value::BigInt(3)]]);
    assert_eq!(one("SELECT $1", &[text("it's")]), [[text("it's")]]);
    assert_eq!(
        one("SELECT $1", &[Value::Double(5.0)]),
        [[Value::Double(5.0)]]
    );
    assert_eq!(
        one("SELECT $1 + 1", &[Value::BigInt(-5)]),
        [[Value::BigInt(-4)]]
    );
    assert_eq!(
        one("SELECT 1 - $1", &[Value::BigInt(-5)]),
        [[Value::BigInt(6)]]
    );
    assert_eq!(
        one("SELECT $1", &[Value::Boolean(true)]),
        [[Value::Boolean(true)]]
    );
    assert_eq!(one("SELECT $1", &[Value::Null]), [[Value::Null]]);
    assert_eq!(
        one("SELECT id FROM messages WHERE id = $1", &[Value::Null]),
        [[]; 0] as [[Value; 0]; 0]
    );
    for (sql, params) in [
        ("SELECT $1", vec![]),
        ("SELECT $2", vec![Value::Null]),
        ("SELECT 1", vec![Value::Null]),
        ("SELECT $1", vec![Value::Null, Value::Null]),
        ("SELECT $0", vec![]),
        (
            "SELECT id FROM messages WHERE id = $2",
            vec![Value::BigInt(1)],
        ),
        (
            "SELECT id FROM messages WHERE id = 1",
            vec![Value::BigInt(1)],
        ),
    ] {
        assert_eq!(
            database.code(sql, &params),
            ErrorCode::InvalidParameter,
            "{sql}"
        );
    }
}

#[test]
fn errors_have_their_codes_and_plain_messages() {
    let (database, ..) = chat();
    for (sql, code) in [
        ("SELECT * FROM nothing", ErrorCode::TableNotFound),
        ("SELECT * FROM nowhere.messages", ErrorCode::TableNotFound),
        ("SELECT * FROM a.demo.messages", ErrorCode::TableNotFound),
        ("SELECT * FROM system.secrets", ErrorCode::TableNotFound),
        (
            "SELECT * FROM information_schema.tables",
            ErrorCode::TableNotFound,
        ),
        ("SELECT nothing FROM messages", ErrorCode::InvalidSql),
        ("SELECT nothing(1)", ErrorCode::InvalidSql),
        (
            "SELECT author, count(*) FROM messages",
            ErrorCode::InvalidSql,
        ),
        ("SELECT id FROM messages FOR UPDATE", ErrorCode::InvalidSql),
        ("SELECT 1 INTO t2", ErrorCode::InvalidSql),
        (
            "SELECT m.id FROM messages m JOIN messages m2 ON id = 1",
            ErrorCode::InvalidSql,
        ),
        ("SELECT 1 / 0", ErrorCode::SqlExecutionError),
        (
            "SELECT id / (id - 1) FROM messages",
            ErrorCode::SqlExecutionError,
        ),
        (
            "SELECT CAST(author AS INT) FROM messages",
            ErrorCode::SqlExecutionError,
        ),
        ("SELECT CAST('x' AS UUID)", ErrorCode::TypeMismatch),
        (
            "SELECT CAST(author AS JSON) FROM messages",
            ErrorCode::TypeMismatch,
        ),
        (
            "SELECT id FROM messages WHERE id + 'x' = 1",
            ErrorCode::InvalidSql,
        ),
    ] {
        let error = database.select(sql, &[]).expect_err(sql);
        assert_eq!(error.code, code, "{sql}: {error}");
        for leak in [
            "DataFusion",
            "datafusion",
            "Error during planning",
            "backtrace",
            "Arrow",
        ] {
            assert!(!error.message.contains(leak), "{sql}: {error}");
        }
    }
}

#[test]
fn results_have_bounds() {
    let (database, ..) = chat();
    let many = "SELECT * FROM generate_series(1, 1000001)";
    assert_eq!(database.code(many, &[]), ErrorCode::SqlExecutionError);
    let wide = "SELECT repeat('x', 1000000) FROM generate_series(1, 100)";
    assert_eq!(database.code(wide, &[]), ErrorCode::SqlExecutionError);
    let sorted = "SELECT sum(length(s)) FROM (SELECT concat(repeat('x', 5000), i) AS s \
                  FROM generate_series(1, 200000) AS g(i) ORDER BY s LIMIT 199999)";
    let error = database
        .select(sorted, &[])
        .expect_err("a gigabyte to sort");
    assert_eq!(error.code, ErrorCode::SqlExecutionError);
    assert!(error.message.contains("memory"), "{error}");
}

#[test]
fn access_levels_hold() {
    let (database, mut authors, _) = chat();
    let may = |access: AccessLevel, role: Role| {
        let mut table = authors.clone();
        table.access = access;
        database.define(&table);
        [
            "SELECT * FROM authors",
            "SELECT age FROM authors WHERE name = 'ann'",
        ]
        .map(
            |sql| match database.select_as(&session("someone", role), sql, &[]) {
                Ok(_) => true,
                Err(error) => {
                    assert_eq!(error.code, ErrorCode::PermissionDenied);
                    false
                }
            },
        )
    };
    assert_eq!(may(AccessLevel::Public, Role::User), [true; 2]);
    assert_eq!(may(AccessLevel::Private, Role::User), [false; 2]);
    assert_eq!(may(AccessLevel::Private, Role::Service), [true; 2]);
    assert_eq!(may(AccessLevel::Restricted, Role::User), [false; 2]);
    assert_eq!(may(AccessLevel::Dba, Role::Service), [false; 2]);
    assert_eq!(may(AccessLevel::Dba, Role::Dba), [true; 2]);
    authors.access = AccessLevel::Public;
    database.define(&authors);
}

#[test]
fn expressions_may_be_long() {
    // Planning recurses with the expression; the server's threads have a stack of this size.
    std::thread::Builder::new()
        .stack_size(256 << 20)
        .spawn(long_expressions)
        .expect("a thread starts")
        .join()
        .expect("none of them overflows");
}

fn long_expressions() {
    let (database, ..) = chat();
    let sum = vec!["1"; 2_000].join(" + ");
    assert_eq!(ints(&database, &format!("SELECT {sum}")), [2_000]);
    let any: Vec<String> = (0..2_000).map(|i| format!("id = {i}")).collect();
    let sql = format!("SELECT id FROM messages WHERE {}", any.join(" OR "));
    assert_eq!(ints(&database, &sql), [1, 2, 3, 4]);
    let list: Vec<String> = (0..5_000).map(|i| i.to_string()).collect();
    let sql = format!("SELECT id FROM messages WHERE id IN ({})", list.join(","));
    assert_eq!(ints(&database, &sql), [1, 2, 3, 4]);
}

#[test]
fn a_query_ends_when_it_is_dropped() {
    let (database, ..) = chat();
    let endless = query("SELECT count(*) FROM generate_series(1, 100000000000) a(i) WHERE i < 0");
    let engine = database.engine.clone();
    let snapshot = database.snapshot();
    let held = Arc::downgrade(&snapshot);
    let out = run(async {
        let session = super::fixture::alice();
        let running = engine.select(snapshot, &endless, &session, &[]);
        let other = async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        };
        // Both are polled by one thread: the query gives way, or this never returns.
        tokio::select! {
            biased;
            _ = running => panic!("it ended"),
            () = other => Ok(()),
        }
    });
    assert_eq!(out, Ok(()));
    assert!(
        held.upgrade().is_none(),
        "the dropped query still holds its snapshot"
    );
}

#[test]
fn rows_older_than_a_column_read_as_its_default() {
    let database = Database::new();
    let key = column(1, "id", DataType::BigInt);
    let mut table = database.table(5, "grown", TableKind::Shared, vec![key]);
    database.insert(&table, None, &[Value::BigInt(1)]);
    table.schema_version = 2;
    let mut added = column(3, "level", DataType::Int);
    let with_value = types::row::encode(0, [(3, &Value::Int(7))]);
    added.missing = Some(with_value[4..].to_vec());
    table.columns.insert(0, added);
    table.columns.push(column(2, "note", DataType::Text));
    database.define(&table);
    database.insert(&table, None, &[Value::Null, Value::BigInt(2), text("new")]);
    let expected = [
        [Value::Int(7), Value::BigInt(1), Value::Null],
        [Value::Null, Value::BigInt(2), text("new")],
    ];
    assert_eq!(database.rows("SELECT * FROM grown"), expected);
    assert_eq!(
        database.rows("SELECT * FROM grown WHERE id = 1"),
        expected[..1]
    );
    assert_eq!(
        database.rows("SELECT note, level FROM grown WHERE id = 1"),
        [[Value::Null, Value::Int(7)]]
    );
    let read = database.snapshot();
    let meant = Meant {
        table: &table,
        owner: None,
        selection: None,
        keep: Keep::Rows,
    };
    let all = run(database
        .engine
        .matching_rows(read, meant, &super::fixture::alice(), &[]));
    let all: Vec<Vec<Value>> = all
        .expect("rows")
        .into_iter()
        .map(|row| row.values)
        .collect();
    assert_eq!(all, expected);
}
