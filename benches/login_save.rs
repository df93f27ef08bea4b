//! How long a new refresh token exists only in memory: from the server's answer to the end of the
//! save. A process that is killed in this time loses its login.
//!
//! `cargo bench -p tower-auth-benches --bench login_save`
//!
//! Without `redis-server`, the benchmark measures only saves to a file.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tower_auth::fleet::{Keyring, RedisStore, StoreKey};
use tower_auth::oauth2::{RefreshTokenFile, RefreshTokenStore, SharedLogin};

/// A key in the format of `openssl rand -base64 32`.
const SEALING_KEY: &str = "c2VhbGluZyBrZXkgb2YgdGhlIGZsZWV0IG9mIHRlc3Q=";

const SAVES: usize = 1_000;

/// Kills its Redis when it is dropped.
struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let file = RefreshTokenFile::new(folder.path().join("refresh-token"));
    measure("a file, synced to disk", &file).await;
    for sync in ["everysec", "always"] {
        let Some((_redis, url)) = redis(folder.path(), sync) else {
            println!("no redis-server");
            return;
        };
        let keys = Keyring::new("bench", SEALING_KEY).unwrap();
        let store = RedisStore::open(url).unwrap();
        let login = SharedLogin::new(store, keys, &StoreKey::new("bench").with("sync", sync));
        while login.load().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        measure(&format!("Redis, appendfsync {sync}"), &login).await;
    }
}

/// Saves a login of 1,500 bytes again and again.
async fn measure(what: &str, store: &impl RefreshTokenStore) {
    let lock = store.lock(Duration::from_secs(60)).await.unwrap().unwrap();
    let mut took = Vec::new();
    for number in 0..SAVES {
        let (refresh, access) = ("r".repeat(300), "a".repeat(1_000));
        let login = format!(
            r#"{{"refresh_token":"{number}{refresh}","access_token":"{access}","expires_in_ms":3600000}}"#
        );
        assert!(store.confirm(&lock).await.unwrap());
        let start = Instant::now();
        store.save(SecretString::from(login), &lock).await.unwrap();
        took.push(start.elapsed());
    }
    store.unlock(lock).await.unwrap();
    took.sort();
    let [half, most] = [SAVES / 2, SAVES * 99 / 100].map(|at| took[at]);
    println!("{what}: half of the saves take at most {half:?}, 99 of 100 at most {most:?}");
}

fn redis(folder: &Path, sync: &str) -> Option<(Redis, String)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let port = port.unwrap().port().to_string();
    let child = Command::new("redis-server")
        .args([
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--appendonly",
            "yes",
        ])
        .args(["--appendfsync", sync, "--dir"])
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    Some((Redis(child), format!("redis://127.0.0.1:{port}")))
}
