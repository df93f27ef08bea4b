//! What a store gets is sealed: without the key it tells nothing, and nothing can be put in its place.
//!
//! ```text
//!  "TA" │ version │ kind │ length of the key's name │ name │ nonce │ encrypted token, and its tag
//!  └──────── authenticated, with the store's key ──────────┘
//! ```

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::error::{Error, Kind};

/// The keys that tokens are sealed with before a store gets them: XChaCha20-Poly1305, 256 bits, a
/// random nonce of 192 bits each.
///
/// A key has a name, which stands beside what is sealed with it. New tokens are sealed with the one
/// that the ring was made with, and what is sealed with any other of the ring can be opened. So keys
/// are rotated with no token lost: give all processes the next as [`also`](Self::also) first, then
/// make it the first, and take the old one out a token's lifetime later.
///
/// [`Debug`](fmt::Debug) shows names alone.
///
/// # Example
///
/// ```
/// use tower_auth::Keyring;
///
/// # fn example(new: String, old: String) -> Result<(), tower_auth::Error> {
/// // Each the output of `openssl rand -base64 32`.
/// let keys = Keyring::new("2026-11", new)?.also("2026-05", old)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Keyring {
    /// The first one seals. Behind a pointer: a cipher's key is wiped when it is dropped, and not
    /// where it was moved from.
    keys: Vec<Arc<Key>>,
}

struct Key {
    name: String,
    cipher: XChaCha20Poly1305,
}

/// Where a value is sealed with a key, and where it is plain.
#[derive(Clone, Debug)]
pub(crate) enum Sealing {
    Sealed(Keyring),
    #[cfg(feature = "file")]
    Plain,
}

/// Why a value isn't opened. Each is as if there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// It is no value of this crate's, is cut, was changed, or was put under another key.
    Corrupt,
    /// Of another version of this crate.
    UnknownVersion,
    /// Sealed with a key that isn't on the ring.
    UnknownKey,
    /// Not sealed where it should be, or the other way round.
    WrongKind,
}

const MAGIC: &[u8] = b"TA";
const VERSION: u8 = 1;
const SEALED: u8 = b'S';
const PLAIN: u8 = b'P';
const KEY_LENGTH: usize = 32;
const NONCE_LENGTH: usize = 24;

/// Standard or URL-safe, with padding or without: whatever the tool at hand writes.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

impl Keyring {
    /// A ring with one key: 32 random bytes in base64, as `openssl rand -base64 32` writes them.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the key isn't that, or its name is empty or longer than
    /// 255 bytes.
    pub fn new(name: impl Into<String>, key: impl Into<SecretString>) -> Result<Self, Error> {
        Self { keys: Vec::new() }.also(name, key)
    }

    /// Adds a key that opens what other processes have sealed with it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and if there is a key of that name.
    pub fn also(
        mut self,
        name: impl Into<String>,
        key: impl Into<SecretString>,
    ) -> Result<Self, Error> {
        let (name, key) = (name.into(), key.into());
        let wrong = |what: &str| {
            let message = format!("the sealing key `{}` {what}", name.escape_debug());
            Err(Error::new(Kind::Config, message))
        };
        if name.is_empty() || name.len() > usize::from(u8::MAX) {
            return wrong("needs a name of 1 to 255 bytes");
        }
        if self.named(name.as_bytes()).is_some() {
            return wrong("is on the ring already");
        }
        let Some(cipher) = cipher(key.expose_secret().trim()) else {
            return wrong(
                "isn't 32 random bytes in base64; make one with `openssl rand -base64 32`",
            );
        };
        self.keys.push(Arc::new(Key { name, cipher }));
        Ok(self)
    }

    fn named(&self, name: &[u8]) -> Option<&Key> {
        let named = self.keys.iter().find(|key| key.name.as_bytes() == name);
        named.map(Arc::as_ref)
    }
}

fn cipher(key: &str) -> Option<XChaCha20Poly1305> {
    let alphabet = match key.contains(['-', '_']) {
        true => alphabet::URL_SAFE,
        false => alphabet::STANDARD,
    };
    let engine = GeneralPurpose::new(&alphabet, LENIENT);
    // As long as it can get: what a growing buffer leaves behind isn't zeroized.
    let mut bytes = Zeroizing::new(vec![0; key.len()]);
    let length = engine.decode_slice(key, &mut bytes).ok()?;
    let is_key = length == KEY_LENGTH;
    let key = bytes.get(..KEY_LENGTH).filter(|_| is_key)?;
    XChaCha20Poly1305::new_from_slice(key).ok()
}

impl Sealing {
    /// Closes a value that is to be kept under `key`. `None` only if the system has no random bytes.
    pub(crate) fn seal(&self, key: &str, value: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Sealed(ring) => ring.keys.first()?.seal(key, value),
            #[cfg(feature = "file")]
            Self::Plain => Some([MAGIC, &[VERSION, PLAIN], key.as_bytes(), value].concat()),
        }
    }

    /// Opens a value that was kept under `key`.
    pub(crate) fn open(&self, key: &str, value: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let rest = value.strip_prefix(MAGIC).ok_or(Unopened::Corrupt)?;
        let [version, kind, rest @ ..] = rest else {
            return Err(Unopened::Corrupt);
        };
        if *version != VERSION {
            return Err(Unopened::UnknownVersion);
        }
        match (self, *kind) {
            (Self::Sealed(ring), SEALED) => ring.open(key, value, rest),
            (Self::Sealed(_), PLAIN) => Err(Unopened::WrongKind),
            #[cfg(feature = "file")]
            (Self::Plain, PLAIN) => {
                let value = rest.strip_prefix(key.as_bytes());
                let value = value.ok_or(Unopened::Corrupt)?;
                Ok(Zeroizing::new(value.to_vec()))
            }
            #[cfg(feature = "file")]
            (Self::Plain, SEALED) => Err(Unopened::WrongKind),
            _ => Err(Unopened::UnknownVersion),
        }
    }
}

impl Keyring {
    fn open(&self, key: &str, value: &[u8], rest: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let (length, rest) = rest.split_first().ok_or(Unopened::Corrupt)?;
        let name = rest.split_at_checked(usize::from(*length));
        let (name, rest) = name.ok_or(Unopened::Corrupt)?;
        let sealed = rest.split_first_chunk::<NONCE_LENGTH>();
        let (nonce, sealed) = sealed.ok_or(Unopened::Corrupt)?;
        let head = &value[..value.len() - rest.len()];
        let with = self.named(name).ok_or(Unopened::UnknownKey)?;
        let aad = [head, key.as_bytes()].concat();
        let payload = Payload {
            msg: sealed,
            aad: &aad,
        };
        let opened = with.cipher.decrypt(&XNonce::from(*nonce), payload);
        opened.map(Zeroizing::new).map_err(|_| Unopened::Corrupt)
    }
}

impl Key {
    fn seal(&self, key: &str, value: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LENGTH];
        getrandom::fill(&mut nonce).ok()?;
        let name = self.name.as_bytes();
        let length = u8::try_from(name.len()).ok()?;
        let head = [MAGIC, &[VERSION, SEALED, length], name].concat();
        let aad = [&head, key.as_bytes()].concat();
        let payload = Payload {
            msg: value,
            aad: &aad,
        };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some([head.as_slice(), &nonce, &sealed].concat())
    }
}

impl Unopened {
    /// The reason as one word, as it stands in logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::UnknownVersion => "unknown_version",
            Self::UnknownKey => "unknown_key",
            Self::WrongKind => "wrong_kind",
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.keys.iter().map(|key| &key.name);
        f.debug_list().entries(names).finish()
    }
}
