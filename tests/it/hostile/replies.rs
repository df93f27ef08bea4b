//! Any reply of a token endpoint, and any token of a source. Nothing panics, no token is invented,
//! and no secret is shown.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Error, Reason, Token, TokenSource};

use crate::support::token_server::{ID, TokenServer, URL};

mod tokens;
mod waits;

/// The secret that no output may contain.
const SECRET: &str = "planted-client/secret+of mine";

fn outcome(server: &TokenServer) -> Result<Token, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let source = ClientCredentials::new(URL, ID, SECRET)
        .unwrap()
        .transport(server.transport());
    runtime.block_on(source.fetch(Reason::First))
}

/// Generates any status, but mostly statuses that have a meaning.
fn any_status() -> impl Strategy<Value = u16> {
    prop_oneof![
        3 => Just(200),
        2 => select(vec![201, 204, 302, 400, 401, 429, 503]),
        2 => 100_u16..=999,
    ]
}

/// Generates any bytes that a header can contain. Often the bytes include the secret.
fn any_header() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\t'), 32..=126_u8, 128..=255_u8];
    let piece = prop_oneof![
        vec(byte, 0..12),
        select(vec![SECRET, "text/html", ";", " ", "/", ","]).prop_map(Vec::from),
    ];
    vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}
