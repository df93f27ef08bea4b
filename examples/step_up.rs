//! Uses an API that requires an extra scope for some paths (`insufficient_scope`, RFC 6750 §3.1).
//! The source requests the extra scope, but only if an allow list contains it.
//!
//! ```text
//! cargo run --example step_up
//! ```
#![allow(clippy::print_stdout)]

mod support;

use std::collections::BTreeMap;

use axum::extract::{Form, Path};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use support::{CLIENT_ID, CLIENT_SECRET, Report, serve};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::AuthLayer;
use tower_auth::challenge::StepUpChallenge;
use tower_auth::oauth2::{Client, ClientCredentials, StepUp};

/// Issues tokens that contain their scope.
async fn token(Form(form): Form<BTreeMap<String, String>>) -> Json<serde_json::Value> {
    let scope = form.get("scope").cloned().unwrap_or_default();
    println!("  token endpoint: a token for `{scope}`");
    let token = format!("may:{}", scope.replace(' ', ","));
    Json(json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": scope}))
}

/// Requires the scope that the path names.
async fn api(Path(wanted): Path<String>, headers: HeaderMap) -> Response {
    let credential = headers.get(header::AUTHORIZATION);
    let credential = credential.and_then(|sent| sent.to_str().ok());
    let granted = credential.and_then(|sent| sent.strip_prefix("Bearer may:"));
    if granted.is_some_and(|granted| granted.split(',').any(|scope| scope == wanted)) {
        return "done".into_response();
    }
    println!("  API: 403, requires `{wanted}`");
    let challenge = format!(r#"Bearer error="insufficient_scope", scope="{wanted}""#);
    (
        StatusCode::FORBIDDEN,
        [(header::WWW_AUTHENTICATE, challenge)],
    )
        .into_response()
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let router = Router::new()
        .route("/token", post(token))
        .route("/v1/{wanted}", get(api));
    let url = serve(router).await?;

    let client = Client::new(format!("{url}/token"), CLIENT_ID, CLIENT_SECRET)?;
    let source = StepUp::new(move |wanted| {
        Ok(ClientCredentials::with_client(client.clone()).scope(wanted.scope()))
    })
    .scope("read")
    .allow("write");
    let client = ServiceBuilder::new()
        .layer(AuthLayer::new(source).only_to([&url])?)
        .service(reqwest::Client::new());

    for wanted in ["read", "write", "read", "write", "admin"] {
        let address = format!("{url}/v1/{wanted}").parse()?;
        let request = reqwest::Request::new(reqwest::Method::GET, address);
        let response = client.clone().oneshot(request).await?;
        println!("{wanted}: {}", response.status());
        let lacks = response.extensions().get::<StepUpChallenge>();
        if let Some(scope) = lacks.and_then(StepUpChallenge::scope) {
            println!("  the token lacks `{scope}`, which isn't on the allow list");
        }
    }
    Ok(())
}
