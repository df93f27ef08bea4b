//! The key under which processes share a token. It is a digest of everything that the token depends
//! on.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The key under which processes share a token. Two processes have the same key if and only if they
/// can use each other's tokens.
///
/// The key is made of the names and values that the token depends on. Their order doesn't matter,
/// and a name may have several values. The key contains only SHA-256 digests of the names and
/// values. An attacker who reads the key can test guesses, so a secret value should be hard to
/// guess.
///
/// Most sources return their own key with
/// [`TokenSource::store_key`](crate::TokenSource::store_key). For a closure, the user has to set
/// the key.
///
/// # Example
///
/// ```
/// use tower_auth::fleet::StoreKey;
///
/// let key = StoreKey::new("vault").with("role", "reports").with_words("scope", "a b");
/// let same = StoreKey::new("vault").with_words("scope", "b a").with("role", "reports");
/// assert_eq!(key, same);
/// assert_ne!(key, same.with("tenant", "acme"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoreKey {
    parts: BTreeSet<[u8; 32]>,
}

/// Makes the digests of store keys differ from all other digests, also from the store keys of a
/// later version.
const DOMAIN: &[u8] = b"tower-auth store key 1";

impl StoreKey {
    /// Makes a key for one kind of token. `kind` names a grant or your own source.
    pub fn new(kind: impl AsRef<str>) -> Self {
        let parts = BTreeSet::new();
        Self { parts }.with("kind", kind)
    }

    /// Adds a value. Order and duplicates don't matter.
    #[must_use]
    pub fn with(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let (name, value) = (name.as_ref().as_bytes(), value.as_ref().as_bytes());
        let mut digest = Sha256::new();
        // The length of the name is hashed too. So each split of the same bytes into name and value
        // has its own digest.
        digest.update((name.len() as u64).to_be_bytes());
        digest.update(name);
        digest.update(value);
        self.parts.insert(digest.finalize().into());
        self
    }

    /// Adds the words of a text, such as a scope (RFC 6749 §3.3). Their order doesn't matter.
    #[must_use]
    pub fn with_words(self, name: impl AsRef<str>, text: impl AsRef<str>) -> Self {
        let words = text.as_ref().split_whitespace();
        words.fold(self, |key, word| key.with(&name, word))
    }

    /// Adds the key of a parent token, from which this token is derived.
    ///
    /// # Example
    ///
    /// The tokens of an exchange depend on the login that is exchanged:
    ///
    /// ```
    /// use tower_auth::fleet::StoreKey;
    ///
    /// let login = StoreKey::new("login").with("user", "me");
    /// let bare = StoreKey::new("exchange").with("api", "stock");
    /// assert_ne!(bare.clone().with_key("subject", &login), bare);
    /// ```
    #[must_use]
    pub fn with_key(self, name: impl AsRef<str>, key: &Self) -> Self {
        self.with(name, key.to_text())
    }

    /// Returns the key as text for a store: 43 characters of the base64url alphabet.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::fleet::StoreKey;
    ///
    /// let key = StoreKey::new("vault").with("role", "reports");
    /// let row = format!("token:{}", key.to_text());
    /// assert_eq!(key.to_text().len(), 43);
    /// ```
    pub fn to_text(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(DOMAIN);
        for part in &self.parts {
            digest.update(part);
        }
        URL_SAFE_NO_PAD.encode(digest.finalize())
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKey({})", self.to_text())
    }
}
