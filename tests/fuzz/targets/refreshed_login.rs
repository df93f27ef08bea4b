//! Responses to a refresh. A refresh token in a success is saved, whatever else the response
//! contains, and the next request sends the saved refresh token.
#![no_main]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use libfuzzer_sys::{Corpus, fuzz_target};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tower_auth::oauth2::{Client, LoginLock, RefreshToken, RefreshTokenStore, SavedLogin};
use tower_auth::{BoxError, Reason, TokenSource};
use tower_auth_fuzz::{assert_harmless, responses, run, server, text_in};

#[derive(Clone)]
struct Store(Arc<Mutex<String>>);

impl RefreshTokenStore for Store {
    async fn load(&self) -> Result<Option<SavedLogin>, BoxError> {
        Ok(Some(SavedLogin::new(self.0.lock().unwrap().clone())))
    }

    async fn save(&self, login: SecretString, _: &LoginLock) -> Result<(), BoxError> {
        *self.0.lock().unwrap() = login.expose_secret().to_owned();
        Ok(())
    }
}

impl Store {
    fn refresh_token(&self) -> String {
        let text = self.0.lock().unwrap().clone();
        let json = serde_json::from_str::<Value>(&text);
        // A text that isn't JSON is the initial refresh token.
        json.map_or(text, |json| {
            json["refresh_token"].as_str().unwrap().to_owned()
        })
    }
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(responses) = responses(data).filter(|all| all.len() <= 4) else {
        return Corpus::Reject;
    };
    let store = Store(Arc::new(Mutex::new(String::from("planted-first"))));
    let server = server(responses.clone());
    let client = Client::public("https://id.example.com/token", "the-app").unwrap();
    let source = RefreshToken::stored(client.transport(server.clone()), store.clone());
    for response in &responses {
        let before = store.refresh_token();
        let asked = server.requests().len();
        let reason = Reason::Refused;
        if let Err(error) = run(source.fetch(reason)) {
            assert_harmless(&error, &[&before, &store.refresh_token()]);
        }
        let requests = server.requests().split_off(asked);
        // The source doesn't send a refused refresh token again.
        let [request] = &requests[..] else {
            assert!(requests.is_empty());
            break;
        };
        assert_eq!(request.param("refresh_token"), Some(before.clone()));
        let expected = refresh_token_in(response);
        let after = store.refresh_token();
        match expected {
            Some(expected) => assert_eq!(after, expected),
            None => assert!(after == before || may_contain_one(response), "{after}"),
        }
    }
    Corpus::Keep
});

/// Returns the new refresh token of a well-formed success.
fn refresh_token_in(response: &Response<Bytes>) -> Option<String> {
    if !response.status().is_success() || response.headers().contains_key("content-encoding") {
        return None;
    }
    let text = text_in(response.body(), "refresh_token")?;
    let is_unambiguous = response
        .body()
        .windows(5)
        .filter(|it| it == b"fresh")
        .count()
        == 1;
    (is_unambiguous && !text.is_empty()).then_some(text)
}

/// Returns whether a response that isn't a well-formed success may contain a refresh token.
fn may_contain_one(response: &Response<Bytes>) -> bool {
    !response.status().is_client_error() && !response.status().is_server_error()
}
