//! Accounts and tokens: login, refresh, who am I, and the first set-up.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use api::auth as wire;
use api::headers::Consistency;
use bytes::Bytes;
use sql::{Catalog, Found};
use storage::keys;
use types::cell::timestamp_text;
use types::command::{Change, Command, CommandKind, Envelope, Expectation, Write};
use types::ids::{LogIndex, Term};
use types::limits::NAME_MAX_BYTES;
use types::outcome::{Outcome, Rejection};
use types::schema::{Role, User};
use types::{Error, ErrorCode, Result};

use super::access::Access;
use super::call::{Call, Caller, Failure, Reply};
use super::consensus::{Consensus, View};
use crate::auth::founding::{self, ROOT};
use crate::auth::passwords::{self, PasswordWork};
use crate::auth::tokens::{TokenType, Tokens, invalid};

/// Serves what is under `/v1/api/auth`, and knows callers by their tokens.
pub struct AuthService {
    consensus: Consensus,
    access: Access,
    catalog: Catalog,
    tokens: OnceLock<Tokens>,
    passwords: PasswordWork,
}

impl AuthService {
    /// With accounts from `catalog`.
    pub fn new(
        consensus: Consensus,
        access: Access,
        catalog: Catalog,
        passwords: PasswordWork,
    ) -> AuthService {
        AuthService {
            consensus,
            access,
            catalog,
            tokens: OnceLock::new(),
            passwords,
        }
    }

    /// Who a token speaks for. Whether that user exists is checked by whoever looks its role up.
    pub async fn caller(
        &self,
        token: &str,
        token_type: TokenType,
        ip: IpAddr,
        deadline: Instant,
    ) -> Result<Caller> {
        let claims = self.tokens(deadline).await?.check(token, token_type)?;
        Ok(Caller {
            user: claims.sub,
            issued_at: claims.iat,
            ip: Some(ip.to_string()),
        })
    }

    /// The tokens of this cluster; its key is in the state from the first entry on.
    async fn tokens(&self, deadline: Instant) -> Result<&Tokens> {
        if let Some(tokens) = self.tokens.get() {
            return Ok(tokens);
        }
        let mut view = self.consensus.local_view();
        let mut record = self.consensus.checked(founding::cluster(&*view.state))?;
        if record.is_none() {
            view = self.consensus.linearizable_view(deadline).await?;
            record = self.consensus.checked(founding::cluster(&*view.state))?;
        }
        let record = record.ok_or_else(|| {
            Error::new(
                ErrorCode::ClusterUnavailable,
                "the cluster is being founded",
            )
        })?;
        Ok(self.tokens.get_or_init(|| Tokens::new(&record.token_key)))
    }

    /// `POST /v1/api/auth/login`. The account is looked up as it is now: a node that lags would let
    /// in whom a new password locks out.
    pub async fn login(&self, call: &Call) -> Result<Reply> {
        let request: wire::LoginRequest = call.json()?;
        let began = unix_seconds();
        let view = self.consensus.linearizable_view(call.deadline).await?;
        let user = self.verified(&view, &request, call.deadline).await?;
        let user = user.ok_or_else(|| invalid("the user or the password is wrong"))?;
        self.signed_in(&user, began, view.index, call.deadline)
            .await
    }

    /// The account, if the password is its own. Takes as long when there is no account.
    async fn verified(
        &self,
        view: &View,
        request: &wire::LoginRequest,
        deadline: Instant,
    ) -> Result<Option<Arc<User>>> {
        /// A hash that no password has, for names that have no account.
        const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$\
                              AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let found = self
            .consensus
            .stored(self.catalog.user(&*view.state, &request.user))?;
        let user = found.map(|found| found.record);
        let hash = user
            .as_ref()
            .map_or(NOBODY, |user| &user.password_hash)
            .to_owned();
        let password = request.password.clone();
        let right = self
            .passwords
            .run(deadline, move || passwords::verify(&password, &hash))
            .await?;
        Ok(user.filter(|_| right))
    }

