//! Replaces an API key through the API itself: creates a second key, switches to it, and deletes
//! the first key. Meanwhile, four callers send requests, and no request fails.
//!
//! ```text
//! cargo run --example api_key_rotation
//! ```
#![allow(clippy::print_stdout)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use support::{KeyServer, Report};
use tower::{Layer, ServiceExt};
use tower_auth::{ApiKey, Auth, AuthLayer};

/// The pause after each step. Within this time, all servers of the API must accept a new key, and
/// requests with the previous key must end.
const TRANSITION: Duration = Duration::from_millis(500);

static ANSWERED: AtomicUsize = AtomicUsize::new(0);
static FAILED: AtomicUsize = AtomicUsize::new(0);

async fn send(client: &Auth<Client>, request: RequestBuilder) -> Result<Response, Report> {
    let response = client.clone().oneshot(request.build()?).await?;
    Ok(response.error_for_status()?)
}

async fn send_steadily(client: Auth<Client>, plain: Client, url: String) {
    loop {
        let count = match send(&client, plain.get(&url)).await {
            Ok(_) => &ANSWERED,
            Err(_) => &FAILED,
        };
        count.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn wait_after(step: &str) {
    tokio::time::sleep(TRANSITION).await;
    let (answered, failed) = (ANSWERED.load(Relaxed), FAILED.load(Relaxed));
    println!("{step}: {answered} requests answered, {failed} failed");
    assert_eq!(failed, 0);
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let api = KeyServer::start().await?;
    let (things, keys) = (
        format!("{}/things", api.url()),
        format!("{}/keys", api.url()),
    );
    let (key, rotation) = ApiKey::rotating(api.first_key());
    let layer = AuthLayer::new(key).only_to([api.url()])?;
    let plain = Client::new();
    let client = layer.layer(plain.clone());
    for _ in 0..4 {
        tokio::spawn(send_steadily(client.clone(), plain.clone(), things.clone()));
    }
    wait_after("the first key").await;

    // The first key authenticates the request for the second key.
    let created = send(&client, plain.post(&keys)).await?.bytes().await?;
    let created: Value = serde_json::from_slice(&created)?;
    let second = created["key"].as_str().ok_or("the API returned no key")?;
    rotation.offer(second);
    wait_after("created the second key").await;

    rotation.switch();
    layer.cache().refresh_now().await?;
    wait_after("switched to the second key").await;

    // If the API had refused the second key, the layer would have returned to the first key.
    assert!(layer.cache().token().await?.secret() == second);
    send(&client, plain.delete(format!("{keys}/1"))).await?;
    rotation.finish();
    wait_after("deleted the first key").await;

    println!("the API refused {} requests", api.refusals());
    assert_eq!(api.refusals(), 0);
    Ok(())
}
