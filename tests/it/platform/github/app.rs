//! Tokens of a GitHub App's installation.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tower_auth::platform::github::{App, Installation};
use tower_auth::{AuthLayer, Reason, SecretSource, TokenCache, TokenSource};
use tower_auth_test::ScriptedResponse;

use super::github;
use crate::support::github_server::{APP_ID, CLIENT_ID, GitHub, INSTALLATION};
use crate::support::keys;
use crate::support::token_server::expiry;

async fn error(source: &Installation) -> String {
    let error = source.fetch(Reason::First).await.unwrap_err();
    error.to_string()
}

#[tokio::test]
async fn a_token_is_valid_for_as_long_as_github_says() {
    let (github, app) = github();
    let token = app.installation(INSTALLATION).fetch(Reason::First).await;
    let token = token.unwrap();
    assert_eq!(github.issued(), [token.secret()]);
    assert_eq!(expiry(&token), "In(3600s)");
    let header = token.header_value().unwrap().to_str().unwrap();
    assert_eq!(header, format!("Bearer {}", token.secret()));
    let permissions = json!({"contents": "write", "issues": "write", "metadata": "read"});
    assert_eq!(token.extra("permissions"), Some(&permissions));
    assert_eq!(token.extra("repository_selection"), Some(&json!("all")));
    assert!(token.extra("expires_at").is_none() && token.extra("token").is_none());
}

#[tokio::test]
async fn the_request_is_what_github_documents() {
    let (github, app) = github();
    let source = app.installation(INSTALLATION);
    source.fetch(Reason::First).await.unwrap();
    let source = app
        .installation(INSTALLATION)
        .repository("hello-world")
        .repository_id(1_296_270)
        .permission("contents", "read")
        .permission("issues", "write");
    source.fetch(Reason::First).await.unwrap();
    let [plain, selected] = &github.server.requests()[..] else {
        panic!("there are other requests");
    };
    assert_eq!(plain.method(), "POST");
    let url = "https://api.github.com/app/installations/12345678/access_tokens";
    assert_eq!(plain.uri(), url);
    assert_eq!(plain.header("accept"), Some("application/vnd.github+json"));
    assert_eq!(plain.header("x-github-api-version"), Some("2022-11-28"));
    assert_eq!(plain.header("content-type"), Some("application/json"));
    assert!(
        plain
            .header("user-agent")
            .unwrap()
            .starts_with("tower-auth/")
    );
    assert_eq!(plain.text(), "{}");
    let body: Value = serde_json::from_str(&selected.text()).unwrap();
    let wanted = json!({
        "repositories": ["hello-world"], "repository_ids": [1_296_270],
        "permissions": {"contents": "read", "issues": "write"},
    });
    assert_eq!(body, wanted);
}

#[tokio::test]
async fn the_jwt_has_room_for_clocks_that_differ() {
    let (github, app) = github();
    let now = jsonwebtoken::get_current_timestamp();
    app.installation(INSTALLATION)
        .fetch(Reason::First)
        .await
        .unwrap();
    let request = github.server.requests().remove(0);
    let key = jsonwebtoken::DecodingKey::from_rsa_pem(keys::RSA_PUBLIC.as_bytes()).unwrap();
    let validation = jsonwebtoken::Validation::new(Algorithm::RS256);
    let jwt = jsonwebtoken::decode::<Value>(request.token().unwrap(), &key, &validation).unwrap();
    let [iat, exp] = ["iat", "exp"].map(|name| jwt.claims[name].as_u64().unwrap());
    assert!((now - 60..now - 50).contains(&iat), "{iat} {now}");
    assert_eq!(exp - iat, 600);
    assert_eq!(jwt.claims["iss"], CLIENT_ID);
    assert_eq!(jwt.claims.as_object().unwrap().len(), 3);
    assert_eq!(jwt.header.typ.as_deref(), Some("JWT"));
}

