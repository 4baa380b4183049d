//! Texts that nest or chain without end. The threads of these tests have the small stack that
//! threads have; one that recurses too deeply aborts the test run.

use std::time::{Duration, Instant};

use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
use types::ErrorCode;
use types::limits::{SQL_CHAIN_MAX, SQL_DEPTH_MAX};

use crate::parse::parse;

const MANY: usize = 20_000;

/// Parses (and drops) within a second; says whether it was understood.
fn quickly(text: &str) -> bool {
    let started = Instant::now();
    let parsed = parse(text);
    let understood = match parsed {
        Ok(statements) => {
            drop(statements);
            true
        }
        Err(error) => {
            assert_eq!(error.code, ErrorCode::InvalidSql, "{error}");
            assert!(
                error.message.len() < 2_000,
                "{} bytes of message",
                error.message.len()
            );
            false
        }
    };
    let shown: String = text.chars().take(60).collect();
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{shown}: {:?}",
        started.elapsed()
    );
    understood
}

#[test]
fn nesting_without_end_is_refused() {
    let nested = |open: &str, inner: &str, close: &str| {
        format!("SELECT {}{inner}{}", open.repeat(MANY), close.repeat(MANY))
    };
    for text in [
        nested("(", "1", ")"),
        nested("(", "", ""),
        nested("(SELECT ", "1", ")"),
        nested("NOT ", "true", ""),
        nested("- ", "1", ""),
        nested("+ ", "1", ""),
        nested("~ ", "1", ""),
        nested("CASE WHEN true THEN ", "1", " END"),
        nested("CASE ", "1", " WHEN 1 THEN 1 END"),
        nested("abs(", "1", ")"),
        nested("ARRAY[", "1", "]"),
        nested("INTERVAL ", "'1'", ""),
        nested("interval INTERVAL ", "'1'", ""),
        nested("CAST(", "1", " AS INT)"),
        nested("EXISTS (SELECT ", "1", ")"),
        nested("x IN (", "1", ")"),
        format!("SELECT * FROM {}a{}", "(".repeat(MANY), ")".repeat(MANY)),
        format!(
            "SELECT * FROM {}a{}",
            "(SELECT * FROM ".repeat(MANY),
            ") x".repeat(MANY)
        ),
        format!("{}SELECT 1{}", "(".repeat(MANY), ")".repeat(MANY)),
        format!(
            "SELECT CAST(1 AS {}INT{})",
            "ARRAY<".repeat(MANY),
            ">".repeat(MANY)
        ),
        format!(
            "SELECT CAST(1 AS {}INT{})",
            "STRUCT<a ".repeat(MANY),
            ">".repeat(MANY)
        ),
        format!("{}SELECT 1", "EXPLAIN ".repeat(MANY)),
        format!(
            "{}SELECT 1{}",
            "EXECUTE AS USER 'u' (".repeat(MANY),
            ")".repeat(MANY)
        ),
        format!("{}SELECT 1", "WITH x AS (".repeat(MANY)),
    ] {
        assert!(!quickly(&text), "{}", &text[..60]);
    }
}

#[test]
fn chains_without_end_are_refused() {
    let chained = |link: &str| format!("SELECT 1{}", link.repeat(MANY));
    for text in [
        chained(" AND true"),
        chained(" OR a = 1"),
        chained(" + 1"),
        chained("::INT"),
        chained(" IS NULL"),
        chained(" ISNULL"),
        chained(" !"),
        chained(" COLLATE c"),
        chained(" AT TIME ZONE 'UTC'"),
        chained("[1]"),
        chained(" -> 'a'"),
        chained(" UNION SELECT 1"),
        chained(" UNION ALL SELECT 1, 2"),
        chained(" IN (1)"),
        chained(" BETWEEN 1 AND 2"),
        chained(" LIKE 'x'"),
        format!("SELECT * FROM a{}", " JOIN b ON true".repeat(MANY)),
        format!("SELECT * FROM a{}", " JOIN b".repeat(MANY)),
        format!("SELECT * FROM a{}", " NATURAL JOIN b".repeat(MANY)),
    ] {
        assert!(!quickly(&text), "{}", &text[..40]);
    }
}

