//! A fleet that shares a token by a real Redis, which knows its members by name and password and lets them do no more
//! than they have to. What nginx sees of it at the token endpoint and in front of the API.

use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use reqwest::Client;
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Auth, AuthLayer, Fleet, Keyring, RedisStore, TokenCache};

use crate::free_port::free_port;
use crate::nginx::Nginx;
use crate::redis_server::RedisServer;
use crate::support::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, MovableClock, SCOPE, Servers};

const MEMBERS: usize = 8;
const CALLERS: usize = 25;
const PASSWORD: &str = "p4ssword of the fleet";
/// Who may do with keys of the fleet's what members have to do, and nothing else.
const MEMBER: &str = "member on >secret-of-members ~tower-auth:* -@all \
    +eval +evalsha +script|load +get +getrange +strlen +set +del +pttl +time";
/// As `openssl rand -base64 32` makes them.
const SEALING_KEY: &str = "c2VhbGluZyBrZXkgb2YgdGhlIGZsZWV0IG9mIHRlc3Q=";

struct Scene {
    redis: RedisServer,
    nginx: Nginx,
    servers: Servers,
    url: String,
}

impl Scene {
    async fn new() -> Self {
        let mut arguments = vec!["--requirepass", PASSWORD, "--user"];
        arguments.extend(MEMBER.split_ascii_whitespace());
        let redis = RedisServer::start(&arguments).await;
        let servers = Servers::start().await.unwrap();
        let (token_endpoint, api) = (servers.authorization.token_url(), servers.api.url());
        let port = free_port();
        let front = format!(
            "server {{
                listen 127.0.0.1:{port};
                location = /oauth/token {{ proxy_pass {token_endpoint}; }}
                location / {{ proxy_pass {api}; }}
            }}"
        );
        Self {
            nginx: Nginx::start(&front, &[]),
            redis,
            servers,
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    fn member(&self, credentials: &str, time: &MovableClock) -> Auth<Client> {
        let url = format!("{}/oauth/token", self.url);
        let source = ClientCredentials::new(url, CLIENT_ID, CLIENT_SECRET).unwrap();
        let source = source.audience(AUDIENCE).scope(SCOPE);
        let store = RedisStore::open(self.redis.url_with(credentials)).unwrap();
        let fleet = Fleet::new(store, Keyring::new("test", SEALING_KEY).unwrap());
        let cache = TokenCache::builder(source).clock(time.clock()).fleet(fleet);
        ServiceBuilder::new()
            .layer(AuthLayer::from(cache.unwrap().build()))
            .service(Client::new())
    }

    async fn all_are_answered(&self, members: &[Auth<Client>]) {
        let http = Client::new();
        let ask = async |member: &Auth<Client>| {
            let request = http.get(format!("{}/notes", self.url)).build().unwrap();
            let response = member.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        };
        let callers = members.iter().flat_map(|member| [member; CALLERS]);
        join_all(callers.map(ask)).await;
    }

    /// How often nginx was asked this.
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
    let time = MovableClock::default();
    let members: Vec<_> = (0..MEMBERS)
        .map(|_| scene.member(credentials, &time))
        .collect();
    for (fetches, event) in [(1, "none"), (2, "expiry"), (3, "revocation")] {
        match event {
            "expiry" => time.advance(Duration::from_secs(3600)),
            "revocation" => scene.servers.revoke_all_tokens(),
            _ => {}
        }
        scene.all_are_answered(&members).await;
        assert_eq!(scene.servers.authorization.fetches(), fetches, "{event}");
        assert_eq!(
            scene.count("POST /oauth/token 200").await,
            fetches,
            "{event}"
        );
        assert_eq!(
            scene.count("GET /notes 200").await,
            fetches * MEMBERS * CALLERS
        );
    }
    let refused = scene.count("GET /notes 401").await;
    assert!(
        (MEMBERS..=MEMBERS * CALLERS).contains(&refused),
        "{refused}"
    );
}

#[tokio::test]
async fn a_redis_that_refuses_a_member_makes_it_fetch_for_itself_and_fails_nobody() {
    let scene = Scene::new().await;
    let time = MovableClock::default();
    let members = [
        scene.member(":wrong@", &time),
        scene.member(":wrong@", &time),
    ];
    scene.all_are_answered(&members).await;
    assert_eq!(scene.count("POST /oauth/token 200").await, 2);
    assert_eq!(scene.count("GET /notes 200").await, 2 * CALLERS);
}
