//! Certificates for tests: authorities that last as long as a test, and what they issue.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Names that the certificates of nodes hold: where tests reach them.
const NAMES: [&str; 2] = ["127.0.0.1", "localhost"];

/// How long a certificate is good that has to last as long as any test.
const YEARS: Duration = Duration::from_secs(3 * 365 * 86_400);

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, and the authorities its holder trusts, as files.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities.
    pub authorities: PathBuf,
}

impl Authority {
    /// A new one, which nobody trusts yet.
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).expect("it can sign itself").pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Its certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A node's certificate, good for both ends of a connection, in files below `directory`. Its
    /// holder trusts `trusted`.
    pub fn issue(&self, directory: &Path, name: &str, trusted: &Authority) -> Files {
        self.issue_for(YEARS, directory, name, trusted)
    }

    /// The same with a certificate that is good for so long from now on.
    pub fn issue_for(
        &self,
        lasts: Duration,
        directory: &Path,
        name: &str,
        trusted: &Authority,
    ) -> Files {
        let names = NAMES.map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("these are names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = (SystemTime::now() + lasts).into();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("the authority can sign");
        let write = |what: &str, text: &str| {
            let path = directory.join(format!("{name}.{what}.pem"));
            std::fs::write(&path, text).expect("a temporary directory can be written");
            path
        };
        Files {
            certificate: write("cert", &certificate.pem()),
            key: write("key", &key.serialize_pem()),
            authorities: write("ca", trusted.pem()),
        }
    }
}

impl Files {
    /// The environment of a node that has mutual TLS with the others.
    pub fn rpc(&self) -> Vec<(String, String)> {
        let files = [
            ("DUET_RPC_TLS_CERT", &self.certificate),
            ("DUET_RPC_TLS_KEY", &self.key),
            ("DUET_RPC_TLS_CA", &self.authorities),
        ];
        variables(&files)
    }

    /// The environment of a node that serves HTTP over TLS, and of whoever talks to it.
    pub fn http(&self) -> Vec<(String, String)> {
        let files = [
            ("DUET_HTTP_TLS_CERT", &self.certificate),
            ("DUET_HTTP_TLS_KEY", &self.key),
            ("DUET_CACERT", &self.authorities),
        ];
        variables(&files)
    }
}

fn variables(files: &[(&str, &PathBuf)]) -> Vec<(String, String)> {
    let text = |(name, path): &(&str, &PathBuf)| ((*name).to_owned(), path.display().to_string());
    files.iter().map(text).collect()
}