#[test]
fn brackets_and_chains_add_up() {
    // Each level is a chain that is just short enough; together they are far too deep.
    let level = format!("{}1", "1 + ".repeat(SQL_CHAIN_MAX / 2));
    let mut text = "1".to_owned();
    for _ in 0..SQL_DEPTH_MAX - 4 {
        text = format!("({text}) + {level}");
    }
    assert!(!quickly(&format!("SELECT {text}")));
}

#[test]
fn what_people_write_is_within_the_bounds() {
    let conditions = vec!["a = 1"; 400].join(" AND ");
    let values = (0..20_000)
        .map(|n| n.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let rows = vec!["(1, 'x', NOW())"; 20_000].join(", ");
    let nested = |depth| format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth));
    for text in [
        format!("SELECT * FROM t WHERE {conditions}"),
        format!("SELECT * FROM t WHERE a IN ({values})"),
        format!("INSERT INTO t VALUES {rows}"),
        nested(SQL_DEPTH_MAX - 1),
        format!("SELECT {}1{}", "abs(".repeat(60), ")".repeat(60)),
        format!(
            "SELECT * FROM {}t{}",
            "(SELECT * FROM ".repeat(10),
            ") x".repeat(10)
        ),
        format!(
            "SELECT {} 1 {}",
            "CASE WHEN a THEN ".repeat(50),
            "END ".repeat(50)
        ),
        format!(
            "SELECT {}",
            vec!["SELECT 1"; 200]
                .join(" UNION ALL ")
                .trim_start_matches("SELECT ")
        ),
    ] {
        assert!(quickly(&text), "{}", &text[..40]);
    }
}

#[test]
fn attempts_do_not_multiply() {
    // Each of these makes sqlparser try something, fail behind it, and start again; nested.
    for (open, close) in [
        ("abs(", ")"),
        ("abs(1, ", ")"),
        ("coalesce(abs(", "), 1)"),
        ("x IN ((SELECT ", ") + 1)"),
        ("(SELECT * FROM (", ") JOIN b ON true)"),
        ("a.(", ")"),
        ("POSITION(", " IN 'x')"),
        ("CAST(abs(", ") AS INT)"),
        ("((", "))"),
        ("(1, ", ")"),
        ("ARRAY[", "]"),
        ("{fn abs(", ")}"),
        ("CASE WHEN (", ") THEN 1 END"),
        ("trim(BOTH 'x' FROM ", ")"),
        ("EXISTS (SELECT ", ")"),
        ("substring(", " FROM 1 FOR 2)"),
    ] {
        for depth in [10, 20, 30, 60] {
            let nest =
                |inner: &str| format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
            quickly(&format!("SELECT {}", nest("1")));
            quickly(&format!("SELECT {}", nest("1 1")));
            quickly(&format!("SELECT * FROM {}", nest("a")));
            quickly(&format!("SELECT * FROM {}", nest("a b c")));
        }
    }
}

/// Every keyword as a prefix, as a suffix and between operands, many times over: whatever sqlparser
/// does with it, it neither overflows the stack nor takes exponential time.
#[test]
fn no_keyword_recurses_without_end() {
    for word in ALL_KEYWORDS {
        for repeated in [50, 400] {
            quickly(&format!("SELECT {}1", format!("{word} ").repeat(repeated)));
            quickly(&format!(
                "SELECT 1{}",
                format!(" {word} 1").repeat(repeated)
            ));
            quickly(&format!("SELECT {}1", format!("{word} -").repeat(repeated)));
            quickly(&format!(
                "SELECT * FROM a{}",
                format!(" {word} b").repeat(repeated)
            ));
        }
        quickly(&format!(
            "SELECT {}1{}",
            format!("{word} (").repeat(60),
            ")".repeat(60)
        ));
        quickly(&format!(
            "SELECT * FROM {}a{}",
            format!("{word} (").repeat(60),
            ")".repeat(60)
        ));
        quickly(&format!(
            "SELECT {}1{}",
            format!("{word}(SELECT ").repeat(30),
            ")".repeat(30)
        ));
    }
}
