//! The catalog as a snapshot shows it.
//!
//! Every lookup reads the record's bytes from the snapshot, so it is always right for that
//! snapshot; what is cached is only their decoding, by key and [`Version`]. A version names one
//! value for ever, except within an open transaction, whose provisional versions are not cached.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use storage::keys::{Kind, catalog as keys, encoding};
use storage::{Direction, KeyRange, Read};
use types::command::Expectation;
use types::ids::{LogIndex, NamespaceId, TableId, TopicId, Version};
use types::schema::{AuditRecord, Namespace, Table, Topic, User};

/// Log index in versions of values that an open transaction has written and not yet committed.
/// No entry of a log has it.
pub const PROVISIONAL_INDEX: LogIndex = LogIndex::MAX;

/// Decoded records of one type that are kept; more, and all are dropped.
const CACHED_RECORDS_MAX: usize = 10_000;

/// A record, and where and in which version it was found.
#[derive(Debug)]
pub struct Found<T> {
    /// Its key.
    pub key: Vec<u8>,
    /// The version the snapshot holds.
    pub version: Version,
    /// The record.
    pub record: Arc<T>,
}

impl<T> Found<T> {
    /// The expectation that the record is still this one when a plan is applied. None for what
    /// the transaction itself wrote: nobody else can have changed that.
    pub fn pinned(&self) -> Option<Expectation> {
        pinned(&self.key, self.version)
    }
}

/// The expectation that `key` still has `version`; none if the transaction itself wrote it.
pub fn pinned(key: &[u8], version: Version) -> Option<Expectation> {
    (version.index != PROVISIONAL_INDEX).then(|| Expectation::version(key.to_vec(), version))
}

/// Looks things up. Cheap to clone; clones share the cache.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    tables: Cache<Table>,
    topics: Cache<Topic>,
    namespaces: Cache<Namespace>,
    users: Cache<User>,
}

impl Catalog {
    /// A catalog with nothing cached.
    pub fn new() -> Catalog {
        Catalog::default()
    }

    /// A namespace by name.
    pub fn namespace(
        &self,
        read: &dyn Read,
        name: &str,
    ) -> storage::Result<Option<Found<Namespace>>> {
        self.namespaces.get(read, keys::namespace(name))
    }

    /// A table by namespace and name.
    pub fn table(
        &self,
        read: &dyn Read,
        namespace: &str,
        name: &str,
    ) -> storage::Result<Option<Found<Table>>> {
        let Some(namespace) = self.namespace(read, namespace)? else {
            return Ok(None);
        };
        match id_under(read, &keys::table_name(namespace.record.id, name))? {
            Some(id) => self.table_by_id(read, id),
            None => Ok(None),
        }
    }

    /// A table's current definition.
    pub fn table_by_id(
        &self,
        read: &dyn Read,
        id: TableId,
    ) -> storage::Result<Option<Found<Table>>> {
        self.tables.get(read, keys::table(id))
    }

    /// A table's definition as it was in a schema version.
    pub fn table_version(
        &self,
        read: &dyn Read,
        id: TableId,
        schema_version: u32,
    ) -> storage::Result<Option<Found<Table>>> {
        self.tables
            .get(read, keys::table_version(id, schema_version))
    }

    /// A topic by namespace and name.
    pub fn topic(
        &self,
        read: &dyn Read,
        namespace: &str,
        name: &str,
    ) -> storage::Result<Option<Found<Topic>>> {
        let Some(namespace) = self.namespace(read, namespace)? else {
            return Ok(None);
        };
        match id_under(read, &keys::topic_name(namespace.record.id, name))? {
            Some(id) => self.topic_by_id(read, id),
            None => Ok(None),
        }
    }

    /// A topic by the `namespace.name` that clients call its id. None also if there is no dot.
    pub fn topic_qualified(
        &self,
        read: &dyn Read,
        qualified: &str,
    ) -> storage::Result<Option<Found<Topic>>> {
        match qualified.split_once('.') {
            Some((namespace, name)) => self.topic(read, namespace, name),
            None => Ok(None),
        }
    }

    /// A topic.
    pub fn topic_by_id(
        &self,
        read: &dyn Read,
        id: TopicId,
    ) -> storage::Result<Option<Found<Topic>>> {
        self.topics.get(read, keys::topic(id))
    }

    /// An account.
    pub fn user(&self, read: &dyn Read, name: &str) -> storage::Result<Option<Found<User>>> {
        self.users.get(read, keys::user(name))
    }

    /// All namespaces, by name.
    pub fn all_namespaces(&self, read: &dyn Read) -> storage::Result<Vec<Found<Namespace>>> {
        self.namespaces.all(read, &Kind::Namespace.prefix())
    }

    /// All tables, by id.
    pub fn all_tables(&self, read: &dyn Read) -> storage::Result<Vec<Found<Table>>> {
        self.tables.all(read, &Kind::Table.prefix())
    }

    /// All topics, by id.
    pub fn all_topics(&self, read: &dyn Read) -> storage::Result<Vec<Found<Topic>>> {
        self.topics.all(read, &Kind::Topic.prefix())
    }

    /// All accounts, by name.
    pub fn all_users(&self, read: &dyn Read) -> storage::Result<Vec<Found<User>>> {
        self.users.all(read, &Kind::User.prefix())
    }

