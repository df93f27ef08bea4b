//! Which responses renew a session, and when the source logs in again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::future::join;
use http::StatusCode;
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_auth::login::Session;
use tower_auth::{Error, Origin, Place, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{RecordedRequest, ScriptedResponse, run_until_idle};

use crate::support::session_site::{Asked, Site, THINGS, get, setting};
use crate::support::token_server::expiry;
use crate::support::{call, layer_from, paused};

const LIFETIME: Duration = Duration::from_secs(10);

/// The sessions of a site, with their ends.
#[derive(Clone, Default)]
struct Sessions {
    ends: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Sessions {
    /// Responds to a login, or checks the session of a request. If `renew` is true, the response
    /// renews the session.
    fn respond(&self, asked: &Asked<'_>, renew: bool) -> ScriptedResponse {
        let mut ends = self.ends.lock().unwrap();
        let id = match asked.is_login() {
            true => format!("sid={}", asked.logins),
            false => asked.cookies(),
        };
        let is_known = ends.get(&id).is_some_and(|end| *end > Instant::now());
        if !asked.is_login() && !is_known {
            return setting(401, &[]);
        }
        if !asked.is_login() && !renew {
            return setting(200, &[]);
        }
        ends.insert(id.clone(), Instant::now() + LIFETIME);
        setting(200, &[&format!("{id}; Path=/; Max-Age=10")])
    }

    fn end_all(&self) {
        self.ends.lock().unwrap().clear();
    }
}

/// A source that counts the fetches from a session.
struct Counting {
    session: Session,
    fetches: Arc<AtomicUsize>,
}

impl TokenSource for Counting {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        self.session.fetch(reason).await
    }

    fn place(&self) -> Place {
        self.session.place()
    }

    fn origins(&self) -> Vec<Origin> {
        self.session.origins()
    }
}

/// Sends a request every 500 ms for this time. Each request must succeed without a wait.
async fn use_steadily(cache: &TokenCache, site: &Site, time: Duration) {
    let mut client = layer_from(cache.clone()).layer(site.clone());
    let end = Instant::now() + time;
    while Instant::now() < end {
        let before = Instant::now();
        let response = call(&mut client, get(THINGS)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(before, Instant::now());
        sleep(Duration::from_millis(500)).await;
    }
}

/// Sends requests to this site for 24 s. Returns the number of logins.
async fn logins_of(site: &Site, session: Session) -> usize {
    let cache = paused(session).build();
    use_steadily(&cache, site, Duration::from_secs(24)).await;
    let sent = site.requests().len();
    assert!(
        (48..=49).contains(&sent),
        "{sent} requests, so some were refused"
    );
    site.logins()
}

fn sliding() -> (Site, Sessions) {
    let sessions = Sessions::default();
    let of_site = sessions.clone();
    let site = Site::new(move |asked| of_site.respond(asked, true));
    (site, sessions)
}

#[tokio::test(start_paused = true)]
async fn a_session_that_each_response_renews_is_one_login() {
    let (site, _) = sliding();
    let fetches = Arc::new(AtomicUsize::new(0));
    let source = Counting {
        session: site.session(),
        fetches: Arc::clone(&fetches),
    };
    let cache = paused(source).build();
    use_steadily(&cache, &site, Duration::from_secs(24)).await;
    assert_eq!(site.logins(), 1);
    // Each token lasts 10 s and is stale after 7.5 s. The later tokens count from the last renewal,
    // which was 500 ms before the fetch.
    assert_eq!(fetches.load(Ordering::SeqCst), 4);
}

/// ASP.NET Core renews a session only in the second half of its lifetime.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_renewed_only_in_the_second_half_of_its_life_is_one_login() {
    for (seconds, jitter) in [
        (4, 0.0),
        (10, 0.0),
        (10, 1.0),
        (30, 1.0),
        (60, 0.0),
        (120, 1.0),
    ] {
        let lifetime = Duration::from_secs(seconds);
        let renewed_at = Mutex::new(Instant::now());
        let site = Site::new(move |asked| {
            let mut renewed_at = renewed_at.lock().unwrap();
            if !asked.is_login() && renewed_at.elapsed() <= lifetime / 2 {
                return setting(200, &[]);
            }
            *renewed_at = Instant::now();
            let cookie = format!("sid={}; Path=/; Max-Age={seconds}", asked.logins);
            setting(200, &[&cookie])
        });
        let cache = paused(site.session()).jitter(jitter).build();
        use_steadily(&cache, &site, 3 * lifetime).await;
        assert_eq!(site.logins(), 1, "{seconds} {jitter}");
    }
}

/// A login in the last eighth of the lifetime would make callers wait.
#[tokio::test(start_paused = true)]
async fn a_session_that_nothing_renews_is_logged_in_to_in_its_last_quarter() {
    for seconds in [8, 80, 160] {
        let lifetime = Duration::from_secs(seconds);
        let site = Site::new(move |asked| match asked.is_login() {
            true => setting(
                200,
                &[&format!("sid={}; Path=/; Max-Age={seconds}", asked.logins)],
            ),
            false => setting(200, &[]),
        });
        let cache = paused(site.session()).build();
        let start = Instant::now();
        use_steadily(&cache, &site, lifetime).await;
        let logins = site.asked(true);
        let times = logins.iter().map(|login| login.received_at() - start);
        assert_eq!(
            times.collect::<Vec<_>>(),
            [Duration::ZERO, lifetime * 3 / 4]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_kept_fresh_without_requests_is_a_login_each_time() {
    let (site, _) = sliding();
    let cache = paused(site.session()).keep_fresh().build();
    cache.token().await.unwrap();
    sleep(Duration::from_secs(24)).await;
    assert_eq!(site.logins(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_some_responses_renew_is_one_login() {
    let sessions = Sessions::default();
    let site = Site::new(move |asked| sessions.respond(asked, asked.requests % 3 == 2));
    assert_eq!(logins_of(&site, site.session()).await, 1);
}

#[tokio::test(start_paused = true)]
async fn one_renewal_delays_the_next_login() {
    let sessions = Sessions::default();
    // The request at 2 s renews the session, which then ends at 12 s.
    let site = Site::new(move |asked| sessions.respond(asked, asked.requests == 4));
    let cache = paused(site.session()).build();
    let start = Instant::now();
    use_steadily(&cache, &site, Duration::from_secs(11)).await;
    let logins = site.asked(true);
    let times = logins.iter().map(|login| login.received_at() - start);
    // The refresh at 7.5 s returns a token for the remaining 4.5 s. The next refresh is after half
    // of this time, at 9.75 s.
    assert_eq!(
        times.collect::<Vec<_>>(),
        [Duration::ZERO, Duration::from_secs(10)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_by_expires_as_the_servers_clock_counts() {
    let hour = Duration::from_secs(3600);
    let now = SystemTime::now();
    for (server_start, has_date) in [
        (now, true),
        (now - hour, true),
        (now + hour, true),
        (now, false),
    ] {
        let start = Instant::now();
        let site = Site::new(move |_| {
            let server_now = match has_date {
                true => server_start + start.elapsed(),
                // The system's clock doesn't advance while the time is paused.
                false => SystemTime::now() + Duration::from_millis(999),
            };
            let end = httpdate::fmt_http_date(server_now + LIFETIME);
            let response = setting(200, &[&format!("sid=1; Path=/; Expires={end}")]);
            match has_date {
                true => response.header("date", httpdate::fmt_http_date(server_now)),
                false => response,
            }
        });
        assert_eq!(
            logins_of(&site, site.session()).await,
            1,
            "{server_start:?}"
        );
    }
}

#[tokio::test]
async fn a_cookie_is_deleted_by_expires_as_the_servers_clock_counts() {
    for ahead in [true, false] {
        let hour = Duration::from_secs(3600);
        let server_now = match ahead {
            true => SystemTime::now() + hour,
            false => SystemTime::now() - hour,
        };
        let site = Site::new(move |asked| {
            let end = match asked.is_login() {
                true => server_now + Duration::from_secs(60),
                false => server_now - Duration::from_secs(1),
            };
            let line = format!(
                "sid={}; Path=/; Expires={}",
                asked.logins,
                httpdate::fmt_http_date(end)
            );
            setting(200, &[&line]).header("date", httpdate::fmt_http_date(server_now))
        });
        let token = super::fetch(&site.session()).await.unwrap();
        assert_eq!(expiry(&token), "In(60s)");
        let mut client = crate::support::layer(site.session()).layer(site.clone());
        for _ in 0..2 {
            call(&mut client, get(THINGS)).await.unwrap();
        }
        assert_eq!(site.cookies(), ["sid=2", "sid=3"], "{ahead}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_cookie_that_the_session_needs_has_to_be_renewed() {
    static BOTH: [&str; 2] = ["sid=1; Path=/; Max-Age=10", "b=2; Path=/; Max-Age=10"];
    let site = |renewed: &'static [&'static str]| {
        Site::new(move |asked| match asked.is_login() {
            true => setting(200, &BOTH),
            false => setting(200, renewed),
        })
    };
    for (renewed, named, logins) in [
        (&BOTH[..], None, 1),
        (&BOTH[..1], None, 4),
        (&BOTH[1..], None, 4),
        (&BOTH[..1], Some("sid"), 1),
        (&BOTH[1..], Some("sid"), 4),
    ] {
        let site = site(renewed);
        let session = match named {
            Some(name) => site.session().session_cookie(name).unwrap(),
            None => site.session(),
        };
        assert_eq!(
            logins_of(&site, session).await,
            logins,
            "{renewed:?} {named:?}"
        );
    }
}

/// Without a `Path`, the path of a cookie depends on the request that the response belongs to.
#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_by_a_cookie_of_the_same_name_with_another_path() {
    let site = Site::new(|_| setting(200, &["sid=1; Max-Age=10"]));
    let cache = paused(site.session()).build();
    let mut client = layer_from(cache).layer(site.clone());
    let mut elsewhere = async || {
        let url = "https://api.example.com/v1/session/me";
        call(&mut client, get(url)).await.unwrap();
        advance(Duration::from_secs(1)).await;
    };
    for _ in 0..24 {
        elsewhere().await;
    }
    assert_eq!(site.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_expired_cookie_is_not_sent_if_a_valid_cookie_has_its_name() {
    let site = Site::new(|asked| match asked.is_login() {
        true => setting(200, &["sid=old; Path=/v1; Max-Age=10"]),
        false => setting(200, &["sid=new; Path=/; Max-Age=10"]),
    });
    let cache = paused(site.session()).build();
    let mut client = layer_from(cache).layer(site.clone());
    for _ in 0..12 {
        call(&mut client, get(THINGS)).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(site.logins(), 1);
    let cookies = site.cookies();
    assert_eq!(
        (&*cookies[9], &*cookies[11]),
        ("sid=old; sid=new", "sid=new")
    );
}

#[tokio::test(start_paused = true)]
async fn a_response_that_shortens_the_session_does_not_renew_it() {
    let site = Site::new(|asked| match (asked.is_login(), asked.requests) {
        (true, _) => setting(
            200,
            &[&format!("sid={}; Path=/; Max-Age=100", asked.logins)],
        ),
        (false, 0) => setting(200, &["sid=1; Path=/; Max-Age=90"]),
        (false, _) => setting(200, &[]),
    });
    let cache = paused(site.session()).build();
    use_steadily(&cache, &site, Duration::from_secs(80)).await;
    // The first token lasts 100 s, so the cache refreshes it after 75 s.
    assert_eq!(site.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_renewed_cookie_without_an_end_lasts_until_the_server_refuses_it() {
    let site = Site::new(|asked| match asked.is_login() {
        true => setting(200, &["sid=1; Path=/; Max-Age=10"]),
        false if asked.requests == 1 => setting(200, &["sid=1; Path=/"]),
        false => setting(200, &[]),
    });
    let cache = paused(site.session()).build();
    use_steadily(&cache, &site, Duration::from_secs(600)).await;
    assert_eq!(site.logins(), 1);
    assert_eq!(expiry(&cache.token().await.unwrap()), "Never");
}

/// The site states the remaining lifetime in whole seconds, so the end seems to move.
#[tokio::test(start_paused = true)]
async fn a_session_whose_end_stays_is_not_renewed_by_rounding() {
    let start = Arc::new(Mutex::new(Instant::now()));
    let site = Site::new(move |asked| {
        let mut start = start.lock().unwrap();
        if asked.is_login() {
            *start = Instant::now();
        }
        let left = LIFETIME.saturating_sub(start.elapsed());
        let left = left.as_millis().div_ceil(1000);
        setting(
            200,
            &[&format!("sid={}; Path=/; Max-Age={left}", asked.logins)],
        )
    });
    assert_eq!(logins_of(&site, site.session()).await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_used_shortly_before_its_end_needs_no_login() {
    let (site, _) = sliding();
    let cache = paused(site.session()).build();
    let mut client = layer_from(cache).layer(site.clone());
    // The request at 3 s renews the session. At 9 s, the login's token has expired.
    for pause in [3, 6, 6, 6] {
        call(&mut client, get(THINGS)).await.unwrap();
        advance(Duration::from_secs(pause)).await;
    }
    assert_eq!(site.logins(), 1);
    // The session now has only 1 s left, so the source logs in: the request could arrive too late.
    advance(Duration::from_secs(3)).await;
    let response = call(&mut client, get(THINGS)).await.unwrap();
    assert_eq!((response.status(), site.logins()), (StatusCode::OK, 2));
}

#[tokio::test(start_paused = true)]
async fn a_response_to_a_replaced_session_renews_only_that_session() {
    let site = Site::new(|asked| match (asked.is_login(), asked.path()) {
        (true, _) => setting(200, &[&format!("sid={}; Path=/; Max-Age=10", asked.logins)]),
        (false, "/v1/slow") => {
            setting(200, &["sid=1; Path=/; Max-Age=100"]).after(Duration::from_secs(3))
        }
        (false, _) => setting(200, &[]),
    });
    let cache = paused(site.session()).build();
    cache.token().await.unwrap();
    let client = layer_from(cache.clone()).layer(site.clone());
    let slow = client
        .clone()
        .oneshot(get("https://api.example.com/v1/slow"));
    let steady = async {
        run_until_idle().await;
        cache.refresh_now().await.unwrap();
        use_steadily(&cache, &site, Duration::from_secs(8)).await;
    };
    join(slow, steady).await.0.unwrap();
    assert_eq!(site.logins(), 3);
    let cookies = site.cookies();
    assert_eq!(cookies[0], "sid=1");
    assert!(
        cookies[1..].iter().all(|sent| sent != "sid=1"),
        "{cookies:?}"
    );
}

/// The token of a renewed session keeps its age. So the layer doesn't take the refusal for that of
/// a new token that isn't valid yet.
#[tokio::test(start_paused = true)]
async fn a_renewed_session_that_the_server_refuses_is_replaced_at_once() {
    let (site, sessions) = sliding();
    let cache = paused(site.session()).build();
    use_steadily(&cache, &site, Duration::from_secs(8)).await;
    assert_eq!(site.logins(), 1);
    sessions.end_all();
    let mut client = layer_from(cache).layer(site.clone());
    let start = Instant::now();
    let response = call(&mut client, get(THINGS)).await.unwrap();
    assert_eq!((response.status(), site.logins()), (StatusCode::OK, 2));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// Requests are refused while the cache fetches the next token of the same session.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_refused_as_it_is_renewed_is_replaced() {
    let (site, sessions) = sliding();
    let cache = paused(site.session()).build();
    use_steadily(&cache, &site, Duration::from_millis(7400)).await;
    let client = layer_from(cache).layer(site.clone());
    sessions.end_all();
    let mut early = client.clone();
    let early = tokio::spawn(async move {
        std::future::poll_fn(|cx| early.poll_ready(cx))
            .await
            .unwrap();
        early.call(get(THINGS)).await.unwrap()
    });
    tokio::task::yield_now().await;
    advance(Duration::from_millis(200)).await;
    let late = client.oneshot(get(THINGS)).await.unwrap();
    assert_eq!(early.await.unwrap().status(), StatusCode::OK);
    assert_eq!((late.status(), site.logins()), (StatusCode::OK, 2));
}

/// Many servers respond with the cookie of a new session, in which nobody is logged in.
#[tokio::test(start_paused = true)]
async fn a_response_that_is_no_success_renews_nothing() {
    for (status, anonymous, logins) in [
        (401, "sid=nobody", 2),
        (401, "sid=1", 2),
        (403, "sid=nobody", 2),
        (403, "sid=1", 2),
        (419, "sid=1", 2),
        (302, "sid=nobody", 2),
        (302, "sid=1", 2),
        (404, "sid=nobody", 2),
        (404, "sid=1", 2),
        (500, "sid=1", 2),
        (200, "sid=1", 1),
        (304, "sid=1", 1),
    ] {
        let site = Site::new(move |asked| match asked.is_login() {
            true => setting(200, &[&format!("sid={}; Path=/; Max-Age=10", asked.logins)]),
            false => setting(status, &[&format!("{anonymous}; Path=/; Max-Age=10")]),
        });
        let cache = paused(site.session()).build();
        // With this setting, a 401 without a challenge isn't a refusal.
        let layer = layer_from(cache).retry_without_challenge(false);
        let mut client = layer.layer(site.clone());
        for _ in 0..9 {
            call(&mut client, get(THINGS)).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(site.logins(), logins, "{status} {anonymous}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_after_a_doubt_renews_the_session_again() {
    let sessions = Sessions::default();
    // The site refuses each request to `/v1/locked`, but still has the session.
    let site = Site::new(move |asked| match asked.path() {
        "/v1/locked" => setting(403, &[]),
        _ => sessions.respond(asked, true),
    });
    let cache = paused(site.session()).build();
    let mut client = layer_from(cache).layer(site.clone());
    for _ in 0..24 {
        for url in ["https://api.example.com/v1/locked", THINGS] {
            call(&mut client, get(url)).await.unwrap();
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(site.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_deleted_is_not_renewed_by_a_late_response() {
    let site = Site::new(|asked| match (asked.is_login(), asked.path()) {
        (true, _) => setting(200, &[&format!("sid={}; Path=/; Max-Age=10", asked.logins)]),
        (false, "/v1/slow") => {
            setting(200, &["sid=1; Path=/; Max-Age=100"]).after(Duration::from_secs(1))
        }
        (false, "/v1/end") => setting(200, &["sid=; Path=/; Max-Age=0"]),
        (false, _) => setting(200, &[]),
    });
    let cache = paused(site.session()).build();
    let client = layer_from(cache).layer(site.clone());
    let ask = |path| {
        client
            .clone()
            .oneshot(get(&format!("https://api.example.com/v1/{path}")))
    };
    let (slow, end) = join(ask("slow"), ask("end")).await;
    assert!(slow.is_ok() && end.is_ok());
    ask("things").await.unwrap();
    assert_eq!(site.cookies(), ["sid=1", "sid=1", "sid=2"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_renewed_session_has_its_current_cookies() {
    let site = Site::new(|asked| {
        let number = asked.logins + asked.requests;
        setting(200, &[&format!("sid={number}; Path=/; Max-Age=10")])
    });
    let cache = paused(site.session()).build();
    use_steadily(&cache, &site, Duration::from_secs(8)).await;
    assert_eq!(site.logins(), 1);
    let token = cache.token().await.unwrap();
    // The last request before the refresh was at 7 s, and its response set `sid=15`.
    assert_eq!(token.secret(), "sid=15");
    let paths = site.requests();
    assert!(
        paths
            .iter()
            .map(RecordedRequest::path)
            .all(|path| path == "/v1/things")
    );
}

#[tokio::test(start_paused = true)]
async fn a_forced_refresh_is_a_login_although_the_session_is_renewed() {
    let (site, _) = sliding();
    let cache = paused(site.session()).build();
    use_steadily(&cache, &site, Duration::from_secs(3)).await;
    cache.refresh_now().await.unwrap();
    cache.reject(&cache.token().await.unwrap());
    cache.token().await.unwrap();
    assert_eq!(site.logins(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_renewed_session_is_logged_in_to_again_if_the_last_responses_doubt_it() {
    for (status, cookie, logins) in [
        (401, None, 2),
        (401, Some("sid=1"), 2),
        (403, Some("sid=1"), 2),
        (419, None, 2),
        (440, None, 2),
        (302, Some("sid=nobody"), 2),
        (404, Some("sid=nobody"), 2),
        (404, Some("sid=1"), 1),
        (500, None, 1),
        (200, Some("sid=next"), 1),
    ] {
        let cookie = cookie.map(|cookie| format!("{cookie}; Path=/; Max-Age=10"));
        let site = Site::new(move |asked| match (asked.is_login(), asked.requests) {
            (true, _) | (false, 1) => setting(200, &["sid=1; Path=/; Max-Age=10"]),
            (false, 2) => setting(status, &cookie.as_deref().into_iter().collect::<Vec<_>>()),
            (false, _) => setting(200, &[]),
        });
        let cache = paused(site.session()).build();
        let layer = layer_from(cache).retry_without_challenge(false);
        let mut client = layer.layer(site.clone());
        // The second request, at 6.5 s, renews the session. At 7.5 s, the token is stale.
        for pause in [6500, 500, 1000, 500] {
            call(&mut client, get(THINGS)).await.unwrap();
            sleep(Duration::from_millis(pause)).await;
        }
        assert_eq!(site.logins(), logins, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_renewed_and_then_deleted_is_logged_in_to_again() {
    for is_late in [false, true] {
        let renewal = "sid=1; Path=/; Max-Age=10";
        let site = Site::new(move |asked| match (asked.is_login(), asked.path()) {
            (true, _) | (false, "/v1/renew") => setting(200, &[renewal]),
            (false, "/v1/end") => setting(200, &["sid=; Path=/; Max-Age=0"]),
            (false, _) => setting(200, &[renewal]).after(Duration::from_secs(1)),
        });
        let source = Arc::new(site.session());
        let cache = paused(Arc::clone(&source)).build();
        let client = layer_from(cache).layer(site.clone());
        let ask = |path| {
            let url = format!("https://api.example.com/v1/{path}");
            client.clone().oneshot(get(&url))
        };
        for path in ["renew", "renew"] {
            ask(path).await.unwrap();
            sleep(Duration::from_secs(2)).await;
        }
        match is_late {
            true => drop(join(ask("slow"), ask("end")).await),
            false => drop(ask("end").await.unwrap()),
        }
        source.fetch(Reason::Stale).await.unwrap();
        assert_eq!(site.logins(), 2, "{is_late}");
    }
}
