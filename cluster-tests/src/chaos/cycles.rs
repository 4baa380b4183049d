//! Did these transactions on lists happen one after the other, as far as snapshot isolation and
//! more promises it? (After Adya, and Kingsbury's and Alvaro's Elle.)
//!
//! A list that is only appended to shows its whole past in each read. So the order of its writers
//! is known, and who read what of whom, and who read what somebody overwrote. What depends on each
//! other in a circle cannot have happened in any order.

use std::collections::{BTreeMap, BTreeSet};

use super::history::Outcome;

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An element that no other step appends.
    Append {
        /// The list.
        key: u64,
        /// The element.
        element: u64,
    },
    /// What a list was.
    Read {
        /// The list.
        key: u64,
        /// Its elements.
        seen: Vec<u64>,
    },
}

/// One transaction, or one statement that is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// What it did, in order. Without success: what it tried; its reads are not there.
    pub steps: Vec<Step>,
    /// What its client knows of it.
    pub outcome: Outcome,
    /// Where it stands in the log, if it wrote and was answered.
    pub index: Option<u64>,
    /// Must it show all that was answered before it began?
    pub linearizable: bool,
    /// When it began.
    pub invoke_ns: u64,
    /// When it ended.
    pub return_ns: u64,
}

/// Lists by key.
pub type Lists = BTreeMap<u64, Vec<u64>>;

/// What is wrong; nothing if such an order is possible. `finals` are the lists in the end.
pub fn violations(txns: &[Txn], finals: &Lists) -> Vec<String> {
    let mut wrong = Vec::new();
    let writers = writers(txns);
    elements(txns, &writers, finals, &mut wrong);
    for (at, txn) in txns.iter().enumerate() {
        if txn.outcome == Outcome::Ok {
            reads(at, txn, txns, &writers, finals, &mut wrong);
        }
    }
    log_order(txns, &writers, finals, &mut wrong);
    real_time(txns, &writers, finals, &mut wrong);
    // With a list that is not what its readers saw, there is no graph to speak of.
    if wrong.is_empty() {
        circles(txns, &writers, finals, &mut wrong);
    }
    wrong
}

/// Who appended an element.
type Writers = BTreeMap<u64, usize>;

fn writers(txns: &[Txn]) -> Writers {
    let mut writers = Writers::new();
    for (at, txn) in txns.iter().enumerate() {
        for step in &txn.steps {
            if let Step::Append { element, .. } = step {
                writers.insert(*element, at);
            }
        }
    }
    writers
}

/// Every answered append is there, once; what was refused is not; a transaction is there as a whole
/// or not at all.
fn elements(txns: &[Txn], writers: &Writers, finals: &Lists, wrong: &mut Vec<String>) {
    let mut there: BTreeSet<(u64, u64)> = BTreeSet::new();
    for (key, list) in finals {
        for element in list {
            if !there.insert((*key, *element)) {
                wrong.push(format!("lists: {element} is in list {key} twice"));
            }
            if !writers.contains_key(element) {
                wrong.push(format!("lists: {element} in list {key} is of nobody"));
            }
        }
    }
    for txn in txns {
        let mut found = (0, 0);
        for step in &txn.steps {
            if let Step::Append { key, element } = step {
                found.1 += 1;
                found.0 += usize::from(there.contains(&(*key, *element)));
            }
        }
        let holds = match txn.outcome {
            Outcome::Ok => found.0 == found.1,
            Outcome::Fail => found.0 == 0,
            Outcome::Unknown => found.0 == 0 || found.0 == found.1,
        };
        if !holds {
            wrong.push(format!(
                "lists: {} of {} appends are there of {txn:?}",
                found.0, found.1
            ));
        }
    }
}