#[tokio::test]
async fn an_app_id_and_a_key_in_any_form_identify_the_app() {
    let github = GitHub::new(keys::RSA_PUBLIC);
    let read = || SecretSource::from_fn(|| async { Ok(keys::RSA_PKCS8.into()) });
    for app in [App::new(APP_ID, keys::RSA_PKCS8), App::new(APP_ID, read())] {
        let app = app.unwrap().transport(github.server.clone());
        let source = app.installation(INSTALLATION);
        source.fetch(Reason::First).await.unwrap();
    }
    for wrong in [
        App::new("", keys::RSA_PKCS1),
        App::new(CLIENT_ID, "no key"),
        App::new(CLIENT_ID, keys::EC_PKCS8),
    ] {
        assert!(wrong.unwrap_err().is_config());
    }
}

#[tokio::test]
async fn an_installation_is_found_once_by_its_repository_or_account() {
    let (github, app) = github();
    let repository = app.installation_of_repository("octo-org/hello-world");
    let organization = app.installation_of_organization("octo-org");
    let user = app.installation_of_user("octo-org");
    for source in [repository, organization, user] {
        let source = source.unwrap();
        for _ in 0..2 {
            source.fetch(Reason::First).await.unwrap();
        }
    }
    let issue = "POST /app/installations/12345678/access_tokens";
    let asked = [
        "GET /repos/octo-org/hello-world/installation",
        issue,
        issue,
        "GET /orgs/octo-org/installation",
        issue,
        issue,
        "GET /users/octo-org/installation",
        issue,
        issue,
    ];
    assert_eq!(github.asked(), asked);
}

#[tokio::test]
async fn an_installation_that_was_replaced_is_looked_up_again() {
    let (github, app) = github();
    let source = app.installation_of_organization("octo-org").unwrap();
    let replaced = ScriptedResponse::json(200, json!({"id": 99}));
    github.server.respond_next(replaced);
    assert!(
        error(&source)
            .await
            .contains("GitHub doesn't know this installation")
    );
    source.fetch(Reason::First).await.unwrap();
    let asked = github.asked();
    assert_eq!(asked[1], "POST /app/installations/99/access_tokens");
    assert_eq!(
        asked[2..],
        [
            "GET /orgs/octo-org/installation",
            "POST /app/installations/12345678/access_tokens",
        ]
    );
}

#[test]
fn a_name_is_no_other_path() {
    let (_, app) = github();
    for wrong in [
        "", "a", "a/", "/b", "a/b/c", "a/..", "../b", "./b", "a/b?c", "a%2fb/c", "a/b#", "a/ü",
    ] {
        let error = app.installation_of_repository(wrong).unwrap_err();
        assert!(error.is_config(), "{wrong}");
    }
    for wrong in ["", "..", ".", "a/b", "a?b", "a b", "a%2e"] {
        assert!(app.installation_of_organization(wrong).is_err(), "{wrong}");
        assert!(app.installation_of_user(wrong).is_err(), "{wrong}");
    }
    assert!(app.installation_of_repository("a-b/c_d.e").is_ok());
}

