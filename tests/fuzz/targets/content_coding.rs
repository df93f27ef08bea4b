//! A body with `Content-Encoding: gzip`. The token is the token that another decoder finds.
#![no_main]

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::Response;
use libfuzzer_sys::fuzz_target;
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Reason, TokenSource};
use tower_auth_fuzz::{CLIENT_SECRET, assert_harmless, run, server, text_in};

/// The longest body that the crate reads, coded and decoded.
const LIMIT: usize = 64 * 1024;

fuzz_target!(|data: &[u8]| {
    let coding = match data.first() {
        Some(0) => "x-gzip",
        Some(1) => "gzip, gzip",
        _ => "gzip",
    };
    let body = Bytes::copy_from_slice(data.get(1..).unwrap_or_default());
    let mut decoded = Vec::new();
    let mut is_whole = true;
    for _ in coding.split(',') {
        let coded = if decoded.is_empty() {
            &body[..]
        } else {
            &decoded[..]
        };
        let mut next = Vec::new();
        let decoder = MultiGzDecoder::new(coded).take(LIMIT as u64 + 1);
        is_whole &= { decoder }.read_to_end(&mut next).is_ok() && next.len() <= LIMIT;
        decoded = next;
    }
    let response = Response::builder().header("content-encoding", coding);
    let response = response.body(body).unwrap();
    let source =
        ClientCredentials::new("https://id.example.com/token", "the-client", CLIENT_SECRET)
            .unwrap()
            .transport(server([response]));
    match run(source.fetch(Reason::First)) {
        Ok(token) => {
            let found = text_in(&decoded, "access_token");
            assert_eq!(found.as_deref(), Some(token.secret()));
        }
        Err(error) => {
            assert_harmless(&error, &[CLIENT_SECRET]);
            let usual = br#"{"access_token":"usual"}"#;
            assert!(
                !is_whole || coding.contains(',') || decoded != usual,
                "{error}"
            );
        }
    }
});
