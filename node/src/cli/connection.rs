//! Which cluster a command talks to, and as whom.

use std::path::PathBuf;

use clap::Args;
use client::Client;

use super::error::CliError;

/// The user a password belongs to when none is named.
const DEFAULT_USER: &str = "root";

/// Which cluster, and as whom. Accepted before and after a subcommand.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// URL of any node; give several to survive the loss of one
    #[arg(
        long = "url",
        env = "DUET_URL",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8080",
        global = true
    )]
    pub urls: Vec<String>,
    /// User to log in as (with a password and no user: root)
    #[arg(long, env = "DUET_USER", global = true)]
    pub user: Option<String>,
    /// The user's password
    #[arg(long, env = "DUET_PASSWORD", hide_env_values = true, global = true)]
    pub password: Option<String>,
    /// Access token, instead of a user and a password
    #[arg(long, env = "DUET_TOKEN", hide_env_values = true, global = true)]
    pub token: Option<String>,
    /// Authorities (PEM) whose certificates are trusted for https URLs [default: the system's]
    #[arg(long, env = "DUET_CACERT", value_name = "FILE", global = true)]
    pub cacert: Option<PathBuf>,
}

impl ConnectionArgs {
    /// The client these describe.
    pub fn client(&self) -> Result<Client, CliError> {
        // A person is waiting: each node once more at most.
        let mut builder = Client::builder().urls(&self.urls).rounds(2);
        if let Some(path) = &self.cacert {
            let pem = std::fs::read(path).map_err(|error| {
                CliError::Usage(format!("--cacert: cannot read {}: {error}", path.display()))
            })?;
            builder = builder.authorities(pem);
        }
        match (&self.token, &self.user, &self.password) {
            (Some(token), _, _) => builder = builder.token(token),
            (None, user, Some(password)) => {
                builder = builder.credentials(user.as_deref().unwrap_or(DEFAULT_USER), password);
            }
            (None, _, None) => {
                return Err(CliError::Usage(
                    "who are you? Give --user and --password, or --token \
                     (or DUET_USER and DUET_PASSWORD, or DUET_TOKEN)"
                        .into(),
                ));
            }
        }
        Ok(builder.build()?)
    }
}
