//! Single-row INSERTs into a routed table, and the proof that each acknowledged row made exactly
//! one message.

use api::paths;
use bytes::Bytes;
use serde_json::json;

use super::{Bench, TABLE, TOPIC, schema, sql_success};
use crate::args::InsertArgs;
use crate::bodies::{self, Bodies};
use crate::connection::Reply;
use crate::error::BenchError;
use crate::recorder::Failure;
use crate::report::{Amount, Report};
use crate::step::{self, Measured, Work};

/// Makes the table and runs a step for each number of clients.
pub async fn run(bench: &Bench, args: &InsertArgs) -> Result<(), BenchError> {
    schema::create(bench).await?;
    let bodies = bodies::inserts(TABLE);
    let endpoints = bench.endpoints(paths::SQL)?;
    for &clients in &args.steps.clients {
        let work = (0..clients as usize)
            .map(|client| Inserts::new(bodies.clone(), client))
            .collect();
        let before = bench.next_offset().await?;
        let length = args.steps.length();
        let measured = step::run(&endpoints, work, length, &bench.processes).await?;
        let after = bench.next_offset().await?;
        let (offsets, unknown) = outcomes(&measured);
        let verified = verify(before, after, offsets, unknown);
        let report = Report {
            workload: "insert",
            settings: vec![("clients", json!(clients))],
            elapsed: measured.elapsed,
            amounts: vec![Amount {
                unit: "inserts",
                amount: measured.recorder.successes() as f64,
            }],
            recorder: measured.recorder,
            cores: measured.cores,
            verified: verified.as_ref().ok().map(Verified::text),
        };
        bench.printer.report(&report);
        verified?;
    }
    Ok(())
}

/// One client's inserts.
struct Inserts {
    bodies: Bodies,
    next: usize,
    /// Offset of the message of each acknowledged row, warm-up included.
    offsets: Vec<u64>,
    /// Rows that may be there although nobody said so.
    unknown: u64,
}

impl Inserts {
    fn new(bodies: Bodies, client: usize) -> Inserts {
        // An odd stride, so that clients do not send the same rows at the same time.
        let next = client.wrapping_mul(37) % bodies.len();
        Inserts {
            bodies,
            next,
            offsets: Vec::new(),
            unknown: 0,
        }
    }
}

impl Work for Inserts {
    fn next(&mut self) -> Bytes {
        let body = self.bodies[self.next].clone();
        self.next = (self.next + 1) % self.bodies.len();
        body
    }

    fn check(&mut self, reply: &Reply) -> Result<(), Failure> {
        self.offsets.push(message_offset(reply)?);
        Ok(())
    }

    fn failed(&mut self, failure: &Failure) {
        self.unknown += u64::from(failure.maybe_applied);
    }
}

/// The offset of the one message that one row made, as its receipt says.
fn message_offset(reply: &Reply) -> Result<u64, Failure> {
    let response = sql_success(reply)?;
    let [result] = &response.results[..] else {
        return Err(Failure::WRONG_ANSWER);
    };
    match result.receipt.as_ref().map(|receipt| &receipt.messages[..]) {
        Some([range]) if range.count == 1 && range.topic_id == TOPIC && result.row_count == 1 => {
            Ok(range.first_offset)
        }
        _ => Err(Failure::WRONG_ANSWER),
    }
}

fn outcomes(measured: &Measured<Inserts>) -> (Vec<u64>, u64) {
    let offsets = measured.work.iter().flat_map(|work| &work.offsets).copied();
    let unknown = measured.work.iter().map(|work| work.unknown).sum();
    (offsets.collect(), unknown)
}

/// Rows and messages of a step, warm-up included, that fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verified {
    acknowledged: u64,
    /// Rows without an answer that are there.
    found: u64,
}

impl Verified {
    fn text(&self) -> String {
        let mut text = format!("{} rows acked = messages, dense", self.acknowledged);
        if self.found > 0 {
            text += &format!(" (and {} of unknown outcome)", self.found);
        }
        text
    }
}

