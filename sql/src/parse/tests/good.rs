//! What is understood, and as what.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, visit_expressions};
use proptest::prelude::*;
use types::command::Position;
use types::schema::{AccessLevel, DefaultExpr, PayloadMode, Role, RowOp, TableKind};
use types::value::DataType;

use crate::names::QualifiedName;
use crate::parse::parse;
use crate::statement::*;

fn one(text: &str) -> Statement {
    let mut statements = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0)
}

fn name(text: &str) -> QualifiedName {
    let (namespace, name) = match text.split_once('.') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, text),
    };
    QualifiedName {
        namespace,
        name: name.to_owned(),
    }
}

fn table(text: &str) -> CreateTable {
    match one(text) {
        Statement::CreateTable(create) => *create,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_table_of_the_seed_flow() {
    let create = table(
        "CREATE USER TABLE demo.messages (
           id TEXT PRIMARY KEY DEFAULT ULID(), author TEXT NOT NULL, msg TEXT NOT NULL,
           attachment FILE, created TIMESTAMP NOT NULL DEFAULT NOW())",
    );
    assert_eq!(
        (create.name, create.kind),
        (name("demo.messages"), TableKind::User)
    );
    assert_eq!(create.primary_key, ["id"]);
    let columns: Vec<_> = create
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.data_type, c.nullable, c.default.clone()))
        .collect();
    assert_eq!(
        columns,
        [
            ("id", DataType::Text, true, Some(DefaultExpr::Ulid)),
            ("author", DataType::Text, false, None),
            ("msg", DataType::Text, false, None),
            ("attachment", DataType::File, true, None),
            (
                "created",
                DataType::Timestamp,
                false,
                Some(DefaultExpr::Now)
            ),
        ]
    );
}

#[test]
fn every_type() {
    let create = table(
        "CREATE TABLE n.t (a BOOLEAN, b SMALLINT, c INT, d BIGINT, e FLOAT, f DOUBLE,
         g DECIMAL(10,2), h TEXT, i TIMESTAMP, j DATETIME, k DATE, l TIME, m UUID, n JSON,
         o BYTES, p FILE, q DOUBLE PRECISION, r NUMERIC(5), s TIMESTAMP WITH TIME ZONE)",
    );
    let types: Vec<DataType> = create.columns.iter().map(|c| c.data_type).collect();
    use DataType::*;
    assert_eq!(
        types,
        [
            Boolean,
            SmallInt,
            Int,
            BigInt,
            Float,
            Double,
            Decimal {
                precision: 10,
                scale: 2
            },
            Text,
            Timestamp,
            DateTime,
            Date,
            Time,
            Uuid,
            Json,
            Bytes,
            File,
            Double,
            Decimal {
                precision: 5,
                scale: 0
            },
            Timestamp
        ]
    );
}

#[test]
fn defaults() {
    for (text, expected) in [
        ("'it''s'", Some(DefaultExpr::Literal("'it''s'".to_owned()))),
        ("-5 NOT NULL", Some(DefaultExpr::Literal("-5".to_owned()))),
        ("TRUE", Some(DefaultExpr::Literal("true".to_owned()))),
        ("NULL", None),
        ("now()", Some(DefaultExpr::Now)),
        ("CURRENT_TIMESTAMP", Some(DefaultExpr::Now)),
        ("UUID_V7()", Some(DefaultExpr::UuidV7)),
        ("SNOWFLAKE_ID()", Some(DefaultExpr::SnowflakeId)),
        ("CURRENT_USER()", Some(DefaultExpr::CurrentUser)),
        ("CURRENT_USER", Some(DefaultExpr::CurrentUser)),
    ] {
        let create = table(&format!("CREATE TABLE n.t (a TEXT DEFAULT {text})"));
        assert_eq!(create.columns[0].default, expected, "{text}");
    }
}