    /// New tokens, issued when the request `began`: before the account was looked up, so that a
    /// password which changes meanwhile makes them invalid.
    async fn signed_in(
        &self,
        user: &User,
        began: i64,
        index: LogIndex,
        deadline: Instant,
    ) -> Result<Reply> {
        let tokens = self.tokens(deadline).await?;
        let now = issue_time(user, began);
        let (access_token, expires) =
            tokens.issue(&user.name, user.role, TokenType::Access, now)?;
        let (refresh, refresh_expires) =
            tokens.issue(&user.name, user.role, TokenType::Refresh, now)?;
        let body = wire::LoginResponse {
            user: user_info(user),
            admin_ui_access: user.role >= Role::Dba,
            expires_at: timestamp_text(expires * 1_000_000),
            access_token,
            refresh_token: Some(refresh),
            refresh_expires_at: Some(timestamp_text(refresh_expires * 1_000_000)),
        };
        Reply::json(&body, index)
    }

    /// `POST /v1/api/auth/refresh`: the caller came with a refresh token.
    pub async fn refresh(&self, call: &Call) -> Result<Reply> {
        let began = unix_seconds();
        let (user, index) = self.access.current(call.caller()?, call.deadline).await?;
        self.signed_in(&user, began, index, call.deadline).await
    }

    /// `POST /v1/api/auth/logout`: tokens are forgotten by the client.
    pub fn logout(&self) -> Result<Reply> {
        Reply::json(
            &wire::LogoutResponse {
                message: "Logged out".into(),
            },
            0,
        )
    }

    /// `GET /v1/api/auth/me`.
    pub async fn me(&self, call: &Call) -> Result<Reply> {
        let caller = call.caller()?;
        let (user, index) = match call.consistency {
            Consistency::Linearizable => self.access.current(caller, call.deadline).await?,
            Consistency::Local => {
                let to = "have an account";
                let user = self.access.require(caller, Role::User, to, call.deadline);
                (user.await?, 0)
            }
        };
        let user = user_info(&user);
        Reply::json(&wire::MeResponse { user }, index)
    }

    /// `GET /v1/api/auth/status`.
    pub async fn status(&self, call: &Call) -> Result<Reply> {
        let view = self.consensus.linearizable_view(call.deadline).await?;
        let needs_setup = self
            .root(&view)?
            .is_some_and(|root| root.password_hash.is_empty());
        let message = match needs_setup {
            true => "root has no password yet: POST /v1/api/auth/setup",
            false => "the server is set up",
        };
        Reply::json(
            &wire::AuthStatusResponse {
                needs_setup,
                message: message.into(),
            },
            view.index,
        )
    }

    fn root(&self, view: &View) -> Result<Option<Arc<User>>> {
        let found = self
            .consensus
            .stored(self.catalog.user(&*view.state, ROOT))?;
        Ok(found.map(|found| found.record))
    }

    /// The account `root` as long as it has no password, and the leadership to propose in. CONFLICT
    /// once it has one.
    async fn root_without_password(&self, call: &Call) -> Result<(Found<User>, Term), Failure> {
        let (view, term) = self.consensus.planning_view_for(call).await?;
        let found = self
            .consensus
            .stored(self.catalog.user(&*view.state, ROOT))?;
        match found.filter(|root| root.record.password_hash.is_empty()) {
            Some(root) => Ok((root, term)),
            None => {
                self.consensus.linearizable_view(call.deadline).await?;
                Err(set_up_already())
            }
        }
    }

