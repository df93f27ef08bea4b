//! huskarl's authorizer and cache with a client credentials grant, wired as in its examples. The
//! grant accepts a custom HTTP client. So the token endpoint is in this process. If a fetch fails,
//! the endpoint responds with a 503, like the endpoint on loopback that other contenders use.
//!
//! A response names an expiry in whole seconds. For a token that lives for less than 1 s, the
//! response names no expiry. A cache setting then gives the lifetime.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use huskarl::authorizer::HttpAuthorizer;
use huskarl::cache::{GrantTokenSource, InMemoryRefreshTokenStore, InMemoryTokenCache};
use huskarl::core::Error;
use huskarl::core::client_auth::NoAuth;
use huskarl::core::http::{HttpClient, HttpResponse, Idempotency};
use huskarl::core::platform::MaybeSendBoxFuture;
use huskarl::grant::client_credentials::{
    ClientCredentialsGrant, ClientCredentialsGrantParameters,
};
use serde_json::json;
use tower::BoxError;

use super::Contender;
use crate::client::{Call, Inner, ready, request};
use crate::issuer::Issuer;

pub struct Huskarl(Arc<HttpAuthorizer>);

struct Endpoint(Issuer);

impl HttpClient for Endpoint {
    fn execute(
        &self,
        _: Request<Bytes>,
        _: Idempotency,
    ) -> MaybeSendBoxFuture<'_, Result<HttpResponse, Error>> {
        Box::pin(async {
            let (status, body) = match self.0.fetch().await {
                Err(_) => (StatusCode::SERVICE_UNAVAILABLE, Bytes::new()),
                Ok(issued) => {
                    let mut body = json!({
                        "access_token": issued.secret,
                        "token_type": "Bearer",
                    });
                    if issued.lives >= Duration::from_secs(1) {
                        body["expires_in"] = issued.lives.as_secs().into();
                    }
                    (StatusCode::OK, body.to_string().into())
                }
            };
            Ok(HttpResponse {
                status,
                headers: HeaderMap::new(),
                body,
            })
        })
    }
}

impl Contender for Huskarl {
    const NAME: &str = "huskarl, authorizer";
    const PACKAGE: &str = "huskarl";
    const NOTE: Option<&str> = Some(
        "also looks at each response; one request refreshes and waits, while others use the token that is still valid; \
         the source fails with a 503, which its breaker doesn't count",
    );

    async fn new(issuer: &Issuer) -> Self {
        let lives = issuer.terms().lives;
        let grant = ClientCredentialsGrant::builder()
            .client_id("id")
            .client_auth(NoAuth)
            .token_endpoint(
                "https://auth.example.com/token"
                    .parse()
                    .expect("an address"),
            )
            .http_client(Endpoint(issuer.clone()))
            .build();
        let source = GrantTokenSource::builder()
            .grant(grant)
            .grant_parameters(ClientCredentialsGrantParameters::builder().build())
            .refresh_store(InMemoryRefreshTokenStore::default())
            .build();
        let cache = InMemoryTokenCache::builder().source(source);
        // huskarl's defaults are for lifetimes of a few seconds and more, like this crate's.
        let cache = match lives < Duration::from_secs(1) {
            true => cache
                .default_expires_in(lives)
                .refresh_ahead(Duration::from_millis(100))
                .expires_margin(Duration::from_millis(10))
                .refresh_jitter(None)
                .build(),
            false => cache.build(),
        };
        Self(Arc::new(HttpAuthorizer::builder().cache(cache).build()))
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S> {
        Authorizing(Arc::clone(&self.0), inner)
    }
}

/// The authorizer in front of a client, as huskarl's guide recommends. The authorizer adds headers
/// to each request, and reads the headers of each response.
#[derive(Clone)]
struct Authorizing<S>(Arc<HttpAuthorizer>, S);

impl<S: Inner> Call for Authorizing<S> {
    #[inline]
    async fn call(&mut self) -> Result<(), BoxError> {
        let mut request = request();
        let headers = self.0.get_headers(request.method(), request.uri()).await?;
        request.headers_mut().extend(headers);
        let uri = request.uri().clone();
        ready(&mut self.1).await?;
        let response = self.1.call(request).await?;
        self.0.process_response(&uri, response.headers());
        black_box(response);
        Ok(())
    }
}
