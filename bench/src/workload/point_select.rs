//! SELECTs of one row by primary key.

use api::paths;
use api::topics::{ConsumeRequest, StartPosition};
use bytes::Bytes;
use serde_json::json;

use super::{Bench, TABLE, TOPIC, sql_success};
use crate::args::PointSelectArgs;
use crate::bodies::{self, Bodies, Numbers};
use crate::connection::Reply;
use crate::error::BenchError;
use crate::recorder::Failure;
use crate::report::{Amount, Report};
use crate::step::{self, Work};

/// Ids taken from one place of the topic.
const IDS_PER_PLACE: u64 = 100;

/// Chooses ids that exist and runs a step for each number of clients.
pub async fn run(bench: &Bench, args: &PointSelectArgs) -> Result<(), BenchError> {
    let ids = existing_ids(bench, args.keys).await?;
    let bodies = bodies::point_selects(TABLE, &ids);
    let mut endpoints = bench.endpoints(paths::SQL)?;
    for endpoint in &mut endpoints {
        endpoint.template = endpoint.template.clone().consistency(args.consistency);
    }
    for &clients in &args.steps.clients {
        let work = (0..u64::from(clients))
            .map(|client| PointSelects {
                bodies: bodies.clone(),
                numbers: Numbers::new(client),
            })
            .collect();
        let length = args.steps.length();
        let measured = step::run(&endpoints, work, length, &bench.processes).await?;
        let report = Report {
            workload: "point-select",
            settings: vec![
                ("clients", json!(clients)),
                ("consistency", json!(args.consistency.as_str())),
                ("keys", json!(ids.len())),
            ],
            elapsed: measured.elapsed,
            amounts: vec![Amount {
                unit: "selects",
                amount: measured.recorder.successes() as f64,
            }],
            recorder: measured.recorder,
            cores: measured.cores,
            verified: None,
        };
        bench.printer.report(&report);
    }
    Ok(())
}

/// About `count` ids from all over the table: the keys of messages at evenly spread offsets.
async fn existing_ids(bench: &Bench, count: u64) -> Result<Vec<String>, BenchError> {
    let end = bench.next_offset().await?;
    let mut ids = Vec::new();
    for offset in places(end, count) {
        let request = ConsumeRequest {
            topic_id: TOPIC.into(),
            start: Some(StartPosition::Offset(offset)),
            limit: Some(IDS_PER_PLACE as u32),
            timeout_seconds: Some(0),
            ..ConsumeRequest::default()
        };
        let answer = bench.client.consume(&request).await?.body;
        ids.extend(
            answer
                .messages
                .into_iter()
                .filter_map(|message| message.key),
        );
    }
    // The places of a short topic overlap.
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    if ids.is_empty() {
        return Err(BenchError::Empty(TOPIC.into()));
    }
    Ok(ids)
}

/// Offsets below `end` from where to read [`IDS_PER_PLACE`] messages each.
fn places(end: u64, count: u64) -> impl Iterator<Item = u64> {
    let places = count.min(end).div_ceil(IDS_PER_PLACE);
    (0..places).map(move |place| {
        let offset = u128::from(place) * u128::from(end) / u128::from(places);
        u64::try_from(offset).expect("it is below `end`")
    })
}

/// One client's choice of rows.
struct PointSelects {
    bodies: Bodies,
    numbers: Numbers,
}

impl Work for PointSelects {
    fn next(&mut self) -> Bytes {
        self.bodies[self.numbers.below(self.bodies.len())].clone()
    }

    fn check(&mut self, reply: &Reply) -> Result<(), Failure> {
        let response = sql_success(reply)?;
        let rows = response.results.iter().flat_map(|result| &result.rows);
        match rows.flatten().count() {
            1 => Ok(()),
            _ => Err(Failure::WRONG_ANSWER),
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    #[test]
    fn places_are_evenly_spread() {
        assert_eq!(
            places(100_000, 300).collect::<Vec<_>>(),
            [0, 33_333, 66_666]
        );
        assert_eq!(places(150, 10_000).collect::<Vec<_>>(), [0, 75]);
        assert_eq!(places(10, 10_000).collect::<Vec<_>>(), [0]);
        assert_eq!(places(0, 10_000).count(), 0);
    }

    #[test]
    fn only_exactly_one_row_is_a_good_answer() {
        let mut work = PointSelects {
            bodies: bodies::point_selects(TABLE, &["a".into()]),
            numbers: Numbers::new(0),
        };
        let mut check = |rows: serde_json::Value| {
            let results = json!([{"rows": rows, "row_count": 1}]);
            let body = json!({"status": "success", "results": results, "took": 1.0});
            work.check(&Reply {
                status: StatusCode::OK,
                body: body.to_string().into(),
            })
        };
        assert_eq!(check(json!([["a"]])), Ok(()));
        assert_eq!(check(json!([])), Err(Failure::WRONG_ANSWER));
        assert_eq!(check(json!([["a"], ["b"]])), Err(Failure::WRONG_ANSWER));
    }
}
