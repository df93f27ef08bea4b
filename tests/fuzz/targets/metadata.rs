//! Metadata of an API and of its authorization server, in the order of the requests. The client's
//! secret goes only to the issuer that the caller named, and only over `https`.
#![no_main]

use http::Method;
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;
use tower_auth::oauth2::{Client, ClientCredentials, ProtectedResource, Protection};
use tower_auth::{Reason, TokenSource};
use tower_auth_fuzz::{CLIENT_SECRET, assert_harmless, responses, run, server};

const ISSUER: &str = "https://id.example.com/tenant";
const API: &str = "https://api.example.com/v1/notes";

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(responses) = responses(data).filter(|all| all.len() <= 12) else {
        return Corpus::Reject;
    };
    let server = server(responses.clone());
    let transport = server.clone();
    let build = move |protection: Protection| {
        let client = Client::new(protection.endpoint(), "the-client", CLIENT_SECRET)?;
        let client = client.transport(transport.clone());
        Ok(ClientCredentials::with_client(client).scope(protection.scope()))
    };
    let source = ProtectedResource::new(API, [ISSUER], build).unwrap();
    let source = source.transport(server.clone());
    if let Err(error) = run(source.fetch(Reason::First)) {
        assert_harmless(&error, &[CLIENT_SECRET]);
    }
    let mut is_named = false;
    for (request, response) in server.requests().iter().zip(&responses) {
        let uri = request.uri();
        let has_secret = request.method() == Method::POST;
        if has_secret {
            assert!(is_named, "the secret went to {uri}");
            let is_loopback = uri.host().is_some_and(|host| host.contains("localhost"));
            assert!(uri.scheme_str() == Some("https") || is_loopback, "{uri}");
        } else {
            let host = uri.host();
            assert!(
                host == Some("api.example.com") || host == Some("id.example.com"),
                "{uri}"
            );
            assert_eq!(uri.scheme_str(), Some("https"), "{uri}");
        }
        let json = serde_json::from_slice::<Value>(response.body());
        is_named |= uri.host() == Some("id.example.com")
            && (json.is_ok_and(|json| json["issuer"] == ISSUER)
                || response.headers().contains_key("content-encoding"));
    }
    Corpus::Keep
});
