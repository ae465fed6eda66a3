//! Keyed hashes: request keys, body fingerprints, receipts, cart tokens. All from one secret in the data directory.
//!
//! Keyed BLAKE3 is the MAC (ADR 0004), one derived key for each use, so that no value of one kind passes for another.

use std::fmt::Write as _;
use std::hash::Hasher;

use doorbuster_engine::answer::ReservationRecord;
use doorbuster_engine::identity::{CartId, Fingerprint, RequestKey};
use siphasher::sip::SipHasher13;
use subtle::ConstantTimeEq;

/// See the module's header.
pub(crate) struct Secrets {
    request: [u8; 32],
    token: [u8; 32],
    receipt: [u8; 32],
    fingerprint: (u64, u64),
}

impl Secrets {
    /// The derived keys of a secret.
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let fingerprint = blake3::derive_key("doorbuster 2026 request fingerprint", secret);
        let half = |range: std::ops::Range<usize>| {
            fingerprint.get(range).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
        };
        Self {
            request: blake3::derive_key("doorbuster 2026 request key", secret),
            token: blake3::derive_key("doorbuster 2026 cart token", secret),
            receipt: blake3::derive_key("doorbuster 2026 reservation receipt", secret),
            fingerprint: (half(0..8), half(8..16)),
        }
    }

    /// A caller's idempotency key, as ids are made of it: 128 bits nobody can aim at.
    pub(crate) fn request_key(&self, caller: &str, key: &str) -> RequestKey {
        let mut hasher = blake3::Hasher::new_keyed(&self.request);
        hasher.update(&u64::try_from(caller.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(caller.as_bytes());
        hasher.update(key.as_bytes());
        let mut bits = [0; 16];
        hasher.finalize_xof().fill(&mut bits);
        RequestKey(u128::from_le_bytes(bits))
    }

    /// What a request asks: method, path and body.
    pub(crate) fn fingerprint(&self, method: &str, path: &str, body: &[u8]) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_keys(self.fingerprint.0, self.fingerprint.1);
        for part in [method.as_bytes(), path.as_bytes(), body] {
            hasher.write_u64(u64::try_from(part.len()).unwrap_or(u64::MAX));
            hasher.write(part);
        }
        Fingerprint(hasher.finish())
    }

    /// The token that opens a cart.
    pub(crate) fn cart_token(&self, cart: CartId) -> String {
        let hash = blake3::keyed_hash(&self.token, &cart.0.to_le_bytes());
        format!("ct_{}", hash.to_hex())
    }

    /// Whether `token` opens `cart`, in constant time.
    pub(crate) fn cart_token_matches(&self, cart: CartId, token: &str) -> bool {
        self.cart_token(cart).as_bytes().ct_eq(token.as_bytes()).into()
    }

    /// A proof of what was promised: `v1.ID.DEADLINE.POSITION.MAC.ITEMS`, numbers in hexadecimal, items as `SKU:UNITS`
    /// joined by commas (neither sign occurs in a SKU).
    pub(crate) fn receipt(&self, record: &ReservationRecord) -> String {
        let first = record.created_at.plus_ms(record.ttl_ms);
        let mut hasher = blake3::Hasher::new_keyed(&self.receipt);
        hasher.update(&record.id.0.to_le_bytes());
        hasher.update(&first.0.to_le_bytes());
        hasher.update(&record.position.0.to_le_bytes());
        let mut items = String::with_capacity(24);
        for (n, item) in record.items.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let _ = write!(items, "{comma}{}:{}", item.sku, item.quantity);
        }
        hasher.update(items.as_bytes());
        let mut mac = [0; 16];
        hasher.finalize_xof().fill(&mut mac);
        let (id, mac) = (record.id.0, u128::from_le_bytes(mac));
        format!("v1.{id:032x}.{:x}.{:x}.{mac:032x}.{items}", first.0, record.position.0)
    }
}
