//! A fleet that shares a token of django-oauth-toolkit through a real Redis. The fleet's processes
//! log in to Redis in two ways: with the default user's password, or as a user with only the
//! necessary rights. The processes' HTTP requests go through nginx, which counts the requests.

use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use reqwest::Client;
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::cache::{Clock, ManualClock};
use tower_auth::fleet::{Fleet, Keyring, RedisStore};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Auth, AuthLayer, TokenCache};

use crate::api::Api;
use crate::django_oauth::{api, revoke_all, service};
use crate::free_port::free_port;
use crate::nginx::Nginx;
use crate::redis_server::RedisServer;
use crate::servers::{DJANGO, HTTP, Registered, issued};

const MEMBERS: usize = 8;
const CALLERS: usize = 3;
const PASSWORD: &str = "p4ssword of the fleet";
/// A Redis user with exactly the rights that a fleet needs.
const MEMBER: &str = "member on >secret-of-members ~tower-auth:* -@all \
    +evalsha +script|load +get +getrange +strlen +set +del +pttl +time";
/// A key in the format of `openssl rand -base64 32`.
const SEALING_KEY: &str = "c2VhbGluZyBrZXkgb2YgdGhlIGZsZWV0IG9mIHRlc3Q=";

struct Scene {
    redis: RedisServer,
    nginx: Nginx,
    api: Api,
    client: Registered,
    url: String,
}

impl Scene {
    async fn new() -> Self {
        let mut arguments = vec!["--requirepass", PASSWORD, "--user"];
        arguments.extend(MEMBER.split_ascii_whitespace());
        let redis = RedisServer::start(&arguments).await;
        let (api, client) = (api().await, service().await);
        let port = free_port();
        let front = format!(
            "server {{
                listen 127.0.0.1:{port};
                location = /o/token/ {{ proxy_pass {}; }}
                location / {{ proxy_pass {}; }}
            }}",
            DJANGO.url(""),
            api.url
        );
        Self {
            nginx: Nginx::start(&front, &[]),
            redis,
            api,
            client,
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    fn member(&self, credentials: &str, time: &ManualClock) -> Auth<Client> {
        let Registered { id, secret } = &self.client;
        let url = format!("{}/o/token/", self.url);
        let source = ClientCredentials::new(url, id, secret.clone()).unwrap();
        let source = source.scope("read");
        let store = RedisStore::open(self.redis.url_with(credentials)).unwrap();
        let fleet = Fleet::new(store, Keyring::new("test", SEALING_KEY).unwrap());
        let cache = TokenCache::builder(source).clock(time).fleet(fleet);
        let layer = AuthLayer::from(cache.unwrap().build()).only_to([&self.url]);
        ServiceBuilder::new()
            .layer(layer.unwrap())
            .service(HTTP.clone())
    }

    async fn all_are_answered(&self, members: &[Auth<Client>]) {
        let ask = async |member: &Auth<Client>| {
            let request = HTTP.get(format!("{}/read", self.url)).build().unwrap();
            let response = member.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        };
        let callers = members.iter().flat_map(|member| [member; CALLERS]);
        join_all(callers.map(ask)).await;
    }

    /// Returns how many requests had this line.
    async fn count(&self, line: &str) -> usize {
        let lines = self.nginx.lines().await;
        lines.iter().filter(|seen| *seen == line).count()
    }
}

#[tokio::test]
async fn a_fleet_with_a_password_or_with_rights_of_its_own_is_one_fetch_whatever_happens() {
    let password = format!(":{}@", PASSWORD.replace(' ', "%20"));
    for credentials in [&*password, "member:secret-of-members@"] {
        one_fetch_whatever_happens(credentials).await;
    }
}

async fn one_fetch_whatever_happens(credentials: &str) {
    let scene = Scene::new().await;
    let time = Clock::manual();
    let members: Vec<_> = (0..MEMBERS)
        .map(|_| scene.member(credentials, &time))
        .collect();
    for (fetches, event) in [(1, "none"), (2, "expiry"), (3, "revocation")] {
        match event {
            "expiry" => time.advance(Duration::from_secs(3600)),
            // Only the fleet's clock has moved, so the first token is still valid at the server.
            // Two tokens are revoked.
            "revocation" => {
                time.advance(Duration::from_secs(10));
                assert_eq!(revoke_all(&scene.client.id).await, "2");
            }
            _ => {}
        }
        scene.all_are_answered(&members).await;
        let issued = issued(&DJANGO, &scene.client.id).await;
        assert_eq!(issued as usize, fetches, "{event}");
        assert_eq!(scene.count("POST /o/token/ 200").await, fetches, "{event}");
        assert_eq!(
            scene.count("GET /read 200").await,
            fetches * MEMBERS * CALLERS
        );
    }
    let refused = scene.count("GET /read 401").await;
    let statuses = scene.api.statuses();
    assert_eq!(
        statuses.iter().filter(|status| **status == 401).count(),
        refused
    );
    assert!(
        (MEMBERS..=MEMBERS * CALLERS).contains(&refused),
        "{refused}"
    );
}

#[tokio::test]
async fn a_redis_that_refuses_a_member_makes_it_fetch_for_itself_and_fails_nobody() {
    let scene = Scene::new().await;
    let time = Clock::manual();
    let members = [
        scene.member(":wrong@", &time),
        scene.member(":wrong@", &time),
    ];
    scene.all_are_answered(&members).await;
    assert_eq!(scene.count("POST /o/token/ 200").await, 2);
    assert_eq!(scene.count("GET /read 200").await, 2 * CALLERS);
}
