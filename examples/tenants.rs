//! Serves many tenants through one layer. Each tenant has its own client and authorization server.
//! One server hangs and another server refuses. The other tenants aren't affected. Also measures
//! the memory of 100,000 tenants.
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

/// Serves the token endpoint of a tenant.
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

/// Accepts requests that have the tenant's own token.
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

    // The tenants share only this HTTP client and its connections.
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let (transport, at) = (ReqwestTransport::new(http.build()?), url.clone());
    let tenants = Tenants::new(move |tenant: &Arc<str>| {
        let endpoint = format!("{at}/{tenant}/token");
        let client =
            Client::new(endpoint, tenant.to_string(), CLIENT_SECRET)?.transport(transport.clone());
        AuthLayer::new(ClientCredentials::with_client(client)).only_to([&at])
    });
    // `by_extension` takes the tenant from a request's extensions. But `reqwest::Request` gives no
    // access to its extensions, so this example takes the tenant from the path.
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
            "still waiting, and no other tenant is"
        }
    );
    println!("{} tenants in the registry", tenants.len());
    hanging.abort();

    let many = std::env::args()
        .nth(1)
        .map_or(Ok(MANY), |many| many.parse())?;
    let each = tokio::task::spawn_blocking(move || memory(many)).await??;
    println!("{many} idle tenants, each with a cached token: {each} bytes each");
    Ok(())
}

/// Returns the memory per tenant: the entry in the registry, the layer, the cache and a short
/// token. The source and the key of this example allocate no memory. Counts the memory that this
/// thread allocates and doesn't free.
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
