//! A real server and reqwest on loopback, with a cache whose clock the test moves. Only the pause
//! for a token that isn't valid yet uses Tokio's paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use reqwest::Client;
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use tower_auth::Auth;
use tower_auth::cache::{Clock, ManualClock};
use tower_auth_test::ScriptedSource;

use super::{DAY, MINUTE, SECOND, layer_from};
use crate::support::clocked;

/// The time between two requests.
const PAUSE: Duration = Duration::from_millis(50);

struct RealServer {
    url: String,
    clock: ManualClock,
    source: ScriptedSource,
    client: Auth<Client>,
    http: Client,
    /// All tokens up to this number are revoked.
    revoked: Arc<AtomicUsize>,
}

impl RealServer {
    /// Starts a server that refuses revoked tokens. Its `/admin` refuses every token.
    async fn start() -> Self {
        let revoked = Arc::<AtomicUsize>::default();
        let up_to = Arc::clone(&revoked);
        let respond = move |uri: Uri, headers: HeaderMap| async move {
            let token = headers["authorization"].to_str().unwrap();
            let (_, number) = token.rsplit_once('-').unwrap();
            let number: usize = number.parse().unwrap();
            match uri.path() == "/" && number > up_to.load(Ordering::SeqCst) {
                true => StatusCode::OK,
                false => StatusCode::UNAUTHORIZED,
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(respond);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (clock, source) = (Clock::manual(), ScriptedSource::expiring(DAY));
        let http = Client::builder().no_proxy().build().unwrap();
        let layer = layer_from(clocked(source.clone(), &clock).build());
        Self {
            url,
            clock,
            source,
            client: layer.layer(http.clone()),
            http,
            revoked,
        }
    }

    /// Alternates between `/` and `/admin` for this time. Asserts that no request to `/` fails.
    /// Returns the number of tokens that were issued in each second.
    async fn drive(&self, span: Duration) -> Vec<usize> {
        let (mut passed, mut issued) = (Duration::ZERO, Vec::new());
        while passed < span {
            for (path, expected) in [("/", 200), ("/admin", 401)] {
                let request = self.http.get(format!("{}{path}", self.url));
                let response = self.client.clone().oneshot(request.build().unwrap());
                assert_eq!(response.await.unwrap().status(), expected, "{passed:?}");
                self.clock.advance(PAUSE);
                passed += PAUSE;
            }
            if passed.subsec_nanos() == 0 {
                issued.push(self.source.tokens_issued());
            }
        }
        issued
    }
}

#[tokio::test(start_paused = true)]
async fn a_real_resource_that_refuses_every_token_costs_five_fetches_in_its_first_minute() {
    let server = RealServer::start().await;
    let issued = server.drive(MINUTE).await;
    assert_eq!(issued.len(), 60);
    assert!(issued[0] <= 2 && issued[59] <= 5, "{issued:?}");
}

#[tokio::test(start_paused = true)]
async fn a_real_revocation_among_refusals_costs_one_fetch_and_no_request_fails() {
    let server = RealServer::start().await;
    server.drive(20 * SECOND).await;
    for _ in 0..3 {
        let before = server.source.tokens_issued();
        server.revoked.store(before, Ordering::SeqCst);
        let issued = server.drive(4 * SECOND).await;
        assert_eq!(issued, [before + 1; 4]);
    }
    server.drive(28 * SECOND).await;
    assert!(server.source.tokens_issued() <= 5 + 3);
}
