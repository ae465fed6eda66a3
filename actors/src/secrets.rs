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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use doorbuster_engine::answer::{Item, ReservationState};
    use doorbuster_engine::identity::{Position, ReservationId, Sku, Timestamp};

    use super::*;

    fn record() -> ReservationRecord {
        let item = |sku: &str, quantity| Item { sku: Sku::new(sku).unwrap(), quantity };
        ReservationRecord {
            id: ReservationId(0xabc),
            items: [item("CUP", 2), item("TEE", 1)].into_iter().collect(),
            state: ReservationState::Held,
            created_at: Timestamp(0x1000),
            ttl_ms: 0x10,
            expires_at: Timestamp(0x1010),
            position: Position(0x2a),
            fingerprint: Fingerprint(1),
            order: None,
        }
    }

    #[test]
    fn every_use_of_the_secret_has_a_key_of_its_own() {
        let secrets = Secrets::new(&[7; 32]);
        let (first, second) = secrets.fingerprint;
        let mut keys: HashSet<Vec<u8>> =
            [secrets.request, secrets.token, secrets.receipt].iter().map(|key| key.to_vec()).collect();
        keys.insert([first.to_le_bytes(), second.to_le_bytes()].concat());
        assert_eq!(keys.len(), 4);
        assert!(!keys.iter().any(|key| key.starts_with(&[7; 8])), "none is the secret itself");
    }

    #[test]
    fn a_request_key_belongs_to_one_caller_one_key_and_one_secret() {
        let (ours, theirs) = (Secrets::new(&[1; 32]), Secrets::new(&[2; 32]));
        let key = ours.request_key("alice", "k1");
        assert_eq!(key, ours.request_key("alice", "k1"));
        for (label, other) in [
            ("another caller", ours.request_key("bob", "k1")),
            ("another key", ours.request_key("alice", "k2")),
            ("another secret", theirs.request_key("alice", "k1")),
            ("the seam moved", ours.request_key("alicek", "1")),
        ] {
            assert_ne!(key, other, "{label}");
        }
    }

    #[test]
    fn a_fingerprint_tells_method_path_and_body_apart() {
        let secrets = Secrets::new(&[1; 32]);
        let print = secrets.fingerprint("POST", "/v1/carts", b"{}");
        assert_eq!(print, secrets.fingerprint("POST", "/v1/carts", b"{}"));
        for (label, other) in [
            ("method", secrets.fingerprint("PUT", "/v1/carts", b"{}")),
            ("path", secrets.fingerprint("POST", "/v1/cart", b"{}")),
            ("body", secrets.fingerprint("POST", "/v1/carts", b"{ }")),
            ("the seam moved", secrets.fingerprint("POST", "/v1/carts{", b"}")),
        ] {
            assert_ne!(print, other, "{label}");
        }
    }

    #[test]
    fn a_cart_token_opens_its_cart_and_no_other() {
        let secrets = Secrets::new(&[1; 32]);
        let token = secrets.cart_token(CartId(1));
        assert!(token.starts_with("ct_") && token.len() == 67);
        assert!(secrets.cart_token_matches(CartId(1), &token));
        for (label, opens) in [
            ("another cart", secrets.cart_token_matches(CartId(2), &token)),
            ("another secret", Secrets::new(&[2; 32]).cart_token_matches(CartId(1), &token)),
            ("a part of it", secrets.cart_token_matches(CartId(1), token.get(..66).unwrap())),
            ("nothing", secrets.cart_token_matches(CartId(1), "")),
            ("in capitals", secrets.cart_token_matches(CartId(1), &token.to_uppercase())),
        ] {
            assert!(!opens, "{label}");
        }
    }

    #[test]
    fn a_receipt_says_what_was_granted_first_and_changes_with_all_of_it() {
        let secrets = Secrets::new(&[1; 32]);
        let receipt = secrets.receipt(&record());
        let parts: Vec<&str> = receipt.split('.').collect();
        assert_eq!(parts.len(), 6);
        assert_eq!(parts.get(..4).unwrap(), ["v1", &format!("{:032x}", 0xabc), "1010", "2a"]);
        assert_eq!(parts.last(), Some(&"CUP:2,TEE:1"));

        let later = ReservationRecord {
            state: ReservationState::Committed,
            expires_at: Timestamp(0x9999),
            ..record()
        };
        assert_eq!(secrets.receipt(&later), receipt, "what became of it later is not what was promised");
        let mac = |secrets: &Secrets, record: &ReservationRecord| {
            secrets.receipt(record).split('.').nth(4).unwrap().to_owned()
        };
        let fewer = ReservationRecord { items: record().items.into_iter().take(1).collect(), ..record() };
        for (label, other) in [
            ("id", mac(&secrets, &ReservationRecord { id: ReservationId(0xabd), ..record() })),
            ("deadline", mac(&secrets, &ReservationRecord { ttl_ms: 0x11, ..record() })),
            ("position", mac(&secrets, &ReservationRecord { position: Position(0x2b), ..record() })),
            ("items", mac(&secrets, &fewer)),
            ("secret", mac(&Secrets::new(&[2; 32]), &record())),
        ] {
            assert_ne!(mac(&secrets, &record()), other, "{label}");
        }
    }
}
