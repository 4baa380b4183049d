//! Consumer groups: where they stand, and moving them.

use clap::Args;
use client::api::SqlRequest;
use client::{Client, RequestOptions};

use super::{ends, number, partition_count, print_table, select};
use crate::cli::ask::confirm;
use crate::cli::error::CliError;
use crate::cli::output::{Cell, text};

/// Arguments of `duet topic reset`.
#[derive(Args, Debug)]
pub struct ResetArgs {
    /// The topic
    topic: String,
    /// The group
    group: String,
    /// Where it goes on: earliest, latest, an offset, or a time in RFC 3339
    #[arg(long, value_name = "POSITION")]
    to: Target,
    /// Only this partition
    #[arg(long)]
    partition: Option<u32>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Where a group goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Earliest,
    Latest,
    Offset(u64),
    Time(String),
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(word: &str) -> Result<Target, String> {
        if word.eq_ignore_ascii_case("earliest") {
            return Ok(Target::Earliest);
        }
        if word.eq_ignore_ascii_case("latest") {
            return Ok(Target::Latest);
        }
        if let Ok(offset) = word.parse() {
            return Ok(Target::Offset(offset));
        }
        match chrono::DateTime::parse_from_rfc3339(word) {
            Ok(_) => Ok(Target::Time(word.to_owned())),
            Err(_) => Err("earliest, latest, an offset, or a time in RFC 3339".into()),
        }
    }
}

/// Prints the groups of a topic.
pub async fn list(client: &Client, topic: &str) -> Result<(), CliError> {
    // An unknown topic and one without groups are different answers.
    partition_count(client, topic).await?;
    let sql = "SELECT group_id, partition_id, last_acked_offset, updated_at \
               FROM system.topic_offsets WHERE topic_id = $1 ORDER BY group_id, partition_id";
    let rows = select(client, sql, vec![topic.into()]).await?;
    let rows: Vec<Vec<Cell>> = rows
        .iter()
        .map(|row| {
            vec![
                Cell::left(text(&row[0])),
                Cell::right(text(&row[1])),
                Cell::right(text(&row[2])),
                Cell::left(text(&row[3])),
            ]
        })
        .collect();
    print_table(
        &["group", "partition", "last_acked_offset", "updated"],
        &rows,
    )
}

/// Prints how many messages each group has not acked yet.
pub async fn lag(client: &Client, topic: &str, group: Option<&str>) -> Result<(), CliError> {
    let count = partition_count(client, topic).await?;
    let sql = "SELECT group_id, partition_id, last_acked_offset \
               FROM system.topic_offsets WHERE topic_id = $1 ORDER BY group_id, partition_id";
    let rows = select(client, sql, vec![topic.into()]).await?;
    let ends = ends(client, topic, count).await?;
    let mut lines = Vec::new();
    for row in rows
        .iter()
        .filter(|row| group.is_none_or(|group| row[0] == group))
    {
        let next = ends
            .iter()
            .find(|end| Some(u64::from(end.partition_id)) == number(&row[1]))
            .map(|end| end.next_offset)
            .ok_or_else(|| CliError::Answer(format!("no partition {}", row[1])))?;
        let position = number(&row[2]).map_or(0, |acked| acked + 1);
        lines.push(vec![
            Cell::left(text(&row[0])),
            Cell::right(text(&row[1])),
            Cell::right(position),
            Cell::right(next),
            Cell::right(next.saturating_sub(position)),
        ]);
    }
    match group {
        Some(group) if lines.is_empty() => Err(CliError::NotFound {
            kind: "group",
            name: group.to_owned(),
        }),
        _ => print_table(
            &["group", "partition", "position", "next_offset", "lag"],
            &lines,
        ),
    }
}

/// Moves a group.
pub async fn reset(client: &Client, args: &ResetArgs) -> Result<(), CliError> {
    let sql = reset_statement(args);
    confirm(
        &format!(
            "Move group {:?} on {}? What it holds now is given up, and may be delivered again.",
            args.group, args.topic
        ),
        args.yes,
    )?;
    let answer = client
        .execute(&SqlRequest::new(sql), &RequestOptions::default())
        .await?;
    let message = answer
        .body
        .results
        .into_iter()
        .find_map(|result| result.message);
    println!("{}", message.unwrap_or_else(|| "Done".into()));
    Ok(())
}

fn reset_statement(args: &ResetArgs) -> String {
    let partition = args
        .partition
        .map_or_else(String::new, |id| format!(" PARTITION {id}"));
    let target = match &args.to {
        Target::Earliest => "EARLIEST".to_owned(),
        Target::Latest => "LATEST".to_owned(),
        Target::Offset(offset) => offset.to_string(),
        Target::Time(time) => format!("TIMESTAMP {}", literal(time)),
    };
    format!(
        "RESET CONSUMER GROUP {} ON {}{partition} TO {target}",
        literal(&args.group),
        name(&args.topic)
    )
}

/// A string literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A topic's name, each part in quotes, so that it is taken as it is.
fn name(topic: &str) -> String {
    let parts: Vec<String> = topic
        .split('.')
        .map(|part| format!("\"{}\"", part.replace('"', "\"\"")))
        .collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::super::no_topic;
    use super::*;

    #[test]
    fn the_statement_takes_names_as_they_are() {
        let mut args = ResetArgs {
            topic: "demo.Odd\"one".into(),
            group: "it's".into(),
            to: "EARLIEST".parse().unwrap(),
            partition: None,
            yes: true,
        };
        assert_eq!(
            reset_statement(&args),
            "RESET CONSUMER GROUP 'it''s' ON \"demo\".\"Odd\"\"one\" TO EARLIEST"
        );
        (args.partition, args.to) = (Some(3), "17".parse().unwrap());
        assert!(reset_statement(&args).ends_with(" PARTITION 3 TO 17"));
        args.to = "2026-04-18T12:00:00Z".parse().unwrap();
        assert!(reset_statement(&args).ends_with(" TO TIMESTAMP '2026-04-18T12:00:00Z'"));
    }

    #[test]
    fn a_position_is_a_word_a_number_or_a_time() {
        assert_eq!("latest".parse(), Ok(Target::Latest));
        for wrong in ["", "-1", "yesterday", "2026-04-18"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_topic_is_named() {
        assert_eq!(
            no_topic("demo.nope").to_string(),
            "there is no topic \"demo.nope\""
        );
    }
}
