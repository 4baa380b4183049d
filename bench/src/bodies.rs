//! Request bodies made before the clock starts, and the numbers that pick among them.

use std::sync::Arc;

use api::SqlRequest;
use bytes::Bytes;
use serde_json::{Value, json};

/// Different bodies of one workload. Enough that no cache or compressor sees the same row again
/// at once.
const INSERTS: u64 = 1_024;
/// Length of a message's text, in bytes.
const MESSAGE_BYTES: usize = 200;

/// Pseudo-random numbers that are the same in every run: xorshift64*, Marsaglia 2003, Vigna 2016.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Another sequence for each seed.
    pub fn new(seed: u64) -> Numbers {
        // Neighbouring seeds begin far apart, and no state is 0, which would stay 0.
        Numbers((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The high half: the low bits of this generator are its weakest.
        let number = usize::try_from(self.next() >> 32).expect("32 bits fit");
        number % bound
    }
}

/// Bodies that clients share.
pub type Bodies = Arc<[Bytes]>;

/// Single-row INSERTs with parameters.
pub fn inserts(table: &str) -> Bodies {
    let mut numbers = Numbers::new(0);
    let sql = format!("INSERT INTO {table} (author, msg, n) VALUES ($1, $2, $3)");
    (0..INSERTS)
        .map(|n| {
            let author = format!("author-{}", numbers.below(100));
            body(
                &sql,
                vec![json!(author), json!(text(&mut numbers)), json!(n)],
            )
        })
        .collect()
}

/// SELECTs of one row each.
pub fn point_selects(table: &str, ids: &[String]) -> Bodies {
    let sql = format!("SELECT id, author, msg, n, created FROM {table} WHERE id = $1");
    ids.iter().map(|id| body(&sql, vec![json!(id)])).collect()
}

fn body(sql: &str, params: Vec<Value>) -> Bytes {
    let request = SqlRequest::with_params(sql, params);
    let text = serde_json::to_vec(&request).expect("strings and numbers are JSON");
    text.into()
}

/// Words of random letters: as hard to compress as chat, if not harder.
fn text(numbers: &mut Numbers) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz     .";
    let letter = |_| char::from(LETTERS[numbers.below(LETTERS.len())]);
    (0..MESSAGE_BYTES).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn inserts_are_valid_requests_with_texts_of_their_own() {
        let mut texts = BTreeSet::new();
        for body in inserts("bench.rows").iter() {
            let request: SqlRequest = serde_json::from_slice(body).unwrap();
            let params = request.params.unwrap();
            assert!(params[0].is_string() && params[2].is_number());
            let text = params[1].as_str().unwrap().to_owned();
            assert_eq!(text.len(), 200);
            texts.insert(text);
        }
        assert_eq!(texts.len(), 1_024);
    }

    #[test]
    fn point_selects_name_their_id() {
        let bodies = point_selects("bench.rows", &["a".into(), "b".into()]);
        let request: SqlRequest = serde_json::from_slice(&bodies[1]).unwrap();
        assert_eq!(request.params, Some(vec![json!("b")]));
    }

    #[test]
    fn numbers_reach_everything_and_differ_by_seed() {
        let mut numbers = Numbers::new(7);
        let reached: BTreeSet<usize> = (0..1_000).map(|_| numbers.below(10)).collect();
        assert_eq!(reached.len(), 10);
        assert_ne!(Numbers::new(1).next(), Numbers::new(2).next());
    }
}
