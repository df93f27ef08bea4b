//! A token endpoint that echoes the request, or can't be reached.

use std::convert::Infallible;
use std::future::{pending, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::json;
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Reason, TokenCache, TokenSource};
use tower_auth_test::Api;

use crate::support::request;
use crate::support::secret_finder::SecretFinder;
use crate::support::serving::serving;

/// A secret with characters that each format encodes differently.
const CLIENT_SECRET: &str = "planted+client/secret: \"of\" the\\planted client";

/// Returns responses that echo the request in every part that a response has.
fn echo(parts: &Parts, body: &str) -> Vec<Response<Full<Bytes>>> {
    let json = |status: u16, value: &serde_json::Value| {
        Response::builder()
            .status(status)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(value.to_string()))
            .unwrap()
    };
    let authorization = parts.headers.get(AUTHORIZATION);
    let authorization = authorization.map_or("", |value| value.to_str().unwrap());
    let mut responses = Vec::new();
    for sent in [body, authorization, CLIENT_SECRET] {
        for status in [200, 400, 401, 500] {
            let response = json!({
                "error": sent, "error_description": sent, "error_uri": sent,
            });
            responses.push(json(status, &response));
            let response = json!({ "error": "invalid_client", "error_description": sent });
            responses.push(json(status, &response));
            let nested = json!({ "error": { "message": sent }, "message": sent });
            responses.push(json(status, &nested));
            responses.push(json(status, &json!(sent)));
            responses.push(json(status, &json!([sent])));
            responses.push(json(status, &json!({ sent: sent })));
            let mut text = Response::new(Full::from(sent.to_owned()));
            *text.status_mut() = status.try_into().unwrap();
            responses.push(text);
        }
        for response in [
            json!({ "access_token": format!("planted\n{sent}") }),
            json!({ "access_token": { sent: sent } }),
            json!({ "access_token": [sent] }),
            json!({ "access_token": "planted", "token_type": sent }),
            json!({ "access_token": "planted", "token_type": [sent] }),
            json!({ "access_token": "planted", "expires_in": sent }),
            json!({ "access_token": "planted", "expires_in": { sent: sent } }),
            json!({ "access_token": "planted", "token_type": "mac", "error": sent }),
        ] {
            responses.push(json(200, &response));
        }
        let Ok(header) = HeaderValue::try_from(sent) else {
            continue;
        };
        let mut odd_type = Response::new(Full::from("<html>planted</html>"));
        odd_type.headers_mut().insert(CONTENT_TYPE, header.clone());
        responses.push(odd_type);
        for status in [302, 307, 308] {
            let mut redirect = Response::new(Full::from(sent.to_owned()));
            *redirect.status_mut() = status.try_into().unwrap();
            redirect.headers_mut().insert(LOCATION, header.clone());
            responses.push(redirect);
        }
    }
    // This JSON is cut in the middle of a string.
    responses.push(Response::new(Full::from("{\"access_token\":\"planted")));
    responses.push(Response::new(Full::from(
        "{\"access_token\":\"planted\",\"access_token\":\"planted\"}",
    )));
    responses
}

#[tokio::test]
async fn a_token_endpoint_that_echoes_what_it_was_sent_gets_no_secret_into_an_error() {
    let finder = SecretFinder::start();
    // The client sends its secret in a form, in a header, and in JSON.
    let ways: [fn(ClientCredentials) -> ClientCredentials; 3] = [
        |source| source,
        ClientCredentials::basic_auth,
        ClientCredentials::json,
    ];
    for way in ways {
        let mut next = 0;
        loop {
            let left = Arc::new(Mutex::new(None));
            let responded = Arc::clone(&left);
            let server = serving(move |head, body| {
                let mut responses = echo(&head, std::str::from_utf8(&body).unwrap());
                *responded.lock().unwrap() = Some(responses.len());
                ready(Ok(responses.swap_remove(next)))
            });
            let url = "https://id.example.com/token?key=planted";
            let source = ClientCredentials::new(url, "client", CLIENT_SECRET)
                .unwrap()
                .transport(server);
            let source = source.param("key", "planted-param").unwrap();
            let source = way(source);
            finder.print(&source);

            // The source is used alone, and then below a layer, which logs.
            match source.fetch(Reason::First).await {
                Ok(token) => finder.print(&token),
                Err(error) => {
                    finder.print_error(&error);
                    let code = (error.code(), error.description());
                    finder.print(&code);
                }
            }
            // A single attempt is enough. Between several, the cache would pause.
            let cache = TokenCache::builder(source).fetch_attempts(1).build();
            let layer = crate::support::layer_from(cache);
            let client = layer.layer(Api::default());
            match client.oneshot(request("")).await {
                Ok(response) => finder.print(&response),
                Err(error) => finder.print_error(error.downcast_ref().unwrap()),
            }
            finder.print(&layer);
            next += 1;
            if left.lock().unwrap().unwrap() == next {
                break;
            }
        }
    }
    finder.end();
}

#[tokio::test]
async fn a_transport_that_fails_or_hangs_gets_no_secret_into_an_error() {
    let finder = SecretFinder::start();
    let url = "https://id.example.com/token?key=planted";
    let broken = service_fn(|_: Request<Full<Bytes>>| async {
        Err::<Response<Full<Bytes>>, _>(std::io::Error::other("the line is cut"))
    });
    let source = ClientCredentials::new(url, "client", CLIENT_SECRET)
        .unwrap()
        .transport(broken);
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_transport());
    finder.print_error(&error);

    let hanging = service_fn(|_: Request<Full<Bytes>>| {
        pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let source = ClientCredentials::new(url, "client", CLIENT_SECRET)
        .unwrap()
        .transport(hanging);
    let source = source.timeout(Duration::ZERO);
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_timeout());
    finder.print_error(&error);

    #[cfg(feature = "reqwest")]
    {
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = nobody.local_addr().unwrap();
        drop(nobody);
        let url = format!("http://{address}/planted?key=planted");
        let source = ClientCredentials::new(url, "client", CLIENT_SECRET).unwrap();
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(error.is_transport());
        finder.print_error(&error);
    }
    finder.end();
}
