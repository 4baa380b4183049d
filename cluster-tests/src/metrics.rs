//! Reads the text of `GET /metrics` as strictly as its form is defined
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::{BTreeMap, BTreeSet};

use crate::Api;

/// The samples of one answer, by series: `name{label="value",…}` as written.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: BTreeMap<String, f64>,
}

/// A family while its lines are read.
#[derive(Default)]
struct Family {
    name: String,
    kind: Option<String>,
}

impl Metrics {
    /// The metrics of a node; none if it does not answer.
    pub async fn of(api: &Api, url: &str) -> Option<Metrics> {
        let text = api.try_text_from(url, "/metrics").await?;
        let metrics = Metrics::parse(&text);
        Some(metrics.unwrap_or_else(|wrong| panic!("{wrong}\n{text}")))
    }

    /// The samples; an error names the first line that is not as it must be.
    pub fn parse(text: &str) -> Result<Metrics, String> {
        let mut metrics = Metrics::default();
        let mut family = Family::default();
        let mut seen = BTreeSet::new();
        if !text.ends_with('\n') {
            return Err("the last line has no end".into());
        }
        for line in text.lines() {
            let wrong = |why: &str| format!("{why}: {line}");
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').ok_or_else(|| wrong("no help"))?;
                if !is_name(name) || help.is_empty() {
                    return Err(wrong("no name or no help"));
                }
                if !seen.insert(name.to_owned()) {
                    return Err(wrong("the family stands in two places"));
                }
                family = Family {
                    name: name.to_owned(),
                    kind: None,
                };
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').ok_or_else(|| wrong("no type"))?;
                let known = ["counter", "gauge", "histogram"].contains(&kind);
                if name != family.name || family.kind.is_some() || !known {
                    return Err(wrong("the type is not behind its help, or unknown"));
                }
                family.kind = Some(kind.to_owned());
            } else {
                metrics.sample(line, &family).map_err(|why| wrong(&why))?;
            }
        }
        metrics.check_histograms(text)?;
        Ok(metrics)
    }

    fn sample(&mut self, line: &str, family: &Family) -> Result<(), String> {
        let (series, value) = line.rsplit_once(' ').ok_or("no value")?;
        let value: f64 = value.parse().map_err(|_| "the value is no number")?;
        let name = series.split('{').next().unwrap_or_default();
        let kind = family.kind.as_deref().ok_or("no type before it")?;
        let suffixes: &[&str] = match kind {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let belongs = |suffix: &&str| name.strip_suffix(*suffix) == Some(&family.name);
        if !is_name(name) || !suffixes.iter().any(belongs) {
            return Err("it does not belong to the family above it".into());
        }
        if kind == "counter" && !name.ends_with("_total") {
            return Err("a counter's name ends in _total".into());
        }
        if kind != "gauge" && value < 0.0 {
            return Err("it counts and is negative".into());
        }
        if series.len() > name.len() {
            check_labels(&series[name.len()..])?;
        }
        match self.samples.insert(series.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err("the series is there twice".into()),
        }
    }

    /// Buckets ascend, and the last of them is the count.
    fn check_histograms(&self, text: &str) -> Result<(), String> {
        let mut before: Option<(&str, f64)> = None;
        for line in text.lines().filter(|line| line.contains("_bucket{")) {
            let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
            let (rest, bound) = series.split_once("le=\"").ok_or("a bucket without bound")?;
            let count = self.samples.get(series).copied().unwrap_or_default();
            let falls = before.is_some_and(|(same, last)| same == rest && count < last);
            if falls {
                return Err(format!(
                    "a bucket holds less than the one before it: {line}"
                ));
            }
            before = Some((rest, count));
            if bound.starts_with("+Inf") {
                let whole = rest.replacen("_bucket{", "_count{", 1);
                let whole = whole.trim_end_matches(',').to_owned() + "}";
                let whole = whole.replace("{}", "");
                if self.samples.get(&whole) != Some(&count) {
                    return Err(format!("{whole} is not the last bucket's count"));
                }
            }
        }
        Ok(())
    }

    /// The value of a series as it is written; panics if it is not there.
    pub fn get(&self, series: &str) -> f64 {
        self.find(series)
            .unwrap_or_else(|| panic!("no {series} in {:#?}", self.samples))
    }

    /// The value of a series as it is written.
    pub fn find(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }

    /// The sum over all labels of a name.
    pub fn sum(&self, name: &str) -> f64 {
        let of_name = |series: &str| series.split('{').next() == Some(name);
        let samples = self.samples.iter();
        samples
            .filter(|(series, _)| of_name(series))
            .map(|(_, value)| value)
            .sum()
    }
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// `{name="value",…}`, where a value escapes backslash, quote and line end.
fn check_labels(text: &str) -> Result<(), String> {
    let inner = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    let mut rest = inner.ok_or("its labels are not in braces")?;
    let mut names = BTreeSet::new();
    loop {
        let (name, value) = rest.split_once("=\"").ok_or("a label without value")?;
        if !is_name(name) || !names.insert(name) {
            return Err(format!("the label {name:?} is no name, or there twice"));
        }
        let end = end_of_value(value)?;
        rest = &value[end + 1..];
        if rest.is_empty() {
            return Ok(());
        }
        rest = rest.strip_prefix(',').ok_or("no comma between labels")?;
    }
}

/// Where the quote is that ends a label's value.
fn end_of_value(value: &str) -> Result<usize, String> {
    let mut escaped = false;
    for (at, c) in value.char_indices() {
        match (escaped, c) {
            (true, '\\' | '"' | 'n') => escaped = false,
            (true, _) => return Err("a backslash before what needs none".into()),
            (false, '\\') => escaped = true,
            (false, '"') => return Ok(at),
            (false, _) => {}
        }
    }
    Err("a label's value has no end".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n\
                        a_total{b=\"x\\\\\\\"\\n,}\"} 2\n\
                        # HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\n\
                        h_bucket{le=\"+Inf\"} 2\nh_sum 3.5\nh_count 2\n";

    #[test]
    fn what_is_right_is_read() {
        let metrics = Metrics::parse(GOOD).unwrap();
        assert_eq!(metrics.get("a_total{b=\"c\"}"), 1.0);
        assert_eq!((metrics.sum("a_total"), metrics.sum("h_sum")), (3.0, 3.5));
        assert_eq!(metrics.find("a_total"), None);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (from, to, says) in [
            ("# HELP a_total A.\n", "", "not behind its help"),
            ("# TYPE a_total counter\n", "", "no type"),
            ("a_total{b=\"c\"} 1", "a_total{b=\"c\"} one", "no number"),
            (
                "a_total{b=\"c\"} 1",
                "c_total{b=\"c\"} 1",
                "does not belong",
            ),
            ("a_total{b=\"c\"} 1", "a_total{b=\"c\"} -1", "negative"),
            ("a_total{b=\"c\"} 1", "a_total{b=c} 1", "without value"),
            ("a_total{b=\"c\"} 1", "a_total{b=\"c\",b=\"d\"} 1", "twice"),
            (
                "a_total{b=\"c\"} 1",
                "a_total{b=\"c\"} 1\na_total{b=\"c\"} 1",
                "twice",
            ),
            ("h_bucket{le=\"1\"} 1", "h_bucket{le=\"1\"} 3", "holds less"),
            ("h_count 2", "h_count 3", "last bucket"),
            ("# HELP h H.", "# HELP a_total A.", "two places"),
            ("h_count 2\n", "h_count 2", "no end"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let error = Metrics::parse(&text).expect_err(&text);
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