#[test]
fn table_options_and_constraints() {
    let create = table(
        "create shared table if not exists N.\"T x\" (a int, \"B\" text unique,
         primary key (a, \"B\"), constraint pair unique (\"B\", a)) \
         with (type = 'shared', access_level = 'DBA');",
    );
    assert_eq!(create.name, name("n.T x"));
    assert!(create.if_not_exists);
    assert_eq!(
        (create.kind, create.access),
        (TableKind::Shared, Some(AccessLevel::Dba))
    );
    assert_eq!(create.primary_key, ["a", "B"]);
    assert_eq!(
        create.unique,
        [
            UniqueConstraint {
                name: None,
                columns: vec!["B".to_owned()]
            },
            UniqueConstraint {
                name: Some("pair".to_owned()),
                columns: vec!["B".to_owned(), "a".to_owned()]
            },
        ]
    );
    let by_option = table("CREATE TABLE n.t (a INT PRIMARY KEY) WITH (TYPE = USER)");
    assert_eq!(by_option.kind, TableKind::User);
}

#[test]
fn namespaces_and_shows() {
    assert_eq!(
        one("CREATE NAMESPACE IF NOT EXISTS Demo"),
        Statement::CreateNamespace(CreateNamespace {
            name: "demo".to_owned(),
            if_not_exists: true
        })
    );
    assert_eq!(
        one("DROP NAMESPACE demo CASCADE"),
        Statement::DropNamespace(DropNamespace {
            name: "demo".to_owned(),
            if_exists: false,
            cascade: true
        })
    );
    assert_eq!(one("USE demo"), Statement::Use("demo".to_owned()));
    assert_eq!(one("SHOW NAMESPACES"), Statement::ShowNamespaces);
    assert_eq!(
        one("SHOW TABLES"),
        Statement::ShowTables { namespace: None }
    );
    assert_eq!(
        one("SHOW TABLES IN demo"),
        Statement::ShowTables {
            namespace: Some("demo".to_owned())
        }
    );
    assert_eq!(one("DESCRIBE demo.t"), Statement::Describe(name("demo.t")));
    assert_eq!(
        one("DROP TABLE IF EXISTS demo.t CASCADE"),
        Statement::DropTable(DropObject {
            name: name("demo.t"),
            if_exists: true,
            cascade: true
        })
    );
}

#[test]
fn topics() {
    assert_eq!(
        one("CREATE TOPIC IF NOT EXISTS demo.e PARTITIONS 4 \
             WITH (retention_seconds = 60, retention_max_bytes = NULL)"),
        Statement::CreateTopic(CreateTopic {
            name: name("demo.e"),
            if_not_exists: true,
            partitions: 4,
            retention: Retention {
                seconds: Some(Some(60)),
                max_bytes: Some(None)
            },
        })
    );
    let Statement::AddSource(add) = one(
        "ALTER TOPIC demo.e ADD SOURCE messages ON UPDATE WHERE author = 'user' AND n > 1 \
         WITH (payload = 'diff')",
    ) else {
        panic!("not ADD SOURCE");
    };
    assert_eq!(
        (add.table, add.op, add.payload),
        (name("messages"), RowOp::Update, PayloadMode::Diff)
    );
    assert_eq!(add.filter.unwrap().to_string(), "author = 'user' AND n > 1");
    assert_eq!(
        one("ALTER TOPIC demo.e DROP SOURCE demo.m ON DELETE"),
        Statement::DropSource(DropSource {
            topic: name("demo.e"),
            table: name("demo.m"),
            op: RowOp::Delete
        })
    );
    assert_eq!(
        one("ALTER TOPIC demo.e CLEAR RETENTION"),
        Statement::SetRetention(SetRetention {
            topic: name("demo.e"),
            retention: Retention {
                seconds: Some(None),
                max_bytes: Some(None)
            }
        })
    );
    assert_eq!(
        one("ALTER TOPIC demo.e SET RETENTION WITH (retention_seconds = NULL)"),
        Statement::SetRetention(SetRetention {
            topic: name("demo.e"),
            retention: Retention {
                seconds: Some(None),
                max_bytes: None
            }
        })
    );
    assert_eq!(
        one("CLEAR TOPIC demo.e"),
        Statement::ClearTopic(name("demo.e"))
    );
}

#[test]
fn consuming() {
    assert_eq!(
        one("CONSUME FROM demo.e"),
        Statement::Consume(Consume {
            topic: name("demo.e"),
            partition: None,
            group: None,
            from: Position::Latest(true),
            limit: 100
        })
    );
    assert_eq!(
        one("CONSUME FROM demo.e PARTITION 2 GROUP 'g' FROM EARLIEST LIMIT 7"),
        Statement::Consume(Consume {
            topic: name("demo.e"),
            partition: Some(2),
            group: Some("g".to_owned()),
            from: Position::Earliest(true),
            limit: 7
        })
    );
    assert_eq!(
        one("ACK demo.e GROUP 'g' PARTITION 1 UPTO OFFSET 9"),
        Statement::Ack(Ack {
            topic: name("demo.e"),
            group: "g".to_owned(),
            partition: 1,
            what: AckTarget::Upto(9)
        })
    );
    assert_eq!(
        one("ACK demo.e GROUP 'g' LEASE 'l' OFFSETS (1, 2)"),
        Statement::Ack(Ack {
            topic: name("demo.e"),
            group: "g".to_owned(),
            partition: 0,
            what: AckTarget::Lease {
                id: "l".to_owned(),
                offsets: vec![1, 2]
            }
        })
    );
    assert_eq!(
        one("NACK demo.e GROUP 'g' LEASE 'l' DELAY 500"),
        Statement::Nack(Nack {
            topic: name("demo.e"),
            group: "g".to_owned(),
            partition: None,
            lease_id: "l".to_owned(),
            offsets: vec![],
            delay_ms: 500
        })
    );
    assert_eq!(
        one("RESET CONSUMER GROUP 'g' ON demo.e PARTITION 0 TO TIMESTAMP '1970-01-01T00:00:01Z'"),
        Statement::ResetGroup(ResetGroup {
            group: "g".to_owned(),
            topic: name("demo.e"),
            partition: Some(0),
            to: Position::Timestamp(1_000_000)
        })
    );
}

#[test]
fn users() {
    let Statement::CreateUser(create) =
        one("CREATE USER user_123 WITH PASSWORD 'correct horse 9' ROLE 'service' EMAIL 'a@b'")
    else {
        panic!("not CREATE USER");
    };
    assert_eq!(
        (
            create.name.as_str(),
            create.role,
            create.password.as_str(),
            create.email.as_deref()
        ),
        ("user_123", Role::Service, "correct horse 9", Some("a@b"))
    );
    assert!(
        !format!("{create:?}").contains("horse"),
        "a password in Debug"
    );
    assert_eq!(
        one("ALTER USER u SET ROLE dba"),
        Statement::AlterUser(AlterUser {
            name: "u".to_owned(),
            change: UserChange::Role(Role::Dba)
        })
    );
    assert_eq!(
        one("DROP USER IF EXISTS 'U'"),
        Statement::DropUser(DropUser {
            name: "U".to_owned(),
            if_exists: true
        })
    );
}

#[test]
fn dml() {
    let Statement::Insert(insert) = one(
        "INSERT INTO t (a, b) VALUES (1, DEFAULT), ($1, 'x;y WITH z') \
         ON CONFLICT (a) DO UPDATE SET b = excluded.b WHERE t.b <> 'x' RETURNING a, b AS bb",
    ) else {
        panic!("not INSERT");
    };
    assert_eq!(
        insert.columns.as_deref(),
        Some(["a".to_owned(), "b".to_owned()].as_slice())
    );
    let InsertSource::Values(rows) = &insert.source else {
        panic!("not VALUES")
    };
    assert_eq!((rows.len(), &rows[0][1]), (2, &InsertValue::Default));
    assert_eq!(
        insert.on_conflict.unwrap().target,
        Some(vec!["a".to_owned()])
    );
    assert_eq!(insert.returning.unwrap().len(), 2);

    assert!(matches!(
        one("INSERT INTO t SELECT * FROM u"),
        Statement::Insert(_)
    ));
    assert!(matches!(
        one("INSERT INTO t (SELECT 1)"),
        Statement::Insert(_)
    ));
    assert!(matches!(
        one("INSERT INTO t DEFAULT VALUES"),
        Statement::Insert(_)
    ));
    assert!(matches!(
        one("UPDATE n.t SET a = a + 1, b = DEFAULT WHERE a = 1"),
        Statement::Update(_)
    ));
    assert!(matches!(
        one("DELETE FROM t RETURNING *"),
        Statement::Delete(_)
    ));
    assert!(matches!(
        one("WITH x AS (SELECT 1) SELECT * FROM x"),
        Statement::Select(_)
    ));
    assert!(matches!(one("VALUES (1), (2)"), Statement::Select(_)));
    assert!(matches!(
        one("(SELECT 1) UNION (SELECT 2)"),
        Statement::Select(_)
    ));
    assert!(matches!(one("EXPLAIN SELECT 1"), Statement::Explain(_)));
    let Statement::Select(query) = one("SELECT CURRENT_USER ( ), session_user(), (1)") else {
        panic!("not SELECT");
    };
    assert_eq!(query.to_string(), "SELECT CURRENT_USER, session_user, (1)");
    let Statement::ExecuteAs(execute) =
        one("EXECUTE AS USER 'user_123' ( INSERT INTO demo.m (a) VALUES ('x'); )")
    else {
        panic!("not EXECUTE AS");
    };
    assert_eq!(execute.user, "user_123");
    assert!(matches!(*execute.statement, Statement::Insert(_)));
}

#[test]
fn several_statements_and_comments() {
    let statements =
        parse("-- a comment; with ; semicolons\nBEGIN; ;SELECT ';' /* ; */; COMMIT WORK;").unwrap();
    assert_eq!(statements.len(), 3);
    assert_eq!(
        (&statements[0], &statements[2]),
        (&Statement::Begin, &Statement::Commit)
    );
    assert_eq!(one("START TRANSACTION"), Statement::Begin);
    assert_eq!(one("ROLLBACK"), Statement::Rollback);
}

#[test]
fn reads_are_known_as_such() {
    for (text, is_read) in [
        ("SELECT 1", true),
        ("EXPLAIN SELECT 1", true),
        ("EXPLAIN DELETE FROM t", true),
        ("SHOW TABLES IN n", true),
        ("USE n", true),
        ("CONSUME FROM n.t", true),
        ("CONSUME FROM n.t GROUP 'g'", false),
        ("EXECUTE AS USER 'u' (SELECT 1)", false),
        ("INSERT INTO t VALUES (1)", false),
    ] {
        assert_eq!(one(text).is_read(), is_read, "{text}");
    }
}

#[test]
fn letters_outside_ascii_do_not_fold() {
    let create = table("CREATE TABLE n.ÄB (Öl INT PRIMARY KEY)");
    assert_eq!(create.name, name("n.Äb"));
    assert_eq!(create.columns[0].name, "Öl");
}

#[test]
fn generated_is_a_name() {
    let create = table("CREATE TABLE t (generated INT PRIMARY KEY, v INT)");
    assert_eq!(create.columns[0].name, "generated");
}

/// The texts in an expression, in order.
fn texts(expr: &Expr) -> Vec<String> {
    let mut found = Vec::new();
    let _: ControlFlow<()> = visit_expressions(expr, |expr| {
        if let Some(types::value::Value::Text(text)) = crate::query::literal_value(expr) {
            found.push(text);
        }
        ControlFlow::Continue(())
    });
    found
}

proptest! {
    #[test]
    fn expressions_survive_as_text(text in "[a'\\\\\"$é\n\t%]{0,12}", any in ".{0,8}") {
        for literal in [text, any] {
            let quoted = literal.replace('\'', "''");
            let sql = format!("author = '{quoted}' AND \"a b\" <> lower('{quoted}') || 'x'");
            let expr = crate::parse::expression(&sql).expect(&sql);
            let kept = crate::parse::expression_text(&expr).expect(&sql);
            let again = crate::parse::expression(&kept).expect(&kept);
            assert_eq!(texts(&expr)[0], literal, "{sql}");
            assert_eq!(texts(&again), texts(&expr), "{kept}");
        }
    }
}

#[test]
fn tables_are_altered_and_indexed() {
    let alter = |text: &str| match one(text) {
        Statement::AlterTable(alter) => alter.change,
        other => panic!("{other:?}"),
    };
    let column = || "c".to_owned();
    assert_eq!(
        alter("ALTER TABLE n.t ADD COLUMN IF NOT EXISTS c INT NOT NULL DEFAULT 1"),
        TableChange::Add {
            column: ColumnDefinition {
                name: column(),
                data_type: DataType::Int,
                nullable: false,
                default: Some(DefaultExpr::Literal("1".to_owned())),
            },
            if_not_exists: true,
        }
    );
    let if_exists = true;
    assert_eq!(
        alter("ALTER TABLE t DROP IF EXISTS c CASCADE"),
        TableChange::Drop {
            column: column(),
            if_exists
        }
    );
    let to = "d".to_owned();
    assert_eq!(
        alter("ALTER TABLE t RENAME c TO d"),
        TableChange::Rename {
            column: column(),
            to
        }
    );
    for (text, default) in [
        (
            "ALTER TABLE t ALTER c SET DEFAULT NOW()",
            Some(DefaultExpr::Now),
        ),
        ("ALTER TABLE t ALTER COLUMN c DROP DEFAULT", None),
    ] {
        let column = column();
        assert_eq!(alter(text), TableChange::Default { column, default });
    }
    for (text, nullable) in [
        ("ALTER TABLE t ALTER c SET NOT NULL", false),
        ("ALTER TABLE t ALTER COLUMN c DROP NOT NULL", true),
    ] {
        let column = column();
        assert_eq!(alter(text), TableChange::Nullable { column, nullable });
    }
    assert_eq!(
        one("CREATE UNIQUE INDEX IF NOT EXISTS i ON n.t (a, b)"),
        Statement::CreateIndex(CreateIndex {
            name: "i".to_owned(),
            if_not_exists: true,
            unique: true,
            table: name("n.t"),
            columns: vec!["a".to_owned(), "b".to_owned()],
        })
    );
}
