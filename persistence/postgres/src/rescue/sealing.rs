//! Secrets under a key that only the operator has: what lies in the database opens nothing.
//!
//! AES-256-GCM under a key made of the key file's text by PBKDF2-HMAC-SHA256, so that a passphrase does as well as 32 random
//! bytes. The engine's id is bound to it: sealed secrets of one engine do not open as another's. Start at [`RescueKey::read`].

use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::pbkdf2;
use doorbuster_persistence::directory::EngineId;

use super::error::RescueError;

/// Form of sealed secrets that this engine writes, and the newest it reads.
pub const SEALED_FORM: i16 = 1;

/// As OWASP advises for this function; a third of a second, once a start.
const ITERATIONS: u32 = 600_000;

/// A figure that somebody changed must not keep a restore busy for days.
const ITERATIONS_MAX: u32 = 100_000_000;

/// Shorter ones can be guessed.
const KEY_BYTES_MIN: usize = 16;

/// The operator's key. Shows itself to nobody.
#[derive(Clone)]
pub struct RescueKey(Vec<u8>);

impl fmt::Debug for RescueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RescueKey")
    }
}

/// Files by their path in the data directory.
pub type Files = Vec<(String, Vec<u8>)>;

/// Sealed secrets as they lie in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Form of `sealed`.
    pub form: i16,
    /// Salt of the key's derivation.
    pub salt: [u8; 16],
    /// Its iterations.
    pub iterations: i32,
    /// Nonce of the encryption.
    pub nonce: [u8; 12],
    /// The files, encrypted, with the tag behind.
    pub sealed: Vec<u8>,
}

impl RescueKey {
    /// Reads the key from a file: all of its text but the line's end, 16 characters or more.
    pub fn read(path: &Path) -> Result<Self, RescueError> {
        let refuse = |what: String| {
            let file = path.display();
            RescueError::Secrets(format!(
                "the rescue key in {file} cannot be used: {what}; make one with `openssl rand -base64 32 > {file}`, and keep a \
                 copy where this machine's loss does not reach it"
            ))
        };
        let bytes = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
        Self::of(&bytes).ok_or_else(|| refuse(format!("it has less than {KEY_BYTES_MIN} characters")))
    }

    /// The key that this text is; `None` where it is too short.
    pub fn of(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii_end();
        (text.len() >= KEY_BYTES_MIN).then(|| Self(text.to_vec()))
    }

    fn derived(&self, salt: &[u8; 16], iterations: NonZeroU32) -> Option<RandomizedNonceKey> {
        let mut key = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, &self.0, &mut key);
        RandomizedNonceKey::new(&AES_256_GCM, &key).ok()
    }

    /// Seals files of this engine.
    pub fn seal(&self, engine: EngineId, files: &Files) -> Result<Sealed, RescueError> {
        let refuse = || RescueError::Secrets("the secrets cannot be encrypted on this machine".to_owned());
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|_| refuse())?;
        let iterations = NonZeroU32::new(ITERATIONS).ok_or_else(refuse)?;
        let key = self.derived(&salt, iterations).ok_or_else(refuse)?;
        let mut sealed = encode(files);
        let nonce =
            key.seal_in_place_append_tag(Aad::from(bound_to(engine)), &mut sealed).map_err(|_| refuse())?;
        let nonce = *nonce.as_ref();
        let iterations = i32::try_from(ITERATIONS).unwrap_or(i32::MAX);
        Ok(Sealed { form: SEALED_FORM, salt, iterations, nonce, sealed })
    }

    /// Opens what was sealed.
    pub fn open(&self, engine: EngineId, sealed: &Sealed) -> Result<Files, RescueError> {
        if sealed.form != SEALED_FORM {
            let what =
                format!("the secrets were sealed in form {}, this engine knows {SEALED_FORM}", sealed.form);
            return Err(RescueError::Secrets(format!("{what}; restore with the engine that sealed them")));
        }
        let iterations = u32::try_from(sealed.iterations).ok().filter(|count| *count <= ITERATIONS_MAX);
        let iterations = iterations.and_then(NonZeroU32::new).ok_or(RescueError::WrongKey)?;
        let key = self.derived(&sealed.salt, iterations).ok_or(RescueError::WrongKey)?;
        let mut bytes = sealed.sealed.clone();
        let opened = key
            .open_in_place(Nonce::from(&sealed.nonce), Aad::from(bound_to(engine)), &mut bytes)
            .map_err(|_| RescueError::WrongKey)?;
        decode(opened).ok_or(RescueError::WrongKey)
    }
}

fn bound_to(engine: EngineId) -> Vec<u8> {
    format!("doorbuster rescue secrets {engine}").into_bytes()
}

