//! How the two databases are set up, with the reason for each setting.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode,
    DEFAULT_COLUMN_FAMILY_NAME, Options,
};
use types::limits::{
    LOG_BLOCK_CACHE_BYTES, LOG_MEMTABLE_BYTES, STATE_BLOCK_CACHE_BYTES, STATE_MEMTABLE_BYTES,
    STORAGE_INFO_LOG_BYTES, STORAGE_SYNC_BYTES,
};
use types::planted::{self, Bug};

use super::Role;
use crate::keys::Family;

const KIB: usize = 1024;
/// 1 % of the keys that are not in a file still cost a read of it.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// Options of the database as a whole.
pub(super) fn database(role: Role) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(STORAGE_SYNC_BYTES);
    // RocksDB's own text log, which is not ours to keep.
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(STORAGE_INFO_LOG_BYTES);
    match role {
        Role::Log => {
            // Point in time, the default, opens silently without what follows a flipped bit.
            // This mode forgives only a torn record at the end, which nobody was told about.
            options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
            if planted::has(Bug::PointInTimeRecovery) {
                options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
            }
            // A missing or short WAL that was closed is noticed. One still open is not: hence
            // `crate::marker`.
            options.set_track_and_verify_wals_in_manifest(true);
        }
        Role::State => {
            // Without a WAL, families flushed one by one would part after a crash.
            options.set_atomic_flush(true);
            options.set_db_write_buffer_size(STATE_MEMTABLE_BYTES);
        }
    }
    options
}

/// The column families with their options.
pub(super) fn families(role: Role) -> Vec<ColumnFamilyDescriptor> {
    match role {
        Role::Log => {
            let cache = Cache::new_lru_cache(LOG_BLOCK_CACHE_BYTES);
            vec![ColumnFamilyDescriptor::new(
                DEFAULT_COLUMN_FAMILY_NAME,
                log(&cache),
            )]
        }
        Role::State => {
            let cache = Cache::new_lru_cache(STATE_BLOCK_CACHE_BYTES);
            let mut families = vec![ColumnFamilyDescriptor::new(
                DEFAULT_COLUMN_FAMILY_NAME,
                Options::default(),
            )];
            families.extend(
                Family::ALL.map(|f| ColumnFamilyDescriptor::new(f.name(), state(f, &cache))),
            );
            families
        }
    }
}

/// The names of the families that hold keys.
pub(super) fn family_names(role: Role) -> Vec<&'static str> {
    match role {
        Role::Log => vec![DEFAULT_COLUMN_FAMILY_NAME],
        Role::State => Family::ALL.map(Family::name).to_vec(),
    }
}

/// Entries are appended in order, read in order, mostly soon, and removed from the front.
fn log(cache: &Cache) -> Options {
    let mut options = common();
    options.set_write_buffer_size(LOG_MEMTABLE_BYTES);
    options.set_block_based_table_factory(&table(cache, 32 * KIB, false));
    options
}

fn state(family: Family, cache: &Cache) -> Options {
    let mut options = common();
    // A quarter each, so that the sum stays below the database's bound, which flushes all.
    options.set_write_buffer_size(STATE_MEMTABLE_BYTES / 4);
    let table = match family {
        // Looked up by key, often for keys that are not there (uniqueness, expectations).
        Family::Meta | Family::Rows => {
            options.set_memtable_whole_key_filtering(true);
            options.set_memtable_prefix_bloom_ratio(0.02);
            table(cache, 8 * KIB, true)
        }
        // Scanned from an offset on: a filter would only cost, larger blocks compress better.
        // Written in the order of keys, so compaction mostly moves files; removed in ranges.
        Family::Messages => table(cache, 32 * KIB, false),
    };
    options.set_block_based_table_factory(&table);
    options
}

fn common() -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    // One memtable takes writes while others are flushed; then writes wait.
    options.set_max_write_buffer_number(4);
    options
}

fn table(cache: &Cache, block_bytes: usize, bloom: bool) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(block_bytes);
    // Inside the cache, so that memory stays bounded however large the state gets.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if bloom {
        table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    }
    table
}
