//! A login on another device: the request, the prompt for the user, and how often the program polls
//! the server.

use std::error::Error as _;
use std::time::Duration;

use tokio::time::Instant;
use tower_auth::oauth2::{
    Client, DeviceAuthorization, DevicePrompt, RefreshToken, RefreshTokenStore,
};
use tower_auth::{Error, Reason, TokenSource};

use crate::support::login_server::{BROKEN, ISSUED, LoginServer, REFRESHED, Response, form};
use crate::support::refresh_store::{LockingStore, Store, StoreFault};
use crate::support::token_server::{ID, SECRET, TokenServer, URL, all_text_of, expiry};

const DEVICE: &str = "https://id.example.com/device";

/// The server allows a poll every 5 s, and the code expires after 100 s.
const PROMPT: Response = (
    200,
    r#"{"device_code":"planted-device","user_code":"WDJB-MJHT",
    "verification_uri":"https://id.example.com/activate","expires_in":100}"#,
);
const PENDING: Response = (400, r#"{"error":"authorization_pending"}"#);
const SLOW_DOWN: Response = (400, r#"{"error":"slow_down"}"#);
const DENIED: Response = (400, r#"{"error":"access_denied","error_description":"no"}"#);
const EXPIRED: Response = (400, r#"{"error":"expired_token"}"#);

fn login(server: &LoginServer) -> DeviceAuthorization {
    DeviceAuthorization::new(server.client(), DEVICE).unwrap()
}

async fn logged_in(login: &DeviceAuthorization) -> Result<RefreshToken, Error> {
    let prompt = login.begin().await?;
    login.finish(prompt).await
}

/// Logs in at a server that responds like this. Returns the result and the times of the polls.
async fn polled<const N: usize>(
    responses: [Response; N],
) -> (Result<RefreshToken, Error>, Vec<u64>) {
    let (server, start) = (LoginServer::responding(responses), Instant::now());
    let source = logged_in(&login(&server)).await;
    assert!(server.is_done(), "{source:?}");
    let mut seconds = server.seconds_since(start);
    assert_eq!(seconds.remove(0), 0);
    (source, seconds)
}

/// Returns the prompt from a device authorization response.
async fn prompt(status: u16, body: &str) -> Result<DevicePrompt, Error> {
    let server = TokenServer::new(status, body.to_owned());
    let client = Client::public(URL, ID)
        .unwrap()
        .transport(server.transport());
    let login = DeviceAuthorization::new(client, DEVICE).unwrap();
    login.begin().await
}

/// Returns a valid response with one part replaced.
fn with(part: &str, other: &str) -> String {
    let body = r#"{"device_code":"planted-1","user_code":"planted-2","verification_uri":"https://a.example/x","expires_in":60,"interval":5}"#;
    assert_eq!(body.matches(part).count(), 1, "{part}");
    body.replace(part, other)
}

#[tokio::test(start_paused = true)]
async fn the_requests_are_those_of_the_rfc() {
    let server = LoginServer::responding([PROMPT, PENDING, ISSUED, REFRESHED]);
    let client = Client::new(URL, ID, SECRET)
        .unwrap()
        .transport(server.transport());
    let login = DeviceAuthorization::new(client, DEVICE)
        .unwrap()
        .scope(" offline_access  read ")
        .audience("https://api.example.com")
        .resource("https://a.example.com")
        .param("tenant", "acme")
        .unwrap();
    let source = logged_in(&login).await.unwrap();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(
        (token.secret(), token.scope()),
        ("first", Some("offline_access read"))
    );
    let token = source.fetch(Reason::Stale).await.unwrap();
    assert_eq!(token.secret(), "second");

    let begun = [
        ("scope", "offline_access read"),
        ("audience", "https://api.example.com"),
        ("resource", "https://a.example.com"),
        ("tenant", "acme"),
        ("client_id", ID),
        ("client_secret", SECRET),
    ];
    let poll = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", "planted-device"),
        ("resource", "https://a.example.com"),
        ("client_id", ID),
        ("client_secret", SECRET),
    ];
    let asked = server.asked();
    let tokens = || String::from("/oauth/token");
    assert_eq!(
        asked[..3],
        [
            (String::from("/device"), form(begun)),
            (tokens(), form(poll)),
            (tokens(), form(poll)),
        ]
    );
}

#[tokio::test]
async fn the_person_is_told_what_the_server_said() {
    let complete = r#""expires_in":60,"verification_uri_complete":"https://a.example/x?c=planted""#;
    let told = prompt(200, &with(r#""expires_in":60"#, complete))
        .await
        .unwrap();
    assert_eq!(told.user_code(), "planted-2");
    assert_eq!(told.verification_uri(), "https://a.example/x");
    assert_eq!(
        told.verification_uri_complete(),
        Some("https://a.example/x?c=planted")
    );
    assert_eq!(told.expires_in(), Duration::from_secs(60));
    let shown = format!("{told:?} {told:#?}");
    assert!(!shown.contains("planted"), "{shown}");
}

#[tokio::test]
async fn the_spelling_of_the_drafts_is_read_and_so_are_numbers_in_texts() {
    let body = with(r#""verification_uri""#, r#""verification_url""#);
    let body = body.replace(
        "60,",
        r#""60","verification_url_complete":"https://b.example/#/y","#,
    );
    let told = prompt(201, &body).await.unwrap();
    assert_eq!(told.verification_uri(), "https://a.example/x");
    assert_eq!(
        told.verification_uri_complete(),
        Some("https://b.example/#/y")
    );
    assert_eq!(told.expires_in(), Duration::from_secs(60));
    // A server may send both `verification_uri` and `verification_url`.
    let both = with(
        r#""interval""#,
        r#""verification_url":"https://b.example","interval""#,
    );
    let told = prompt(200, &both).await.unwrap();
    assert_eq!(told.verification_uri(), "https://a.example/x");
}

#[tokio::test]
async fn a_code_or_an_address_with_characters_that_nobody_sees_is_an_error_that_says_so() {
    let unseen = "\u{9b}\u{a0}\u{ad}\u{34f}\u{61c}\u{180e}\u{2003}\u{200b}\u{200e}\u{200f}\u{2060}\
                  \u{2800}\u{3164}\u{e000}\u{fe0f}\u{feff}\u{ffa0}\u{e0041}\u{e01ef}\u{10fffd}";
    for character in unseen.chars() {
        let body = with("planted-2", &format!("planted{character}"));
        let error = prompt(200, &body).await.unwrap_err();
        let what = "has a `user_code` with characters that a user can't see";
        assert!(
            error.is_reply() && error.to_string().contains(what),
            "{error}"
        );
        let uri = with(
            "https://a.example/x",
            &format!("https://a.example/{character}"),
        );
        let complete = format!("https://a.example/{character}");
        let complete = format!(r#""expires_in":60,"verification_uri_complete":"{complete}""#);
        for body in [uri, with(r#""expires_in":60"#, &complete)] {
            let error = prompt(200, &body).await.unwrap_err();
            assert!(error.to_string().contains("visible ASCII"), "{error}");
        }
    }
    for code in [
        "WDJB MJHT",
        "\u{442}\u{435}\u{441}\u{442}",
        "\u{6b63}\u{78ba}",
        "\u{e9}e\u{301}",
    ] {
        let told = prompt(200, &with("planted-2", code)).await.unwrap();
        assert_eq!(told.user_code(), code);
    }
    let error = prompt(200, &with("planted-2", &"7".repeat(257))).await;
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("longer than 256 bytes")
    );
}

#[tokio::test]
async fn a_host_name_in_another_script_is_accepted_in_its_ascii_form_only() {
    let ascii = "https://xn--mnchen-3ya.example/x";
    let told = prompt(200, &with("https://a.example/x", ascii))
        .await
        .unwrap();
    assert_eq!(told.verification_uri(), ascii);
    let body = with("https://a.example/x", "https://m\u{fc}nchen.example/x");
    let error = prompt(200, &body).await.unwrap_err();
    assert!(error.to_string().contains("`verification_uri`"), "{error}");
    assert!(error.to_string().contains("visible ASCII"), "{error}");
}

#[tokio::test]
async fn a_response_that_a_person_could_not_log_in_with_is_an_error_that_quotes_nothing() {
    let device = r#""device_code":"planted-1""#;
    let user = r#""user_code":"planted-2""#;
    let uri = r#""verification_uri":"https://a.example/x""#;
    let expires = r#""expires_in":60"#;
    for (body, what) in [
        (String::new(), "no body"),
        ("<html>planted".into(), "not valid JSON"),
        ("[\"planted\"]".into(), "not an object"),
        (
            r#"["planted-1","a","https://a.example","","","",60,5]"#.into(),
            "not an object",
        ),
        ("\"planted\"".into(), "not an object"),
        (with(device, r#""x":1"#), "no `device_code`"),
        (with(device, r#""device_code":"""#), "no `device_code`"),
        (with(device, r#""device_code":7"#), "no `device_code`"),
        (
            with(device, r#""device_code":["planted"]"#),
            "no `device_code`",
        ),
        (
            with(device, r#""device_code":"planted","device_code":"planted""#),
            "twice",
        ),
        (with(user, r#""x":1"#), "no `user_code`"),
        (with(user, r#""user_code":null"#), "no `user_code`"),
        (with(user, r#""user_code":"planted\u001b[2J""#), "can't see"),
        (with(user, r#""user_code":"planted\u202e""#), "can't see"),
        (with(uri, r#""x":1"#), "no `verification_uri`"),
        (
            with("https://a.example/x", "http://planted.example/x"),
            "neither https",
        ),
        (
            with("https://a.example/x", "javascript:planted"),
            "neither https",
        ),
        (with("https://a.example/x", "/planted"), "neither https"),
        (
            with("https://a.example/x", "https://a.example:99999/planted"),
            "`verification_uri` with an invalid port",
        ),
        (
            with(
                expires,
                r#""expires_in":60,"verification_uri_complete":"https://a.example:0/planted""#,
            ),
            "`verification_uri_complete` with an invalid port",
        ),
        (
            with("https://a.example/x", "https://a.example/#\\u001bplanted"),
            "visible ASCII",
        ),
        (
            with(
                expires,
                r#""expires_in":60,"verification_uri_complete":"http://planted.example""#,
            ),
            "`verification_uri_complete`",
        ),
        (with(expires, r#""x":1"#), "no `expires_in`"),
        (with("60", "0"), "already expired"),
        (with("60", "-5"), "already expired"),
        (with("60", "0.5"), "already expired"),
        (with("60", r#""planted""#), "neither a number"),
        (with("60", "{}"), "neither a number"),
        (
            with(r#""interval":5"#, r#""interval":"planted""#),
            "`interval`",
        ),
        (with(r#""interval":5"#, r#""interval":true"#), "`interval`"),
    ] {
        let error = prompt(200, &body).await.unwrap_err();
        assert!(
            error.is_reply() && error.to_string().contains(what),
            "{body}: {error}"
        );
        assert!(
            error.to_string().contains("device authorization endpoint"),
            "{error}"
        );
        assert!(
            !all_text_of(&error).contains("planted"),
            "{body}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_refuses_to_begin_is_the_error() {
    for status in [200, 400, 401, 403] {
        let body = r#"{"error":"unauthorized_client","error_description":"not\nyou"}"#;
        let error = prompt(status, body).await.unwrap_err();
        assert!(
            error.is_denied() && error.is_unauthorized_client(),
            "{error}"
        );
        assert_eq!(error.description(), Some("not you"));
        assert_eq!(error.status().unwrap(), status);
    }
    for (status, body) in [(404, "<html>"), (500, "")] {
        assert!(prompt(status, body).await.unwrap_err().is_denied());
    }
    assert!(prompt(302, "").await.unwrap_err().is_reply());
    // A device authorization request that fails isn't retried.
    let server = LoginServer::responding([BROKEN]);
    assert!(login(&server).begin().await.unwrap_err().is_transport());
    assert_eq!(server.times_asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_polls_every_five_seconds_if_the_server_does_not_say_how_often() {
    let (source, seconds) = polled([PROMPT, PENDING, PENDING, ISSUED]).await;
    source.unwrap();
    assert_eq!(seconds, [5, 10, 15]);
}

#[tokio::test(start_paused = true)]
async fn it_polls_as_often_as_the_server_says_within_reason() {
    let long = r#"{"device_code":"d","user_code":"u","verification_uri":"https://a.example","expires_in":1e99,"interval":1e99}"#;
    let zero = r#"{"device_code":"d","user_code":"u","verification_uri":"https://a.example","expires_in":9,"interval":0}"#;
    let seven = r#"{"device_code":"d","user_code":"u","verification_uri":"https://a.example","expires_in":90,"interval":"7"}"#;
    for (body, every) in [(zero, 1), (seven, 7), (long, 300)] {
        let (source, seconds) = polled([(200, body), PENDING, ISSUED]).await;
        source.unwrap();
        assert_eq!(seconds, [every, 2 * every]);
    }
}

#[tokio::test(start_paused = true)]
async fn each_slow_down_adds_five_seconds_for_good() {
    let (source, seconds) = polled([PROMPT, SLOW_DOWN, PENDING, SLOW_DOWN, PENDING, ISSUED]).await;
    source.unwrap();
    assert_eq!(seconds, [5, 15, 25, 40, 55]);
}

#[tokio::test(start_paused = true)]
async fn trouble_on_the_way_doubles_the_time_between_polls_and_is_no_error() {
    for trouble in [BROKEN, (500, ""), (503, "<html>"), (429, ""), (408, "")] {
        let (source, seconds) = polled([PROMPT, trouble, PENDING, trouble, ISSUED]).await;
        source.unwrap();
        assert_eq!(seconds, [5, 15, 25, 45], "{trouble:?}");
    }
    // A poll that times out doubles the time too.
    let server = LoginServer::responding([PROMPT, PENDING, ISSUED]);
    let (client, start) = (server.client(), Instant::now());
    let prompt = DeviceAuthorization::new(client, DEVICE)
        .unwrap()
        .begin()
        .await
        .unwrap();
    let slow = server.clone().taking(Duration::from_secs(60));
    let cut = slow.client().timeout(Duration::from_secs(2));
    let login = DeviceAuthorization::new(cut, DEVICE).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(18), login.finish(prompt)).await;
    assert!(ended.is_err());
    assert_eq!(server.seconds_since(start), [0, 5, 17]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_is_heeded() {
    let server = TokenServer::new(503, "").with_header("retry-after", "40");
    let begun = LoginServer::responding([PROMPT]);
    let prompt = login(&begun).begin().await.unwrap();
    let client = Client::public(URL, ID)
        .unwrap()
        .transport(server.transport());
    let login = DeviceAuthorization::new(client, DEVICE).unwrap();
    assert!(login.finish(prompt).await.unwrap_err().is_login_required());
    // The program polled after 5 s and 45 s. The next poll would be after 125 s, but the code
    // expires after 100 s.
    assert_eq!(server.times_asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_says_no_ends_it() {
    let (denied, seconds) = polled([PROMPT, PENDING, DENIED]).await;
    let error = denied.unwrap_err();
    assert!(error.is_access_denied() && error.is_permanent(), "{error}");
    assert_eq!((error.description(), seconds), (Some("no"), vec![5, 10]));

    let (expired, seconds) = polled([PROMPT, EXPIRED]).await;
    let error = expired.unwrap_err();
    assert!(
        error.is_login_required() && error.to_string().contains("again"),
        "{error}"
    );
    let cause = std::error::Error::source(&error).unwrap();
    assert!(cause.to_string().contains("expired_token"), "{cause}");
    assert_eq!(seconds, [5]);

    for (status, body) in [
        (400, r#"{"error":"invalid_grant"}"#),
        (401, r#"{"error":"invalid_client"}"#),
        (400, r#"{"error":"of_its_own"}"#),
        (404, ""),
        (200, "no json"),
    ] {
        let (ended, seconds) = polled([PROMPT, (status, body)]).await;
        let error = ended.unwrap_err();
        assert!(error.is_denied() || error.is_reply(), "{error}");
        assert_eq!(seconds, [5]);
    }
}

#[tokio::test(start_paused = true)]
async fn it_stops_when_the_code_is_over() {
    let short = r#"{"device_code":"d","user_code":"u","verification_uri":"https://a.example","expires_in":12}"#;
    let start = Instant::now();
    let (ended, seconds) = polled([(200, short), PENDING, PENDING]).await;
    let error = ended.unwrap_err();
    assert!(
        error.is_login_required() && error.to_string().contains("again"),
        "{error}"
    );
    assert_eq!((seconds, start.elapsed().as_secs()), (vec![5, 10], 12));

    // The lifetime counts from the device authorization request, not from the call of `finish`.
    let server = LoginServer::responding([(200, short)]);
    let login = login(&server);
    let prompt = login.begin().await.unwrap();
    tokio::time::advance(Duration::from_secs(8)).await;
    assert!(login.finish(prompt).await.unwrap_err().is_login_required());
    assert_eq!(server.times_asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_can_not_be_locked_is_an_error_before_the_person_sees_a_code() {
    let (server, store) = (
        LoginServer::responding([PROMPT, ISSUED]),
        LockingStore::default(),
    );
    store.breaks("lock", StoreFault::Fails);
    let login = login(&server).store(store.clone());
    let error = login.begin().await.unwrap_err();
    assert!(error.is_source(), "{error}");
    assert!(
        all_text_of(&error).contains("the store is broken"),
        "{error:?}"
    );
    assert_eq!(server.times_asked(), 0);

    // Another process may have the lock at this moment.
    store.works_again();
    let other = store.lock(Duration::ZERO).await.unwrap();
    let prompt = login.begin().await.unwrap();
    drop(other);
    login.finish(prompt).await.unwrap();
    assert!(!store.is_locked());
    assert_eq!(store.saves(), ["refresh"]);
}

#[tokio::test(start_paused = true)]
async fn the_error_at_the_end_of_the_code_has_the_error_of_the_last_poll() {
    let (server, store) = (LoginServer::responding([PROMPT]), LockingStore::default());
    let login_with_store = login(&server).store(store.clone());
    let prompt = login_with_store.begin().await.unwrap();
    store.breaks("lock", StoreFault::Fails);
    let error = login_with_store.finish(prompt).await.unwrap_err();
    assert!(error.is_login_required(), "{error}");
    assert!(
        all_text_of(&error).contains("the store is broken"),
        "{error:?}"
    );

    // After a poll that only says `authorization_pending`, an earlier failure isn't the reason.
    let short = r#"{"device_code":"d","user_code":"u","verification_uri":"https://a.example","expires_in":20}"#;
    let (ended, _) = polled([(200, short), BROKEN, PENDING]).await;
    assert!(ended.unwrap_err().source().is_none());
}

/// GitHub responds with 200, even with an error.
#[tokio::test(start_paused = true)]
async fn an_error_with_a_status_of_success_is_one() {
    let pending = (200, r#"{"error":"authorization_pending"}"#);
    let slow = (200, r#"{"error":"slow_down","interval":10}"#);
    let (source, seconds) = polled([PROMPT, pending, slow, ISSUED]).await;
    source.unwrap();
    assert_eq!(seconds, [5, 10, 20]);
}

#[tokio::test(start_paused = true)]
async fn the_refresh_token_is_saved_and_the_lifetime_counted_from_the_poll() {
    let server = LoginServer::responding([PROMPT, PENDING, ISSUED]).taking(Duration::from_secs(3));
    let store = Store::default();
    let source = logged_in(&login(&server).store(store.clone()))
        .await
        .unwrap();
    assert_eq!(store.saves(), ["refresh"]);
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!((token.secret(), &*expiry(&token)), ("first", "In(3597s)"));

    let server = LoginServer::responding([PROMPT, ISSUED]);
    let full = Store::default();
    *full.fails.lock().unwrap() = true;
    let error = logged_in(&login(&server).store(full)).await.unwrap_err();
    assert!(error.is_source(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_that_nobody_says_is_assumed() {
    let server = LoginServer::responding([PROMPT, (200, r#"{"access_token":"first"}"#)]);
    let login = login(&server).assume_lifetime(Duration::from_secs(70));
    let source = logged_in(&login).await.unwrap();
    tokio::time::advance(Duration::from_secs(30)).await;
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(expiry(&token), "In(40s)");
}

#[tokio::test(start_paused = true)]
async fn nothing_shows_the_device_code() {
    let echo = r#"{"error":"odd","error_description":"planted-device is no code"}"#;
    let server = LoginServer::responding([PROMPT, (400, echo)]);
    let login = login(&server).param("x", "planted-param").unwrap();
    let prompt = login.begin().await.unwrap();
    let mut shown = format!("{login:?} {login:#?} {prompt:?} {prompt:#?}");
    let error = login.finish(prompt).await.unwrap_err();
    shown += &all_text_of(&error);
    assert!(
        !shown.contains("planted") && !shown.contains("WDJB"),
        "{shown}"
    );
    assert_eq!(error.description(), Some("[redacted] is no code"));
}

#[test]
fn settings_that_can_not_be_used_are_refused_at_once() {
    let server = LoginServer::default();
    for name in [
        "",
        "grant_type",
        "device_code",
        "client_id",
        "client_secret",
        "scope",
        "audience",
    ] {
        let error = login(&server).param(name, "x").unwrap_err();
        assert!(error.is_config(), "{name}");
    }
    let nobody = Client::anonymous(URL)
        .unwrap()
        .transport(server.transport());
    assert!(
        DeviceAuthorization::new(nobody, DEVICE)
            .unwrap_err()
            .is_config()
    );
    let cleartext = DeviceAuthorization::new(server.client(), "http://id.example.com/device");
    assert!(cleartext.unwrap_err().is_config());
}
