//! Chance from a seed: ids and choices, the same for the same requests in the same order.

/// Digits and letters of which ids are made, as Stripe's are.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A stream of numbers from a seed (`SplitMix64`, Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Chance {
    state: u64,
}

impl Chance {
    /// The stream of `seed` for one purpose: streams of two purposes have nothing to do with each other.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut chance = Self { state: seed };
        let mixed = chance.next();
        Self { state: mixed ^ purpose.wrapping_mul(0x9E37_79B9_7F4A_7C15) }
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound`, both included.
    pub(crate) fn up_to(&mut self, bound: u64) -> u64 {
        match bound.checked_add(1) {
            Some(count) => self.next() % count,
            None => self.next(),
        }
    }

    /// Whether something that happens in `rate` of all cases (0 to 1) happens now.
    pub(crate) fn hits(&mut self, rate: f64) -> bool {
        // 53 bits are what an `f64` holds exactly.
        #[allow(clippy::cast_precision_loss)]
        let drawn = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        drawn < rate
    }

    /// An id: the prefix, `_` and 24 characters.
    pub(crate) fn id(&mut self, prefix: &str) -> String {
        let mut id = format!("{prefix}_");
        for _ in 0..24 {
            let place = usize::try_from(self.up_to(61)).unwrap_or_default();
            id.push(char::from(ALPHABET[place]));
        }
        id
    }
}