/// Each read is a beginning of the list, and ends with no transaction's middle.
fn reads(
    at: usize,
    txn: &Txn,
    txns: &[Txn],
    writers: &Writers,
    finals: &Lists,
    wrong: &mut Vec<String>,
) {
    let none = Vec::new();
    for step in &txn.steps {
        let Step::Read { key, seen } = step else {
            continue;
        };
        for element in seen {
            let writer = writers.get(element).map(|writer| &txns[*writer]);
            if writer.is_some_and(|writer| writer.outcome == Outcome::Fail) {
                wrong.push(format!(
                    "lists: G1a: {element}, which was refused, was read in list {key}: {txn:?}"
                ));
            }
        }
        let list = finals.get(key).unwrap_or(&none);
        if !list.starts_with(seen) {
            wrong.push(format!(
                "lists: a read of list {key} is no beginning of it: {txn:?}, in the end {list:?}"
            ));
        }
        if let Some(last) = seen.last()
            && let Some(writer) = writers.get(last)
            && *writer != at
            && last_append(&txns[*writer], *key) != Some(*last)
        {
            wrong.push(format!(
                "lists: G1b: the middle of a transaction was read in list {key}: {txn:?}"
            ));
        }
    }
}

fn last_append(txn: &Txn, wanted: u64) -> Option<u64> {
    let mut last = None;
    for step in &txn.steps {
        if let Step::Append { key, element } = step
            && *key == wanted
        {
            last = Some(*element);
        }
    }
    last
}

/// The elements of a list stand in the order of the log.
fn log_order(txns: &[Txn], writers: &Writers, finals: &Lists, wrong: &mut Vec<String>) {
    for (key, list) in finals {
        let mut last = 0;
        for element in list {
            let index = writers.get(element).and_then(|writer| txns[*writer].index);
            if let Some(index) = index {
                if index < last {
                    wrong.push(format!(
                        "lists: {element} of log index {index} comes after {last} in list {key}"
                    ));
                }
                last = last.max(index);
            }
        }
    }
}

/// What was answered before something began is before it in the log, and in what it reads.
fn real_time(txns: &[Txn], writers: &Writers, finals: &Lists, wrong: &mut Vec<String>) {
    let answered = |txn: &&Txn| txn.outcome == Outcome::Ok;
    let mut by_return: Vec<&Txn> = txns.iter().filter(answered).collect();
    by_return.sort_by_key(|txn| txn.return_ns);
    let mut by_invoke = by_return.clone();
    by_invoke.sort_by_key(|txn| txn.invoke_ns);
    let (mut next, mut highest) = (0, 0);
    for txn in by_invoke {
        while next < by_return.len() && by_return[next].return_ns < txn.invoke_ns {
            highest = highest.max(by_return[next].index.unwrap_or(0));
            next += 1;
        }
        if txn.index.is_some_and(|index| index <= highest) {
            wrong.push(format!(
                "lists: answered at log index {highest} before this began: {txn:?}"
            ));
        }
        if !txn.linearizable {
            continue;
        }
        for step in &txn.steps {
            let Step::Read { key, seen } = step else {
                continue;
            };
            // A read is a beginning of its list, so it is enough to look at the next element.
            let rest = finals.get(key).and_then(|list| list.get(seen.len()..));
            let missed = rest.into_iter().flatten().find(|element| {
                let writer = writers.get(element).map(|writer| &txns[*writer]);
                writer.is_some_and(|writer| {
                    writer.outcome == Outcome::Ok && writer.return_ns < txn.invoke_ns
                })
            });
            if let Some(missed) = missed {
                wrong.push(format!(
                    "lists: {missed} was answered before this read of list {key} began: {txn:?}"
                ));
            }
        }
    }
}

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The other wrote the next element of a list.
    Writes,
    /// The other read it.
    Reads,
    /// The other wrote what it did not see yet.
    Overwrites,
}

/// Which transactions come after each one.
type Graph = Vec<Vec<(usize, Why)>>;

fn graph(txns: &[Txn], writers: &Writers, finals: &Lists) -> Graph {
    let mut graph = vec![Vec::new(); txns.len()];
    let mut add = |from: usize, to: usize, why: Why| {
        if from != to && !graph[from].contains(&(to, why)) {
            graph[from].push((to, why));
        }
    };
    for list in finals.values() {
        for pair in list.windows(2) {
            if let (Some(from), Some(to)) = (writers.get(&pair[0]), writers.get(&pair[1])) {
                add(*from, *to, Why::Writes);
            }
        }
    }
    for (at, txn) in txns.iter().enumerate() {
        if txn.outcome != Outcome::Ok {
            continue;
        }
        for step in &txn.steps {
            let Step::Read { key, seen } = step else {
                continue;
            };
            if let Some(writer) = seen.last().and_then(|last| writers.get(last)) {
                add(*writer, at, Why::Reads);
            }
            let next = finals.get(key).and_then(|list| list.get(seen.len()));
            if let Some(writer) = next.and_then(|next| writers.get(next)) {
                add(at, *writer, Why::Overwrites);
            }
        }
    }
    graph
}

