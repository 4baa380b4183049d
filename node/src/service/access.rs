//! May this caller do that? A "no" is never given from stale state.

use std::sync::Arc;
use std::time::Instant;

use sql::Catalog;
use storage::Read;
use types::ids::LogIndex;
use types::schema::{Role, User};
use types::{Error, ErrorCode, Result};

use super::call::Caller;
use super::consensus::{Consensus, View};
use crate::auth::tokens::invalid;

/// Looks accounts up. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    consensus: Consensus,
    catalog: Catalog,
}

impl Access {
    /// With accounts from `catalog`.
    pub fn new(consensus: Consensus, catalog: Catalog) -> Access {
        Access { consensus, catalog }
    }

    /// The caller's account in this state. INVALID_CREDENTIALS if it has none, or has changed its
    /// password since the token was issued.
    pub fn account(&self, state: &dyn Read, caller: &Caller) -> Result<Result<Arc<User>>> {
        let found = self
            .consensus
            .stored(self.catalog.user(state, &caller.user))?;
        Ok(match found {
            Some(user) if caller.issued_at >= user.record.tokens_valid_from => Ok(user.record),
            Some(_) => Err(invalid(
                "the password was changed after the token was issued",
            )),
            None => Err(invalid("the user of this token does not exist")),
        })
    }

    /// The caller's account as it is now, and the log index that says so: for what must not be
    /// given out on the word of a node that lags, such as a new token.
    pub async fn current(
        &self,
        caller: &Caller,
        deadline: Instant,
    ) -> Result<(Arc<User>, LogIndex)> {
        let view = self.consensus.linearizable_view(deadline).await?;
        let user = self.account(&*view.state, caller)??;
        Ok((user, view.index))
    }

    /// The account, if its role is at least `least`; FORBIDDEN that says what it may not do
    /// otherwise.
    pub async fn require(
        &self,
        caller: &Caller,
        least: Role,
        to: &str,
        deadline: Instant,
    ) -> Result<Arc<User>> {
        let check = |view: &View| -> Result<Result<Arc<User>>> {
            let user = self.account(&*view.state, caller)?;
            Ok(user.and_then(|user| at_least(user.role, least, to).map(|()| user)))
        };
        if let Ok(user) = check(&self.consensus.local_view())? {
            return Ok(user);
        }
        check(&self.consensus.linearizable_view(deadline).await?)?
    }
}

fn at_least(role: Role, least: Role, to: &str) -> Result<()> {
    if role >= least {
        return Ok(());
    }
    let (have, need) = (role.as_str(), least.as_str());
    Err(Error::new(
        ErrorCode::Forbidden,
        format!("role {have} may not {to}: it needs role {need}"),
    ))
}
