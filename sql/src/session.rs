//! Who asks, when, with which parameters; and what only the server can supply.

use std::sync::Arc;

use types::ids::WallTimeUs;
use types::schema::Role;
use types::value::Value;

/// A parameter bound to `$1…`: null, boolean, number (BIGINT or DOUBLE) or text. It takes the type
/// of the place it stands in.
pub type Param = Value;

/// The caller of one statement.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// The user who logged in.
    pub user: &'a str,
    /// What that user may do.
    pub role: Role,
    /// Whose rows are meant: the target of EXECUTE AS USER, otherwise `user`.
    pub effective_user: &'a str,
    /// Where names without a namespace are looked up.
    pub namespace: Option<&'a str>,
    /// The statement's time: what NOW() says, everywhere in it.
    pub now: WallTimeUs,
    /// Where the request came from, for the audit log.
    pub ip: Option<&'a str>,
}

/// Source of ids that are new every time. The node implements it; tests count.
pub trait Entropy: Send + Sync {
    /// A ULID in its 26 characters. Ids of one caller ascend, also within one millisecond.
    fn ulid(&self, now: WallTimeUs) -> String;
    /// A UUID version 7.
    fn uuid_v7(&self, now: WallTimeUs) -> [u8; 16];
    /// A positive 63-bit number that grows with time.
    fn snowflake_id(&self, now: WallTimeUs) -> i64;
}

/// Turns passwords into what is stored. The node implements it with argon2id, which takes tens of
/// milliseconds by design.
pub trait PasswordHasher: Send + Sync {
    /// The hash in PHC string form. Fails only if the password cannot be hashed at all.
    fn hash(&self, password: &str) -> types::Result<String>;
}

/// What the server supplies to the planner.
#[derive(Clone)]
pub struct Inject {
    /// New ids.
    pub entropy: Arc<dyn Entropy>,
    /// Password hashes.
    pub passwords: Arc<dyn PasswordHasher>,
}
