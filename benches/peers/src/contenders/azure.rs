//! The Azure SDK's bearer policy, over a custom credential. The SDK has its own request type and
//! doesn't use Tower. The last policy of the pipeline responds at once. For a real client, the last
//! policy translates the request, as the SDK's own transport does.
//!
//! The bearer policy treats a token as expired 5 min before its expiry. Users can't change the 5
//! min. So the credential names an expiry 5 min after the real expiry, less the margin of the other
//! contenders.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::headers::{HeaderName, Headers};
use azure_core::http::policies::auth::BearerTokenAuthorizationPolicy;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{AsyncRawResponse, Body, Context, Method, Request, StatusCode, Url};
use azure_core::time::OffsetDateTime;
use http_body_util::Full;
use tower::BoxError;

use super::Contender;
use crate::client::{Call, Inner, ready};
use crate::issuer::Issuer;

pub struct Azure(Arc<BearerTokenAuthorizationPolicy>);

const WINDOW: Duration = Duration::from_secs(300);
const MARGIN: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Source(Issuer);

#[async_trait]
impl TokenCredential for Source {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let issued = self.0.fetch().await;
        let issued =
            issued.map_err(|error| azure_core::Error::new(ErrorKind::Credential, error))?;
        let end = OffsetDateTime::now_utc() + issued.lives + WINDOW - MARGIN;
        Ok(AccessToken::new(issued.secret, end))
    }
}

impl Contender for Azure {
    const NAME: &str = "azure_core, bearer policy";
    const PACKAGE: &str = "azure_core";
    const NOTE: Option<&str> = Some(
        "net of a policy below that answers immediately; always refreshes 5 minutes before expiry, so its tokens \
         claim 5 minutes more",
    );

    async fn new(issuer: &Issuer) -> Self {
        let credential = Arc::new(Source(issuer.clone()));
        let scopes = ["https://api.example.com/.default"];
        Self(Arc::new(BearerTokenAuthorizationPolicy::new(
            credential, scopes,
        )))
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S> {
        Pipeline::new(Some(self.0.clone()), Translating(inner))
    }

    fn below<S: Inner>(inner: S) -> impl Call {
        Pipeline::new(None, Translating(inner))
    }

    fn lean(&self) -> impl Call + use<> {
        Pipeline::new(Some(self.0.clone()), Bare)
    }

    fn lean_below() -> impl Call {
        Pipeline::new(None, Bare)
    }
}

/// The policies that a request passes through, and the URL of the request.
#[derive(Clone)]
struct Pipeline {
    policies: Arc<[Arc<dyn Policy>]>,
    url: Url,
}

impl Pipeline {
    fn new(auth: Option<Arc<BearerTokenAuthorizationPolicy>>, last: impl Policy + 'static) -> Self {
        let auth = auth.map(|auth| auth as Arc<dyn Policy>);
        let url = Url::parse("https://api.example.com/v1/things");
        Self {
            policies: auth.into_iter().chain([Arc::new(last) as _]).collect(),
            url: url.expect("an address"),
        }
    }
}

impl Call for Pipeline {
    async fn call(&mut self) -> Result<(), BoxError> {
        let mut request = Request::new(self.url.clone(), Method::Post);
        request.insert_header("accept", "application/json");
        request.insert_header("content-type", "application/json");
        request.set_body("{}");
        let [first, next @ ..] = &*self.policies else {
            return Err("no policies".into());
        };
        first.send(&Context::new(), &mut request, next).await?;
        Ok(())
    }
}

fn answer() -> PolicyResult {
    Ok(AsyncRawResponse::from_bytes(
        StatusCode::Ok,
        Headers::new(),
        "",
    ))
}

/// A last policy that responds at once.
#[derive(Debug)]
struct Bare;

#[async_trait]
impl Policy for Bare {
    async fn send(
        &self,
        _: &Context,
        request: &mut Request,
        _: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        std::hint::black_box(request);
        answer()
    }
}

/// A last policy that sends the request through a Tower client.
struct Translating<S>(S);

impl<S> fmt::Debug for Translating<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Translating")
    }
}

#[async_trait]
impl<S: Inner> Policy for Translating<S> {
    async fn send(&self, _: &Context, from: &mut Request, _: &[Arc<dyn Policy>]) -> PolicyResult {
        let body = match from.body() {
            Body::Bytes(bytes) => Full::new(bytes.clone()),
            Body::SeekableStream(_) => unreachable!("bodies are in memory here"),
        };
        let mut request = http::Request::post(from.url().as_str());
        for (name, value) in from.headers().iter() {
            let name: &HeaderName = name;
            request = request.header(name.as_str(), value.as_str());
        }
        let wrong = |error: BoxError| azure_core::Error::new(ErrorKind::Io, error);
        let request = request.body(body).map_err(|error| wrong(error.into()))?;
        let mut client = self.0.clone();
        ready(&mut client).await.map_err(wrong)?;
        client.call(request).await.map_err(wrong)?;
        answer()
    }
}
