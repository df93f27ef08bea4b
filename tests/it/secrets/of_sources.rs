//! No source shows a secret, even if its server echoes everything that it was sent. The tests check
//! the printed source and tokens, the errors and the log.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderName, Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use tower_auth::oauth2::Client;
use tower_auth::{Error, NotReplayed, Reason, TokenCache, TokenSource};
use tower_service::Service;

use crate::support::echo::Echo;
use crate::support::request;
use crate::support::secret_finder::SecretFinder;

#[cfg(feature = "azure")]
mod azure;
mod clients;
mod grants;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod logins;
#[cfg(feature = "vault")]
mod vault;

const URL: &str = "https://id.example.com/token?key=planted-key";
const REVOKE: &str = "https://id.example.com/revoke?key=planted-key";

/// A secret with characters that each format encodes differently. It is long enough for signing.
const SECRET: &str = "planted+client/secret: \"of\" <the>\\planted & client";
const TOKEN: &str = "planted/token+with~signs=&more";

/// Lets the source fetch, get a refusal, replay and close. Each of the source's first requests gets
/// each unusual response in turn.
async fn drive<S>(make: impl AsyncFn(&SecretFinder, Echo) -> Result<S, Error>)
where
    S: TokenSource + fmt::Debug,
{
    let finder = SecretFinder::start();
    // A protected resource makes six requests before it has a second token, so eight rounds are
    // enough.
    for works_for in 0..8 {
        let mut odd = 0;
        loop {
            let echo = Echo::new(works_for, odd);
            match make(&finder, echo.clone()).await {
                Ok(source) if odd % 2 == works_for % 2 => alone(&finder, source).await,
                Ok(source) => below_a_layer(&finder, source, odd / 2).await,
                Err(error) => finder.print_error(&error),
            }
            finder.end_round();
            odd += 1;
            if odd >= echo.odd_responses() {
                break;
            }
        }
    }
    finder.end();
}

async fn alone<S>(finder: &SecretFinder, source: S)
where
    S: TokenSource + fmt::Debug,
{
    finder.print(&source);
    let mut last = None;
    for reason in [Reason::First, Reason::Refused] {
        match source.fetch(reason).await {
            Ok(token) => {
                finder.print(&token);
                finder.print(&token.header_value());
                last = Some(token);
            }
            Err(error) => finder.print_error(&error),
        }
        finder.print(&source);
    }
    if let Err(error) = source.close(last).await {
        finder.print_error(&error);
    }
}

async fn below_a_layer<S>(finder: &SecretFinder, source: S, how: usize)
where
    S: TokenSource + fmt::Debug,
{
    // A single attempt is enough. Between several, the source would pause.
    let builder = TokenCache::builder(source).fetch_attempts(1);
    finder.print(&builder);
    let cache = builder.build();
    let layer = crate::support::layer_from(cache.clone());
    let client = layer.layer(Refusing { how });
    for _ in 0..2 {
        match client.clone().oneshot(request("")).await {
            Ok(response) => {
                let why = response.extensions().get::<NotReplayed>();
                finder.print(&why);
                finder.text(&why.map(ToString::to_string).unwrap_or_default());
                if let Some(NotReplayed::Fetch(error)) = why {
                    finder.print_error(error);
                }
            }
            Err(error) => finder.print_error(error.downcast_ref().unwrap()),
        }
        finder.print(&client);
        finder.print(&layer);
        finder.print(&cache.status());
    }
    cache.close().await;
    finder.print(&cache);
    finder.print_error(&cache.token().await.unwrap_err());
}

/// An API that refuses every credential, with each kind of challenge that the layer reads. Most of
/// the challenges echo the credential.
#[derive(Clone, Debug)]
struct Refusing {
    how: usize,
}

impl Service<Request<Full<Bytes>>> for Refusing {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let credential = credential(request.headers());
        let challenge = match self.how % 4 {
            0 => format!(r#"Bearer realm="{credential}", error="invalid_token""#),
            1 => format!(r#"Bearer error="insufficient_scope", scope="write {credential}""#),
            2 => {
                let metadata = "https://api.example.com/.well-known/oauth-protected-resource";
                format!(r#"Bearer scope="{credential}", resource_metadata="{metadata}""#)
            }
            _ => String::from(r#"DPoP error="use_dpop_nonce""#),
        };
        let mut response = Response::builder().status(401).body(()).unwrap();
        let headers = response.headers_mut();
        headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
        let nonce = HeaderValue::from_static("planted-nonce-2");
        headers.insert(HeaderName::from_static("dpop-nonce"), nonce);
        ready(Ok(response))
    }
}

/// Returns the part of the credential that may be in a host name.
fn credential(headers: &HeaderMap) -> String {
    let names = [AUTHORIZATION, COOKIE, HeaderName::from_static("x-api-key")];
    let value = names.iter().find_map(|name| headers.get(name));
    let text = value.map_or("", |value| value.to_str().unwrap());
    let (_, last) = text.rsplit_once([' ', '=']).unwrap_or(("", text));
    last.replace(['"', '\\', '/', '<', '>', '&', '+', '~'], "")
}

fn client(echo: Echo) -> Client {
    let client = Client::new(URL, "client", SECRET).unwrap().transport(echo);
    client.revoke_at(REVOKE).unwrap()
}