/// How rows and messages can disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Discrepancy {
    #[error("two rows were told the offset {0}")]
    Twice(u64),
    #[error("a row was told the offset {0}, which the topic did not give out meanwhile")]
    Outside(u64),
    #[error("{messages} messages for {rows} acknowledged rows and {unknown} of unknown outcome")]
    Surplus {
        messages: u64,
        rows: u64,
        unknown: u64,
    },
}

/// Checks that the offsets of `before..after` are those of the acknowledged rows, each once, and
/// at most of `unknown` others. Only this program may write to the topic meanwhile.
fn verify(
    before: u64,
    after: u64,
    mut offsets: Vec<u64>,
    unknown: u64,
) -> Result<Verified, Discrepancy> {
    offsets.sort_unstable();
    if let Some(pair) = offsets.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Discrepancy::Twice(pair[0]));
    }
    let outside = |offset: &&u64| !(before..after).contains(*offset);
    if let Some(offset) = offsets.iter().find(outside) {
        return Err(Discrepancy::Outside(*offset));
    }
    let rows = offsets.len() as u64;
    let messages = after - before;
    let found = messages - rows;
    if found > unknown {
        return Err(Discrepancy::Surplus {
            messages,
            rows,
            unknown,
        });
    }
    Ok(Verified {
        acknowledged: rows,
        found,
    })
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use serde_json::Value;

    use super::*;

    #[test]
    fn acknowledged_rows_fill_the_offsets() {
        let verified = verify(10, 13, vec![12, 10, 11], 0).unwrap();
        assert_eq!(verified.text(), "3 rows acked = messages, dense");
        assert_eq!(verify(10, 10, vec![], 5).unwrap().found, 0);
    }

    #[test]
    fn an_unknown_outcome_may_be_there_or_not() {
        let verified = verify(0, 3, vec![0, 2], 1).unwrap();
        assert_eq!(
            verified.text(),
            "2 rows acked = messages, dense (and 1 of unknown outcome)"
        );
        assert_eq!(verify(0, 2, vec![0, 1], 1).unwrap().found, 0);
    }

    #[test]
    fn a_lost_a_double_and_a_surplus_message_are_found() {
        assert_eq!(verify(0, 2, vec![0, 1, 2], 0), Err(Discrepancy::Outside(2)));
        assert_eq!(verify(5, 6, vec![4], 0), Err(Discrepancy::Outside(4)));
        assert_eq!(verify(0, 2, vec![1, 1], 0), Err(Discrepancy::Twice(1)));
        let surplus = Discrepancy::Surplus {
            messages: 3,
            rows: 1,
            unknown: 1,
        };
        assert_eq!(verify(0, 3, vec![0], 1), Err(surplus));
    }

    fn reply(result: &Value) -> Reply {
        let body = json!({"status": "success", "results": [result], "took": 1.0});
        Reply {
            status: StatusCode::OK,
            body: body.to_string().into(),
        }
    }

    #[test]
    fn only_one_row_with_one_message_is_a_good_answer() {
        let range = |count: u64, topic: &str| {
            let place = json!({"topic_id": topic, "partition_id": 0, "first_offset": 7});
            let mut range = place.as_object().unwrap().clone();
            range.insert("count".into(), json!(count));
            range
        };
        let result = |rows: u64, ranges: Value| {
            let receipt = json!({"index": 3, "messages": ranges});
            reply(&json!({"row_count": rows, "receipt": receipt}))
        };
        assert_eq!(message_offset(&result(1, json!([range(1, TOPIC)]))), Ok(7));
        for wrong in [
            result(0, json!([range(1, TOPIC)])),
            result(1, json!([range(2, TOPIC)])),
            result(1, json!([range(1, "bench.other")])),
            result(1, json!([])),
            reply(&json!({"row_count": 1})),
        ] {
            assert_eq!(message_offset(&wrong), Err(Failure::WRONG_ANSWER));
        }
    }

    #[test]
    fn clients_go_through_all_bodies_from_different_ones() {
        let bodies = bodies::inserts(TABLE);
        let mut first = Inserts::new(bodies.clone(), 0);
        let mut second = Inserts::new(bodies.clone(), 1);
        assert_ne!(first.next(), second.next());
        for _ in 1..bodies.len() {
            first.next();
        }
        assert_eq!(first.next(), bodies[0]);
    }
}
