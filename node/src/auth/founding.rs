//! What the cluster was founded with.

use storage::{Read, keys};
use types::ids::Version;
use types::schema::ClusterRecord;

use crate::fatal::{Fatal, corrupt};

/// The user `root`, made at bootstrap.
pub const ROOT: &str = "root";

/// What the cluster was founded with; none before that.
pub fn cluster(state: &dyn Read) -> Result<Option<ClusterRecord>, Fatal> {
    let what = "cluster record";
    let Some(stored) = state.get(&keys::meta::cluster())? else {
        return Ok(None);
    };
    let (_, json) = Version::split(&stored).ok_or_else(|| corrupt(what))?;
    serde_json::from_slice(json)
        .map(Some)
        .map_err(|_| corrupt(what))
}
