//! Sending one request until it has an outcome.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::auth::{LoginRequest, LoginResponse};
use api::{ReceivedError, headers, paths};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use types::ErrorCode;

use crate::options::{Answer, RequestOptions, Safety};
use crate::{Error, UnknownCause};

/// How much longer than the request's deadline the answer is waited for, so that the server's own
/// account of a deadline arrives before ours.
const ANSWER_GRACE: Duration = Duration::from_secs(2);
/// Pause after a round over all nodes; doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// See [`PAUSE_FIRST`].
const PAUSE_MAX: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Credentials {
    pub user: String,
    pub password: String,
}

// Written by hand so that no log line can hold a password.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub request_timeout: Duration,
    pub rounds: u32,
}

#[derive(Default)]
struct Tokens {
    access: Option<String>,
    refresh: Option<String>,
    credentials: Option<Credentials>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// Holds the connections and decides where a request goes and whether it goes again.
#[derive(Debug)]
pub(crate) struct Sender {
    http: reqwest::Client,
    urls: Vec<String>,
    /// The node that answered last.
    preferred: AtomicUsize,
    tokens: Arc<Mutex<Tokens>>,
    settings: Settings,
}

/// A request before it is bound to a node.
pub(crate) struct Call<'a> {
    pub method: Method,
    pub path: &'a str,
    /// JSON, or nothing.
    pub body: Option<Vec<u8>>,
    pub options: &'a RequestOptions,
    /// Whether the route wants a token.
    pub with_token: bool,
    /// Time that the request asks the server to wait, on top of the deadline.
    pub waits: Duration,
}

/// What came of sending a request once.
enum Attempt<T> {
    Answered(Answer<T>),
    /// It certainly did not happen, and another node or a later time may help.
    NotHappened(Failure),
    /// It may have happened.
    MaybeHappened(Failure),
    /// The token has expired; it did not happen.
    TokenExpired(ReceivedError),
    /// It did not happen and never will.
    Refused(ReceivedError),
}

enum Failure {
    Connection { url: String, reason: String },
    Unreadable { url: String, reason: String },
    Server(ReceivedError),
}

impl Failure {
    fn text(&self) -> String {
        match self {
            Failure::Connection { url, reason } | Failure::Unreadable { url, reason } => {
                format!("{url}: {reason}")
            }
            Failure::Server(error) => error.to_string(),
        }
    }

    fn into_unknown(self) -> Error {
        Error::Unknown(match self {
            Failure::Connection { url, reason } => UnknownCause::Connection { url, reason },
            Failure::Unreadable { url, reason } => UnknownCause::Unreadable { url, reason },
            Failure::Server(error) => UnknownCause::Server(Box::new(error)),
        })
    }
}

impl Sender {
    pub fn new(
        http: reqwest::Client,
        urls: Vec<String>,
        credentials: Option<Credentials>,
        token: Option<String>,
        settings: Settings,
    ) -> Sender {
        let tokens = Tokens {
            access: token,
            refresh: None,
            credentials,
        };
        Sender {
            http,
            urls,
            preferred: AtomicUsize::new(0),
            tokens: Arc::new(Mutex::new(tokens)),
            settings,
        }
    }

    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    pub fn pinned_to(&self, node: usize) -> Sender {
        Sender {
            http: self.http.clone(),
            urls: vec![self.urls[node % self.urls.len()].clone()],
            preferred: AtomicUsize::new(0),
            tokens: Arc::clone(&self.tokens),
            settings: self.settings,
        }
    }

