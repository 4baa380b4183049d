//! Topics and groups, read from the state this node has applied when it is asked. What is shown one
//! by one is bounded; what is left out is said.

use std::collections::BTreeMap;

use sql::Catalog;
use storage::{Read, Result};
use topics::fetch;
use topics::groups::{self, GroupPosition};
use types::ids::TopicId;
use types::limits::{METRICS_GROUPS_MAX, METRICS_SCAN_MAX, METRICS_TOPICS_MAX};

use super::text::{Family, Text};

const APPENDED: Family = Family::counter(
    "duet_topic_messages_appended_total",
    "Messages ever appended to the topic, as far as this node has applied.",
);
const KEPT: Family = Family::gauge(
    "duet_topic_messages_kept",
    "Messages of the topic that retention has not removed.",
);
const DELIVERED: Family = Family::counter(
    "duet_topic_messages_delivered_total",
    "Messages that this node gave to its clients, with or without a group.",
);
const LAG: Family = Family::gauge(
    "duet_topic_group_lag_messages",
    "Messages of the partition that the group has not done.",
);
const IN_FLIGHT: Family = Family::gauge(
    "duet_topic_group_in_flight_messages",
    "Messages of the partition that were given to the group and are not done: leased, or to be \
     given again.",
);
const LEASES: Family = Family::gauge(
    "duet_topic_leases",
    "Leases that hold at least one message, over all groups; at most 20000 are looked at, those \
     whose messages were all acked in the last minute among them.",
);
const TOPICS_LEFT_OUT: Family = Family::gauge(
    "duet_topics_left_out",
    "Topics that are not shown here because there are too many.",
);
const GROUPS_LEFT_OUT: Family = Family::gauge(
    "duet_topic_groups_left_out",
    "Positions of groups in partitions that are not shown here because there are too many; at most \
     20000 are counted.",
);

/// A topic, as it is shown.
struct Shown {
    name: String,
    appended: u64,
    kept: u64,
}

/// Topics and groups of a state.
pub struct TopicsObserved {
    topics: BTreeMap<TopicId, Shown>,
    topics_left_out: usize,
    groups: Vec<(GroupPosition, u64)>,
    groups_left_out: usize,
    leases: usize,
}

/// Looks at the topics and groups of a state. Reads the disk.
pub fn observe(catalog: &Catalog, state: &dyn Read) -> Result<TopicsObserved> {
    let (mut topics, mut topics_left_out) = (BTreeMap::new(), 0);
    let mut partitions_left = METRICS_SCAN_MAX;
    for topic in catalog.all_topics(state)? {
        let topic = topic.record;
        let partitions = usize::try_from(topic.partitions).unwrap_or(usize::MAX);
        if topics.len() == METRICS_TOPICS_MAX || partitions > partitions_left {
            topics_left_out += 1;
            continue;
        }
        partitions_left -= partitions;
        let (mut appended, mut kept) = (0, 0);
        for partition in 0..topic.partitions {
            let tail = fetch::tail(state, topic.id, partition)?;
            appended += tail.next;
            kept += tail.len();
        }
        let name = topic.qualified_name();
        let shown = Shown {
            name,
            appended,
            kept,
        };
        topics.insert(topic.id, shown);
    }
    let (mut groups, mut groups_left_out) = (Vec::new(), 0);
    for position in groups::positions(state, None).take(METRICS_SCAN_MAX) {
        let position = position?;
        if groups.len() == METRICS_GROUPS_MAX || !topics.contains_key(&position.topic_id) {
            groups_left_out += 1;
            continue;
        }
        let tail = fetch::tail(state, position.topic_id, position.partition)?;
        let lag = position.lag(tail);
        groups.push((position, lag));
    }
    Ok(TopicsObserved {
        topics,
        topics_left_out,
        groups,
        groups_left_out,
        leases: groups::leases(state, METRICS_SCAN_MAX)?,
    })
}

/// Writes what concerns topics. `delivered` counts what this process gave to clients.
pub fn render(text: &mut Text, seen: &TopicsObserved, delivered: u64) {
    let mut appended = text.family(&APPENDED);
    for topic in seen.topics.values() {
        appended.add(&[("topic", &topic.name)], topic.appended);
    }
    let mut kept = text.family(&KEPT);
    for topic in seen.topics.values() {
        kept.add(&[("topic", &topic.name)], topic.kept);
    }
    text.one(&DELIVERED, delivered);
    groups_of(text, &LAG, seen, |_, lag| lag);
    groups_of(text, &IN_FLIGHT, seen, |position, _| position.in_flight);
    text.one(&LEASES, seen.leases);
    text.one(&TOPICS_LEFT_OUT, seen.topics_left_out);
    text.one(&GROUPS_LEFT_OUT, seen.groups_left_out);
}

fn groups_of(
    text: &mut Text,
    family: &Family,
    seen: &TopicsObserved,
    value: impl Fn(&GroupPosition, u64) -> u64,
) {
    let mut samples = text.family(family);
    for (position, lag) in &seen.groups {
        let Some(topic) = seen.topics.get(&position.topic_id) else {
            continue;
        };
        let partition = position.partition.to_string();
        let labels = [
            ("topic", topic.name.as_str()),
            ("group", position.group.as_str()),
            ("partition", partition.as_str()),
        ];
        samples.add(&labels, value(position, *lag));
    }
}
