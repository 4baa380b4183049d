//! Files of a stopped node are damaged, cut and removed, one at a time. It then refuses to start,
//! or fails where it reads, or has everything that it ever acknowledged; and it never gives other
//! bytes than those that were written.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{Disk, Node, flip_byte, log_id, rows};
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, StorageHelper};
use raft::log_store::LogStore;
use raft::state_machine::{StateMachine, StateStore};
use raft::type_config::{LogEntry, TypeConfig, Vote};
use storage::keys::Kind;
use storage::rocks::RocksEngine;
use storage::{Direction, KeyRange, Pair, Read};
use tempfile::TempDir;

/// All entries there ever were: `0..ENTRIES`.
const ENTRIES: u64 = 60;
/// Those up to this one were purged.
const PURGED: u64 = 9;

/// What a node has.
#[derive(Debug, PartialEq)]
struct Found {
    vote: Option<Vote>,
    /// Those after [`PURGED`].
    entries: Vec<LogEntry>,
    state: Vec<Pair>,
}

/// A node that was stopped: entries in tables of the log and in its WAL, a state with a snapshot
/// behind it, a purge.
async fn stopped_node() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut node = Node::open(&Disk::Rocks, dir.path());
        node.log.save_vote(&Vote::new(1, 1)).await.unwrap();
        node.append(rows(0..20)).await;
        node.apply(rows(0..20)).await;
        let mut builder =
            openraft::storage::RaftStateMachine::get_snapshot_builder(&mut node.state).await;
        builder.build_snapshot().await.unwrap();
        node.log.purge(log_id(1, PURGED)).await.unwrap();
    }
    {
        // An opened log puts what its WAL held into a table, and begins another WAL.
        let mut node = Node::open(&Disk::Rocks, dir.path());
        node.append(rows(20..40)).await;
        node.apply(rows(20..40)).await;
        node.state.handle().store().flush().unwrap();
        node.log.save_vote(&Vote::new(7, 2)).await.unwrap();
        for index in 40..ENTRIES {
            let committed = log_id(1, index - 1);
            node.log.save_committed(Some(committed)).await.unwrap();
            node.append(rows(index..index + 1)).await;
        }
    }
    dir
}

/// Starts a node as far as its storage goes, and reads all it has.
async fn start(dir: &Path) -> Result<Found, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let engine = RocksEngine::open_log(&dir.join("log")).map_err(|e| text(&e))?;
    let mut log = LogStore::open(Arc::new(engine), &dir.join("marker")).map_err(|e| text(&e))?;
    let store = StateStore::open(dir, Disk::Rocks.open_state()).map_err(|e| text(&e))?;
    store.check_reaches(&log.handle()).map_err(|e| text(&e))?;
    let store = Arc::new(store);
    let durable = log.handle().durable_end();
    let mut state = StateMachine::start(Arc::clone(&store), durable).map_err(|e| text(&e))?;
    StorageHelper::<TypeConfig, _, _>::new(&mut log, &mut state)
        .with_id(1)
        .get_initial_state()
        .await
        .map_err(|e| text(&e))?;
    let mut reader = log.get_log_reader().await;
    let entries = reader
        .try_get_log_entries(PURGED + 1..)
        .await
        .map_err(|e| text(&e))?;
    Ok(Found {
        vote: reader.read_vote().await.map_err(|e| text(&e))?,
        entries,
        state: read_all(store.snapshot().1.as_ref()).map_err(|e| text(&e))?,
    })
}

fn read_all(read: &dyn Read) -> storage::Result<Vec<Pair>> {
    let all = Kind::ALL
        .into_iter()
        .map(|kind| KeyRange::prefix(&kind.prefix()));
    all.flat_map(|range| read.scan(&range, Direction::Forward).collect::<Vec<_>>())
        .collect()
}

