//! A response of the token endpoint. A token is never invented, and an error shows no secret.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Reason, TokenSource};
use tower_auth_fuzz::{
    CLIENT_SECRET, assert_harmless, is_field_value, response, run, secrets_in, server, text_in,
};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(response) = response(data) else {
        return Corpus::Reject;
    };
    let body = response.body().clone();
    let is_success = response.status().is_success();
    let is_coded = response.headers().contains_key("content-encoding");
    let source =
        ClientCredentials::new("https://id.example.com/token", "the-client", CLIENT_SECRET)
            .unwrap()
            .scope("read write")
            .transport(server([response]));
    let token = match run(source.fetch(Reason::First)) {
        Ok(token) => token,
        Err(error) => {
            let mut secrets = secrets_in(&body, &["access_token", "refresh_token", "id_token"]);
            secrets.push(CLIENT_SECRET.to_owned());
            assert_harmless(&error, &secrets);
            return Corpus::Keep;
        }
    };
    assert!(is_success);
    assert!(!token.secret().is_empty() && is_field_value(token.secret()));
    assert_eq!(
        token.header_value().map(|value| value.is_sensitive()),
        Some(true)
    );
    assert!(!format!("{token:?}").contains(token.secret()) || token.secret().len() < 8);
    if !is_coded {
        // Fields that the crate doesn't read may contain invalid UTF-8.
        let text = String::from_utf8_lossy(&body);
        let body = text.trim_start_matches('\u{feff}').as_bytes();
        assert_eq!(
            text_in(body, "access_token").as_deref(),
            Some(token.secret())
        );
    }
    Corpus::Keep
});
