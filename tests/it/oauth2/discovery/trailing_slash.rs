//! Issuers that differ only by a slash at the end, which the caller may ignore.

use tower_auth::oauth2::EndpointUrl;

use super::{METADATA, TOKEN, fetch, metadata, web};
use crate::support::web::{Page, Web};

/// Serves the metadata of an issuer of this name.
fn web_of(name: &str) -> Web {
    let web = web();
    let mut metadata = metadata();
    metadata["issuer"] = name.into();
    web.put(METADATA, Page::json(200, &metadata));
    let of_tenant = format!("{METADATA}/tenant");
    web.put(&of_tenant, Page::json(200, &metadata));
    web
}

fn issuer(name: &str) -> EndpointUrl {
    EndpointUrl::from_issuer(name).unwrap()
}

const PAIRS: [(&str, &str); 4] = [
    ("https://id.example.com", "https://id.example.com/"),
    ("https://id.example.com/", "https://id.example.com"),
    (
        "https://id.example.com/tenant",
        "https://id.example.com/tenant/",
    ),
    (
        "https://id.example.com/tenant/",
        "https://id.example.com/tenant",
    ),
];

#[tokio::test]
async fn the_slash_is_ignored_if_the_caller_says_so() {
    for (ours, theirs) in PAIRS {
        let url = issuer(ours).ignore_issuer_slash();
        fetch(&web_of(theirs), url.clone()).await.unwrap();
        assert_eq!(format!("{url:?}"), format!("as {ours} says"));
        // The issuers may still be equal.
        fetch(&web_of(ours), issuer(ours).ignore_issuer_slash())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn without_this_setting_the_error_names_it() {
    for (ours, theirs) in PAIRS {
        let web = web_of(theirs);
        let error = fetch(&web, issuer(ours)).await.unwrap_err();
        assert!(error.is_config(), "{error}");
        let text = error.to_string();
        assert!(text.contains("`ignore_issuer_slash`"), "{text}");
        assert!(text.contains(&format!("`{theirs}`")), "{text}");
        assert_eq!(web.times(&format!("POST {TOKEN}")), 0);
    }
}

#[tokio::test]
async fn any_other_difference_remains_an_error() {
    for theirs in [
        "https://evil.example.com",
        "https://evil.example.com/",
        "https://id.example.com//",
        "https://id.example.com/tenant",
        "https://id.example.com:443",
        "https://ID.example.com/",
        "http://id.example.com/",
        "id.example.com/",
        "https://id.example.com/?",
        "https://id.example.com\\",
        "/",
        "",
    ] {
        let web = web_of(theirs);
        let url = issuer("https://id.example.com").ignore_issuer_slash();
        let error = fetch(&web, url).await.unwrap_err();
        assert!(error.is_config(), "{theirs}: {error}");
        assert!(!error.to_string().contains("ignore_issuer_slash"));
        assert_eq!(web.times(&format!("POST {TOKEN}")), 0, "{theirs}");
    }
}

#[tokio::test]
async fn the_setting_is_kept_by_clones_and_with_a_certificate() {
    let web = web_of("https://id.example.com/");
    let mut metadata = metadata();
    metadata["issuer"] = "https://id.example.com/".into();
    metadata["mtls_endpoint_aliases"] =
        serde_json::json!({"token_endpoint": "https://mtls.example.com/token"});
    web.put(METADATA, Page::json(200, &metadata));
    web.put("https://mtls.example.com/token", super::token());
    let name = "https://id.example.com";
    for url in [
        issuer(name).mtls().ignore_issuer_slash(),
        issuer(name).ignore_issuer_slash().mtls(),
    ] {
        fetch(&web, url.clone()).await.unwrap();
        fetch(&web, url).await.unwrap();
    }
    assert_eq!(web.times("POST https://mtls.example.com/token"), 4);
    // Clones share the metadata.
    assert_eq!(web.times(&format!("GET {METADATA}")), 2);
    // An address has no issuer, so the setting has no effect.
    let address = EndpointUrl::try_from(TOKEN).unwrap();
    assert_eq!(address.clone().ignore_issuer_slash(), address);
}

/// The `iss` in the response to a login (RFC 9207) must be the issuer in the metadata.
#[cfg(feature = "authorization-code")]
#[tokio::test]
async fn a_login_is_compared_with_the_issuer_in_the_metadata() {
    use tower_auth::oauth2::{AuthorizationCode, Client};

    const CALLBACK: &str = "http://127.0.0.1:4711/callback";
    let (ours, theirs) = ("https://id.example.com", "https://id.example.com/");
    let web = Web::default();
    let metadata = serde_json::json!({
        "issuer": theirs,
        "authorization_endpoint": "https://id.example.com/authorize",
        "token_endpoint": TOKEN,
        "authorization_response_iss_parameter_supported": true,
    });
    web.put(METADATA, Page::json(200, &metadata));
    let url = issuer(ours).ignore_issuer_slash();
    let client = Client::public(url.clone(), "id").unwrap();
    let login = AuthorizationCode::new(client.transport(web.transport()), url).unwrap();
    for (iss, is_accepted) in [
        (theirs, true),
        ("https://evil.example.com", false),
        ("https://evil.example.com/", false),
    ] {
        let request = login.begin(CALLBACK).await.unwrap();
        let state = request.url().split_once("state=").unwrap().1;
        let state = state.split('&').next().unwrap();
        let response = format!("{CALLBACK}?code=c&state={state}&iss={iss}");
        assert_eq!(request.read(&response).is_ok(), is_accepted, "{iss}");
    }
}
