//! An authorization request that is sealed while the browser is away. It opens unchanged, and
//! nothing else opens.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use tower_auth::Error;
use tower_auth::fleet::Keyring;
use tower_auth::oauth2::{AuthorizationCode, AuthorizationRequest};
use tower_auth_test::ScriptedSource;

use super::{CALLBACK, begin, login, query};
use crate::support::breakable_store::{BreakableStore, KEY, keyring};
use crate::support::login_server::{ISSUED, LoginServer};
use crate::support::token_server::all_text_of;

const OTHER_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

fn open(sealed: &str) -> Result<AuthorizationRequest, Error> {
    AuthorizationRequest::open(&keyring(), sealed)
}

/// Returns the error of a text that doesn't open. The error says what to do, and contains nothing
/// of the text.
#[track_caller]
fn refused(keys: &Keyring, sealed: &str) -> String {
    let error = AuthorizationRequest::open(keys, sealed).expect_err(sealed);
    assert!(error.is_reply(), "{error}");
    let text = all_text_of(&error);
    assert!(text.contains("begin the login again"), "{text}");
    assert!(sealed.len() < 8 || !text.contains(sealed), "{text}");
    error.to_string()
}

#[tokio::test]
async fn another_process_finishes_the_login_with_the_same_verifier() {
    let server = LoginServer::responding([ISSUED]);
    let begun = login(&server).begin(CALLBACK).await.unwrap();
    let sealed = begun.seal(&keyring()).unwrap();
    let (state, challenge) = {
        let query = query(&begun);
        (query["state"].clone(), query["code_challenge"].clone())
    };
    drop(begun);

    let opened = open(&sealed).unwrap();
    assert_eq!((opened.redirect_uri(), opened.url()), (CALLBACK, ""));
    let response = opened.read(&format!("/callback?code=c&state={state}"));
    login(&server)
        .finish(opened, response.unwrap())
        .await
        .unwrap();
    let (_, sent) = server.asked().remove(0);
    let value = |name: &str| {
        let mut pairs = sent.iter().filter(|(of, _)| of == name);
        pairs.next().unwrap().1.clone()
    };
    assert_eq!(value("redirect_uri"), CALLBACK);
    let verifier = value("code_verifier");
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&verifier);
    assert_eq!(URL_SAFE_NO_PAD.encode(digest), challenge);
}

#[tokio::test]
async fn another_state_is_refused_after_opening_too() {
    let (one, other) = (begin().await, begin().await);
    let opened = open(&one.seal(&keyring()).unwrap()).unwrap();
    for state in [query(&other)["state"].as_str(), "", "x"] {
        let error = opened.read(&format!("/callback?code=c&state={state}"));
        assert!(error.unwrap_err().to_string().contains("`state`"));
    }
}

#[tokio::test]
async fn the_expected_issuer_is_kept() {
    const ISSUER: &str = "https://id.example.com";
    let login = || login(&LoginServer::default());
    type Check = (AuthorizationCode, bool, bool);
    let checks: [Check; 3] = [
        (login(), true, true),
        (login().issuer(ISSUER), true, false),
        (login().require_issuer(ISSUER), false, false),
    ];
    for (login, without, of_another) in checks {
        let begun = login.begin(CALLBACK).await.unwrap();
        let state = query(&begun)["state"].clone();
        let opened = open(&begun.seal(&keyring()).unwrap()).unwrap();
        let read = |rest: &str| {
            opened
                .read(&format!("/?code=c&state={state}{rest}"))
                .is_ok()
        };
        assert!(read(&format!("&iss={ISSUER}")), "{login:?}");
        assert_eq!(read(""), without, "{login:?}");
        assert_eq!(read("&iss=https://evil.example"), of_another, "{login:?}");
    }
}

