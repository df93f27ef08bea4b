//! A client of an API, as an application has it, and its own unit tests. They use no network.
//!
//! ```text
//! cargo test --example unit_test
//! cargo run --example unit_test
//! ```
#![allow(clippy::print_stdout)]

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{BoxError, Layer, Service};
use tower_auth::{Auth, AuthLayer, Error, TokenSource, oauth2::ClientCredentials};
use tower_auth_test::{Api, AuthorizationServer};

/// Reads notes. `S` is the HTTP client: hyper's in `main`, a fake API in the tests.
struct Notes<S> {
    client: Auth<S>,
    origin: String,
}

impl<S, B> Notes<S>
where
    S: Service<Request<String>, Response = Response<B>, Error: Into<BoxError>> + Clone,
    B: http_body::Body<Error: Into<BoxError>>,
{
    fn new(client: S, source: impl TokenSource, origin: String) -> Result<Self, Error> {
        let client = AuthLayer::new(source).only_to([&origin])?.layer(client);
        Ok(Self { client, origin })
    }

    async fn read(&self, name: &str) -> Result<String, BoxError> {
        let request = Request::get(format!("{}/{name}", self.origin)).body(String::new())?;
        let response = self.client.send(request).await?;
        if !response.status().is_success() {
            return Err(format!("the API returned {}", response.status()).into());
        }
        let body = response.into_body().collect().await.map_err(Into::into)?;
        Ok(String::from_utf8(body.to_bytes().into())?)
    }
}

/// Reads a note through hyper's client. Fake servers on loopback take the place of real ones.
#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    let (id, at) = (server.serve().await?, api.serve().await?);
    let source = ClientCredentials::new(id.url("/oauth/token"), "my-service", "a-secret")?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let notes = Notes::new(client, source, at.origin())?;
    println!("{}", notes.read("today").await?);
    api.requests()
        .iter()
        .for_each(|request| println!("{request}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use tower_auth_test::{ScriptedResponse, ScriptedSource, Step};

    use super::*;

    fn notes(source: impl TokenSource, api: &Api) -> Result<Notes<Api>, Error> {
        Notes::new(api.clone(), source, "https://notes.example.com".to_owned())
    }

    #[tokio::test]
    async fn a_note_is_read_although_the_first_token_is_refused() -> Result<(), BoxError> {
        let api = Api::accepting(["token-2"]);
        api.respond_with(|_| ScriptedResponse::new(200).body("buy milk"));
        let notes = notes(ScriptedSource::default(), &api)?;
        assert_eq!(notes.read("today").await?, "buy milk");
        api.assert_requests([
            "GET /today Bearer token-1 -> 401",
            "GET /today Bearer token-2 -> 200",
        ]);
        Ok(())
    }

    #[tokio::test]
    async fn without_a_token_nothing_is_sent() -> Result<(), BoxError> {
        let api = Api::accepting(["token-1"]);
        let source = ScriptedSource::new([Step::error("the server is down")]);
        let read = notes(source, &api)?.read("today").await;
        assert!(read.is_err_and(|error| error.is::<Error>()));
        api.assert_no_requests();
        Ok(())
    }
}
