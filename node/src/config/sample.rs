//! `duet serve --print-config`: a configuration file with every option, made from the options' own
//! definitions. `deploy/duet.toml` is its output, and a test says when it is no more.

use std::any::TypeId;
use std::fmt::Write;

use clap::{Arg, Args, Command};

use super::ServeArgs;

const HEAD: &str = "\
# Every option of `duet serve`, for `duet serve --config FILE`; all are commented out.
# A flag wins over the environment, the environment over this file, this file over the default.
# An unknown key is an error that names it.
#
# Made by `duet serve --print-config`.
";

/// The text of the file.
pub fn render() -> String {
    let mut out = HEAD.to_owned();
    for arg in options() {
        let id = arg.get_id().as_str();
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let hidden = arg.is_hide_set();
        let flag = arg.get_long().filter(|_| !hidden);
        let names = flag
            .map(|flag| format!("--{flag}"))
            .into_iter()
            .chain(environment(&arg));
        let names: Vec<String> = names.collect();
        let text = format!(
            "\n# {help}\n# {}\n#{id} = {}\n",
            names.join(", "),
            value(&arg)
        );
        if out.write_str(&text).is_err() {
            unreachable!("writing to a String cannot fail");
        }
    }
    out
}

/// The options that a file can hold: all but the file's own name and what only prints.
fn options() -> impl Iterator<Item = Arg> {
    let command = ServeArgs::augment_args(Command::new("serve"));
    let args: Vec<Arg> = command.get_arguments().cloned().collect();
    args.into_iter()
        .filter(|arg| !matches!(arg.get_id().as_str(), "config" | "print_config"))
}

fn environment(arg: &Arg) -> Option<String> {
    Some(arg.get_env()?.to_str()?.to_owned())
}

/// The default as its help says it, if that is a value and not a description.
fn default_value(arg: &Arg) -> Option<String> {
    let help = arg.get_help()?.to_string();
    let (_, rest) = help.split_once("[default: ")?;
    let value = rest.split(']').next()?;
    (!value.contains([' ', '<'])).then(|| value.to_owned())
}

/// The default, or an example where there is none.
fn value(arg: &Arg) -> String {
    let default = default_value(arg);
    let kind = arg.get_value_parser().type_id();
    if kind == TypeId::of::<bool>() {
        return "false".to_owned();
    }
    let numeric = [
        TypeId::of::<u64>(),
        TypeId::of::<u32>(),
        TypeId::of::<u16>(),
        TypeId::of::<u8>(),
    ];
    if numeric.iter().any(|number| kind == *number) {
        return default.unwrap_or_else(|| "1".to_owned());
    }
    let possible = arg.get_possible_values();
    let text = default
        .or_else(|| Some(possible.last()?.get_name().to_owned()))
        .unwrap_or_else(|| example(arg));
    match arg.get_value_delimiter() {
        Some(_) => format!("[\"{text}\"]"),
        None => format!("\"{text}\""),
    }
}

fn example(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let name = names.first().map_or("", |name| name.as_str());
    match name {
        "HOST:PORT" => "10.0.0.1:9188".to_owned(),
        "URL" => "http://10.0.0.1:8080".to_owned(),
        "FILE" => format!("/etc/duet/{}.pem", arg.get_long().unwrap_or("file")),
        _ => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::FileConfig;
    use super::*;

    const SAMPLE: &str = include_str!("../../../deploy/duet.toml");
    const README: &str = include_str!("../../../README.md");

    #[test]
    fn the_sample_configuration_is_what_the_options_are() {
        let text = "deploy/duet.toml is old: duet serve --print-config > deploy/duet.toml";
        assert!(SAMPLE == render(), "{text}");
    }

    #[test]
    fn every_line_of_the_sample_can_be_used() {
        let mut keys = BTreeSet::new();
        let mut text = String::new();
        for line in render().lines() {
            let assignment = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
            if let Some((key, _)) = assignment.and_then(|rest| rest.split_once(" = ")) {
                keys.insert(key.to_owned());
                text.push_str(&line[1..]);
                text.push('\n');
            }
        }
        toml::from_str::<FileConfig>(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(
            keys,
            file_keys(),
            "a key has no option, or an option no key"
        );
    }

    /// What the file may hold, as the refusal of something else says.
    fn file_keys() -> BTreeSet<String> {
        let refused = toml::from_str::<FileConfig>("no_such_key = 1").expect_err("must be refused");
        let text = refused.message().to_owned();
        let (_, known) = text
            .split_once("expected one of")
            .expect("says what is known");
        let quoted = known.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    }

    #[test]
    fn the_readme_names_every_option_with_its_default() {
        let rows = readme_rows();
        let command = ServeArgs::augment_args(Command::new("serve"));
        let shown = command
            .get_arguments()
            .filter(|arg| arg.get_id() != "print_config");
        let mut expected = BTreeSet::new();
        for arg in shown {
            let flag = arg.get_long().filter(|_| !arg.is_hide_set());
            let name = (
                flag.map_or(String::new(), |flag| format!("--{flag}")),
                environment(arg).unwrap_or_default(),
            );
            let row = rows
                .iter()
                .find(|row| (&row.0, &row.1) == (&name.0, &name.1));
            let default = row.map_or("", |row| row.2.as_str());
            if let Some(wanted) = default_value(arg) {
                assert!(
                    default.contains(&wanted),
                    "{name:?}: {default} is not {wanted}"
                );
            }
            expected.insert(name);
        }
        let named: BTreeSet<_> = rows.into_iter().map(|row| (row.0, row.1)).collect();
        assert_eq!(named, expected);
    }

    /// Flag, variable and default of each row of the table.
    fn readme_rows() -> Vec<(String, String, String)> {
        let (_, rest) = README
            .split_once("\n## Configuration\n")
            .expect("the section");
        let section = rest.split("\n## ").next().unwrap_or_default();
        let rows = section
            .lines()
            .filter(|line| line.contains("`DUET_") && line.starts_with('|'));
        let name = |cell: &str| {
            let quoted = cell.split('`').nth(1).unwrap_or_default();
            quoted
                .split([' ', '/'])
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        rows.map(|row| {
            let row = row.replace("\\|", "/");
            let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
            (name(cells[0]), name(cells[1]), cells[2].trim().to_owned())
        })
        .collect()
    }
}