/// G0, G1c and G-single. Where two reads would each have to come before the other's write, snapshot
/// isolation allows it, and so does this.
fn circles(txns: &[Txn], writers: &Writers, finals: &Lists, wrong: &mut Vec<String>) {
    let graph = graph(txns, writers, finals);
    let tell = |name: &str, circle: &[usize]| {
        let members: Vec<_> = circle.iter().map(|at| &txns[*at]).collect();
        format!("lists: {name}: a circle of {members:?}")
    };
    for (name, through) in [
        ("G0", &[Why::Writes][..]),
        ("G1c", &[Why::Writes, Why::Reads]),
    ] {
        for circle in components(&graph, through) {
            wrong.push(tell(name, &circle));
        }
    }
    let through = [Why::Writes, Why::Reads];
    for (from, edges) in graph.iter().enumerate() {
        let mut overwrites = edges
            .iter()
            .filter(|(_, why)| *why == Why::Overwrites)
            .map(|(to, _)| *to);
        if let Some(to) = overwrites.find(|to| reaches(&graph, *to, from, &through)) {
            wrong.push(tell("G-single", &[from, to]));
        }
    }
}

/// Does a path lead from one to the other?
fn reaches(graph: &Graph, from: usize, to: usize, through: &[Why]) -> bool {
    let mut seen = vec![false; graph.len()];
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        if at == to {
            return true;
        }
        for (next, why) in &graph[at] {
            if through.contains(why) && !seen[*next] {
                seen[*next] = true;
                open.push(*next);
            }
        }
    }
    false
}

/// Strongly connected components of more than one transaction: Tarjan's, without recursion, because
/// a list's writers are a path as long as the run.
fn components(graph: &Graph, through: &[Why]) -> Vec<Vec<usize>> {
    let mut search = Search {
        order: vec![None; graph.len()],
        low: vec![0; graph.len()],
        on_stack: vec![false; graph.len()],
        stack: Vec::new(),
        next: 0,
        found: Vec::new(),
    };
    for root in 0..graph.len() {
        if search.order[root].is_some() {
            continue;
        }
        search.enter(root);
        let mut path = vec![(root, 0)];
        while let Some((at, edge)) = path.pop() {
            let Some((next, why)) = graph[at].get(edge) else {
                search.leave(at);
                if let Some((parent, _)) = path.last() {
                    search.low[*parent] = search.low[*parent].min(search.low[at]);
                }
                continue;
            };
            path.push((at, edge + 1));
            if !through.contains(why) {
                continue;
            }
            match search.order[*next] {
                None => {
                    search.enter(*next);
                    path.push((*next, 0));
                }
                Some(order) if search.on_stack[*next] => {
                    search.low[at] = search.low[at].min(order);
                }
                Some(_) => {}
            }
        }
    }
    search.found
}

struct Search {
    order: Vec<Option<usize>>,
    low: Vec<usize>,
    on_stack: Vec<bool>,
    stack: Vec<usize>,
    next: usize,
    found: Vec<Vec<usize>>,
}

impl Search {
    fn enter(&mut self, at: usize) {
        self.order[at] = Some(self.next);
        self.low[at] = self.next;
        self.next += 1;
        self.stack.push(at);
        self.on_stack[at] = true;
    }

    fn leave(&mut self, at: usize) {
        if Some(self.low[at]) != self.order[at] {
            return;
        }
        let mut component = Vec::new();
        while let Some(member) = self.stack.pop() {
            self.on_stack[member] = false;
            component.push(member);
            if member == at {
                break;
            }
        }
        if component.len() > 1 {
            component.sort_unstable();
            self.found.push(component);
        }
    }
}

#[cfg(test)]
#[path = "cycles_tests.rs"]
mod tests;
