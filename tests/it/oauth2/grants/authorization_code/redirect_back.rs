//! Which parameters the browser returns with, and whether they belong to the request.

use tower_auth::oauth2::{ClientCredentials, DeviceAuthorization};
use tower_auth::{Error, Reason, TokenSource};

use super::{CALLBACK, begin, logged_in, login, query, read};
use crate::support::login_server::{BROKEN, LoginServer, Response};
use crate::support::refresh_store::Store;
use crate::support::token_server::{ID, SECRET, TokenServer, URL, all_text_of};

const ISSUER: &str = "https://id.example.com";

#[tokio::test]
async fn an_address_its_path_and_query_or_its_query_are_read() {
    let request = begin().await;
    let response = format!(
        "state={}&other=1&other=2&code=a?b:c/d",
        query(&request)["state"]
    );
    for redirect in [
        format!("{CALLBACK}?{response}"),
        format!("com.example.app:/callback?{response}"),
        format!("/callback?{response}"),
        format!("?{response}"),
        response.clone(),
        format!("{CALLBACK}?{response}#_=_"),
        format!("{response}#state=x"),
    ] {
        request.read(&redirect).expect(&redirect);
    }
}

#[tokio::test]
async fn what_is_not_the_response_to_the_request_is_refused() {
    let request = begin().await;
    let state = query(&request)["state"].clone();
    let other = query(&begin().await)["state"].clone();
    let (start, rest) = state.split_at(42);
    let last = if rest == "A" { "B" } else { "A" };
    for redirect in [
        String::from("code=c"),
        String::from("code=c&state="),
        format!("code=c&state={other}"),
        format!("code=c&state={start}"),
        format!("code=c&state={start}{last}"),
        format!("code=c&state={state}x"),
        format!("code=c&state={}", state.to_lowercase()),
        format!("code=c&state={state}&state={state}"),
        format!("code=c&state={other}&state={state}"),
        format!("code=c&State={state}"),
        format!("code=c#state={state}"),
        format!("error=access_denied&state={other}"),
        format!("http://127.0.0.1/code=c&state={state}"),
        String::new(),
    ] {
        let error = request.read(&redirect).unwrap_err();
        assert!(
            error.is_reply() && error.to_string().contains("`state`"),
            "{redirect}: {error}"
        );
        assert!(!all_text_of(&error).contains(start), "{error:?}");
    }
}

#[tokio::test]
async fn a_parameter_that_occurs_twice_is_refused() {
    let request = begin().await;
    for rest in [
        "code=a&code=a",
        "code=a&code=b",
        "code=a&iss=x&iss=x",
        "error=a&error=b",
        "code=a&error_description=a&error_description=b",
    ] {
        let error = read(&request, rest).unwrap_err();
        assert!(
            error.is_reply() && error.to_string().contains("twice"),
            "{rest}: {error}"
        );
    }
}

#[tokio::test]
async fn a_response_without_a_code_is_refused() {
    let request = begin().await;
    for rest in ["", "code=", "token=x", "error="] {
        let error = read(&request, rest).unwrap_err();
        assert!(
            error.is_reply() && error.to_string().contains("no `code`"),
            "{rest}: {error}"
        );
    }
}

#[tokio::test]
async fn the_response_of_another_server_is_refused() {
    let login = || login(&LoginServer::default());
    let own = "code=c&iss=https%3A%2F%2Fid.example.com";
    let (none, evil) = ("code=c", "code=c&iss=https://evil.example.com");
    // Issuers are compared literally, so the slash at the end makes this another issuer.
    let alike = "code=c&iss=https://id.example.com/";
    let denied = "error=access_denied&iss=https://evil.example.com";
    let unknown = login().begin(CALLBACK).await.unwrap();
    let known = login().issuer(ISSUER).begin(CALLBACK).await.unwrap();
    let required = login()
        .require_issuer(ISSUER)
        .begin(CALLBACK)
        .await
        .unwrap();
    for (request, good) in [
        (&unknown, &[own, none, evil, alike][..]),
        (&known, &[own, none]),
        (&required, &[own]),
    ] {
        for rest in [own, none, evil, alike] {
            let response = read(request, rest);
            assert_eq!(response.is_ok(), good.contains(&rest), "{rest}");
            if let Err(error) = response {
                assert!(
                    error.is_reply() && error.to_string().contains("`iss`"),
                    "{error}"
                );
            }
        }
    }
    for request in [known, required] {
        assert!(!read(&request, denied).unwrap_err().is_access_denied());
    }
}

