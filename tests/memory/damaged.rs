//! Saved logins and tokens that were cut or changed. An error of serde shows a value that has the
//! wrong type.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use tower_auth::cache::Clock;
use tower_auth::fleet::{FileStore, Fleet, Keyring, MemoryStore, StoreKey, TokenStore};
use tower_auth::oauth2::{Client, RefreshToken, RefreshTokenFile, RefreshTokenStore, SharedLogin};
use tower_auth_freed::unwatched;

use crate::fleets::cache;
use crate::planted::text;
use crate::responses::tokens;
use crate::server::Server;
use crate::watched::{layer, real_time, use_layer, watched};

/// Returns damaged versions of a JSON object.
fn damaged(whole: &Value) -> Vec<String> {
    let json = whole.to_string();
    let mut texts: Vec<String> = (1..json.len())
        .step_by(20)
        .map(|end| json[..end].to_owned())
        .collect();
    texts.push(json.clone() + "}");
    texts.push(json!([whole]).to_string());
    texts.push(json.replacen('{', &format!("{{\"unknown\":\"{}\",", text("value")), 1));
    texts.push(json.replacen("\":", "\";", 3));
    let wrong = [
        json!(text("wrong")),
        json!([text("wrong"), { "deep": text("wrong") }]),
        json!({ "deep": [text("wrong"), { "deeper": text("wrong") }] }),
        json!(1.5),
        Value::Null,
    ];
    let Value::Object(fields) = whole else {
        return texts;
    };
    for name in fields.keys() {
        for wrong in &wrong {
            if wrong.is_string() && whole[name].is_string() {
                continue;
            }
            let mut whole = whole.clone();
            whole[name] = wrong.clone();
            texts.push(whole.to_string());
        }
        // The same field twice.
        let again = format!("{{\"{name}\":\"{}\",", text("twice"));
        texts.push(json.replacen('{', &again, 1));
    }
    texts
}

fn damaged_logins() -> Vec<String> {
    damaged(&json!({
        "refresh_token": text("refresh"),
        "access_token": text("access"),
        "expires_in_ms": 3_600_000,
        "lifetime_ms": 3_600_000,
        "refresh_in_ms": 1_800_000,
        "scope": "read",
        "missing_scope": "write",
        "id_token": text("id"),
        "extra": { "note": { "deep": [text("extra")] } },
        "request": "0123456789abcdef",
        "jkt": "thumbprint",
    }))
}

fn source(store: impl RefreshTokenStore) -> RefreshToken {
    let client = Client::public("https://id.example.com/token", "client").unwrap();
    RefreshToken::stored(client.transport(Server::new(tokens, 0)), store)
}

#[test]
fn a_damaged_login_in_a_file_is_left_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("login");
    for text in damaged_logins() {
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        watched(async || use_layer(layer(source(RefreshTokenFile::new(&path)))).await);
    }
}

#[test]
fn a_damaged_login_in_a_shared_store_is_left_nowhere() {
    for text in damaged_logins() {
        watched(async || {
            let keys =
                Keyring::new("2026-11", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").unwrap();
            let login = SharedLogin::new(MemoryStore::new(), keys, &StoreKey::new("login"));
            let lock = login.lock(Duration::from_secs(60)).await;
            let lock = lock.unwrap().unwrap();
            let text = unwatched(|| SecretString::from(text.as_str()));
            login.save(text, &lock).await.unwrap();
            login.unlock(lock).await.unwrap();
            use_layer(layer(source(login))).await;
        });
    }
}

/// The file is unsealed, so each text reaches the decoder.
#[test]
fn a_damaged_token_in_a_file_is_left_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path().join("tokens"));
    let fleet = || Fleet::unsealed(store.clone());
    let (key, saved) = real_time().block_on(async {
        cache(fleet(), "saved").build().token().await.unwrap();
        let key = only_key(&store);
        let saved = store.load(&key).await.unwrap().unwrap();
        let saved = String::from_utf8(saved.sealed().unwrap().0.to_vec()).unwrap();
        (key, saved)
    });
    let (head, json) = saved.split_at(saved.find('{').unwrap());
    let record: Value = serde_json::from_str(json).unwrap();
    // Now the fields have the order of `Value`, as in `damaged`.
    let json = record.to_string();
    let mut texts = damaged(&record);
    for part in [&record["token"], &record["token"]["form"]] {
        let damaged = damaged(part).into_iter();
        texts.extend(damaged.map(|damaged| json.replace(&part.to_string(), &damaged)));
    }
    for text in texts {
        real_time().block_on(async {
            let hour = Duration::from_secs(3_600);
            let lease = store.lease(&key, hour).await.unwrap().unwrap();
            let saved = format!("{head}{text}");
            let saved = store.save(&key, saved.as_bytes(), hour, &lease).await;
            assert!(saved.unwrap());
        });
        watched(async || {
            let cache = cache(fleet(), "other").clock(Clock::tokio()).build();
            cache.token().await.unwrap();
            cache.close().await;
        });
    }
}

/// Returns the key of the only token in the store.
fn only_key(store: &FileStore) -> String {
    let files = fs::read_dir(store.folder()).unwrap();
    let mut names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let name = names.find(|name| name.ends_with(".token")).unwrap();
    name.trim_end_matches(".token").to_owned()
}
