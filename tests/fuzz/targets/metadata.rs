//! Metadata of an API and of its authorization server, in the order of the requests. The client's
//! secret goes only to the issuer that the caller named, and only over `https`.
#![no_main]

use http::Method;
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;
use tower_auth::oauth2::{Client, ClientCredentials, ProtectedResource, Protection};
use tower_auth::{Reason, TokenSource};
use tower_auth_fuzz::{CLIENT_SECRET, assert_harmless, responses, run, server, split};

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
    // A response may contain the secret by chance.
    if let Err(error) = run(source.fetch(Reason::First))
        && split(data, CLIENT_SECRET.as_bytes()).len() == 1
    {
        assert_harmless(&error, &[CLIENT_SECRET]);
    }
    let mut is_named = false;
    for (request, response) in server.requests().iter().zip(&responses) {
        let uri = request.uri();
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        assert_eq!(uri.scheme_str(), Some("https"), "{uri}");
        if request.method() == Method::POST {
            assert!(is_named, "the secret went to {uri}");
        } else {
            let own = ["api.example.com", "id.example.com"];
            assert!(own.contains(&host.as_str()), "{uri}");
        }
        let json = serde_json::from_slice::<Value>(response.body());
        is_named |= host == "id.example.com"
            && (json.is_ok_and(|json| json["issuer"] == ISSUER)
                || response.headers().contains_key("content-encoding"));
    }
    Corpus::Keep
});
