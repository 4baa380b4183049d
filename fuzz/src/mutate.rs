//! Changes of inputs, the same ones for the same seed.

/// Longest input that is made, in bytes.
const INPUT_MAX_BYTES: usize = 4096;
/// Most changes of one input.
const CHANGES_MAX: u64 = 6;
/// Numbers at which something happens, in any width.
const INTERESTING: [u64; 10] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// A generator of numbers: splitmix64.
pub struct Random(u64);

impl Random {
    /// The one that begins with `seed`.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % end as u64).unwrap()
    }
}

/// Another input, made of one of `corpus`, which is not empty.
pub fn change(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..1 + random.number() % CHANGES_MAX {
        change_once(&mut input, corpus, random);
    }
    input.truncate(INPUT_MAX_BYTES);
    input
}

fn change_once(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = at + random.below(input.len() - at + 1).min(random.below(32));
    match random.number() % 8 {
        0 if at < input.len() => input[at] ^= 1 << (random.number() % 8),
        1 if at < input.len() => input[at] = random.number() as u8,
        2 => input.insert(at, random.number() as u8),
        3 => drop(input.drain(at..end)),
        4 => {
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        5 => {
            let number = INTERESTING[random.below(INTERESTING.len())].to_be_bytes();
            let width = 1 << random.below(4);
            input.splice(at..end, number[8 - width..].iter().copied());
        }
        6 => {
            // A piece of another input: keywords, fields, whole messages.
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            let to = from
                + random
                    .below(other.len() - from + 1)
                    .min(1 + random.below(64));
            input.splice(at..end, other[from..to].iter().copied());
        }
        _ => input.truncate(at.max(input.len() / 2)),
    }
}
