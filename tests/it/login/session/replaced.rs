//! The logout of sessions that a later login replaced.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use http::StatusCode;
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, ServiceExt};
use tower_auth::login::Session;
use tower_auth::{Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{ScriptedResponse, run_until_idle};

use super::LOGOUT;
use crate::support::session_site::{Asked, Site, THINGS, cookies, get, setting};
use crate::support::{call, layer_from, paused};

fn is_logout(asked: &Asked<'_>) -> bool {
    asked.path().ends_with("/logout")
}

/// Builds a site whose nth login sets `sid=n` for 10 s. The closure responds to logouts.
fn site(log_out: impl Fn() -> ScriptedResponse + Send + Sync + 'static) -> Site {
    Site::new(move |asked| match asked.is_login() {
        true => setting(200, &[&format!("sid={}; Path=/; Max-Age=10", asked.logins)]),
        false if is_logout(asked) => log_out(),
        false if asked.path() == "/v1/slow" => setting(200, &[]).after(Duration::from_secs(30)),
        false => setting(200, &[]),
    })
}

fn session(site: &Site) -> Session {
    site.session().log_out_at(LOGOUT).unwrap()
}

/// Returns the sessions that were logged out, in this order.
fn logged_out(site: &Site) -> Vec<String> {
    let mut requests = site.requests();
    requests.retain(|request| request.path().ends_with("/logout"));
    requests.iter().map(cookies).collect()
}

fn sessions(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    let numbers = numbers.into_iter();
    numbers.map(|number| format!("sid={number}")).collect()
}

#[tokio::test(start_paused = true)]
async fn sessions_that_refreshes_replace_are_logged_out_at_the_next_fetch_and_at_the_close() {
    let site = site(|| setting(204, &[]));
    let cache = paused(session(&site)).build();
    let mut client = layer_from(cache.clone()).layer(site.clone());
    // A session of 10 s is refreshed at 7.5 s, so the source logs in with each eighth request.
    for _ in 0..36 {
        call(&mut client, get(THINGS)).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(site.logins(), 5);
    // The cache used the fourth session until the last fetch, so it isn't logged out yet.
    assert_eq!(logged_out(&site), sessions(1..=3));
    cache.close().await;
    let mut all = logged_out(&site);
    all.sort();
    assert_eq!(all, sessions(1..=5));
}

#[tokio::test(start_paused = true)]
async fn a_replaced_session_that_a_request_uses_is_not_logged_out() {
    let site = site(|| setting(204, &[]));
    let cache = paused(session(&site)).build();
    cache.token().await.unwrap();
    let client = layer_from(cache.clone()).layer(site.clone());
    let slow = client.oneshot(get("https://api.example.com/v1/slow"));
    let refreshes = async {
        run_until_idle().await;
        for _ in 0..3 {
            cache.refresh_now().await.unwrap();
            run_until_idle().await;
        }
        assert_eq!(logged_out(&site), sessions(2..=2));
    };
    join(slow, refreshes).await.0.unwrap();
    cache.refresh_now().await.unwrap();
    run_until_idle().await;
    assert_eq!(logged_out(&site), sessions([2, 1, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_logout_that_fails_or_hangs_breaks_and_delays_no_fetch() {
    let cases: [fn() -> ScriptedResponse; _] = [
        || setting(500, &[]),
        || setting(404, &[]),
        || setting(302, &[]),
        ScriptedResponse::stall,
        ScriptedResponse::reset,
    ];
    for log_out in cases {
        let site = site(log_out);
        let cache = paused(session(&site)).build();
        let start = Instant::now();
        for _ in 0..4 {
            cache.refresh_now().await.unwrap();
            run_until_idle().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!((site.logins(), logged_out(&site).len()), (4, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_than_sixteen_replaced_sessions_are_kept() {
    let site = Site::new(|asked| match asked.is_login() {
        true => setting(200, &[&format!("sid={}; Path=/", asked.logins)]),
        false => setting(204, &[]),
    });
    let cache = paused(session(&site)).build();
    // While the test keeps a token, the token's session counts as used.
    let mut tokens = Vec::new();
    for _ in 0..20 {
        tokens.push(cache.refresh_now().await.unwrap());
        run_until_idle().await;
    }
    assert_eq!(logged_out(&site), sessions(1..=3));
    sleep(Duration::from_secs(60)).await;
    cache.refresh_now().await.unwrap();
    run_until_idle().await;
    let mut all = logged_out(&site);
    all.sort_by_key(String::len);
    assert_eq!(all, sessions(1..=19));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_the_server_has_ended_is_not_logged_out() {
    for end in ["refused", "deleted", "expired"] {
        let site = Site::new(|asked| match (asked.is_login(), asked.path()) {
            (true, _) => setting(
                200,
                &[&format!("sid={}; Path=/; Max-Age=100", asked.logins)],
            ),
            (false, "/v1/refused") if asked.cookies() == "sid=1" => setting(401, &[]),
            (false, "/v1/deleted") => setting(200, &["sid=; Path=/; Max-Age=0"]),
            (false, _) => setting(200, &[]),
        });
        let cache = paused(session(&site)).build();
        let mut client = layer_from(cache.clone()).layer(site.clone());
        for path in [end, "things"] {
            let url = format!("https://api.example.com/v1/{path}");
            let response = call(&mut client, get(&url)).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            if (end, path) == ("expired", "expired") {
                sleep(Duration::from_secs(100)).await;
            }
        }
        cache.close().await;
        let ended = (site.logins(), logged_out(&site));
        assert_eq!(ended, (2, sessions(2..=2)), "{end}");
    }
}

/// The server still has the session, although one of its cookies was only for a short time.
#[tokio::test(start_paused = true)]
async fn a_session_of_which_one_cookie_has_expired_is_logged_out() {
    let site = Site::new(|asked| match asked.is_login() {
        true => {
            let session = format!("sid={}; Path=/; Max-Age=3600", asked.logins);
            setting(200, &[&session, "flash=hi; Path=/; Max-Age=60"])
        }
        false => setting(200, &[]),
    });
    let cache = paused(session(&site)).build();
    let mut client = layer_from(cache.clone()).layer(site.clone());
    for _ in 0..2 {
        call(&mut client, get(THINGS)).await.unwrap();
        advance(Duration::from_secs(100)).await;
    }
    cache.close().await;
    let mut all = logged_out(&site);
    all.sort();
    assert_eq!(all, ["flash=hi; sid=1", "flash=hi; sid=2"]);
}

/// The server continues the same session at the next login, so a logout would end the current
/// session.
#[tokio::test(start_paused = true)]
async fn a_session_that_the_next_login_continues_is_not_logged_out() {
    let site = Site::new(|asked| match asked.is_login() {
        true => setting(200, &["sid=1; Path=/; Max-Age=10"]),
        false => setting(200, &[]),
    });
    let cache = paused(session(&site)).build();
    for _ in 0..4 {
        cache.refresh_now().await.unwrap();
        run_until_idle().await;
    }
    assert!(logged_out(&site).is_empty());
    cache.close().await;
    assert_eq!((site.logins(), logged_out(&site)), (4, sessions(1..=1)));

    // Each login sets another cookie again, which doesn't make the session another one.
    for (id, ended) in [("0123456789abcdef", false), ("en", true)] {
        let site = Site::new(move |asked| match asked.is_login() {
            true => setting(
                200,
                &[
                    &format!("id={id}; Path=/"),
                    &format!("node={}; Path=/", asked.logins),
                ],
            ),
            false => setting(200, &[]),
        });
        let cache = paused(session(&site)).build();
        for _ in 0..3 {
            cache.refresh_now().await.unwrap();
            run_until_idle().await;
        }
        assert_eq!(logged_out(&site).len(), usize::from(ended), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_address_nothing_is_logged_out() {
    let site = site(|| setting(204, &[]));
    let cache = paused(site.session()).build();
    for _ in 0..4 {
        cache.refresh_now().await.unwrap();
    }
    cache.close().await;
    assert!(site.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_session_of_a_closed_cache_is_not_used_again() {
    let site =
        Site::new(|asked| setting(200, &[&format!("sid={}; Path=/; Max-Age=10", asked.logins)]));
    let source = Arc::new(session(&site));
    let use_and_close = async || {
        let cache: TokenCache = paused(Arc::clone(&source)).build();
        let mut client = layer_from(cache.clone()).layer(site.clone());
        for _ in 0..3 {
            call(&mut client, get(THINGS)).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
        cache.close().await;
    };
    use_and_close().await;
    let token = source.fetch(Reason::Stale).await.unwrap();
    assert_eq!(token.secret(), "sid=2");
    source.close(Some(token)).await.unwrap();
    use_and_close().await;
    assert_eq!((site.logins(), logged_out(&site)), (3, sessions(1..=3)));
}

/// The cache has no token when it is closed, but the server still has the session.
#[tokio::test(start_paused = true)]
async fn a_close_without_a_token_logs_out_too() {
    let site = site(|| setting(204, &[]));
    let source = session(&site);
    let token: Token = source.fetch(Reason::First).await.unwrap();
    drop(token);
    source.close(None).await.unwrap();
    assert_eq!(logged_out(&site), sessions(1..=1));
    source.close(None).await.unwrap();
    assert_eq!(logged_out(&site).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_close_waits_for_the_logouts_that_are_running() {
    let site = Site::new(|asked| match asked.is_login() {
        true => setting(200, &[&format!("sid={}; Path=/", asked.logins)]),
        false if asked.cookies() == "sid=1" => setting(204, &[]).after(Duration::from_secs(2)),
        false => setting(204, &[]),
    });
    let cache = paused(session(&site)).build();
    for _ in 0..3 {
        cache.refresh_now().await.unwrap();
        run_until_idle().await;
    }
    assert_eq!(logged_out(&site), sessions(1..=1));
    let start = Instant::now();
    cache.close().await;
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(logged_out(&site).len(), 3);
}
