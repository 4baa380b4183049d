//! Catalog records that one statement drops or changes, together: dropping a topic changes the
//! tables that feed it, dropping a table the topics it feeds, and both may go at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use storage::keys::{Kind, catalog as keys, rows, topics as topic_keys};
use types::ids::{TableId, TopicId};
use types::schema::{Table, Topic};

use super::context::Context;
use super::draft::{Draft, json};
use crate::catalog::Found;
use crate::failure::Result;

/// A record, and what becomes of it: changed, or dropped.
struct Edit<T> {
    found: Found<T>,
    after: Option<T>,
}

/// Edits, by id.
#[derive(Default)]
pub(super) struct Edits {
    tables: BTreeMap<TableId, Edit<Table>>,
    topics: BTreeMap<TopicId, Edit<Topic>>,
}

impl Edits {
    /// The table goes, with its rows and routes.
    pub fn drop_table(&mut self, context: &Context<'_>, table: Found<Table>) -> Result<()> {
        let id = table.record.id;
        for route in &table.record.routes {
            let topic = self.topic(context, route.topic_id)?;
            if let Some(topic) = topic {
                topic.sources.retain(|source| *source != id);
                topic.updated_at = context.session.now;
            }
        }
        self.tables.insert(
            id,
            Edit {
                found: table,
                after: None,
            },
        );
        Ok(())
    }

    /// The topic goes, with its messages, groups and the routes to it.
    pub fn drop_topic(&mut self, context: &Context<'_>, topic: Found<Topic>) -> Result<()> {
        let id = topic.record.id;
        for source in &topic.record.sources {
            let table = self.table(context, *source)?;
            if let Some(table) = table {
                table.routes.retain(|route| route.topic_id != id);
            }
        }
        self.topics.insert(
            id,
            Edit {
                found: topic,
                after: None,
            },
        );
        Ok(())
    }

    /// The table as edited so far; none if it is dropped or gone.
    fn table(&mut self, context: &Context<'_>, id: TableId) -> Result<Option<&mut Table>> {
        if !self.tables.contains_key(&id)
            && let Some(found) = context.catalog().table_by_id(context.snapshot(), id)?
        {
            let after = Some(Table::clone(&found.record));
            self.tables.insert(id, Edit { found, after });
        }
        Ok(self
            .tables
            .get_mut(&id)
            .and_then(|edit| edit.after.as_mut()))
    }

    /// The topic as edited so far; none if it is dropped or gone.
    fn topic(&mut self, context: &Context<'_>, id: TopicId) -> Result<Option<&mut Topic>> {
        if !self.topics.contains_key(&id)
            && let Some(found) = context.catalog().topic_by_id(context.snapshot(), id)?
        {
            let after = Some(Topic::clone(&found.record));
            self.topics.insert(id, Edit { found, after });
        }
        Ok(self
            .topics
            .get_mut(&id)
            .and_then(|edit| edit.after.as_mut()))
    }

    /// Puts the edits into the draft, with all records pinned.
    pub fn write(self, draft: &mut Draft) {
        for (_, edit) in self.tables {
            draft.pin(&edit.found);
            match edit.after {
                Some(table) => draft.put(edit.found.key, json(&table)),
                None => remove_table(draft, edit.found.key, &edit.found.record),
            }
        }
        for (_, edit) in self.topics {
            draft.pin(&edit.found);
            match edit.after {
                Some(topic) => draft.put(edit.found.key, json(&topic)),
                None => remove_topic(draft, edit.found.key, &edit.found.record),
            }
        }
    }
}

/// The definitions by schema version stay: messages refer to them for as long as they live.
fn remove_table(draft: &mut Draft, key: Vec<u8>, table: &Arc<Table>) {
    draft.delete(key);
    draft.delete(keys::table_name(table.namespace_id, &table.name));
    for index in &table.indexes {
        draft.delete(keys::index_name(table.namespace_id, &index.name));
    }
    draft.delete_prefix(&rows::table_prefix(table.id));
    draft.delete_prefix(&rows::index_table_prefix(Kind::Index, table.id));
    draft.delete_prefix(&rows::index_table_prefix(Kind::UniqueIndex, table.id));
}

fn remove_topic(draft: &mut Draft, key: Vec<u8>, topic: &Arc<Topic>) {
    draft.delete(key);
    draft.delete(keys::topic_name(topic.namespace_id, &topic.name));
    draft.delete_prefix(&topic_keys::messages_prefix(topic.id));
    draft.delete_prefix(&topic_keys::tails_prefix(topic.id));
    for kind in [
        Kind::Group,
        Kind::Cursor,
        Kind::Segment,
        Kind::Lease,
        Kind::Deadline,
        Kind::LeaseEnd,
    ] {
        draft.delete_prefix(&topic_keys::topic_prefix(kind, topic.id));
    }
}
