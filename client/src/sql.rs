//! Statements.

use std::time::Duration;

use api::auth::{LoginResponse, MeResponse};
use api::{SqlRequest, SqlResponse, paths};
use reqwest::Method;
use serde_json::Value;

use crate::options::{Answer, RequestOptions};
use crate::send::{Call, json};
use crate::{Client, Error};

impl Client {
    /// Runs statements, which may write: sent again only if they certainly did not happen.
    pub async fn sql(&self, sql: impl Into<String>) -> Result<Answer<SqlResponse>, Error> {
        self.execute(&SqlRequest::new(sql), &RequestOptions::default())
            .await
    }

    /// Runs one statement with parameters for `$1…`.
    pub async fn sql_params(
        &self,
        sql: impl Into<String>,
        params: Vec<Value>,
    ) -> Result<Answer<SqlResponse>, Error> {
        self.execute(
            &SqlRequest::with_params(sql, params),
            &RequestOptions::default(),
        )
        .await
    }

    /// Runs statements that only read, so that they may be sent again at any time.
    pub async fn query(&self, sql: impl Into<String>) -> Result<Answer<SqlResponse>, Error> {
        self.execute(&SqlRequest::new(sql), &RequestOptions::read())
            .await
    }

    /// Runs statements with options.
    pub async fn execute(
        &self,
        request: &SqlRequest,
        options: &RequestOptions,
    ) -> Result<Answer<SqlResponse>, Error> {
        let call = Call {
            method: Method::POST,
            path: paths::SQL,
            body: Some(json(request)?),
            options,
            with_token: true,
            waits: Duration::ZERO,
        };
        self.inner.send(call).await
    }

    /// Logs in; later requests of this client and its clones use the tokens.
    pub async fn login(&self, user: &str, password: &str) -> Result<Answer<LoginResponse>, Error> {
        self.inner.login(user, password).await
    }

    /// Trades the refresh token for new tokens.
    pub async fn refresh(&self) -> Result<Answer<LoginResponse>, Error> {
        self.inner.refresh().await
    }

    /// Who this client's token speaks for.
    pub async fn me(&self) -> Result<Answer<MeResponse>, Error> {
        self.get(paths::AUTH_ME, true, &RequestOptions::read())
            .await
    }
}
