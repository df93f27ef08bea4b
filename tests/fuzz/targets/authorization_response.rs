//! The query of the browser's redirect. `STATE` stands for the state of the request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_auth::oauth2::{AuthorizationCode, Client};
use tower_auth_fuzz::{assert_harmless, run, server};
use url::Url;

const ISSUER: &str = "https://id.example.com";

fuzz_target!(|data: &str| {
    let client = Client::public("https://id.example.com/token", "the-app").unwrap();
    let client = client.transport(server([]));
    let login = AuthorizationCode::new(client, "https://id.example.com/authorize").unwrap();
    let login = login.require_issuer(ISSUER);
    let request = run(login.begin("http://127.0.0.1:8080/callback")).unwrap();
    let url = Url::parse(request.url()).unwrap();
    let state = url
        .query_pairs()
        .find(|(name, _)| name == "state")
        .unwrap()
        .1
        .into_owned();
    let redirect = data.replace("STATE", &state);
    let text = redirect.split('#').next().unwrap_or_default();
    let query = query_of(text);
    match request.read(&redirect) {
        Ok(_) => assert!(is_success(query, &state), "{redirect}"),
        Err(error) => assert_harmless(&error, &values(query, "code")),
    }
});

/// Returns the query of an address, or the whole text if the text is only a query. Only the value of
/// a parameter may contain the start of an address.
fn query_of(text: &str) -> &str {
    match text.find(['=', ':', '/', '?']) {
        Some(at) if text[at..].starts_with('=') => text,
        _ => text.split_once('?').map_or("", |(_, query)| query),
    }
}

fn is_success(query: &str, state: &str) -> bool {
    values(query, "state") == [state]
        && values(query, "iss") == [ISSUER]
        && values(query, "code").len() == 1
        && values(query, "error").is_empty()
}

/// Returns the values of a parameter, except for empty values.
fn values(query: &str, name: &str) -> Vec<String> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let pairs = pairs.filter(|(other, value)| other == name && !value.is_empty());
    pairs.map(|(_, value)| value.into_owned()).collect()
}
