//! The certificates the node shows.

use raft::Certificates;

use super::text::{Family, Text};

const NOT_AFTER: Family = Family::gauge(
    "duet_tls_certificate_not_after_seconds",
    "Until when the certificate of a listener and those behind it are good, in seconds since 1970.",
);
const REPLACED: Family = Family::counter(
    "duet_tls_certificate_replacements_total",
    "How often the certificate of a listener was replaced since the node started.",
);
const REFUSED: Family = Family::gauge(
    "duet_tls_certificate_refused",
    "1 while the files of a listener's certificate hold something newer that cannot be used.",
);

/// Writes what concerns certificates. Of a listener without TLS nothing is said.
pub fn render(text: &mut Text, certificates: &Certificates) {
    let listeners = [("http", certificates.http), ("rpc", certificates.rpc)];
    let shown = || {
        let shown = listeners.into_iter();
        shown.filter_map(|(listener, certificate)| Some((listener, certificate?)))
    };
    if shown().next().is_none() {
        return;
    }
    let mut not_after = text.family(&NOT_AFTER);
    for (listener, certificate) in shown() {
        if let Some(seconds) = certificate.not_after_s {
            not_after.add(&[("listener", listener)], seconds);
        }
    }
    let mut replaced = text.family(&REPLACED);
    for (listener, certificate) in shown() {
        replaced.add(&[("listener", listener)], certificate.replaced);
    }
    let mut refused = text.family(&REFUSED);
    for (listener, certificate) in shown() {
        refused.add(&[("listener", listener)], u64::from(certificate.refused));
    }
}
