//! Prometheus' text form, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::{Display, Write};

use types::histogram::Distribution;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric: all of its samples stand together in the text, behind what it means.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Labels of a sample, by name.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// What the values of a histogram are in, and are shown in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds, shown as seconds.
    Nanoseconds,
    /// A count, shown as it is.
    Count,
}

impl Family {
    /// What only grows while the process runs. Its name ends in `_total`.
    pub const fn counter(name: &'static str, help: &'static str) -> Family {
        let kind = Kind::Counter;
        Family { name, kind, help }
    }

    /// What goes up and down.
    pub const fn gauge(name: &'static str, help: &'static str) -> Family {
        let kind = Kind::Gauge;
        Family { name, kind, help }
    }

    /// How often values of which size were seen.
    pub const fn histogram(name: &'static str, help: &'static str) -> Family {
        let kind = Kind::Histogram;
        Family { name, kind, help }
    }
}

/// The text as it grows.
#[derive(Default)]
pub struct Text(String);

/// Takes the samples of one family.
pub struct Samples<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl Text {
    /// Begins a family, which must not have been begun before.
    pub fn family(&mut self, family: &Family) -> Samples<'_> {
        let Family { name, kind, help } = *family;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        line(&mut self.0, format_args!("# HELP {name} {help}"));
        line(&mut self.0, format_args!("# TYPE {name} {kind}"));
        Samples {
            out: &mut self.0,
            name,
        }
    }

    /// A family with one sample without labels.
    pub fn one(&mut self, family: &Family, value: impl Display) {
        self.family(family).add(&[], value);
    }

    /// All of it.
    pub fn finish(self) -> String {
        self.0
    }
}

impl Samples<'_> {
    /// A sample. No two of a family have the same labels.
    pub fn add(&mut self, labels: Labels<'_>, value: impl Display) {
        self.write("", labels, None, value);
    }

    /// The samples of a histogram.
    pub fn distribution(&mut self, labels: Labels<'_>, seen: &Distribution, unit: Unit) {
        let mut below = 0;
        for (bound, count) in seen.bounds.iter().zip(&seen.counts) {
            below += count;
            let bound = unit.show(*bound);
            self.write("_bucket", labels, Some(&bound), below);
        }
        let count = seen.count();
        self.write("_bucket", labels, Some("+Inf"), count);
        self.write("_sum", labels, None, unit.show(seen.sum));
        self.write("_count", labels, None, count);
    }

    fn write(&mut self, suffix: &str, labels: Labels<'_>, le: Option<&str>, value: impl Display) {
        let all = labels.iter().copied().chain(le.map(|bound| ("le", bound)));
        let all: Vec<String> = all
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let name = self.name;
        if all.is_empty() {
            line(self.out, format_args!("{name}{suffix} {value}"));
        } else {
            let all = all.join(",");
            line(self.out, format_args!("{name}{suffix}{{{all}}} {value}"));
        }
    }
}

impl Unit {
    fn show(self, value: u64) -> String {
        match self {
            // Beyond 2^53 ns, which is a hundred days, the last digits do not matter.
            Unit::Nanoseconds => (value as f64 / 1e9).to_string(),
            Unit::Count => value.to_string(),
        }
    }
}

/// A label's value, as it stands between its quotes.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    if writeln!(out, "{text}").is_err() {
        unreachable!("writing to a String cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use types::histogram::Histogram;

    use super::*;

    #[test]
    fn a_family_says_what_it_is_before_its_samples() {
        const FAMILY: Family = Family::gauge("a_bytes", "Bytes of a.");
        let mut text = Text::default();
        let mut samples = text.family(&FAMILY);
        samples.add(&[], 1);
        samples.add(&[("b", "c"), ("d", "x\\\"\ny")], 0.5);
        let expected = "# HELP a_bytes Bytes of a.\n# TYPE a_bytes gauge\na_bytes 1\n\
                        a_bytes{b=\"c\",d=\"x\\\\\\\"\\ny\"} 0.5\n";
        assert_eq!(text.finish(), expected);
    }

    #[test]
    fn buckets_are_cumulative_and_in_seconds() {
        const FAMILY: Family = Family::histogram("a_seconds", "Time of a.");
        let histogram = Histogram::new(&[1_000_000, 2_500_000_000]);
        for ns in [500_000, 500_000, 2_000_000, 3_000_000_000] {
            histogram.observe(ns);
        }
        let mut text = Text::default();
        let mut samples = text.family(&FAMILY);
        samples.distribution(&[("b", "c")], &histogram.read(), Unit::Nanoseconds);
        let expected = "# HELP a_seconds Time of a.\n# TYPE a_seconds histogram\n\
                        a_seconds_bucket{b=\"c\",le=\"0.001\"} 2\n\
                        a_seconds_bucket{b=\"c\",le=\"2.5\"} 3\n\
                        a_seconds_bucket{b=\"c\",le=\"+Inf\"} 4\n\
                        a_seconds_sum{b=\"c\"} 3.003\n\
                        a_seconds_count{b=\"c\"} 4\n";
        assert_eq!(text.finish(), expected);
    }
}
