//! A new refresh token is saved before the rest of its response is judged.

use tower_auth::oauth2::{Client, DeviceAuthorization, RefreshToken, TokenResponseFormat};
use tower_auth::{Error, Reason, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::refresh_store::Store;
use crate::support::token_server::{ID, SECRET, URL, all_text_of};

/// Successful responses that contain the refresh token `planted-2`, but no usable access token.
const UNUSABLE: &[&str] = &[
    // Another type of token.
    r#"{"access_token":"t2","token_type":"bot","refresh_token":"planted-2"}"#,
    r#"{"access_token":"t2","token_type":"DPoP","refresh_token":"planted-2"}"#,
    r#"{"access_token":"t2","token_type":"N_A","refresh_token":"planted-2"}"#,
    // A malformed field.
    r#"{"access_token":"t2","expires_in":"soon","refresh_token":"planted-2"}"#,
    r#"{"access_token":"t2","expires_in":{},"refresh_token":"planted-2"}"#,
    r#"{"access_token":7,"refresh_token":"planted-2"}"#,
    r#"{"access_token":"","refresh_token":"planted-2"}"#,
    r#"{"access_token":null,"refresh_token":"planted-2"}"#,
    r#"{"access_token":"two\nlines","refresh_token":"planted-2"}"#,
    r#"{"refresh_token":"planted-2"}"#,
    // A field that occurs twice.
    r#"{"access_token":"t2","expires_in":1,"expires_in":2,"refresh_token":"planted-2"}"#,
    r#"{"access_token":"t2","access_token":"t3","refresh_token":"planted-2"}"#,
    r#"{"access_token":"t2","refresh_token":"planted-1","refresh_token":"planted-2"}"#,
    r#"{"access_token":"t2","refresh_token":"planted-2","refresh_token":null}"#,
    r#"{"access_token":"t2","refresh_token":"planted-2","refresh_token":[]}"#,
    // An error beside the token.
    r#"{"access_token":"t2","error":"odd","refresh_token":"planted-2"}"#,
    r#"{"access_token":"t2","error":"invalid_grant","refresh_token":"planted-2"}"#,
    r#"{"error":"invalid_grant","refresh_token":"planted-2"}"#,
    // A number that JSON can't express, text before or after the JSON, and JSON that is cut off.
    r#"{"access_token":"t2","expires_in":1e999x,"refresh_token":"planted-2"}"#,
    r#"{"access_token":"t2","expires_in":NaN,"refresh_token" : "planted-2"}"#,
    r#"Warning: deprecated {"access_token":"t2","refresh_token":"planted-2"}"#,
    r#"{"access_token":"t2","refresh_token":"planted-2"} x"#,
    r#"{"access_token":"t2","refresh_token":"planted-2","sco"#,
    r#"{"access_token":"t2","refresh_token":"planted\u002d2",}"#,
    r#"[{"access_token":"t2","refresh_token":"planted-2"}]"#,
    // A form.
    "access_token=t2&refresh_token=planted-2&token_type=bearer",
    "refresh_token=planted%2D2&access_token=t2\r\n",
    "\u{feff}refresh_token=planted-2&access_token=t2",
    "access_token=t2&scope=repo user&name=J\u{f6}rg&refresh_token=planted-2",
];

fn client(server: &ScriptedServer) -> Client {
    let client = Client::new(URL, ID, SECRET).unwrap();
    client.transport(server.clone())
}

/// Responds to `planted-1` with `response`, and to `planted-2` with a token.
fn rotating(response: ScriptedResponse) -> ScriptedServer {
    let server = ScriptedServer::new(|request| match request.param("refresh_token").as_deref() {
        Some("planted-2") => ScriptedResponse::json(200, r#"{"access_token":"usable"}"#),
        sent => panic!("the server got {sent:?}"),
    });
    server.respond_next(response);
    server
}

/// Asserts that a refresh that gets this response fails, but saves `planted-2`. Returns the error.
async fn assert_saved(response: ScriptedResponse) -> Error {
    let server = rotating(response);
    let store = Store::holding("planted-1");
    let source = RefreshToken::stored(client(&server), store.clone());
    let error = source.fetch(Reason::Expired).await.unwrap_err();
    assert!(!all_text_of(&error).contains("planted"), "{error:?}");
    assert_eq!(store.saves(), ["planted-2"], "{error}");
    let token = source.fetch(Reason::Expired).await.unwrap();
    assert_eq!(token.secret(), "usable");
    error
}

#[tokio::test]
async fn a_refresh_saves_the_new_one_before_it_judges_the_rest() {
    for body in UNUSABLE {
        assert_saved(ScriptedResponse::json(200, body)).await;
    }
}

#[tokio::test]
async fn the_content_type_of_a_form_makes_no_difference() {
    for content_type in [
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=utf-8",
        "text/plain",
    ] {
        let form = "access_token=t2&refresh_token=planted-2";
        let response = ScriptedResponse::new(200)
            .header("content-type", content_type)
            .body(form);
        let error = assert_saved(response).await;
        assert!(error.is_reply(), "{error}");
    }
}

#[cfg(feature = "dpop")]
#[tokio::test]
async fn a_bearer_token_in_place_of_a_bound_one_does_not_lose_the_new_one() {
    let body = r#"{"access_token":"t2","token_type":"Bearer","refresh_token":"planted-2"}"#;
    let server = rotating(ScriptedResponse::json(200, body));
    let store = Store::holding("planted-1");
    let key = tower_auth::oauth2::DpopKey::generate().unwrap();
    let source = RefreshToken::stored(client(&server).dpop(key), store.clone());
    let error = source.fetch(Reason::Expired).await.unwrap_err();
    assert!(
        error.is_reply() && error.to_string().contains("DPoP"),
        "{error}"
    );
    assert_eq!(store.saves(), ["planted-2"]);
}

#[tokio::test]
async fn a_response_that_breaks_off_or_is_too_long_does_not_lose_one_that_has_arrived() {
    let json = r#"{"access_token":"t2","refresh_token":"planted-2","scope":"read"}"#;
    let form = "access_token=t2&refresh_token=planted-2&scope=read";
    for body in [json, form] {
        let response = ScriptedResponse::new(200).body(body);
        let error = assert_saved(response.reset_after(body.len() - 3)).await;
        assert!(error.is_transport() && error.is_transient(), "{error}");
    }
    let long = format!("{json}{}", " ".repeat(64 * 1024));
    let error = assert_saved(ScriptedResponse::new(200).body(long)).await;
    assert!(error.to_string().contains("longer than 64 KiB"), "{error}");
}

/// The source must not save a part of a refresh token.
#[tokio::test]
async fn one_that_is_cut_off_itself_is_not_saved() {
    let json = r#"{"access_token":"t2","refresh_token":"planted-2"}"#;
    let form = "access_token=t2&refresh_token=planted-2";
    for (body, end) in [(json, json.len() - 3), (form, form.len() - 1)] {
        let server = ScriptedServer::new(|_| ScriptedResponse::reset());
        server.respond_next(ScriptedResponse::new(200).body(body).reset_after(end));
        let store = Store::holding("planted-1");
        let source = RefreshToken::stored(client(&server), store.clone());
        source.fetch(Reason::Expired).await.unwrap_err();
        assert!(store.saves().is_empty(), "{body}: {:?}", store.saves());
    }
}

#[tokio::test]
async fn what_is_no_new_one_does_not_replace_the_old_one() {
    for (status, body) in [
        // A refusal may describe what is wrong with the old token.
        (400, r#"{"error":"odd","refresh_token":"is malformed"}"#),
        (422, r#"{"refresh_token":"is malformed"}"#),
        (503, r#"{"refresh_token":"is malformed"}"#),
        (200, r#"{"access_token":7,"refresh_token":"planted-1"}"#),
        (200, r#"{"access_token":7,"refresh_token":""}"#),
        (200, r#"{"access_token":7,"refresh_token":null}"#),
        (200, r#"{"access_token":"t","refresh_token":5}"#),
        (200, r#"<html><a href="/?x=1&refresh_token=of-a-page">"#),
        (200, r#"{"html":"\"refresh_token\":\"of-a-text\"",}"#),
        (200, "refresh_token="),
        (200, "x_refresh_token=other"),
    ] {
        let server = ScriptedServer::new(move |_| ScriptedResponse::json(status, body));
        let store = Store::holding("planted-1");
        let source = RefreshToken::stored(client(&server), store.clone());
        source.fetch(Reason::Expired).await.unwrap_err();
        assert!(store.saves().is_empty(), "{body}: {:?}", store.saves());
    }
}

/// If the source tried again with each new refresh token, one fetch would send requests without end.
#[tokio::test]
async fn a_server_that_refuses_and_rotates_each_time_gets_one_request_for_each_fetch() {
    let server = ScriptedServer::new(|request| {
        let number = request.param("refresh_token").unwrap().len();
        let next = "r".repeat(number + 1);
        let body = format!(r#"{{"error":"invalid_grant","refresh_token":"{next}"}}"#);
        ScriptedResponse::json(200, body)
    });
    let source = RefreshToken::new(client(&server), "r");
    for count in 1..4 {
        let error = source.fetch(Reason::Expired).await.unwrap_err();
        assert!(error.is_invalid_grant(), "{error}");
        assert_eq!(server.requests().len(), count);
    }
}

#[tokio::test]
async fn one_that_can_not_be_saved_is_saved_first_thing_in_the_next_fetch() {
    let server = rotating(ScriptedResponse::json(200, UNUSABLE[0]));
    let store = Store::holding("planted-1");
    *store.fails.lock().unwrap() = true;
    let source = RefreshToken::stored(client(&server), store.clone());
    let error = source.fetch(Reason::Expired).await.unwrap_err();
    assert!(error.to_string().contains("could not save"), "{error}");
    *store.fails.lock().unwrap() = false;
    let token = source.fetch(Reason::Expired).await.unwrap();
    assert_eq!(token.secret(), "usable");
    assert_eq!(store.saves(), ["planted-2"]);
}

/// The next run of the program needs no login.
#[tokio::test(start_paused = true)]
async fn a_login_on_another_device_saves_it_before_it_judges_the_rest() {
    const PROMPT: &str = r#"{"device_code":"d","user_code":"u","expires_in":100,
        "verification_uri":"https://id.example.com/activate"}"#;
    for body in UNUSABLE {
        let server = rotating(ScriptedResponse::json(200, PROMPT));
        server.respond_next(ScriptedResponse::json(200, body));
        let store = Store::default();
        let login = DeviceAuthorization::new(client(&server), "https://id.example.com/device");
        let login = login.unwrap().store(store.clone());
        let prompt = login.begin().await.unwrap();
        let error = login.finish(prompt).await.unwrap_err();
        assert!(!all_text_of(&error).contains("planted"), "{error:?}");
        assert_eq!(store.saves(), ["planted-2"], "{body}");
        let next = RefreshToken::stored(client(&server), store);
        assert_eq!(next.fetch(Reason::First).await.unwrap().secret(), "usable");
    }
}

#[cfg(feature = "authorization-code")]
#[tokio::test]
async fn a_login_with_a_code_saves_it_before_it_judges_the_rest() {
    use tower_auth::oauth2::AuthorizationCode;

    for body in UNUSABLE {
        let server = rotating(ScriptedResponse::json(200, body));
        let store = Store::default();
        let login = AuthorizationCode::new(client(&server), "https://id.example.com/login");
        let login = login.unwrap().store(store.clone());
        let request = login.begin("http://127.0.0.1:8000/").await.unwrap();
        let state = form_urlencoded::parse(request.url().split_once('?').unwrap().1.as_bytes())
            .find(|(name, _)| name == "state")
            .unwrap()
            .1
            .into_owned();
        let back = format!("http://127.0.0.1:8000/?code=c&state={state}");
        let response = request.read(&back).unwrap();
        login.finish(request, response).await.unwrap_err();
        assert_eq!(store.saves(), ["planted-2"], "{body}");
        let next = RefreshToken::stored(client(&server), store);
        assert_eq!(next.fetch(Reason::First).await.unwrap().secret(), "usable");
    }
}

/// The format names the refresh token's place. The rest of each response is unusable.
#[tokio::test]
async fn a_refresh_token_in_another_format_is_saved_first() {
    let slack = || {
        let format = TokenResponseFormat::new();
        let format = format.access_token_field("/authed_user/access_token");
        let format = format.and_then(|it| it.refresh_token_field("/authed_user/refresh_token"));
        format.unwrap()
    };
    let form = || TokenResponseFormat::new().form_encoded();
    for (format, body) in [
        (
            slack(),
            r#"{"refresh_token":"bot","authed_user":{"refresh_token":"planted-2"}}"#,
        ),
        (
            slack(),
            r#"{"authed_user":{"refresh_token":"planted-2"},"refresh_token":"bot"}"#,
        ),
        (
            slack(),
            r#"{"authed_user":{"refresh_token":"planted-2","refresh_token":null}}"#,
        ),
        (
            slack(),
            r#"{"authed_user":{"refresh_token":"planted-2"},"authed_user":{}}"#,
        ),
        (
            slack(),
            r#"{"authed_user":{"refresh_token":"planted-2","access_tok"#,
        ),
        (
            slack(),
            r#"{"a":NaN,"refresh_token":"bot","authed_user":{"refresh_token":"planted-2"}}"#,
        ),
        (
            slack(),
            r#"{"authed_user":{"refresh_token":"planted-2"},"refresh_token":"bot",}"#,
        ),
        // The client wants the token at the top level, and the JSON has an error.
        (
            TokenResponseFormat::new(),
            r#"{"a":NaN,"refresh_token":"planted-2","authed_user":{"refresh_token":"user"}}"#,
        ),
        (form(), "refresh_token=planted-2"),
        (
            form(),
            "access_token=a&access_token=b&refresh_token=planted-2",
        ),
        (
            form(),
            "access_token=a&token_type=bot&refresh_token=planted-2&refresh_token=",
        ),
        (form(), r#"{"access_token":7,"refresh_token":"planted-2"}"#),
    ] {
        let server = rotating(ScriptedResponse::json(200, body));
        // A body that isn't JSON gets the content type of a form.
        let server = match body.starts_with('{') {
            true => server,
            false => {
                let response = ScriptedResponse::new(200).body(body);
                rotating(response.header("content-type", "application/x-www-form-urlencoded"))
            }
        };
        let store = Store::holding("planted-1");
        let client = client(&server).response_format(format);
        let source = RefreshToken::stored(client, store.clone());
        source.fetch(Reason::Expired).await.unwrap_err();
        assert_eq!(store.saves(), ["planted-2"], "{body}");
    }
}

/// The format names a refresh token in `authed_user`. Each body has one only in another place.
#[tokio::test]
async fn the_refresh_token_of_another_token_is_not_saved() {
    let format = || {
        let format = TokenResponseFormat::new();
        format
            .refresh_token_field("/authed_user/refresh_token")
            .unwrap()
    };
    for body in [
        r#"{"access_token":"a","refresh_token":"bot","authed_us"#,
        r#"{"access_token":"a","refresh_token":"bot",}"#,
        r#"{"access_token":NaN,"refresh_token":"bot","authed_user":{}}"#,
        r#"{"access_token":NaN,"authed_user":{},"other":{"refresh_token":"x"}"#,
        "access_token=a&refresh_token=bot",
    ] {
        let server = ScriptedServer::new(move |_| ScriptedResponse::json(200, body));
        let store = Store::holding("planted-1");
        let client = client(&server).response_format(format());
        let source = RefreshToken::stored(client, store.clone());
        source.fetch(Reason::Expired).await.unwrap_err();
        assert!(store.saves().is_empty(), "{body}: {:?}", store.saves());
    }
}

/// The part that arrived is parsed, so a refresh token inside another object isn't saved.
#[tokio::test]
async fn the_refresh_token_of_another_token_is_not_saved_if_the_body_breaks_off() {
    for (body, saved) in [
        (
            r#"{"access_token":"a","authed_user":{"refresh_token":"user","x":"y"#,
            &[][..],
        ),
        (
            r#"{"refresh_token":"own","authed_user":{"refresh_token":"user","x":"y"#,
            &["own"],
        ),
    ] {
        for cut in [body.len(), body.len() - 1] {
            let response = ScriptedResponse::json(200, body).reset_after(cut);
            let server = ScriptedServer::new(move |_| response.clone());
            let store = Store::holding("planted-1");
            let source = RefreshToken::stored(client(&server), store.clone());
            source.fetch(Reason::Expired).await.unwrap_err();
            assert_eq!(store.saves(), saved, "{body}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_stalls_does_not_lose_its_refresh_token() {
    let json = r#"{"access_token":"t2","refresh_token":"planted-2","scope":"read"}"#;
    for end in [json.len() - 3, json.len() - 16, json.len()] {
        let response = ScriptedResponse::new(200).body(json).stall_after(end);
        let start = tokio::time::Instant::now();
        let error = assert_saved(response).await;
        assert!(error.is_timeout() && error.is_transient(), "{error}");
        assert!(error.to_string().contains("longer than 10s"), "{error}");
        assert_eq!(start.elapsed().as_secs(), 10);
    }
    let response = ScriptedResponse::new(200).body(json);
    let server = ScriptedServer::new(|_| ScriptedResponse::stall());
    server.respond_next(response.stall_after(json.len() - 17));
    let store = Store::holding("planted-1");
    let source = RefreshToken::stored(client(&server), store.clone());
    assert!(
        source
            .fetch(Reason::Expired)
            .await
            .unwrap_err()
            .is_timeout()
    );
    assert!(store.saves().is_empty(), "{:?}", store.saves());
}

/// The missing part of the body may say that the refusal isn't permanent.
#[tokio::test(start_paused = true)]
async fn a_refusal_that_stalls_is_a_timeout_and_saves_nothing() {
    let body = r#"{"refresh_token":"is malformed","error":"odd"}"#;
    let response = ScriptedResponse::json(400, body).stall_after(body.len() - 3);
    let server = ScriptedServer::new(move |_| response.clone());
    let store = Store::holding("planted-1");
    let source = RefreshToken::stored(client(&server), store.clone());
    let error = source.fetch(Reason::Expired).await.unwrap_err();
    assert!(error.is_timeout() && error.is_transient(), "{error}");
    assert!(store.saves().is_empty(), "{:?}", store.saves());
}

const PROMPT: &str = r#"{"device_code":"d","user_code":"u","expires_in":100,
    "verification_uri":"https://id.example.com/activate"}"#;

/// Logs in at a server that returns this response to the login.
async fn logged_in(
    response: ScriptedResponse,
    store: Option<Store>,
) -> Result<RefreshToken, Error> {
    let server = rotating(ScriptedResponse::json(200, PROMPT));
    server.respond_next(response);
    let login = DeviceAuthorization::new(client(&server), "https://id.example.com/device");
    let login = match store {
        Some(store) => login.unwrap().store(store),
        None => login.unwrap(),
    };
    let prompt = login.begin().await.unwrap();
    login.finish(prompt).await
}

/// The access token is unusable, but the person doesn't have to log in again.
#[tokio::test(start_paused = true)]
async fn a_login_without_a_store_goes_on_with_the_refresh_token() {
    for body in UNUSABLE {
        let response = ScriptedResponse::json(200, body);
        match logged_in(response, None).await {
            Ok(source) => {
                let token = source.fetch(Reason::First).await.unwrap();
                assert_eq!(token.secret(), "usable", "{body}");
            }
            Err(error) => assert!(error.is_denied(), "{body}: {error}"),
        }
    }
}

/// The server has already accepted the code, so the code can't be sent again.
#[tokio::test(start_paused = true)]
async fn a_login_whose_response_breaks_off_goes_on_with_the_refresh_token() {
    let json = r#"{"access_token":"t2","refresh_token":"planted-2","scope":"read"}"#;
    for store in [None, Some(Store::default())] {
        for response in [
            ScriptedResponse::new(200)
                .body(json)
                .reset_after(json.len() - 3),
            ScriptedResponse::new(200)
                .body(json)
                .stall_after(json.len() - 3),
        ] {
            let source = logged_in(response, store.clone()).await.unwrap();
            let token = source.fetch(Reason::First).await.unwrap();
            assert_eq!(token.secret(), "usable");
        }
        if let Some(store) = store {
            assert_eq!(store.saves(), ["planted-2", "planted-2"]);
        }
    }
}

/// A search that reads the spaces again for each byte would take seconds.
#[tokio::test]
async fn a_search_in_a_body_of_spaces_takes_little_time() {
    let spaces = " ".repeat(60 * 1024);
    let body = format!(r#"{{"access_token":{spaces}x,"refresh_token"{spaces}"#);
    let body = &body[..60 * 1024];
    let started = std::time::Instant::now();
    let store = Store::holding("planted-1");
    let server = ScriptedServer::new(|_| ScriptedResponse::reset());
    server.respond_next(ScriptedResponse::new(200).body(format!("{body}x")));
    let source = RefreshToken::stored(client(&server), store.clone());
    let error = source.fetch(Reason::Expired).await.unwrap_err();
    assert!(error.is_reply(), "{error}");
    let taken = started.elapsed();
    assert!(taken.as_secs() < 2, "{taken:?}");
}