    /// `POST /v1/api/auth/setup`: a dba user, and root's password. CONFLICT once that was done.
    pub async fn setup(&self, call: &Call) -> Result<Reply, Failure> {
        let request: wire::SetupRequest = call.json()?;
        if !(1..=NAME_MAX_BYTES).contains(&request.user.len()) || request.user == ROOT {
            let message = format!("user must have 1 to {NAME_MAX_BYTES} bytes and not be root");
            return Err(Failure::new(ErrorCode::InvalidInput, message));
        }
        // Looked at before passwords are hashed too, which takes long and anybody may ask for.
        self.root_without_password(call).await?;
        let (own, roots) = (request.password.clone(), request.root_password.clone());
        let hash = move || {
            let own = passwords::hash_checked(&own)?;
            passwords::hash_checked(&roots).map(|roots| (own, roots))
        };
        let (own_hash, root_hash) = self.passwords.run(call.deadline, hash).await??;
        let (root, term) = self.root_without_password(call).await?;
        let now = self.consensus.raft().now().wall_time;
        let user = User {
            name: request.user.clone(),
            role: Role::Dba,
            email: request.email,
            password_hash: own_hash,
            tokens_valid_from: 0,
            created_at: now,
            updated_at: now,
        };
        let new_root = User {
            password_hash: root_hash,
            updated_at: now,
            ..(*root.record).clone()
        };
        let own_key = keys::catalog::user(&user.name);
        let envelope = Envelope {
            request_id: Bytes::copy_from_slice(&call.request),
            term,
            actor: ROOT.into(),
            expectations: vec![
                Expectation::version(root.key.clone(), root.version),
                Expectation::absent(own_key.clone()),
            ],
            commands: vec![write(vec![
                change(own_key, &user)?,
                change(root.key, &new_root)?,
            ])],
            ..Envelope::default()
        };
        match self.consensus.propose(envelope, call.deadline).await? {
            (index, Outcome::Applied(_)) => {
                let message = "set up; log in to begin".into();
                let body = wire::SetupResponse {
                    user: user_info(&user),
                    message,
                };
                Ok(Reply::json(&body, index)?)
            }
            (_, Outcome::Rejected(Rejection::Stale { .. })) => Err(set_up_already()),
            (_, outcome) => Err(Failure::new(
                ErrorCode::InternalError,
                format!("a set-up cannot end as {outcome:?}"),
            )),
        }
    }
}

fn set_up_already() -> Failure {
    Failure::new(ErrorCode::Conflict, "the server is set up already")
}

/// When a token for the user is issued, by a clock that may be behind the one that stamped the
/// account's last change: a fresh token is never older than that.
fn issue_time(user: &User, now: i64) -> i64 {
    now.max(user.tokens_valid_from)
}

/// A catalog record put under its key.
pub fn change<T: serde::Serialize>(key: Vec<u8>, record: &T) -> Result<Change> {
    let json = serde_json::to_vec(record).map_err(|e| {
        Error::new(
            ErrorCode::InternalError,
            format!("a record cannot be written: {e}"),
        )
    })?;
    Ok(Change {
        key: key.into(),
        after: Some(Bytes::from(json)),
        event: None,
    })
}

/// A command of these changes.
pub fn write(changes: Vec<Change>) -> Command {
    CommandKind::Write(Write {
        delete_ranges: Vec::new(),
        changes,
    })
    .into()
}

fn user_info(user: &User) -> wire::UserInfo {
    wire::UserInfo {
        id: user.name.clone(),
        role: user.role.as_str().into(),
        email: user.email.clone(),
        created_at: timestamp_text(user.created_at),
        updated_at: timestamp_text(user.updated_at),
    }
}

/// This machine's clock, in seconds since 1970: what tokens are issued and checked by.
pub fn unix_seconds() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_issued_by_a_slow_clock_is_good_at_once() {
        let user = User {
            name: "alice".into(),
            role: Role::User,
            email: None,
            password_hash: String::new(),
            tokens_valid_from: 1_000,
            created_at: 0,
            updated_at: 0,
        };
        assert_eq!(issue_time(&user, 998), 1_000);
        assert_eq!(issue_time(&user, 1_002), 1_002);
    }
}
