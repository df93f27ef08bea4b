//! Two tenants. Each has its own nginx server with an authorization server and an API.

use std::collections::BTreeSet;

use http::StatusCode;
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::tenants::Tenants;
use tower_auth::{AuthLayer, Origin};

use crate::free_port::free_port;
use crate::nginx::{Nginx, Seen};
use crate::servers::HTTP;
use crate::support::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, SCOPE, Servers};

struct Tenant {
    servers: Servers,
    port: u16,
}

impl Tenant {
    async fn new() -> Self {
        Self {
            servers: Servers::start().await.unwrap(),
            port: free_port(),
        }
    }

    fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn front(&self) -> String {
        let (token_endpoint, api) = (
            self.servers.authorization.token_url(),
            self.servers.api.url(),
        );
        format!(
            "server {{
                listen 127.0.0.1:{};
                location = /oauth/token {{ proxy_pass {token_endpoint}; }}
                location / {{ proxy_pass {api}; }}
            }}\n",
            self.port
        )
    }

    /// Returns the requests that this tenant's server got, and the tokens in them.
    fn saw(&self, seen: &[Seen]) -> (Vec<String>, BTreeSet<String>) {
        let own = seen.iter().filter(|seen| seen.port == self.port);
        let lines = own.clone().map(|seen| seen.line.clone()).collect();
        let tokens = own.filter_map(|seen| seen.authorization.strip_prefix("Bearer "));
        (lines, tokens.map(str::to_owned).collect())
    }

    fn issued(&self) -> BTreeSet<String> {
        let issued = self.servers.authorization.tokens().issued();
        issued.into_iter().collect()
    }
}

#[tokio::test]
async fn each_tenant_sees_its_own_tokens_alone_and_a_revocation_at_one_costs_the_other_nothing() {
    let [one, other] = [Tenant::new().await, Tenant::new().await];
    let nginx = Nginx::start(&(one.front() + &other.front()), &[]);
    let tenants = Tenants::new(|origin: &Origin| {
        let source =
            ClientCredentials::new(format!("{origin}/oauth/token"), CLIENT_ID, CLIENT_SECRET)?;
        AuthLayer::new(source.audience(AUDIENCE).scope(SCOPE)).only_to([origin.to_string()])
    });
    let client = ServiceBuilder::new()
        .layer(tenants.by(Origin::of))
        .service(HTTP.clone());
    for revoked in [false, false, true] {
        if revoked {
            one.servers.revoke_all_tokens();
        }
        for tenant in [&one, &other] {
            let request = HTTP.get(format!("{}/notes", tenant.origin()));
            let request = request.build().unwrap();
            let response = client.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
    }
    let seen = nginx.seen().await;
    let (granted, ok, refused) = ("POST /oauth/token 200", "GET /notes 200", "GET /notes 401");
    let (lines, tokens) = one.saw(&seen);
    assert_eq!(lines, [granted, ok, ok, refused, granted, ok]);
    assert_eq!((tokens.len(), tokens), (2, one.issued()));
    let (lines, tokens) = other.saw(&seen);
    assert_eq!(lines, [granted, ok, ok, ok]);
    assert_eq!((tokens.len(), tokens), (1, other.issued()));
    assert_eq!(tenants.len(), 2);
}
