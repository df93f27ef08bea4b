//! A token endpoint behind nginx, which allows one request per second (`limit_req`).

use std::time::Duration;

use tower_auth::TokenCache;
use tower_auth::oauth2::ClientCredentials;

use crate::free_port::free_port;
use crate::nginx::Nginx;
use crate::support::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, Servers};

#[tokio::test]
async fn a_429_of_the_token_endpoint_is_waited_for_as_long_as_nginx_says_and_not_seen_by_anyone() {
    let servers = Servers::start().await.unwrap();
    let token_endpoint = servers.authorization.token_url();
    let port = free_port();
    let front = format!(
        "limit_req_zone $binary_remote_addr zone=tokens:1m rate=1r/s;
        server {{
            listen 127.0.0.1:{port};
            location = /oauth/token {{
                limit_req zone=tokens;
                limit_req_status 429;
                error_page 429 = @later;
                proxy_pass {token_endpoint};
            }}
            location @later {{
                add_header Retry-After 2 always;
                return 429;
            }}
        }}"
    );
    let nginx = Nginx::start(&front, &[]);
    let url = format!("http://127.0.0.1:{port}/oauth/token");
    let caches = [(); 2].map(|()| {
        let source = ClientCredentials::new(&url, CLIENT_ID, CLIENT_SECRET).unwrap();
        TokenCache::new(source.audience(AUDIENCE))
    });
    let (first, second) = tokio::join!(caches[0].token(), caches[1].token());
    assert_ne!(first.unwrap().secret(), second.unwrap().secret());
    let seen = nginx.seen().await;
    let lines: Vec<_> = seen.iter().map(|seen| seen.line.as_str()).collect();
    let [granted, refused] = ["POST /oauth/token 200", "POST /oauth/token 429"];
    assert!(
        lines == [granted, refused, granted] || lines == [refused, granted, granted],
        "{lines:?}"
    );
    let refused_at = seen.iter().find(|seen| seen.line == refused).unwrap().at;
    let waited = seen[2].at - refused_at;
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    assert_eq!(servers.authorization.fetches(), 2);
}
