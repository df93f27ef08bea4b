//! Issuers that differ from an allowed issuer only by a slash at the end.

use serde_json::json;

use super::{API, METADATA, changed, fetch, put_server, source_of, web};
use crate::support::web::{Page, Web};

const BARE: &str = "https://id.example.com";
const SLASH: &str = "https://id.example.com/";

/// Serves an API that names this issuer, and an authorization server that calls itself `server`.
fn web_of(offered: &str, server: &str) -> Web {
    let web = web();
    let metadata = changed(|it| it["authorization_servers"] = json!([offered]));
    web.put(METADATA, Page::json(200, &metadata));
    let metadata = json!({"issuer": server, "token_endpoint": format!("{BARE}/oauth/token")});
    let well_known = format!("{BARE}/.well-known/oauth-authorization-server");
    web.put(&well_known, Page::json(200, &metadata));
    web
}

#[tokio::test]
async fn the_slash_is_ignored_if_the_caller_says_so() {
    for allowed in [BARE, SLASH] {
        for offered in [BARE, SLASH] {
            for server in [BARE, SLASH] {
                let web = web_of(offered, server);
                let strict = fetch(&source_of(&web, API, &[allowed]).unwrap()).await;
                let are_equal = allowed == offered && allowed == server;
                assert_eq!(strict.is_ok(), are_equal, "{allowed} {offered} {server}");
                let source = source_of(&web, API, &[allowed]).unwrap();
                fetch(&source.ignore_issuer_slash()).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn any_other_issuer_is_still_never_asked_anything() {
    for offered in [
        "https://evil.example.com",
        "https://id.example.com//",
        "https://id.example.com/tenant/",
        "https://id.example.com:443/",
        "https://ID.example.com/",
        "/",
    ] {
        let web = web_of(offered, offered);
        put_server(&web, offered);
        let source = source_of(&web, API, &[BARE]).unwrap().ignore_issuer_slash();
        let error = fetch(&source).await.unwrap_err();
        assert!(error.is_config(), "{error}");
        for asked in web.asked() {
            assert_eq!(asked.origin().as_deref(), Some("https://mcp.example.com"));
        }
    }
}