/// Returns the error's text without what the server said.
fn message(error: &Error) -> String {
    let text = error.to_string();
    text.split(" (").next().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_no_reads_alike_in_each_login_and_wherever_the_server_says_it() {
    const PROMPT: &str = r#"{"device_code":"d","user_code":"u","verification_uri":"https://a.example",
        "expires_in":60}"#;
    const NO: &str = r#"{"error":"access_denied","error_description":"no"}"#;
    let by_redirect = read(&begin().await, "error=access_denied&error_description=no").unwrap_err();
    let server = LoginServer::responding([(400, NO)]);
    let with_code = logged_in(&login(&server)).await.unwrap_err();
    let server = LoginServer::responding([(200, PROMPT), (400, NO)]);
    let device =
        DeviceAuthorization::new(server.client(), "https://id.example.com/device").unwrap();
    let prompt = device.begin().await.unwrap();
    let on_device = device.finish(prompt).await.unwrap_err();
    for error in [by_redirect, with_code, on_device] {
        assert_eq!(message(&error), "the user or the server refused the login");
        let traits = [
            error.is_access_denied(),
            error.is_denied(),
            error.is_permanent(),
            !error.is_transient(),
            !error.is_login_required(),
        ];
        assert_eq!(traits, [true; 5], "{error}");
        assert_eq!(error.description(), Some("no"));
        assert_eq!(error.code(), Some("access_denied"));
    }
}

/// No person takes part in client credentials, so the refusal comes from the server's own rules.
#[tokio::test]
async fn a_no_to_a_program_is_a_refusal_to_issue_a_token() {
    let server = TokenServer::new(403, r#"{"error":"access_denied"}"#);
    let source = ClientCredentials::new(URL, ID, SECRET).unwrap();
    let source = source.transport(server.transport());
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_access_denied());
    assert_eq!(
        message(&error),
        "the token endpoint refused to issue a token"
    );
}

#[tokio::test]
async fn what_the_server_says_no_with_is_told() {
    let request = begin().await;
    let denied = "error=access_denied&error_description=The+person%0Asaid+no&code=x";
    let error = read(&request, denied).unwrap_err();
    assert!(error.is_access_denied() && error.is_denied() && error.is_permanent());
    assert_eq!(error.description(), Some("The person said no"));
    assert_eq!(error.status(), None);
    let told = error.to_string();
    assert!(
        told.ends_with("(error `access_denied`: The person said no)"),
        "{told}"
    );

    let error = read(&request, "error=temporarily_unavailable").unwrap_err();
    assert!(error.is_transient() && !error.is_access_denied(), "{error}");
    let error = read(&request, "error=login_required").unwrap_err();
    assert_eq!(error.code(), Some("login_required"));

    // The error shows no text from the redirect.
    let state = query(&request)["state"].clone();
    let echo = format!("error={state}&error_description=no+{state}+planted&code=planted");
    let text = all_text_of(&read(&request, &echo).unwrap_err());
    assert!(
        !text.contains(&state) && !text.contains("planted"),
        "{text}"
    );
}

#[tokio::test]
async fn the_response_to_another_request_is_refused_and_not_sent() {
    let server = LoginServer::default();
    let login = login(&server);
    let (one, other) = (
        login.begin(CALLBACK).await.unwrap(),
        login.begin(CALLBACK).await.unwrap(),
    );
    let response = read(&one, "code=c").unwrap();
    assert!(login.finish(other, response).await.unwrap_err().is_reply());
    assert_eq!(server.times_asked(), 0);
}

/// The first try may have used up the code, so the code isn't sent again.
#[tokio::test]
async fn a_code_is_sent_once() {
    let refused: Response = (400, r#"{"error":"invalid_grant"}"#);
    for response in [BROKEN, (503, ""), (429, ""), refused, (200, "no json")] {
        let server = LoginServer::responding([response]);
        let store = Store::default();
        let error = logged_in(&login(&server).store(store.clone()))
            .await
            .unwrap_err();
        assert_eq!(error.is_invalid_grant(), response == refused);
        assert_eq!(server.times_asked(), 1);
        assert!(store.saves().is_empty());
    }
}
