//! Describing a client.

use std::sync::Arc;
use std::time::Duration;

use crate::send::{Credentials, Sender, Settings};
use crate::{Client, Error};

/// How long connecting to one node may take before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Deadline of a request, the server's own default.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How often all nodes are gone through before a request that keeps not happening is given up.
const ROUNDS: u32 = 4;

/// Describes a client.
#[derive(Clone, Debug)]
pub struct Builder {
    urls: Vec<String>,
    credentials: Option<Credentials>,
    token: Option<String>,
    authorities: Option<Vec<u8>>,
    connect_timeout: Duration,
    request_timeout: Duration,
    rounds: u32,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            urls: Vec::new(),
            credentials: None,
            token: None,
            authorities: None,
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            rounds: ROUNDS,
        }
    }
}

impl Builder {
    /// Adds a node. The first one given is asked first; the client stays with a node that answers.
    #[must_use]
    pub fn url(mut self, url: impl Into<String>) -> Builder {
        self.urls.push(url.into());
        self
    }

    /// Adds several nodes.
    #[must_use]
    pub fn urls<I: IntoIterator<Item = S>, S: Into<String>>(mut self, urls: I) -> Builder {
        self.urls.extend(urls.into_iter().map(Into::into));
        self
    }

    /// Logs in with these when the first request needs a token, and again when it has expired.
    #[must_use]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Builder {
        self.credentials = Some(Credentials {
            user: user.into(),
            password: password.into(),
        });
        self
    }

    /// Uses this access token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Builder {
        self.token = Some(token.into());
        self
    }

    /// Trusts the certificates of these authorities (PEM, one or more) for `https` URLs, and no
    /// others; those of the system if left out.
    #[must_use]
    pub fn authorities(mut self, pem: impl Into<Vec<u8>>) -> Builder {
        self.authorities = Some(pem.into());
        self
    }

    /// How long connecting to one node may take; 2 s if left out.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.connect_timeout = timeout;
        self
    }

    /// Deadline of a request that names none; 30 s if left out.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Builder {
        self.request_timeout = timeout;
        self
    }

    /// How often all nodes are gone through before giving up on a request that certainly did not
    /// happen; at least 1, 4 if left out.
    #[must_use]
    pub fn rounds(mut self, rounds: u32) -> Builder {
        self.rounds = rounds.max(1);
        self
    }

    /// Makes the client; does not connect yet.
    pub fn build(self) -> Result<Client, Error> {
        let urls = self
            .urls
            .iter()
            .map(|url| base_url(url))
            .collect::<Result<Vec<_>, _>>()?;
        if urls.is_empty() {
            return Err(Error::Configuration(
                "a client needs the URL of a node".into(),
            ));
        }
        let tls = urls.iter().any(|url| url.starts_with("https://"));
        let http = trusting(self.authorities.as_deref(), tls)?
            .connect_timeout(self.connect_timeout)
            // Nodes are named by addresses one can reach; a proxy for the web is not in between.
            .no_proxy()
            .tcp_nodelay(true)
            .user_agent(concat!("duet/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Configuration(error.to_string()))?;
        let settings = Settings {
            request_timeout: self.request_timeout,
            rounds: self.rounds,
        };
        let sender = Sender::new(http, urls, self.credentials, self.token, settings);
        Ok(Client {
            inner: Arc::new(sender),
        })
    }
}

/// A description of HTTP connections whose servers are trusted by these authorities; without any,
/// by those of the system if `tls` is spoken at all.
fn trusting(authorities: Option<&[u8]>, tls: bool) -> Result<reqwest::ClientBuilder, Error> {
    // Fails if the program has chosen another one, which is then used.
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = reqwest::Client::builder();
    match authorities {
        None if tls => Ok(http),
        // Reading the system's certificates would take time, and fail where there are none.
        None => Ok(http.tls_certs_only([])),
        Some(pem) => {
            let certificates = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|error| Error::Configuration(format!("the authorities: {error}")))?;
            if certificates.is_empty() {
                return Err(Error::Configuration(
                    "the authorities hold no certificate in PEM".into(),
                ));
            }
            Ok(http.tls_certs_only(certificates))
        }
    }
}

/// `http://host:port` or `https://host:port`, without a slash at its end; the scheme may be left
/// out for `http`.
fn base_url(text: &str) -> Result<String, Error> {
    let wrong = |reason: &str| Error::Configuration(format!("{text:?} is no node's URL: {reason}"));
    let text = text.trim();
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let parsed = reqwest::Url::parse(&with_scheme).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(wrong("only http and https are spoken"));
    }
    if parsed.host_str().is_none() {
        return Err(wrong("it names no host"));
    }
    if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() {
        return Err(wrong("it has a path"));
    }
    Ok(with_scheme.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_put_into_one_form() {
        assert_eq!(
            base_url("http://127.0.0.1:8080/").unwrap(),
            "http://127.0.0.1:8080"
        );
        assert_eq!(
            base_url(" localhost:8080").unwrap(),
            "http://localhost:8080"
        );
        assert_eq!(base_url("https://db1:8443/").unwrap(), "https://db1:8443");
    }

    #[test]
    fn urls_that_cannot_work_are_refused() {
        for text in ["", "http://", "http://h/path", "http://h?x=1", "ftp://h"] {
            assert!(base_url(text).is_err(), "{text}");
        }
        assert!(matches!(
            Client::builder().build(),
            Err(Error::Configuration(_))
        ));
    }

    #[test]
    fn authorities_that_are_none_are_refused() {
        for pem in [
            "",
            "no PEM",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let built = Client::builder().url("https://h").authorities(pem).build();
            assert!(matches!(built, Err(Error::Configuration(_))), "{pem:?}");
        }
    }
}
