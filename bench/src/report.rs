//! Results as a person and as a program reads them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::recorder::Recorder;

/// One measured step.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was run.
    pub workload: &'static str,
    /// How, e.g. `clients` and `64`.
    pub settings: Vec<(&'static str, Value)>,
    /// Measured wall time.
    pub elapsed: Duration,
    /// Quantities of which the report shows how many there were a second.
    pub amounts: Vec<Amount>,
    /// Latencies and errors.
    pub recorder: Recorder,
    /// Cores that processes kept busy on average.
    pub cores: Vec<(String, f64)>,
    /// What was checked and found true, e.g. that offsets are dense.
    pub verified: Option<String>,
}

/// A quantity of work done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amount {
    /// E.g. `inserts` or `MB`.
    pub unit: &'static str,
    /// How many.
    pub amount: f64,
}

impl Report {
    /// Text for a person: one line, and a second one, indented, about the processes.
    pub fn text(&self) -> String {
        let mut line = format!("{:<13}", self.workload);
        for (name, value) in &self.settings {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            line += &format!(" {name} {value:>3} ");
        }
        line += "|";
        for amount in &self.amounts {
            let (unit, rate) = (amount.unit, self.rate(*amount));
            line += &format!(" {rate:>9.1} {unit}/s");
        }
        match self.recorder.latency() {
            Some(latency) => {
                line += &format!(
                    " | ms p50 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2}",
                    latency.p50_ms, latency.p99_ms, latency.p999_ms, latency.max_ms
                );
            }
            None => line += " | no latencies",
        }
        line += &format!(
            " | {} ok in {:.2} s",
            self.recorder.successes(),
            self.elapsed.as_secs_f64()
        );
        line += &format!(", errors: {}", self.errors_text());
        if let Some(verified) = &self.verified {
            line += &format!(" | {verified}");
        }
        if !self.cores.is_empty() {
            let cores: Vec<String> = self
                .cores
                .iter()
                .map(|(name, cores)| format!("{name} {cores:.2}"))
                .collect();
            line += &format!("\n{:<14}cores: {}", "", cores.join(", "));
        }
        line
    }

    /// One JSON object.
    pub fn json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        put("workload", json!(self.workload));
        for (name, value) in &self.settings {
            put(name, value.clone());
        }
        put("seconds", json!(self.elapsed.as_secs_f64()));
        put("ok", json!(self.recorder.successes()));
        for amount in &self.amounts {
            put(amount.unit, json!(amount.amount));
            put(&format!("{}_per_s", amount.unit), json!(self.rate(*amount)));
        }
        if let Some(latency) = self.recorder.latency() {
            put("p50_ms", json!(latency.p50_ms));
            put("p99_ms", json!(latency.p99_ms));
            put("p999_ms", json!(latency.p999_ms));
            put("max_ms", json!(latency.max_ms));
        }
        put("errors", json!(self.recorder.errors()));
        let cores: Map<String, Value> = self
            .cores
            .iter()
            .map(|(name, cores)| (name.clone(), json!(cores)))
            .collect();
        put("cores", Value::Object(cores));
        if let Some(verified) = &self.verified {
            put("verified", json!(verified));
        }
        Value::Object(object)
    }

    fn rate(&self, amount: Amount) -> f64 {
        amount.amount / self.elapsed.as_secs_f64()
    }

    fn errors_text(&self) -> String {
        let errors = self.recorder.errors();
        if errors.is_empty() {
            return "none".into();
        }
        let errors = errors.iter().map(|(code, count)| format!("{code} {count}"));
        errors.collect::<Vec<_>>().join(", ")
    }
}

/// Where results go: standard output.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    /// Each result also as a JSON object on a line of its own.
    pub json: bool,
}

impl Printer {
    pub fn report(self, report: &Report) {
        println!("{}", report.text());
        if self.json {
            println!("{}", report.json());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Failure;

    fn report() -> Report {
        let mut recorder = Recorder::default();
        for ms in 1..=4 {
            recorder.success(Duration::from_millis(ms));
        }
        recorder.failure(&Failure::BROKEN, true);
        Report {
            workload: "insert",
            settings: vec![("clients", json!(16))],
            elapsed: Duration::from_millis(2_000),
            amounts: vec![Amount {
                unit: "inserts",
                amount: 4.0,
            }],
            recorder,
            cores: vec![("client".into(), 0.25)],
            verified: Some("4 messages".into()),
        }
    }

    #[test]
    fn text() {
        assert_eq!(
            report().text(),
            "insert        clients  16 |       2.0 inserts/s | ms p50 2.00  p99 4.00  p99.9 4.00  \
             max 4.00 | 4 ok in 2.00 s, errors: CONNECTION_BROKEN 1 | 4 messages\n              \
             cores: client 0.25"
        );
    }

    #[test]
    fn json_object() {
        let json = report().json();
        assert_eq!(json["workload"], "insert");
        assert_eq!(json["clients"], 16);
        assert_eq!(json["seconds"], 2.0);
        assert_eq!(json["inserts"], 4.0);
        assert_eq!(json["inserts_per_s"], 2.0);
        assert_eq!(json["errors"], json!({"CONNECTION_BROKEN": 1}));
        assert_eq!(json["cores"]["client"], 0.25);
        assert_eq!(json["verified"], "4 messages");
    }

    #[test]
    fn a_step_in_which_nothing_worked_has_no_latencies() {
        let mut report = report();
        report.recorder = Recorder::default();
        report.amounts[0].amount = 0.0;
        assert!(
            report
                .text()
                .contains("0.0 inserts/s | no latencies | 0 ok")
        );
        assert_eq!(report.json().get("p50_ms"), None);
    }
}