/// Each file: length of its name 4, length of its bytes 4, name, bytes. Little endian.
fn encode(files: &Files) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        for part in [name.as_bytes(), content] {
            bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(content);
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<Files> {
    let mut files = Vec::new();
    while !bytes.is_empty() {
        let (name_bytes, rest) = split_length(bytes)?;
        let (content_bytes, rest) = split_length(rest)?;
        let (name, rest) = rest.split_at_checked(name_bytes)?;
        let (content, rest) = rest.split_at_checked(content_bytes)?;
        files.push((String::from_utf8(name.to_vec()).ok()?, content.to_vec()));
        bytes = rest;
    }
    Some(files)
}

fn split_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_at_checked(4)?;
    Some((u32::from_le_bytes(length.try_into().ok()?) as usize, rest))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn hexadecimal(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    fn bytes_of(text: &str) -> Vec<u8> {
        let pairs = text.as_bytes().chunks(2);
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// Salt and nonce are drawn anew each time, so only what is kept can be held against its content. The kept text is made anew
    /// by `DOORBUSTER_GOLDEN=write`.
    #[test]
    fn sealed_secrets_keep_their_bytes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sealed-secrets.txt");
        let (key, engine) = (RescueKey::of(b"correct horse battery staple\n").unwrap(), EngineId([7; 16]));
        let files: Files =
            vec![("secrets/server".into(), (0..32).collect()), ("admin_key".into(), b"dbk_1\n".to_vec())];
        if std::env::var("DOORBUSTER_GOLDEN").is_ok_and(|value| value == "write") {
            let Sealed { form, salt, iterations, nonce, sealed } = key.seal(engine, &files).unwrap();
            let [salt, nonce, sealed] = [&salt[..], &nonce, &sealed].map(hexadecimal);
            let text = format!(
                "form {form}\nsalt {salt}\niterations {iterations}\nnonce {nonce}\nsealed {sealed}\n"
            );
            std::fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let text = std::fs::read_to_string(path).unwrap();
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
        let kept = Sealed {
            form: field("form").parse().unwrap(),
            salt: bytes_of(field("salt")).try_into().unwrap(),
            iterations: field("iterations").parse().unwrap(),
            nonce: bytes_of(field("nonce")).try_into().unwrap(),
            sealed: bytes_of(field("sealed")),
        };
        let rule = "the byte format changed: before the first tagged release, bump SEALED_FORM and write the golden anew with \
            DOORBUSTER_GOLDEN=write; after it, keep the old reader and its golden too (docs/formats.md)";
        assert_eq!(key.open(engine, &kept).expect(rule), files, "{rule}");
        // What is sealed today is of the same form and length: nothing but salt, nonce and what they make of it differs.
        let now = key.seal(engine, &files).unwrap();
        let shape = |sealed: &Sealed| (sealed.form, sealed.iterations, sealed.sealed.len());
        assert_eq!(shape(&now), shape(&kept), "{rule}");
        let plain = "0e00000020000000736563726574732f736572766572000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\
            090000000600000061646d696e5f6b657964626b5f310a";
        assert_eq!(hexadecimal(&encode(&files)), plain, "{rule}");
        let newer = Sealed { form: SEALED_FORM + 1, ..kept };
        let refused = key.open(engine, &newer).unwrap_err().to_string();
        assert!(refused.contains("restore with the engine that sealed them"), "{refused}");
    }

    #[test]
    fn secrets_open_with_their_key_and_for_their_engine_only() {
        let key = RescueKey::of(b"correct horse battery staple\n").unwrap();
        let files: Files =
            vec![("secrets/server".into(), vec![7; 32]), ("admin_key".into(), b"dbk_1".to_vec())];
        let engine = EngineId([1; 16]);
        let sealed = key.seal(engine, &files).unwrap();
        assert_eq!(key.open(engine, &sealed).unwrap(), files);
        assert!(!sealed.sealed.windows(6).any(|window| window == b"server"), "nothing is in plain text");
        let other = RescueKey::of(b"correct horse battery stapler").unwrap();
        let mut changed = sealed.clone();
        changed.sealed[0] ^= 1;
        for (label, opened) in [
            ("another key", other.open(engine, &sealed)),
            ("another engine", key.open(EngineId([2; 16]), &sealed)),
            ("a changed bit", key.open(engine, &changed)),
            ("no iterations", key.open(engine, &Sealed { iterations: 0, ..sealed.clone() })),
        ] {
            assert!(matches!(opened, Err(RescueError::WrongKey)), "{label}");
        }
        assert_ne!(
            key.seal(engine, &files).unwrap().sealed,
            sealed.sealed,
            "salt and nonce are new each time"
        );
        assert!(RescueKey::of(b"too short").is_none());
        assert!(RescueKey::read(Path::new("/nowhere")).unwrap_err().to_string().contains("openssl rand"));
        assert_eq!(format!("{key:?}"), "RescueKey");
    }
}
