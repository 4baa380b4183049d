//! Accounts and tokens: login, refresh, who am I, and the first set-up.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use api::auth as wire;
use bytes::Bytes;
use sql::Catalog;
use storage::keys;
use tokio::sync::Semaphore;
use types::cell::timestamp_text;
use types::command::{Change, Command, CommandKind, Envelope, Expectation, Write};
use types::limits::NAME_MAX_BYTES;
use types::outcome::{Outcome, Rejection};
use types::schema::{Role, User};
use types::{Error, ErrorCode, Result};

use super::access::Access;
use super::call::{Call, Caller, Failure, Reply};
use super::consensus::{Consensus, View, stopping};
use crate::auth::founding::{self, ROOT};
use crate::auth::passwords;
use crate::auth::tokens::{TokenType, Tokens, invalid};

/// Passwords that are hashed or checked at once; each takes a core for tens of milliseconds.
const PASSWORDS_AT_ONCE: usize = 2;

/// Serves what is under `/v1/api/auth`, and knows callers by their tokens.
pub struct AuthService {
    consensus: Consensus,
    access: Access,
    catalog: Catalog,
    tokens: OnceLock<Tokens>,
    hashing: Semaphore,
}

impl AuthService {
    /// With accounts from `catalog`.
    pub fn new(consensus: Consensus, access: Access, catalog: Catalog) -> AuthService {
        let hashing = Semaphore::new(PASSWORDS_AT_ONCE);
        AuthService {
            consensus,
            access,
            catalog,
            tokens: OnceLock::new(),
            hashing,
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

    /// `POST /v1/api/auth/login`.
    pub async fn login(&self, call: &Call) -> Result<Reply> {
        let request: wire::LoginRequest = call.json()?;
        let mut view = self.consensus.local_view();
        let mut user = self.verified(&view, &request).await?;
        if user.is_none() {
            // The account or its password may be newer than this node's state.
            view = self.consensus.linearizable_view(call.deadline).await?;
            user = self.verified(&view, &request).await?;
        }
        let user = user.ok_or_else(|| invalid("the user or the password is wrong"))?;
        self.signed_in(&user, view.index, call.deadline).await
    }

    /// The account, if the password is its own. Takes as long when there is no account.
    async fn verified(
        &self,
        view: &View,
        request: &wire::LoginRequest,
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
            .hash_work(move || passwords::verify(&password, &hash))
            .await?;
        Ok(user.filter(|_| right))
    }

    async fn hash_work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let _slot = self.hashing.acquire().await.map_err(|_| stopping())?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| stopping())
    }

    async fn signed_in(&self, user: &User, index: u64, deadline: Instant) -> Result<Reply> {
        let tokens = self.tokens(deadline).await?;
        let now = unix_seconds();
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
        let user = self.own_account(call).await?;
        self.signed_in(&user, 0, call.deadline).await
    }

    async fn own_account(&self, call: &Call) -> Result<Arc<User>> {
        let to = "have an account";
        self.access
            .require(call.caller()?, Role::User, to, call.deadline)
            .await
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
        let user = self.own_account(call).await?;
        Reply::json(
            &wire::MeResponse {
                user: user_info(&user),
            },
            0,
        )
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

    /// `POST /v1/api/auth/setup`: a dba user, and root's password. CONFLICT once that was done.
    pub async fn setup(&self, call: &Call) -> Result<Reply, Failure> {
        let request: wire::SetupRequest = call.json()?;
        if !(1..=NAME_MAX_BYTES).contains(&request.user.len()) || request.user == ROOT {
            let message = format!("user must have 1 to {NAME_MAX_BYTES} bytes and not be root");
            return Err(Failure::new(ErrorCode::InvalidInput, message));
        }
        let (own, roots) = (request.password.clone(), request.root_password.clone());
        let (own_hash, root_hash) = self
            .hash_work(move || {
                (
                    passwords::hash_checked(&own),
                    passwords::hash_checked(&roots),
                )
            })
            .await?;
        let (own_hash, root_hash) = (own_hash?, root_hash?);
        let (view, term) = self.consensus.planning_view_for(call).await?;
        let found = self
            .consensus
            .stored(self.catalog.user(&*view.state, ROOT))?;
        let Some(root) = found.filter(|root| root.record.password_hash.is_empty()) else {
            self.consensus.linearizable_view(call.deadline).await?;
            return Err(set_up_already());
        };
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
