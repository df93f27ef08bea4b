//! The layer in a `reqwest_middleware` chain. The layer handles the whole life of a request. Later
//! middleware runs for each try.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Extensions, StatusCode};
use reqwest_middleware::Error as ChainError;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next, Result};
use tokio::sync::Semaphore;
use tower_auth::layer::AuthMiddleware;
use tower_auth::{Error, NotReplayed, TokenSource};
use tower_auth_test::{Api, ScriptedSource, controlled_source};

use crate::support::credentials;

/// Counts the tries in the request's extensions.
struct Tally;

#[derive(Clone, Default)]
struct Tries(usize);

#[async_trait]
impl Middleware for Tally {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<reqwest::Response> {
        extensions.get_or_insert_default::<Tries>().0 += 1;
        next.run(request, extensions).await
    }
}

/// Sends a request again if it wasn't accepted. A closure runs before that.
struct Again<F>(F);

#[async_trait]
impl<F> Middleware for Again<F>
where
    F: Fn() + Send + Sync + 'static,
{
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<reqwest::Response> {
        let copy = request.try_clone().unwrap();
        let response = next.clone().run(request, extensions).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        (self.0)();
        next.run(copy, extensions).await
    }
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn client(source: impl TokenSource) -> ClientWithMiddleware {
    ClientBuilder::new(http())
        .with(AuthMiddleware::new(crate::support::layer(source)))
        .with(Tally)
        .build()
}

#[tokio::test]
async fn a_refused_request_is_sent_once_more_with_a_new_token_and_the_same_body_and_extensions() {
    let api = Api::accepting(["token-2"]);
    let server = api.serve().await.unwrap();
    let url = server.url("/");
    let client = client(ScriptedSource::default());
    let mut extensions = Extensions::new();
    let request = client.post(url).body("body").build().unwrap();
    let response = client
        .execute_with_extensions(request, &mut extensions)
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(credentials(&api), ["Bearer token-1", "Bearer token-2"]);
    assert_eq!(extensions.get::<Tries>().unwrap().0, 2);
}

#[tokio::test]
async fn a_refusal_that_is_not_replayed_says_why() {
    let server = Api::default().serve().await.unwrap();
    let url = server.url("/");
    let response = client(ScriptedSource::default())
        .get(url)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let why = response.extensions().get::<NotReplayed>();
    assert!(matches!(why, Some(NotReplayed::Again)), "{why:?}");
}

#[tokio::test]
async fn an_error_of_the_layer_is_found_in_the_chains_and_one_from_below_is_as_it_was() {
    let api = Api::default();
    let server = api.serve().await.unwrap();
    let (source, mut fetches) = controlled_source();
    let failing = client(source);
    let asked = tokio::spawn(failing.get(server.url("/")).send());
    fetches.next().await.fail("the vault is sealed");
    let error = asked.await.unwrap().unwrap_err();
    let ChainError::Middleware(inner) = &error else {
        panic!("{error:?}");
    };
    assert!(inner.downcast_ref::<Error>().is_some(), "{inner:?}");
    assert_eq!(api.requests().len(), 0);

    let cleartext = client(ScriptedSource::default()).get("http://api.example.com/");
    let error = cleartext.send().await.unwrap_err();
    let ChainError::Middleware(inner) = &error else {
        panic!("{error:?}");
    };
    let error = inner.downcast_ref::<Error>();
    assert!(error.is_some_and(Error::is_origin), "{inner:?}");

    // The listener is dropped, so nothing listens on its port.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let error = client(ScriptedSource::default())
        .get(format!("http://{address}/"))
        .send()
        .await
        .unwrap_err();
    assert!(error.is_connect(), "{error:?}");
}

#[tokio::test]
async fn a_retry_before_it_gets_a_credential_again_and_one_after_it_does_not() {
    for (before, expected) in [
        (true, ["token-1", "token-2"]),
        (false, ["token-1", "token-1"]),
    ] {
        let api = Api::accepting(["token-2"]);
        let layer = crate::support::layer(ScriptedSource::default()).retry(false);
        let cache = layer.cache().clone();
        let token = cache.token().await.unwrap();
        let auth = AuthMiddleware::new(layer);
        let again = Again(move || cache.reject(&token));
        let builder = ClientBuilder::new(http());
        let client = if before {
            builder.with(again).with(auth).build()
        } else {
            builder.with(auth).with(again).build()
        };
        let server = api.serve().await.unwrap();
        let url = server.url("/");
        client.get(url).send().await.unwrap();
        assert_eq!(
            credentials(&api),
            expected.map(|token| format!("Bearer {token}"))
        );
    }
}

/// Adds a permit for each request, and never responds.
struct Waits(Arc<Semaphore>);

#[async_trait]
impl Middleware for Waits {
    async fn handle(
        &self,
        _: reqwest::Request,
        extensions: &mut Extensions,
        _: Next<'_>,
    ) -> Result<reqwest::Response> {
        extensions.insert(Tries(7));
        self.0.add_permits(1);
        pending().await
    }
}

#[tokio::test]
async fn what_a_caller_who_leaves_has_put_in_the_extensions_is_still_there() {
    let reached = Arc::new(Semaphore::new(0));
    let client = ClientBuilder::new(http())
        .with(AuthMiddleware::new(crate::support::layer(
            ScriptedSource::default(),
        )))
        .with(Waits(Arc::clone(&reached)))
        .build();
    let mut extensions = Extensions::new();
    extensions.insert("the caller's");
    let request = client.get("https://api.example.com").build().unwrap();
    tokio::select! {
        biased;
        _ = client.execute_with_extensions(request, &mut extensions) => panic!("there was a response"),
        permit = reached.acquire() => permit.unwrap().forget(),
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("it wasn't sent"),
    }
    assert_eq!(extensions.get::<&str>(), Some(&"the caller's"));
    assert_eq!(extensions.get::<Tries>().unwrap().0, 7);
}
