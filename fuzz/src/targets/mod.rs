//! The targets, one file for each side that bytes come from.

mod apply;
mod bodies;
mod keys;
mod log;
mod messages;
mod records;
mod rows;
mod rpc;
mod sql;

use crate::Target;

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "sql_parse",
        run: sql::parse,
        seeds: sql::seeds,
        tries: 6_000,
    },
    Target {
        name: "sql_plan",
        run: sql::plan,
        seeds: sql::seeds,
        tries: 3_000,
    },
    Target {
        name: "bodies",
        run: bodies::run,
        seeds: bodies::seeds,
        tries: 20_000,
    },
    Target {
        name: "rpc",
        run: rpc::run,
        seeds: rpc::seeds,
        tries: 20_000,
    },
    Target {
        name: "log",
        run: log::run,
        seeds: log::seeds,
        tries: 20_000,
    },
    Target {
        name: "apply",
        run: apply::run,
        seeds: apply::seeds,
        tries: 8_000,
    },
    Target {
        name: "keys",
        run: keys::run,
        seeds: keys::seeds,
        tries: 10_000,
    },
    Target {
        name: "rows",
        run: rows::run,
        seeds: rows::seeds,
        tries: 20_000,
    },
    Target {
        name: "messages",
        run: messages::run,
        seeds: messages::seeds,
        tries: 10_000,
    },
    Target {
        name: "records",
        run: records::run,
        seeds: records::seeds,
        tries: 20_000,
    },
];
