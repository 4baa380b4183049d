//! What the demonstration shows: who sent what to which node, and what came back.

use std::io::{IsTerminal, stdout};
use std::time::Instant;

const BOLD: &str = "\u{1b}[1m";
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// Prints the steps.
pub struct Screen {
    started: Instant,
    colour: bool,
}

impl Screen {
    /// Starts the clock that the last line shows.
    pub fn start() -> Screen {
        Screen {
            started: Instant::now(),
            colour: stdout().is_terminal(),
        }
    }

    /// A new part of the story.
    pub fn chapter(&self, title: &str) {
        println!("\n{}{title}{}", self.style(BOLD), self.style(PLAIN));
    }

    /// Something that happened to the cluster.
    pub fn event(&self, text: &str) {
        println!("  {text}");
    }

    /// Something that was sent. Nodes are counted from 0 here and from 1 for people.
    pub fn sent(&self, who: &str, node: usize, what: &str) {
        println!("  {who:>8} → node {}   {}", node + 1, one_line(what));
    }

    /// What came back.
    pub fn came_back(&self, what: &str) {
        println!(
            "  {:>18}   {}{what}{}",
            "←",
            self.style(DIM),
            self.style(PLAIN)
        );
    }

    /// The last line.
    pub fn end(&self) {
        println!(
            "\n{}Rows and messages agree on all nodes.{} ({:.1} s)",
            self.style(BOLD),
            self.style(PLAIN),
            self.started.elapsed().as_secs_f64()
        );
    }

    fn style(&self, code: &'static str) -> &'static str {
        if self.colour { code } else { "" }
    }
}

/// A statement without the line breaks it was written with.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