#[tokio::test]
async fn a_callback_that_is_sent_again_fails_at_the_server() {
    let used = (400, r#"{"error":"invalid_grant"}"#);
    let server = LoginServer::responding([ISSUED, used]);
    let login = login(&server);
    let begun = login.begin(CALLBACK).await.unwrap();
    let sealed = begun.seal(&keyring()).unwrap();
    let target = format!("/callback?code=c&state={}", query(&begun)["state"]);
    let finish = async || {
        let request = open(&sealed)?;
        let response = request.read(&target)?;
        login.finish(request, response).await
    };
    finish().await.unwrap();
    assert!(finish().await.unwrap_err().is_invalid_grant());
    assert!(server.is_done());
}

#[tokio::test]
async fn a_login_that_was_begun_elsewhere_is_not_finished_here() {
    let (own, of_an_attacker) = (begin().await, begin().await);
    let own = open(&own.seal(&keyring()).unwrap()).unwrap();
    let target = format!("/callback?code=c&state={}", query(&of_an_attacker)["state"]);
    assert!(own.read(&target).unwrap_err().is_reply());
}

#[tokio::test]
async fn another_key_opens_nothing() {
    let sealed = begin().await.seal(&keyring()).unwrap();
    let unknown = Keyring::new("2027-05", OTHER_KEY).unwrap();
    assert!(refused(&unknown, &sealed).contains("a key that isn't on the keyring"));
    let same_name = Keyring::new("2026-11", OTHER_KEY).unwrap();
    assert!(refused(&same_name, &sealed).contains("sealed with another key"));
}

#[tokio::test]
async fn keys_rotate_while_logins_are_under_way() {
    let old = keyring();
    let ready = keyring().also("2027-05", OTHER_KEY).unwrap();
    let rotated = Keyring::new("2027-05", OTHER_KEY).unwrap();
    let rotated = rotated.also("2026-11", KEY).unwrap();
    let request = begin().await;
    for (seals, opens) in [(&old, &ready), (&ready, &rotated), (&rotated, &ready)] {
        let sealed = request.seal(seals).unwrap();
        AuthorizationRequest::open(opens, &sealed).unwrap();
    }
    let sealed = request.seal(&rotated).unwrap();
    refused(&old, &sealed);
}

#[tokio::test]
async fn a_text_that_was_cut_or_changed_anywhere_does_not_open() {
    let sealed = begin().await.seal(&keyring()).unwrap();
    let good = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        refused(&keyring(), &URL_SAFE_NO_PAD.encode(changed));
    }
    for length in 0..sealed.len() {
        refused(&keyring(), &sealed[..length]);
    }
    let error = refused(&keyring(), &"A".repeat(5_000));
    assert!(error.contains("is longer than any"), "{error}");
    for wrong in [
        format!("{sealed}A"),
        format!("{sealed}="),
        format!(" {sealed}"),
        format!("\"{sealed}\""),
        sealed.to_lowercase(),
    ] {
        refused(&keyring(), &wrong);
    }
    open(&sealed).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_fleet_is_no_request_though_the_key_is_the_same() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(Duration::from_secs(3600));
    store.process(source).token().await.unwrap();
    let token = URL_SAFE_NO_PAD.encode(&store.stored()[0]);
    assert!(refused(&keyring(), &token).contains("for another purpose"));

    // A process that finds a sealed login in its store ignores it, and fetches a token.
    let sealed = begin().await.seal(&keyring()).unwrap();
    store.put(URL_SAFE_NO_PAD.decode(sealed).unwrap());
    let source = ScriptedSource::expiring(Duration::from_secs(3600));
    let token = store.process(source).token().await.unwrap();
    assert_eq!(token.secret(), "token-1");
}

#[tokio::test]
async fn it_is_as_old_as_the_caller_allows_at_most() {
    let sealed = begin().await.seal(&keyring()).unwrap();
    let open = |max_age| AuthorizationRequest::open_within(&keyring(), &sealed, max_age);
    // The age is measured in milliseconds, so it may be zero at first.
    let error = loop {
        if let Err(error) = open(Duration::ZERO) {
            break error;
        }
    };
    assert!(error.to_string().contains("is older than 0ns"), "{error}");
    open(Duration::from_secs(60)).unwrap();
}

#[tokio::test]
async fn it_fits_in_a_cookie_and_needs_no_encoding() {
    let sealed = begin().await.seal(&keyring()).unwrap();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    assert!(sealed.bytes().all(is_plain), "{sealed}");
    assert!(sealed.len() < 600, "{}", sealed.len());

    let login = login(&LoginServer::default());
    let path = |length| format!("https://app.example.com/{}", "p".repeat(length));
    let long = login.begin(path(2_000)).await.unwrap();
    let sealed = long.seal(&keyring()).unwrap();
    assert!(sealed.len() < 4_096, "{}", sealed.len());
    assert_eq!(open(&sealed).unwrap().redirect_uri(), path(2_000));

    let too_long = login.begin(path(3_000)).await.unwrap();
    let error = too_long.seal(&keyring()).unwrap_err();
    assert!(error.is_config(), "{error}");
    assert!(error.to_string().contains("shorten the redirect URI"));
}

#[tokio::test]
async fn nothing_that_is_shown_has_the_state_or_the_verifier() {
    let server = LoginServer::responding([ISSUED]);
    let begun = login(&server).begin(CALLBACK).await.unwrap();
    let state = query(&begun)["state"].clone();
    let sealed = begun.seal(&keyring()).unwrap();
    let raw = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
    let raw = String::from_utf8_lossy(&raw).into_owned();
    let opened = open(&sealed).unwrap();
    let shown = format!("{begun:?} {opened:?} {opened:#?} {raw} {sealed}");
    assert!(!shown.contains(&state), "{shown}");
    let response = opened.read(&format!("?code=c&state={state}")).unwrap();
    login(&server).finish(opened, response).await.unwrap();
    let (_, sent) = server.asked().remove(0);
    let verifier = sent.into_iter().find(|(name, _)| name == "code_verifier");
    let (_, verifier) = verifier.unwrap();
    assert!(!shown.contains(&verifier), "{shown}");
}

#[tokio::test]
async fn no_two_sealed_requests_are_alike() {
    let request = begin().await;
    let [one, other] = [(); 2].map(|()| request.seal(&keyring()).unwrap());
    assert_ne!(one, other);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_does_harm(text in ".*", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        refused(&keyring(), &text);
        refused(&keyring(), &URL_SAFE_NO_PAD.encode(&bytes));
        for head in [&b"TA\x01S\x072026-11"[..], b"TA\x01P", b"TA\x02S", b"TA\x01S\xff"] {
            let bytes = [head, &bytes].concat();
            refused(&keyring(), &URL_SAFE_NO_PAD.encode(bytes));
        }
    }
}