    /// Sends until there is an outcome. Never sends again what may have happened, unless that does
    /// no harm.
    pub async fn send<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<Answer<T>, Error> {
        let timeout = call
            .options
            .timeout
            .unwrap_or(self.settings.request_timeout)
            + call.waits;
        let deadline = Instant::now() + timeout;
        let mut tried = Vec::new();
        let mut token_renewed = false;
        let mut pause = PAUSE_FIRST;
        let mut last: Option<Failure> = None;
        let mut maybe_happened = false;
        let attempts = self.urls.len() * self.settings.rounds as usize;
        let mut attempt = 0;
        while attempt < attempts {
            // A repeatable read is as good as never sent if it is refused in the end.
            let unsure = maybe_happened && call.options.safety == Safety::Once;
            let token = match call.with_token {
                false => None,
                true => match self.token().await {
                    Ok(token) => Some(token),
                    Err(error) => return Err(without_token(error, last.filter(|_| unsure))),
                },
            };
            let node = self.preferred.load(Ordering::Relaxed) % self.urls.len();
            let left = deadline.saturating_duration_since(Instant::now());
            let failure = match self.once(node, &call, token.as_deref(), left).await {
                Attempt::Answered(answer) => return Ok(answer),
                // What became of an earlier try is not looked at for whom the server does not know.
                Attempt::Refused(error) if unsure && matches!(error.status, 401 | 403) => {
                    return Err(Failure::Server(error).into_unknown());
                }
                Attempt::Refused(error) => return Err(Error::Refused(Box::new(error))),
                Attempt::TokenExpired(error) => {
                    let renewed = match token_renewed {
                        true => Err(Error::Refused(Box::new(error))),
                        false => self.renew_token(error).await,
                    };
                    if let Err(error) = renewed {
                        return Err(without_token(error, last.filter(|_| unsure)));
                    }
                    token_renewed = true;
                    continue;
                }
                Attempt::MaybeHappened(failure) if !call.options.repeatable() => {
                    return Err(failure.into_unknown());
                }
                Attempt::MaybeHappened(failure) => {
                    maybe_happened = true;
                    failure
                }
                Attempt::NotHappened(failure) => failure,
            };
            tried.push(failure.text());
            last = Some(failure);
            self.leave(node);
            attempt += 1;
            if Instant::now() + pause >= deadline {
                break;
            }
            if attempt % self.urls.len() == 0 && attempt < attempts {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        Err(give_up(last, maybe_happened, tried))
    }

    /// Lets the next request begin with the node after `node`, unless another task has moved on.
    fn leave(&self, node: usize) {
        let next = (node + 1) % self.urls.len();
        // Losing the race means that somebody else has already left this node.
        let _ = self
            .preferred
            .compare_exchange(node, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn once<T: DeserializeOwned>(
        &self,
        node: usize,
        call: &Call<'_>,
        token: Option<&str>,
        left: Duration,
    ) -> Attempt<T> {
        let url = self.urls[node].clone();
        let mut request = self
            .http
            .request(call.method.clone(), format!("{url}{}", call.path))
            .timeout(left + ANSWER_GRACE);
        if let Some(body) = &call.body {
            request = request
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let options = call.options;
        request = request.header(headers::TIMEOUT_MS, left.as_millis().max(1).to_string());
        if let Some(key) = &options.idempotency_key {
            request = request.header(headers::IDEMPOTENCY_KEY, key);
        }
        if let Some(index) = options.min_index {
            request = request.header(headers::MIN_INDEX, index.to_string());
        }
        if let Some(consistency) = options.consistency {
            request = request.header(headers::CONSISTENCY, consistency.as_str());
        }
        match request.send().await {
            Ok(response) => read(url, response).await,
            Err(error) => {
                let not_sent = error.is_connect() || error.is_builder();
                let failure = Failure::Connection {
                    url,
                    reason: root_cause(&error),
                };
                if not_sent {
                    Attempt::NotHappened(failure)
                } else {
                    Attempt::MaybeHappened(failure)
                }
            }
        }
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        // Nothing in here can be half done when a holder panics.
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn token(&self) -> Result<String, Error> {
        let credentials = {
            let tokens = self.tokens();
            if let Some(token) = &tokens.access {
                return Ok(token.clone());
            }
            tokens.credentials.clone()
        };
        let Some(credentials) = credentials else {
            return Err(Error::Configuration(
                "this needs a user and a password, or a token".into(),
            ));
        };
        let answer = self.login(&credentials.user, &credentials.password).await?;
        Ok(answer.body.access_token)
    }

    /// Logs in; later requests use what comes back, and log in again with the same credentials
    /// when it expires.
    pub async fn login(&self, user: &str, password: &str) -> Result<Answer<LoginResponse>, Error> {
        let request = LoginRequest {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        let options = RequestOptions::read();
        let call = Call {
            method: Method::POST,
            path: paths::AUTH_LOGIN,
            body: Some(json(&request)?),
            options: &options,
            with_token: false,
            waits: Duration::ZERO,
        };
        // Boxed: `send` asks for a token, which may log in, which sends.
        let answer: Answer<LoginResponse> = Box::pin(self.send(call)).await?;
        let mut tokens = self.tokens();
        tokens.access = Some(answer.access_token.clone());
        tokens.refresh = answer.refresh_token.clone();
        tokens.credentials = Some(Credentials {
            user: request.user,
            password: request.password,
        });
        Ok(answer)
    }

    /// Trades the refresh token for new tokens.
    pub async fn refresh(&self) -> Result<Answer<LoginResponse>, Error> {
        let refresh = self.tokens().refresh.clone();
        let Some(refresh) = refresh else {
            return Err(Error::Configuration(
                "there is no refresh token; log in first".into(),
            ));
        };
        let options = RequestOptions::read();
        let call = Call {
            method: Method::POST,
            path: paths::AUTH_REFRESH,
            body: None,
            options: &options,
            with_token: false,
            waits: Duration::ZERO,
        };
        let node = self.preferred.load(Ordering::Relaxed) % self.urls.len();
        let left = self.settings.request_timeout;
        let answer: Answer<LoginResponse> = match self.once(node, &call, Some(&refresh), left).await
        {
            Attempt::Answered(answer) => answer,
            Attempt::Refused(error) | Attempt::TokenExpired(error) => {
                return Err(Error::Refused(Box::new(error)));
            }
            Attempt::NotHappened(failure) | Attempt::MaybeHappened(failure) => {
                return Err(give_up(Some(failure), false, Vec::new()));
            }
        };
        let mut tokens = self.tokens();
        tokens.access = Some(answer.access_token.clone());
        if answer.refresh_token.is_some() {
            tokens.refresh = answer.refresh_token.clone();
        }
        Ok(answer)
    }

    /// Gets a new token by whatever the client has; fails with `expired` if it has nothing.
    async fn renew_token(&self, expired: ReceivedError) -> Result<(), Error> {
        if self.refresh().await.is_ok() {
            return Ok(());
        }
        let credentials = self.tokens().credentials.clone();
        let Some(credentials) = credentials else {
            return Err(Error::Refused(Box::new(expired)));
        };
        self.login(&credentials.user, &credentials.password)
            .await
            .map(|_| ())
    }
}

/// How a request ends that was not sent for want of a token: it did not happen, whatever became of
/// logging in, unless an `earlier` try may have.
fn without_token(error: Error, earlier: Option<Failure>) -> Error {
    match (earlier, error) {
        (Some(failure), _) => failure.into_unknown(),
        (None, Error::Unknown(UnknownCause::Server(error))) => Error::Refused(error),
        (None, Error::Unknown(cause)) => Error::Unreachable {
            tried: vec![cause.to_string()],
        },
        (None, error) => error,
    }
}

fn give_up(last: Option<Failure>, maybe_happened: bool, tried: Vec<String>) -> Error {
    match last {
        Some(failure) if maybe_happened => failure.into_unknown(),
        Some(Failure::Server(error)) => Error::Refused(Box::new(error)),
        Some(failure) if tried.is_empty() => Error::Unreachable {
            tried: vec![failure.text()],
        },
        Some(_) | None => {
            let mut unique: Vec<String> = Vec::new();
            for reason in tried {
                if !unique.contains(&reason) {
                    unique.push(reason);
                }
            }
            Error::Unreachable { tried: unique }
        }
    }
}

async fn read<T: DeserializeOwned>(url: String, response: reqwest::Response) -> Attempt<T> {
    let status = response.status();
    let index = number(&response, headers::INDEX);
    let node = number(&response, headers::NODE);
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(error) => {
            let reason = root_cause(&error);
            return Attempt::MaybeHappened(Failure::Connection { url, reason });
        }
    };
    if !status.is_success() {
        return refused(status, &body);
    }
    match serde_json::from_slice(&body) {
        Ok(body) => Attempt::Answered(Answer {
            body,
            index,
            node,
            url,
        }),
        Err(error) => {
            let reason = error.to_string();
            Attempt::MaybeHappened(Failure::Unreadable { url, reason })
        }
    }
}

fn refused<T>(status: StatusCode, body: &[u8]) -> Attempt<T> {
    let error = ReceivedError::read(status.as_u16(), body);
    if error.maybe_applied {
        Attempt::MaybeHappened(Failure::Server(error))
    } else if error.known_code() == Some(ErrorCode::TokenExpired) {
        Attempt::TokenExpired(error)
    } else if error.retryable {
        Attempt::NotHappened(Failure::Server(error))
    } else {
        Attempt::Refused(error)
    }
}

fn number(response: &reqwest::Response, name: &str) -> Option<u64> {
    response.headers().get(name)?.to_str().ok()?.parse().ok()
}

/// The innermost reason: the outer ones repeat the URL and say "error sending request".
fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

pub(crate) fn json<T: Serialize>(body: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(body)
        .map_err(|error| Error::Configuration(format!("the request is no JSON: {error}")))
}
