//! The files of TLS: read when the process starts, and again when they were replaced.

use std::path::{Path, PathBuf};

use super::{ConfigError, bad};
use crate::tls::HttpTls;

/// Where the certificate of HTTP over TLS and its key are.
#[derive(Clone, Debug)]
pub struct HttpFiles {
    certificate: PathBuf,
    key: PathBuf,
}

impl HttpFiles {
    /// As they were configured, if they were.
    pub fn given(
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Result<Option<HttpFiles>, ConfigError> {
        match (certificate, key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(HttpFiles { certificate, key })),
            _ => Err(bad("--http-tls-cert and --http-tls-key go together")),
        }
    }

    /// What is in them.
    pub fn read(&self) -> Result<HttpTls, ConfigError> {
        Ok(HttpTls {
            certificate: read("http-tls-cert", &self.certificate)?,
            key: read("http-tls-key", &self.key)?,
        })
    }
}

/// Where a node's part in mutual TLS between the nodes is.
#[derive(Clone, Debug)]
pub struct RpcFiles {
    certificate: PathBuf,
    key: PathBuf,
    authorities: PathBuf,
}

impl RpcFiles {
    /// As they were configured, if they were.
    pub fn given(
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
        authorities: Option<PathBuf>,
    ) -> Result<Option<RpcFiles>, ConfigError> {
        match (certificate, key, authorities) {
            (None, None, None) => Ok(None),
            (Some(certificate), Some(key), Some(authorities)) => Ok(Some(RpcFiles {
                certificate,
                key,
                authorities,
            })),
            _ => Err(bad(
                "--rpc-tls-cert, --rpc-tls-key and --rpc-tls-ca go together",
            )),
        }
    }

    /// What is in them.
    pub fn read(&self) -> Result<raft::Tls, ConfigError> {
        Ok(raft::Tls {
            certificate: read("rpc-tls-cert", &self.certificate)?,
            key: read("rpc-tls-key", &self.key)?,
            authorities: read("rpc-tls-ca", &self.authorities)?,
        })
    }
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|e| bad(format!("--{option}: cannot read {}: {e}", path.display())))
}
