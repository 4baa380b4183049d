//! Until when a certificate is good: the one field of X.509 (RFC 5280, 4.1) that is needed here and
//! that rustls does not give away.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use rustls::pki_types::CertificateDer;

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`, constructed: the version, which the oldest certificates leave out.
const VERSION: u8 = 0xa0;

/// Until when all of these are good, in seconds since 1970; none where one does not say.
pub fn not_after_s(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let each: Option<Vec<i64>> = chain.iter().map(|one| of_one(one)).collect();
    each?.into_iter().min()
}

fn of_one(der: &[u8]) -> Option<i64> {
    let (certificate, _) = value(SEQUENCE, der)?;
    let (mut fields, _) = value(SEQUENCE, certificate)?;
    if let Some((_version, rest)) = value(VERSION, fields) {
        fields = rest;
    }
    let (_serial, fields) = value(INTEGER, fields)?;
    let (_signature, fields) = value(SEQUENCE, fields)?;
    let (_issuer, fields) = value(SEQUENCE, fields)?;
    let (validity, _) = value(SEQUENCE, fields)?;
    let (_not_before, rest) = time(validity)?;
    time(rest).map(|(not_after, _)| not_after.timestamp())
}

/// The value that `der` begins with, if it has this tag, and what is behind it.
fn value(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = der.split_at_checked(2)?;
    if head[0] != tag {
        return None;
    }
    let (length, rest) = match head[1] {
        short @ 0..0x80 => (usize::from(short), rest),
        // As many bytes as the lower bits say hold it.
        long => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let length = bytes.iter().try_fold(0_usize, |length, byte| {
                length.checked_mul(256)?.checked_add(usize::from(*byte))
            });
            (length?, rest)
        }
    };
    rest.split_at_checked(length)
}

fn time(der: &[u8]) -> Option<(DateTime<Utc>, &[u8])> {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    if let Some((bytes, rest)) = value(GENERALIZED_TIME, der) {
        return Some((parse(text(bytes)?)?, rest));
    }
    let (bytes, rest) = value(UTC_TIME, der)?;
    let text = text(bytes)?;
    // Two digits of a year from 1950 to 2049.
    let century = if text.get(..2)? < "50" { "20" } else { "19" };
    Some((parse(&format!("{century}{text}"))?, rest))
}

/// `YYYYMMDDHHMMSSZ`, which is all that certificates may use.
fn parse(text: &str) -> Option<DateTime<Utc>> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u32>().ok();
    if text.len() != 15 || !text.ends_with('Z') {
        return None;
    }
    let year = i32::try_from(number(0..4)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(4..6)?, number(6..8)?)?;
    let at: NaiveDateTime = date.and_hms_opt(number(8..10)?, number(10..12)?, number(12..14)?)?;
    Some(at.and_utc())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn until(year: i32, month: u8, day: u8) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(1999, 12, 31);
        params.not_after = date_time_ymd(year, month, day);
        params.self_signed(&key).unwrap().der().clone()
    }

    fn seconds(year: i32, month: u32, day: u32) -> i64 {
        let date = NaiveDate::from_ymd_opt(year, month, day).unwrap();
        let midnight = date.and_hms_opt(0, 0, 0).unwrap();
        midnight.and_utc().timestamp()
    }

    #[test]
    fn the_first_of_a_chain_that_ends_counts() {
        // Up to 2049 written in one form, later in another.
        let (soon, late) = (until(2031, 5, 17), until(2151, 1, 2));
        let soon_s = seconds(2031, 5, 17);
        assert_eq!(not_after_s(std::slice::from_ref(&soon)), Some(soon_s));
        assert_eq!(
            not_after_s(std::slice::from_ref(&late)),
            Some(seconds(2151, 1, 2))
        );
        assert_eq!(not_after_s(&[late, soon]), Some(soon_s));
        assert_eq!(not_after_s(&[]), None);
    }

    #[test]
    fn bytes_that_are_no_certificate_say_nothing() {
        let whole = until(2031, 5, 17);
        for end in 0..whole.len() {
            assert_eq!(of_one(&whole[..end]), None, "{end}");
        }
        for place in 0..whole.len().min(200) {
            let mut bytes = whole.to_vec();
            bytes[place] ^= 0xff;
            // Whatever it says, it ends.
            let _said: Option<i64> = of_one(&bytes);
        }
    }
}