#[tokio::test]
async fn a_github_enterprise_server_has_an_address_of_its_own() {
    let (github, app) = github();
    let app = app.api_url("https://github.example.com/api/v3/").unwrap();
    let source = app.installation(INSTALLATION);
    let origins = source.origins();
    assert_eq!(origins, ["https://github.example.com".parse().unwrap()]);
    let _ = source.fetch(Reason::First).await;
    let url = "https://github.example.com/api/v3/app/installations/12345678/access_tokens";
    assert_eq!(github.server.requests()[0].uri(), url);
    for wrong in [
        "http://github.example.com/api/v3",
        "github.example.com",
        "https://a.example/?b",
    ] {
        assert!(
            app.clone().api_url(wrong).unwrap_err().is_config(),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_response_with_a_hundred_repositories_is_read() {
    let (github, app) = github();
    let repository = json!({"id": 1, "name": "hello-world", "description": "d".repeat(6_000)});
    let body = json!({
        "token": "ghs_many", "expires_at": "2030-01-02T03:04:05Z", "permissions": {},
        "repositories": vec![repository; 100],
    });
    github
        .server
        .respond_next(ScriptedResponse::json(201, body));
    let source = app.installation(INSTALLATION);
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), "ghs_many");
    assert!(token.extra("repositories").is_none());
    let endless = ScriptedResponse::new(201).body(vec![b' '; 4 * 1024 * 1024 + 1]);
    github.server.respond_next(endless);
    assert!(
        error(&source)
            .await
            .starts_with("GitHub's reply is longer than 4096 KiB")
    );
}

#[tokio::test]
async fn without_a_usable_expiry_nothing_is_guessed_but_the_documented_hour() {
    let (github, app) = github();
    let source = app.installation(INSTALLATION);
    let respond = |body: Value| {
        github
            .server
            .respond_next(ScriptedResponse::json(201, body));
    };
    respond(json!({"token": "ghs_a"}));
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(expiry(&token), "In(3600s)");
    respond(json!({"token": "ghs_s3cret", "expires_at": "tomorrow"}));
    let wrong = error(&source).await;
    assert!(
        wrong.contains("`/expires_at`") && !wrong.contains("s3cret"),
        "{wrong}"
    );
    // Without a `Date`, the local clock decides.
    respond(json!({"token": "ghs_b", "expires_at": "2030-01-02T03:04:05Z"}));
    let token = source.fetch(Reason::First).await.unwrap();
    assert!(
        expiry(&token).contains("tv_sec: 1893553445"),
        "{}",
        expiry(&token)
    );
}

#[tokio::test]
async fn the_layer_sends_the_token_to_github_only_and_replaces_a_revoked_one() {
    use http::Request;
    use tower::{Layer, ServiceExt};

    let (github, app) = github();
    let cache = TokenCache::new(app.installation(INSTALLATION));
    let auth = AuthLayer::new(cache).layer(github.server.clone());
    let request = |origin: &str| {
        let request = Request::get(format!("{origin}/installation/repositories"));
        let request = request.header("accept", "application/vnd.github+json");
        let request = request.header("user-agent", "test");
        request.body(String::new()).unwrap()
    };
    let response = auth
        .clone()
        .oneshot(request("https://api.github.com"))
        .await;
    assert_eq!(response.unwrap().status(), 200);
    assert!(
        auth.clone()
            .oneshot(request("https://github.example.com"))
            .await
            .is_err()
    );
    github.revoke_all();
    let response = auth.oneshot(request("https://api.github.com")).await;
    assert_eq!(response.unwrap().status(), 200);
    assert_eq!(github.issued().len(), 1);
}

#[test]
fn debug_shows_no_key() {
    let (_, app) = github();
    let source = app.installation(INSTALLATION).permission("issues", "read");
    let shown = format!("{app:?} {source:?}");
    assert!(
        shown.contains(CLIENT_ID) && shown.contains("issues"),
        "{shown}"
    );
    assert!(
        !shown.contains("MII") && !shown.contains("PRIVATE KEY"),
        "{shown}"
    );
}

#[cfg(feature = "fleet")]
#[test]
fn processes_share_a_token_of_the_same_app_installation_and_access() {
    let (_, app) = github();
    let base = || app.installation(1).repository("a").repository("b");
    let key = |source: Installation| source.store_key().unwrap();
    assert_eq!(
        key(base()),
        key(app.installation(1).repository("b").repository("a"))
    );
    let other_app = App::new(APP_ID, keys::RSA_PKCS1).unwrap();
    let elsewhere = app.clone().api_url("https://github.example.com").unwrap();
    for other in [
        app.installation(2).repository("a").repository("b"),
        app.installation_of_user("octo")
            .unwrap()
            .repository("a")
            .repository("b"),
        base().repository("c"),
        base().repository_id(1),
        base().permission("issues", "read"),
        other_app.installation(1).repository("a").repository("b"),
        elsewhere.installation(1).repository("a").repository("b"),
    ] {
        let shown = format!("{other:?}");
        assert_ne!(key(other), key(base()), "{shown}");
    }
    let [first, second] = [1, 2].map(|id| key(base().repository_id(id)));
    assert_ne!(first, second);
    let read = key(base().permission("issues", "read"));
    assert_ne!(read, key(base().permission("issues", "write")));
}
