//! Reading less gives the same rows.

use proptest::prelude::*;
use types::schema::{Table, TableKind};
use types::value::{DataType, Value};

use super::fixture::{Database, column, text};
use crate::query::{Keep, Meant};

/// Rows of every combination of a small domain, in two owners' scopes.
fn grid() -> (Database, Table) {
    let database = Database::new();
    let table = database.table_with_key(
        4,
        "grid",
        TableKind::User,
        vec![
            column(1, "a", DataType::Text),
            column(2, "b", DataType::Int),
            column(3, "c", DataType::Timestamp),
            column(4, "v", DataType::BigInt),
        ],
        3,
    );
    let mut at = 0;
    for a in ["", "a", "ab", "b", "b\0c"] {
        for b in -2..3 {
            for c in [-1, 0, 1_000_000] {
                at += 1;
                let row = [
                    text(a),
                    Value::Int(b),
                    Value::Timestamp(c),
                    Value::BigInt(at),
                ];
                for owner in ["alice", "alic", "alice2"] {
                    database.insert(&table, Some(owner), &row);
                }
            }
        }
    }
    (database, table)
}

fn operator() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["=", "<", "<=", ">", ">=", "<>"])
}

fn condition() -> impl Strategy<Value = String> {
    let texts = || prop::sample::select(vec!["''", "'a'", "'ab'", "'aa'", "'b'", "'zz'"]);
    let times = || {
        prop::sample::select(vec![
            "'1970-01-01T00:00:00Z'",
            "'1969-12-31T23:59:59.999999Z'",
            "'1970-01-01 00:00:01'",
            "'1970-01-01'",
            "'2000-01-01'",
        ])
    };
    prop_oneof![
        4 => (operator(), texts()).prop_map(|(op, a)| format!("a {op} {a}")),
        4 => (operator(), -4..5).prop_map(|(op, b)| format!("b {op} {b}")),
        1 => (operator(), -4..5).prop_map(|(op, b)| format!("{b} {op} b")),
        2 => (operator(), times()).prop_map(|(op, c)| format!("c {op} {c}")),
        1 => (-4..5, -4..5).prop_map(|(low, high)| format!("b BETWEEN {low} AND {high}")),
        2 => prop::collection::vec(-4..5, 1..6).prop_map(|list| {
            let list: Vec<String> = list.iter().map(i32::to_string).collect();
            format!("b IN ({})", list.join(", "))
        }),
        2 => prop::collection::vec(texts(), 1..4)
            .prop_map(|list| format!("a IN ({})", list.join(", "))),
        1 => (operator(), 0..80).prop_map(|(op, v)| format!("v {op} {v}")),
        1 => (texts(), texts()).prop_map(|(a, b)| format!("(a = {a} OR a = {b})")),
        1 => (texts(), -4..5).prop_map(|(a, b)| format!("(a = {a} OR b = {b})")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn key_ranges_hold_what_the_filter_lets_through(
        conditions in prop::collection::vec(condition(), 1..4),
        descending in any::<bool>(),
        limit in prop::option::of(0..20),
    ) {
        thread_local! {
            static GRID: (Database, Table) = grid();
        }
        GRID.with(|(database, table)| {
            let order = if descending { "DESC" } else { "ASC" };
            let limit = limit.map_or_else(String::new, |n| format!(" LIMIT {n}"));
            let tail = format!("ORDER BY a {order}, b {order}, c {order}{limit}");
            let all = conditions.join(" AND ");
            let pushed = format!("SELECT v, a FROM grid WHERE {all} {tail}");
            // Behind an expression that no range can be made of.
            let whole = format!(
                "SELECT v, a FROM (SELECT concat(a, '') AS a, b + 0 AS b, c + INTERVAL '0 seconds' AS c, \
                 v FROM grid) AS grid WHERE {all} {tail}"
            );
            let expected = database.rows(&whole);
            assert_eq!(database.rows(&pushed), expected, "{pushed}");
            if limit.is_empty() {
                let condition = super::fixture::expr(&all);
                let rows = super::fixture::run(database.engine.matching_rows(
                    database.snapshot(),
                    Meant {
                        table,
                        owner: Some("alice"),
                        selection: Some(&condition),
                        keep: Keep::Rows,
                    },
                    &super::fixture::alice(),
                    &[],
                ));
                let mut found: Vec<Value> =
                    rows.expect(&all).into_iter().map(|row| row.values[3].clone()).collect();
                if descending {
                    found.reverse();
                }
                let expected: Vec<Value> = expected.into_iter().map(|row| row[0].clone()).collect();
                assert_eq!(found, expected, "{all}");
            }
        });
    }
}

fn plan(database: &Database, sql: &str) -> String {
    let query = super::fixture::query(sql);
    let session = super::fixture::alice();
    let rows = super::fixture::run(database.engine.explain(
        database.snapshot(),
        &query,
        &session,
        &[],
    ));
    let rows = rows.expect(sql).rows;
    match rows.last().map(Vec::as_slice) {
        Some([kind, Value::Text(plan)]) => {
            assert_eq!(*kind, text("physical_plan"));
            plan.clone()
        }
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn plans_read_no_more_than_they_must() {
    let (database, _) = grid();
    let by_key = plan(
        &database,
        "SELECT v FROM grid WHERE a = 'a' AND b IN (1, 2)",
    );
    assert!(by_key.contains("key_ranges=2"), "{by_key}");
    assert!(by_key.contains("columns=[a, b, v]"), "{by_key}");
    let none = plan(
        &database,
        "SELECT v FROM grid WHERE b > 2 AND a = 'a' AND b < 1",
    );
    assert!(!none.contains("key_ranges=1"), "{none}");
    let ordered = plan(&database, "SELECT a, b FROM grid ORDER BY a, b LIMIT 3");
    assert!(!ordered.contains("Sort"), "{ordered}");
    assert!(ordered.contains("limit=3"), "{ordered}");
    let last = plan(
        &database,
        "SELECT a, b FROM grid ORDER BY a DESC, b DESC LIMIT 3",
    );
    assert!(!last.contains("Sort"), "{last}");
    assert!(last.contains("reverse, limit=3"), "{last}");
}

#[test]
fn tables_larger_than_a_batch_are_read_whole() {
    let database = Database::new();
    let table = database.table(
        6,
        "long",
        TableKind::Shared,
        vec![
            column(1, "id", DataType::Int),
            column(2, "t", DataType::Text),
        ],
    );
    let count = 20_000;
    for id in 0..count {
        database.insert(&table, None, &[Value::Int(id), text("x")]);
    }
    let sum: i64 = (0..i64::from(count)).sum();
    assert_eq!(
        database.rows("SELECT count(*), sum(id), min(t) FROM long"),
        [[Value::BigInt(count.into()), Value::BigInt(sum), text("x")]]
    );
    assert_eq!(
        database.rows("SELECT count(*) FROM long")[0],
        [Value::BigInt(count.into())]
    );
    let ids = database.rows("SELECT id FROM long");
    assert!(
        ids.into_iter()
            .eq((0..count).map(|id| vec![Value::Int(id)]))
    );
    let some = database.rows("SELECT id FROM long WHERE id >= 8190 AND id < 16390");
    assert!(
        some.into_iter()
            .eq((8_190..16_390).map(|id| vec![Value::Int(id)]))
    );
    assert_eq!(database.rows("SELECT id FROM long LIMIT 9000").len(), 9_000);
    let last = database.rows("SELECT id FROM long WHERE id <> 5 ORDER BY id DESC LIMIT 9000");
    assert!(
        last.into_iter()
            .eq((11_000..count).rev().map(|id| vec![Value::Int(id)]))
    );
    let most = database.rows("SELECT id FROM long WHERE id IN (1, 7, 19999) ORDER BY id DESC");
    assert_eq!(
        most,
        [[Value::Int(19_999)], [Value::Int(7)], [Value::Int(1)]]
    );
    let all = database.rows("SELECT id FROM long ORDER BY id DESC");
    assert!(
        all.into_iter()
            .eq((0..count).rev().map(|id| vec![Value::Int(id)]))
    );
}
