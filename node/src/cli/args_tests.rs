use clap::{CommandFactory, Parser};

use super::error::CliError;
use super::*;

/// Stands for the program's own parser, which adds `serve`.
#[derive(Debug, Parser)]
#[command(name = "duet")]
struct Program {
    #[command(subcommand)]
    command: Command,
}

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("duet").chain(line.split_whitespace());
    Program::try_parse_from(words).map(|program| program.command)
}

#[test]
fn the_definitions_fit_together() {
    Program::command().debug_assert();
}

#[test]
fn connection_options_stand_before_and_after_a_subcommand() {
    for line in [
        "cluster --url http://a:1 --url http://b:2 --user u --password p status",
        "cluster status --url http://a:1 --url http://b:2 --user u --password p",
        "cluster status --url http://a:1,http://b:2 --user u --password p",
    ] {
        let Command::Cluster(args) = parse(line).unwrap() else {
            panic!("{line}")
        };
        let text = format!("{args:?}");
        assert!(
            text.contains(r#"urls: ["http://a:1", "http://b:2"]"#),
            "{line}: {text}"
        );
        assert!(text.contains(r#"user: Some("u")"#), "{line}: {text}");
    }
}

#[test]
fn lines_that_make_no_sense_are_usage_errors() {
    for line in [
        "",
        "sql --format xml",
        "sql -c SELECT -f file",
        "topic",
        "topic describe",
        "topic reset t g",
        "topic reset t g --to yesterday",
        "topic tail t --from x",
        "cluster promote one",
        "cluster add",
        "cluster replace",
        "cluster replace two",
        "cluster status --watch --json",
        "demo --forever",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn lines_that_make_sense() {
    for line in [
        "sql",
        "sql -c SELECT --format csv",
        "sql -f - --token t",
        "topic list",
        "topic describe demo.t",
        "topic tail demo.t -f -n 5 --partition 1 --format json",
        "topic tail demo.t --from earliest",
        "topic groups demo.t",
        "topic lag demo.t g",
        "topic reset demo.t g --to 2026-04-18T12:00:00Z --partition 0 --yes",
        "cluster status --json",
        "cluster members",
        "cluster add --rpc h:1 --http http://h:2 --node-id 4 --learner",
        "cluster promote 4",
        "cluster remove 4 --yes",
        "cluster replace 2 --yes",
        "cluster replace 2 4 --timeout 60 --url http://h:1",
        "cluster drain",
        "cluster drain 3",
        "cluster doctor",
        "cluster recover --data-dir /d --yes",
        "cluster status --watch",
        "cluster transfer-leader 2",
        "cluster snapshot",
        "demo --keep",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn exit_codes() {
    assert_eq!(CliError::Usage("x".into()).exit_code(), 2);
    assert_eq!(
        CliError::Client(client::Error::Configuration("x".into())).exit_code(),
        2
    );
    let unreachable = client::Error::Unreachable { tried: Vec::new() };
    assert_eq!(CliError::Client(unreachable).exit_code(), 1);
    assert_eq!(CliError::Declined.exit_code(), 1);
}