    /// The tables of a namespace, by name.
    pub fn tables_in(
        &self,
        read: &dyn Read,
        namespace: NamespaceId,
    ) -> storage::Result<Vec<Found<Table>>> {
        let ids = ids_under(read, &keys::table_name_prefix(namespace))?;
        ids.into_iter()
            .map(|id| required(self.table_by_id(read, id)?, "table", id))
            .collect()
    }

    /// The topics of a namespace, by name.
    pub fn topics_in(
        &self,
        read: &dyn Read,
        namespace: NamespaceId,
    ) -> storage::Result<Vec<Found<Topic>>> {
        let ids = ids_under(read, &keys::topic_name_prefix(namespace))?;
        ids.into_iter()
            .map(|id| required(self.topic_by_id(read, id)?, "topic", id))
            .collect()
    }
}

/// The lines of the audit log, oldest first, each with its place in the log.
pub fn audit_log(read: &dyn Read) -> storage::Result<Vec<((LogIndex, u32), AuditRecord)>> {
    let prefix = Kind::Audit.prefix();
    let mut lines = Vec::new();
    for pair in read.scan(&KeyRange::prefix(&prefix), Direction::Forward) {
        let (key, value) = pair?;
        let place = audit_place(&key, prefix.len()).ok_or_else(|| corrupt(&key, "its key"))?;
        lines.push((place, decode(&key, &value)?));
    }
    Ok(lines)
}

fn audit_place(key: &[u8], prefix_len: usize) -> Option<(LogIndex, u32)> {
    let mut rest = key.get(prefix_len..)?;
    Some((
        encoding::take_u64(&mut rest).ok()?,
        encoding::take_u32(&mut rest).ok()?,
    ))
}

/// A versioned value: its version and what follows.
pub fn versioned<'a>(key: &[u8], stored: &'a [u8]) -> storage::Result<(Version, &'a [u8])> {
    Version::split(stored).ok_or_else(|| corrupt(key, "too short for a version"))
}

/// The id stored under a name, big-endian behind its version.
fn id_under(read: &dyn Read, key: &[u8]) -> storage::Result<Option<u32>> {
    read.get(key)?.map(|stored| id_in(key, &stored)).transpose()
}

fn ids_under(read: &dyn Read, prefix: &[u8]) -> storage::Result<Vec<u32>> {
    read.scan(&KeyRange::prefix(prefix), Direction::Forward)
        .map(|pair| pair.and_then(|(key, stored)| id_in(&key, &stored)))
        .collect()
}

fn id_in(key: &[u8], stored: &[u8]) -> storage::Result<u32> {
    let (_, id) = versioned(key, stored)?;
    let id = id.first_chunk::<4>().ok_or_else(|| corrupt(key, "no id"))?;
    Ok(u32::from_be_bytes(*id))
}

fn required<T>(found: Option<Found<T>>, what: &str, id: u32) -> storage::Result<Found<T>> {
    found.ok_or_else(|| storage::Error::Corrupt {
        what: format!("the catalog names {what} {id}, which has no record"),
    })
}

fn decode<T: DeserializeOwned>(key: &[u8], json: &[u8]) -> storage::Result<T> {
    serde_json::from_slice(json).map_err(|e| corrupt(key, &e.to_string()))
}

fn corrupt(key: &[u8], problem: &str) -> storage::Error {
    storage::Error::Corrupt {
        what: format!("catalog record {key:02x?}: {problem}"),
    }
}

/// Records by key, each in the version last seen.
type Records<T> = BTreeMap<Vec<u8>, (Version, Arc<T>)>;

/// Decoded records of one type, each in the version last seen.
#[derive(Debug)]
struct Cache<T> {
    records: Arc<Mutex<Records<T>>>,
}

impl<T> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Cache {
            records: Arc::clone(&self.records),
        }
    }
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Cache {
            records: Arc::default(),
        }
    }
}

impl<T: DeserializeOwned> Cache<T> {
    fn get(&self, read: &dyn Read, key: Vec<u8>) -> storage::Result<Option<Found<T>>> {
        match read.get(&key)? {
            Some(stored) => self.found(key, &stored).map(Some),
            None => Ok(None),
        }
    }

    fn all(&self, read: &dyn Read, prefix: &[u8]) -> storage::Result<Vec<Found<T>>> {
        read.scan(&KeyRange::prefix(prefix), Direction::Forward)
            .map(|pair| pair.and_then(|(key, stored)| self.found(key, &stored)))
            .collect()
    }

    fn found(&self, key: Vec<u8>, stored: &[u8]) -> storage::Result<Found<T>> {
        let (version, json) = versioned(&key, stored)?;
        // A panic while the lock is held leaves a whole map: it is only read and inserted into.
        let cached = self
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some((cached_version, record)) = cached
            && cached_version == version
            && version.index != PROVISIONAL_INDEX
        {
            return Ok(Found {
                key,
                version,
                record,
            });
        }
        let record = Arc::new(decode::<T>(&key, json)?);
        if version.index != PROVISIONAL_INDEX {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            if records.len() >= CACHED_RECORDS_MAX {
                records.clear();
            }
            records.insert(key.clone(), (version, Arc::clone(&record)));
        }
        Ok(Found {
            key,
            version,
            record,
        })
    }
}