fn copy_of(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in files_in(dir) {
        let to = copy.path().join(&file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(dir.join(&file), to).unwrap();
    }
    copy
}

/// All files below `dir`, relative to it.
fn files_in(dir: &Path) -> Vec<PathBuf> {
    let (mut files, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                files.push(path.strip_prefix(dir).unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Surgery {
    /// A byte at this part of a thousand of it is changed.
    Flip(u64),
    /// Only this part of a thousand of it is left.
    Cut(u64),
    Remove,
}

/// Damages a file; whether there was anything to damage.
fn operate(path: &Path, surgery: Surgery) -> bool {
    let size = fs::metadata(path).unwrap().len();
    match surgery {
        Surgery::Remove => fs::remove_file(path).unwrap(),
        _ if size == 0 => return false,
        Surgery::Flip(part) => flip_byte(path, (size * part / 1000).min(size - 1)),
        Surgery::Cut(part) => {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(size * part / 1000).unwrap();
        }
    }
    true
}

#[tokio::test]
async fn whatever_happens_to_one_file_nothing_acknowledged_is_lost_unnoticed() {
    let node = stopped_node().await;
    let whole = start(copy_of(node.path()).path()).await.unwrap();
    assert_eq!(whole.vote, Some(Vote::new(7, 2)));
    assert_eq!(whole.entries, rows(PURGED + 1..ENTRIES));
    let surgeries = [
        Surgery::Flip(0),
        Surgery::Flip(500),
        Surgery::Flip(1000),
        Surgery::Cut(0),
        Surgery::Cut(600),
        Surgery::Remove,
    ];
    let mut refused = 0;
    for file in files_in(node.path()) {
        for surgery in surgeries {
            let copy = copy_of(node.path());
            if !operate(&copy.path().join(&file), surgery) {
                continue;
            }
            match start(copy.path()).await {
                Ok(found) => assert!(found == whole, "{} after {surgery:?}", file.display()),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 20, "{refused}");
}

/// The file in `dir` whose name ends like this and which is the largest of them.
fn largest(dir: &Path, below: &str, suffix: &str) -> PathBuf {
    let files = files_in(&dir.join(below)).into_iter();
    let files = files.filter(|name| name.to_string_lossy().ends_with(suffix));
    let file = files.max_by_key(|name| fs::metadata(dir.join(below).join(name)).unwrap().len());
    Path::new(below).join(file.unwrap())
}

#[tokio::test]
async fn who_refuses_says_what_is_damaged() {
    let node = stopped_node().await;
    let dir = node.path();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let wal = largest(dir, "log", ".log");
    let log_table = largest(dir, "log", ".sst");
    let state_table = largest(dir, "state", ".sst");
    let manifest = largest(dir, "snapshots", "SNAPSHOT");
    let log = "/log/*.log".to_owned();
    let lost = "its end was lost".to_owned();
    let cases = [
        (&wal, Surgery::Flip(300), log),
        (&wal, Surgery::Cut(990), lost.clone()),
        (&wal, Surgery::Remove, lost),
        (&log_table, Surgery::Flip(100), name(&log_table)),
        (&log_table, Surgery::Remove, name(&log_table)),
        (&state_table, Surgery::Flip(100), name(&state_table)),
        (&state_table, Surgery::Remove, name(&state_table)),
        (&manifest, Surgery::Flip(300), name(&manifest)),
        (&PathBuf::from("marker"), Surgery::Cut(500), "marker".into()),
        (
            &PathBuf::from("state/CURRENT"),
            Surgery::Cut(0),
            "CURRENT".into(),
        ),
        (
            &PathBuf::from("state/CURRENT"),
            Surgery::Remove,
            "CURRENT".into(),
        ),
    ];
    for (file, surgery, expected) in cases {
        let copy = copy_of(dir);
        assert!(operate(&copy.path().join(file), surgery));
        let error = start(copy.path()).await.unwrap_err();
        let what = format!("{} after {surgery:?}", file.display());
        assert!(error.contains(&expected), "{what}: {error}");
    }
}

/// Where a WAL is cut is chance, so it is cut everywhere.
#[tokio::test]
async fn a_wal_that_is_cut_anywhere_is_noticed() {
    let node = stopped_node().await;
    let wal = largest(node.path(), "log", ".log");
    let size = fs::metadata(node.path().join(&wal)).unwrap().len();
    // The last records are the last entry, with a position, and before it others like it.
    for cut in (1..size).step_by(17) {
        let copy = copy_of(node.path());
        let file = fs::OpenOptions::new()
            .write(true)
            .open(copy.path().join(&wal))
            .unwrap();
        file.set_len(size - cut).unwrap();
        let error = start(copy.path()).await.unwrap_err();
        assert!(error.contains("lost"), "{cut} bytes less: {error}");
    }
}
