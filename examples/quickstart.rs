//! Sends a thousand concurrent requests with one token, in three cases: no token yet, an expired
//! token, and a revoked token.
//!
//! ```text
//! cargo run --example quickstart
//! ```
//!
//! To use real services, with 20 requests instead of 1,000, set `TOKEN_URL`, `CLIENT_ID`,
//! `CLIENT_SECRET` and `API_URL` (with the path to request). If needed, also set `AUDIENCE` and
//! `SCOPE`. With real services, only the client's clock moves, and only the client treats the token
//! as revoked.
#![allow(clippy::print_stdout)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{Method, StatusCode};
use support::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, Report, SCOPE, Servers, optional, required};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::cache::Clock;
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{AuthLayer, Error, Place, Reason, Token, TokenCache, TokenSource};

const LONGER_THAN_ANY_TOKEN_LASTS: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);

#[tokio::main]
async fn main() -> Result<(), Report> {
    let clock = Clock::manual();
    let (source, api_url, requests, servers) = match optional("TOKEN_URL") {
        Some(url) => (source_from_env(&url)?, required("API_URL")?, 20, None),
        None => {
            let servers = Servers::start_with(&clock).await?;
            let token_url = servers.authorization.token_url();
            let source = ClientCredentials::new(token_url, CLIENT_ID, CLIENT_SECRET)?
                .audience(AUDIENCE)
                .scope(SCOPE);
            let api_url = format!("{}/notes", servers.api.url());
            (source, api_url, 1000, Some(servers))
        }
    };

    // A source can wrap another source. `Counted` counts the fetches of the wrapped source.
    let fetches = Arc::new(AtomicUsize::new(0));
    let source = Counted {
        source,
        fetches: Arc::clone(&fetches),
    };
    let cache = TokenCache::builder(source).clock(&clock).build();

    // Requests are counted below the layer, so that replayed requests count too.
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let origin = reqwest::Url::parse(&api_url)?.origin();
    let layer = AuthLayer::from(cache.clone()).only_to([origin.ascii_serialization()])?;
    let client = ServiceBuilder::new()
        .layer(layer)
        .map_request(move |request: reqwest::Request| {
            count.fetch_add(1, Relaxed);
            request
        })
        .concurrency_limit(100)
        .service(reqwest::Client::new());

    let begun = Instant::now();
    let mut total = [0; 4];
    println!(
        "{:16}  requests  fetches  replays  refusals seen    time",
        ""
    );
    for phase in ["no token yet", "token expired", "token revoked"] {
        match (phase, &servers) {
            ("token expired", _) => clock.advance(LONGER_THAN_ANY_TOKEN_LASTS),
            ("token revoked", Some(servers)) => servers.revoke_all_tokens(),
            ("token revoked", None) => cache.reject(&cache.token().await?),
            _ => {}
        }
        let start = Instant::now();
        let statuses = join_all((0..requests).map(|_| {
            let client = client.clone();
            let url = api_url.parse();
            tokio::spawn(async move {
                let request = reqwest::Request::new(Method::GET, url?);
                Ok::<_, Report>(client.oneshot(request).await?.status())
            })
        }))
        .await;

        let mut refusals = 0;
        for status in statuses {
            match status?? {
                status if status.is_success() => {}
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => refusals += 1,
                status => return Err(format!("the API returned {status}").into()),
            }
        }
        let (fetches, sent) = (fetches.swap(0, Relaxed), sent.swap(0, Relaxed));
        let row = [requests, fetches, sent - requests, refusals];
        print_row(phase, row, start.elapsed());
        total = std::array::from_fn(|column| total[column] + row[column]);
        if fetches != 1 || refusals != 0 {
            return Err(
                "each phase should cost one fetch, and no caller should see a refusal".into(),
            );
        }
    }
    print_row("total", total, begun.elapsed());
    Ok(())
}

fn print_row(name: &str, [requests, fetches, replays, refusals]: [usize; 4], time: Duration) {
    let time = time.as_millis();
    println!("{name:16}{requests:10}{fetches:9}{replays:9}{refusals:15}{time:8} ms");
}

fn source_from_env(token_url: &str) -> Result<ClientCredentials, Report> {
    let (id, secret) = (required("CLIENT_ID")?, required("CLIENT_SECRET")?);
    let mut source = ClientCredentials::new(token_url, id, secret)?;
    if let Some(audience) = optional("AUDIENCE") {
        source = source.audience(audience);
    }
    if let Some(scope) = optional("SCOPE") {
        source = source.scope(scope);
    }
    Ok(source)
}

/// Counts the fetches of a source.
struct Counted<S> {
    source: S,
    fetches: Arc<AtomicUsize>,
}

impl<S: TokenSource> TokenSource for Counted<S> {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        self.fetches.fetch_add(1, Relaxed);
        self.source.fetch(reason).await
    }

    fn place(&self) -> Place {
        self.source.place()
    }
}
