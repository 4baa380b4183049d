//! Server-sent events as a browser reads them (HTML standard, §9.2), as far as the tests need it.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

/// No test waits longer for an event.
const EVENT_MAX: Duration = Duration::from_secs(30);

/// An open stream.
#[derive(Debug)]
pub struct Events {
    response: Response,
    /// What came and is not a whole event yet.
    rest: String,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name; empty for a message.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its data as JSON.
    pub data: Value,
}

impl Events {
    /// Reads a response; it must be a stream of events.
    pub fn new(response: Response) -> Events {
        let kind = response.headers().get("content-type");
        let kind = kind.map(reqwest::header::HeaderValue::as_bytes);
        assert_eq!(
            (response.status().as_u16(), kind),
            (200, Some(&b"text/event-stream"[..])),
            "{response:?}"
        );
        Events {
            response,
            rest: String::new(),
        }
    }

    /// The next event; none if the stream ended, or broke as it does when its node is killed.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.rest.split_once("\n\n") {
                let event = event(block);
                self.rest = rest.to_owned();
                if let Some(event) = event {
                    return Some(event);
                }
            }
            let chunk = tokio::time::timeout(EVENT_MAX, self.response.chunk()).await;
            let chunk = chunk.expect("an event, or the stream's end, in time");
            let text = chunk.ok().flatten()?;
            self.rest
                .push_str(std::str::from_utf8(&text).expect("events are UTF-8"));
        }
    }

    /// The next events, which must come.
    pub async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::with_capacity(count);
        for number in 0..count {
            let event = self.next().await;
            events.push(event.unwrap_or_else(|| panic!("ended after {number} of {count}")));
        }
        events
    }
}

/// The event of a block of lines; none if it is a comment.
fn event(block: &str) -> Option<Event> {
    let field = |name: &str| -> Option<String> {
        let values = block
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let values: Vec<&str> = values.collect();
        (!values.is_empty()).then(|| values.join("\n"))
    };
    let data = field("data")?;
    Some(Event {
        name: field("event").unwrap_or_default(),
        id: field("id").unwrap_or_default(),
        data: serde_json::from_str(&data).unwrap_or_else(|e| panic!("{e}: {data}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_events() {
        assert_eq!(event(":\n"), None);
        let read = event("event: error\nid: 0:7\ndata: {\"a\":1}").unwrap();
        assert_eq!((read.name.as_str(), read.id.as_str()), ("error", "0:7"));
        assert_eq!(read.data["a"], 1);
    }
}
