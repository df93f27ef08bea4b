//! Seals the values that a store gets. Without the key, nobody can read a value, or change a value
//! unnoticed.
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

/// The keys that seal tokens for a store. The cipher is XChaCha20-Poly1305 with 256-bit keys and a
/// random 192-bit nonce for each token.
///
/// Each key has a name, which the store keeps beside each sealed value. The first key of the ring
/// seals new tokens. Every key of the ring opens the tokens that it sealed. To rotate keys without
/// losing a token:
///
/// 1. Add the new key in all processes with [`also`](Self::also).
/// 2. Make the new key the first key.
/// 3. Remove the old key after one token lifetime.
///
/// [`Debug`](fmt::Debug) shows only the names.
///
/// # Example
///
/// ```
/// use tower_auth::fleet::Keyring;
///
/// # fn example(new: String, old: String) -> Result<(), tower_auth::Error> {
/// // Create each key with `openssl rand -base64 32`.
/// let keys = Keyring::new("2026-11", new)?.also("2026-05", old)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Keyring {
    /// The first key seals. The keys are behind pointers, because a move of a cipher would leave a
    /// copy of its key in memory. A cipher zeroizes its key only at the place where the cipher is
    /// dropped.
    keys: Vec<Arc<Key>>,
}

struct Key {
    name: String,
    cipher: XChaCha20Poly1305,
}

/// Whether values are sealed with a key or stored unsealed.
#[derive(Clone, Debug)]
pub(crate) enum Sealing {
    Sealed(Keyring),
    #[cfg(feature = "file")]
    Plain,
}

/// The reason why a value can't be opened. The cache ignores such a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// The value isn't what this crate sealed for this store key. For example, it was truncated,
    /// changed or moved.
    Corrupt,
    /// Another version of this crate wrote the value.
    UnknownVersion,
    /// A key that isn't in the ring sealed the value.
    UnknownKey,
    /// The value is unsealed but this process expects sealed values, or the value is sealed but
    /// this process expects unsealed values.
    WrongKind,
}

const MAGIC: &[u8] = b"TA";
const VERSION: u8 = 2;
const SEALED: u8 = b'S';
const PLAIN: u8 = b'P';
const KEY_LENGTH: usize = 32;
const NONCE_LENGTH: usize = 24;

/// Accepts base64 with or without padding, because tools differ.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

impl Keyring {
    /// Makes a ring with one key. The key is 32 random bytes in base64, such as the output of
    /// `openssl rand -base64 32`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the key isn't 32 bytes in base64, or if the name is empty
    /// or longer than 255 bytes.
    pub fn new(name: impl Into<String>, key: impl Into<SecretString>) -> Result<Self, Error> {
        Self { keys: Vec::new() }.also(name, key)
    }

    /// Adds a key that other processes may use for sealing. This process can then open values that
    /// other processes sealed with this key.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`new`](Self::new). Also fails if the ring already contains a key
    /// with this name.
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
            return wrong("is already in the ring; give each key its own name");
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
    // Allocates the maximum length. A buffer that grows leaves copies in memory that aren't
    // zeroized.
    let mut bytes = Zeroizing::new(vec![0; key.len()]);
    let length = engine.decode_slice(key, &mut bytes).ok()?;
    let is_key = length == KEY_LENGTH;
    let key = bytes.get(..KEY_LENGTH).filter(|_| is_key)?;
    XChaCha20Poly1305::new_from_slice(key).ok()
}

impl Sealing {
    /// Seals a value for `key`. Returns `None` only if the system returns no random bytes.
    pub(crate) fn seal(&self, key: &str, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = match self {
            Self::Sealed(ring) => ring.keys.first()?.seal(key, value)?,
            #[cfg(feature = "file")]
            Self::Plain => [MAGIC, &[VERSION, PLAIN], key.as_bytes(), value].concat(),
        };
        Some(Zeroizing::new(sealed))
    }

    /// Opens a value that was stored for `key`.
    pub(crate) fn open(&self, key: &str, value: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let rest = value.strip_prefix(MAGIC).ok_or(OpenError::Corrupt)?;
        let [version, kind, rest @ ..] = rest else {
            return Err(OpenError::Corrupt);
        };
        if *version != VERSION {
            return Err(OpenError::UnknownVersion);
        }
        match (self, *kind) {
            (Self::Sealed(ring), SEALED) => ring.open(key, value, rest),
            (Self::Sealed(_), PLAIN) => Err(OpenError::WrongKind),
            #[cfg(feature = "file")]
            (Self::Plain, PLAIN) => {
                let value = rest.strip_prefix(key.as_bytes());
                let value = value.ok_or(OpenError::Corrupt)?;
                Ok(Zeroizing::new(value.to_vec()))
            }
            #[cfg(feature = "file")]
            (Self::Plain, SEALED) => Err(OpenError::WrongKind),
            _ => Err(OpenError::UnknownVersion),
        }
    }
}

impl Keyring {
    fn open(&self, key: &str, value: &[u8], rest: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (length, rest) = rest.split_first().ok_or(OpenError::Corrupt)?;
        let name = rest.split_at_checked(usize::from(*length));
        let (name, rest) = name.ok_or(OpenError::Corrupt)?;
        let sealed = rest.split_first_chunk::<NONCE_LENGTH>();
        let (nonce, sealed) = sealed.ok_or(OpenError::Corrupt)?;
        let head = &value[..value.len() - rest.len()];
        let with = self.named(name).ok_or(OpenError::UnknownKey)?;
        let aad = [head, key.as_bytes()].concat();
        let payload = Payload {
            msg: sealed,
            aad: &aad,
        };
        let opened = with.cipher.decrypt(&XNonce::from(*nonce), payload);
        opened.map(Zeroizing::new).map_err(|_| OpenError::Corrupt)
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

impl OpenError {
    /// Returns the reason as one word, for logs.
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
