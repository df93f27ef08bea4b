//! Many tenants behind one layer, each with a client of its own at an authorization server of its own:
//! one of them hangs, one refuses, and nobody else notices. And what 100,000 tenants take in memory.
//!
//! ```text
//! cargo run --release --example tenants --features tenants
//! cargo run --release --example tenants --features tenants -- 10000
//! ```
#![allow(clippy::print_stdout)]

mod support;

use std::collections::BTreeMap;
use std::future::{pending, ready};
use std::sync::Arc;

use allocation_counter::measure;
use axum::extract::{Form, Path};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use support::{CLIENT_SECRET, Report, serve};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::oauth2::{Client, ClientCredentials, ReqwestTransport};
use tower_auth::tenants::Tenants;
use tower_auth::{AuthLayer, BoxError, Error, Token};

const MANY: usize = 100_000;

/// The authorization server of a tenant.
async fn token(Path(tenant): Path<String>, Form(form): Form<BTreeMap<String, String>>) -> Response {
    match tenant.as_str() {
        "hangs" => pending().await,
        "refuses" => {
            let error = Json(json!({"error": "invalid_client"}));
            (StatusCode::UNAUTHORIZED, error).into_response()
        }
        _ => {
            let token = format!("issued to {}", form["client_id"]);
            let token = json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600});
            Json(token).into_response()
        }
    }
}

/// Serves a tenant who comes with its own token.
async fn api(Path(tenant): Path<String>, headers: HeaderMap) -> StatusCode {
    match headers.get(header::AUTHORIZATION) {
        Some(sent) if sent == &format!("Bearer issued to {tenant}") => StatusCode::OK,
        Some(_) | None => StatusCode::UNAUTHORIZED,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Report> {
    let router = Router::new()
        .route("/{tenant}/token", post(token))
        .route("/{tenant}/v1", get(api));
    let url = serve(router).await?;

    // The connections are shared, and nothing else.
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let (transport, at) = (ReqwestTransport::new(http.build()?), url.clone());
    let tenants = Tenants::new(move |tenant: &Arc<str>| {
        let endpoint = format!("{at}/{tenant}/token");
        let client =
            Client::new(endpoint, tenant.to_string(), CLIENT_SECRET)?.transport(transport.clone());
        AuthLayer::new(ClientCredentials::with_client(client)).only_to([&at])
    });
    // `reqwest::Request` shows no extensions; others are asked for the key by `by_extension`.
    let by = tenants.by(|request: &reqwest::Request| {
        let tenant = request.url().path_segments()?.next()?;
        Some(Arc::from(tenant))
    });
    let client = ServiceBuilder::new()
        .layer(by)
        .service(reqwest::Client::new());
    let call = |tenant: String| {
        let (client, url) = (client.clone(), format!("{url}/{tenant}/v1"));
        async move {
            let request = reqwest::Request::new(reqwest::Method::GET, url.parse()?);
            client.oneshot(request).await.map(|answer| answer.status())
        }
    };

    let hanging = tokio::spawn(call("hangs".into()));
    if let Err(error) = call("refuses".into()).await {
        println!("refuses: {error}");
    }
    let mut served = 0;
    for number in 1..=100 {
        let status = call(format!("tenant-{number}")).await?;
        served += usize::from(status == StatusCode::OK);
    }
    println!("tenant-1 to tenant-100: {served} requests served, each with the token of its tenant");
    println!(
        "hangs: {}",
        if hanging.is_finished() {
            "answered"
        } else {
            "still waits, alone"
        }
    );
    println!("{} tenants are kept", tenants.len());
    hanging.abort();

    let many = std::env::args()
        .nth(1)
        .map_or(Ok(MANY), |many| many.parse())?;
    let each = tokio::task::spawn_blocking(move || memory(many)).await??;
    println!("{many} idle tenants, each with a token in hand: {each} bytes each");
    Ok(())
}

/// What a tenant takes: its place among the tenants, its layer, its cache and a short token, with a source
/// and a key that take nothing themselves. By what is allocated, on this thread, and not freed.
fn memory(many: usize) -> Result<usize, BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tenants = Tenants::builder(|_: &usize| {
        AuthLayer::new(|_| ready(Token::bearer("secret"))).only_to(["https://api.example.com"])
    });
    let tenants = tenants.capacity(many as u64).build();
    let fetch_all = async || {
        for number in 0..many {
            tenants.get(&number)?.cache().token().await?;
        }
        Ok::<_, Error>(())
    };
    let mut fetched = Ok(());
    let allocated = measure(|| fetched = runtime.block_on(fetch_all()));
    fetched?;
    Ok(usize::try_from(allocated.bytes_current)? / tenants.len().max(1))
}
