//! Values in the store of a fleet. The first byte of the input says what the rest is:
//!
//! - `V`: the value in the store
//! - `T`: the record of a token, which is sealed with the fleet's key
//! - `L`: the record of a login, which is sealed with the fleet's key
//! - `C`: an offset and a mask, for one byte of a value that another process sealed
//! - `R`: the secret, the scope and an extra field of a token, in three lines
#![no_main]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use libfuzzer_sys::{Corpus, fuzz_target};
use tower_auth::fleet::{Fleet, Keyring, Lease, StoreKey, StoredValue, TokenStore};
use tower_auth::oauth2::{Client, RefreshToken, SharedLogin};
use tower_auth::{BoxError, Reason, Token, TokenCache, TokenSource};
use tower_auth_fuzz::{assert_harmless, is_field_value, run, secrets_in, server, text_in};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Default)]
struct Store(Arc<Mutex<Option<Value>>>);

#[derive(Clone)]
enum Value {
    Sealed(Vec<u8>),
    /// The value is sealed when the store is asked for it, because only then the key is known.
    Plain(Vec<u8>),
}

impl TokenStore for Store {
    async fn load(&self, key: &str) -> Result<Option<StoredValue>, BoxError> {
        let value = self.0.lock().unwrap().clone();
        let sealed = value.map(|value| match value {
            Value::Sealed(bytes) => bytes,
            Value::Plain(text) => seal(key, &text),
        });
        Ok(sealed.map(|bytes| StoredValue::new(bytes, HOUR)))
    }

    async fn save(&self, _: &str, sealed: &[u8], _: Duration, _: &Lease) -> Result<bool, BoxError> {
        *self.0.lock().unwrap() = Some(Value::Sealed(sealed.to_vec()));
        Ok(true)
    }

    async fn delete(&self, _: &str, _: &Lease) -> Result<bool, BoxError> {
        Ok(self.0.lock().unwrap().take().is_some())
    }

    async fn lease(&self, _: &str, _: Duration) -> Result<Option<Lease>, BoxError> {
        Ok(Some(Lease::new(1)))
    }

    async fn renew(&self, _: &str, _: &Lease, _: Duration) -> Result<bool, BoxError> {
        Ok(true)
    }

    async fn release(&self, _: &str, _: Lease) -> Result<bool, BoxError> {
        Ok(true)
    }
}

impl Store {
    fn holding(value: Value) -> Self {
        Self(Arc::new(Mutex::new(Some(value))))
    }

    fn sealed(&self) -> Vec<u8> {
        match self.0.lock().unwrap().clone() {
            Some(Value::Sealed(bytes)) => bytes,
            _ => Vec::new(),
        }
    }
}

/// Seals a value as `fleet/keyring.rs` describes it.
fn seal(key: &str, text: &[u8]) -> Vec<u8> {
    let head = b"TA\x02S\x01k";
    let aad = [&head[..], key.as_bytes()].concat();
    let cipher = XChaCha20Poly1305::new_from_slice(&(0..32).collect::<Vec<u8>>()).unwrap();
    let payload = Payload {
        msg: text,
        aad: &aad,
    };
    let sealed = cipher.encrypt(&XNonce::from([7; 24]), payload).unwrap();
    [&head[..], &[7; 24], &sealed].concat()
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((kind, rest)) = data.split_first() else {
        return Corpus::Reject;
    };
    match kind {
        b'V' => {
            let store = Store::holding(Value::Sealed(rest.to_vec()));
            assert_eq!(token_in(&store).secret(), "fetched", "forged");
        }
        b'T' => is_used_or_ignored(rest),
        b'L' => is_login(rest),
        b'C' => is_never_opened(rest),
        b'R' => {
            let Ok(text) = std::str::from_utf8(rest) else {
                return Corpus::Reject;
            };
            is_shared_unchanged(text);
        }
        _ => return Corpus::Reject,
    }
    Corpus::Keep
});

/// Returns the token of a process whose own source fetches `fetched`.
fn token_in(store: &Store) -> Token {
    process(store, Token::bearer("fetched").unwrap())
}

/// Returns the token of a process with this store, whose own source fetches `own`.
fn process(store: &Store, own: Token) -> Token {
    let keys = Keyring::new("k", KEY).unwrap();
    let fleet = Fleet::new(store.clone(), keys).key(StoreKey::new("fuzz"));
    let source = move |_| {
        let own = own.clone();
        async move { Ok::<_, tower_auth::Error>(own) }
    };
    run(async move {
        let cache = TokenCache::builder(source).fleet(fleet).unwrap().build();
        cache.token().await.unwrap()
    })
}

fn is_used_or_ignored(record: &[u8]) {
    let token = token_in(&Store::holding(Value::Plain(record.to_vec())));
    if token.secret() == "fetched" {
        return;
    }
    let json: serde_json::Value = serde_json::from_slice(record).unwrap();
    assert_eq!(json["token"]["secret"], token.secret());
    if let Some(header) = token.header_value() {
        assert!(header.is_sensitive() && is_field_value(token.secret()));
    }
}

fn is_login(record: &[u8]) {
    let store = Store::holding(Value::Plain(record.to_vec()));
    let keys = Keyring::new("k", KEY).unwrap();
    let login = SharedLogin::new(store, keys, &StoreKey::new("login"));
    let server = server([]);
    let client = Client::public("https://id.example.com/token", "the-app").unwrap();
    let source = RefreshToken::stored(client.transport(server.clone()), login);
    let fetched = run(source.fetch(Reason::First));
    for request in server.requests() {
        let sent = request.param("refresh_token").unwrap();
        let text = std::str::from_utf8(record).unwrap().trim();
        match text.starts_with('{') {
            true => assert_eq!(text_in(text.as_bytes(), "refresh_token"), Some(sent)),
            false => assert_eq!(text, sent),
        }
    }
    match fetched {
        Ok(token) => {
            let saved = text_in(record.trim_ascii(), "access_token");
            assert_eq!(saved.as_deref(), Some(token.secret()));
        }
        Err(error) => assert_harmless(
            &error,
            &secrets_in(record, &["refresh_token", "access_token"]),
        ),
    }
}

fn is_never_opened(change: &[u8]) {
    let &[high, low, mask] = change else { return };
    let store = Store::default();
    process(&store, Token::bearer("another").unwrap());
    let mut sealed = store.sealed();
    let at = usize::from(u16::from_be_bytes([high, low]));
    if let Some(byte) = sealed.get_mut(at).filter(|_| mask != 0) {
        *byte ^= mask;
        let store = Store::holding(Value::Sealed(sealed));
        assert_eq!(token_in(&store).secret(), "fetched", "forged");
    }
}

fn is_shared_unchanged(text: &str) {
    let mut lines = text.splitn(3, '\n').chain([""; 2]);
    let mut line = || lines.next().unwrap_or_default();
    let Ok(token) = Token::bearer(line()) else {
        return;
    };
    let (scope, extra) = (line(), line());
    let token = token.with_scope(scope).with_extra("note", extra);
    let store = Store::default();
    process(&store, token.clone());
    if store.sealed().is_empty() {
        // The token is too long to be shared.
        assert!(text.len() > 1024);
        return;
    }
    let shared = token_in(&store);
    assert_eq!(shared.secret(), token.secret());
    assert_eq!(shared.header_value(), token.header_value());
    assert_eq!(shared.scope(), token.scope());
    assert_eq!(shared.extra("note"), token.extra("note"));
}
