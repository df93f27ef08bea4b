//! GitHub's own client `@octokit/auth-app`, and this crate, with the same GitHub.

use serde_json::{Value, json};
use tower_auth::platform::github::App;
use tower_auth::{AuthLayer, TokenCache};

use crate::github_server::{APP_ID, CLIENT_ID, GitHub, INSTALLATION};
use crate::keys;
use crate::process::Program;

/// Runs GitHub's own client with these settings, in addition to those of the app.
async fn octokit(url: &str, id: &str, settings: Value) -> Value {
    let mut all = json!({
        "baseUrl": url, "appId": id, "privateKey": keys::RSA_PKCS1, "installationId": INSTALLATION,
    });
    let all_fields = all.as_object_mut().unwrap();
    all_fields.extend(settings.as_object().unwrap().clone());
    let program = Program::node("octokit/authenticate.mjs").variable("SETTINGS", all.to_string());
    let printed = tokio::task::spawn_blocking(move || program.output(""));
    serde_json::from_str(&printed.await.unwrap()).unwrap()
}

#[tokio::test]
async fn an_installation_gets_the_same_token_as_with_githubs_own_client() {
    let github = GitHub::new(keys::RSA_PUBLIC);
    let running = github.server.serve().await.unwrap();
    let wanted = json!({"repositoryNames": ["hello-world"], "permissions": {"contents": "read"}});
    let theirs = octokit(&running.origin(), CLIENT_ID, wanted).await;
    assert_eq!(theirs["installation"], INSTALLATION, "{theirs}");
    assert_eq!(theirs["status"], 200);
    let theirs = &theirs["issued"];
    let before = github.issued();
    assert_eq!(before[0], theirs["token"]);

    let app = App::new(CLIENT_ID, keys::RSA_PKCS1).unwrap();
    let app = app.api_url(running.origin()).unwrap();
    let source = app.installation_of_organization("octo-org").unwrap();
    let source = source
        .repository("hello-world")
        .permission("contents", "read");
    let cache = TokenCache::new(source);
    let layer = AuthLayer::new(cache.clone());
    let url = running.url("/installation/repositories");
    let response = github_call(&layer, &url).await;
    assert_eq!(response, 200);
    let ours = cache.token().await.unwrap();
    assert_eq!(github.issued().last().unwrap(), ours.secret());
    for (field, theirs_field) in [
        ("permissions", "permissions"),
        ("repository_selection", "repositorySelection"),
    ] {
        assert_eq!(ours.extra(field), Some(&theirs[theirs_field]), "{field}");
    }
    // Both requests for a token have the same body.
    let requests = github.server.requests().into_iter();
    let bodies: Vec<Value> = requests
        .filter(|request| request.path().ends_with("/access_tokens") && !request.body().is_empty())
        .map(|request| serde_json::from_slice(request.body()).unwrap())
        .collect();
    assert_eq!(bodies.first(), bodies.last());
}

#[tokio::test]
async fn a_wrong_clock_is_corrected_as_githubs_own_client_does() {
    for ahead in [-3_600, 3_600] {
        let github = GitHub::new(keys::RSA_PUBLIC);
        github.set_clock(ahead);
        let running = github.server.serve().await.unwrap();
        octokit(&running.origin(), APP_ID, json!({})).await;
        let lookup = "GET /orgs/octo-org/installation";
        assert_eq!(github.asked()[..2], [lookup, lookup], "{ahead}");

        let app = App::new(APP_ID, keys::RSA_PKCS1).unwrap();
        let app = app.api_url(running.origin()).unwrap();
        let cache = TokenCache::new(app.installation(INSTALLATION));
        let ours = cache.token().await.unwrap();
        assert_eq!(github.issued().last().unwrap(), ours.secret());
    }
}

#[tokio::test]
async fn what_github_refuses_is_refused_to_both() {
    let github = GitHub::new(keys::RSA_PUBLIC);
    let running = github.server.serve().await.unwrap();
    for (settings, status) in [
        (json!({"installationId": 7}), 404),
        (json!({"permissions": {"contents": "admin"}}), 422),
    ] {
        let theirs = octokit(&running.origin(), CLIENT_ID, settings).await;
        assert_eq!(theirs["status"], status, "{theirs}");
    }
    let app = App::new(CLIENT_ID, keys::RSA_PKCS1).unwrap();
    let app = app.api_url(running.origin()).unwrap();
    for (source, status) in [
        (app.installation(7), 404),
        (
            app.installation(INSTALLATION)
                .permission("contents", "admin"),
            422,
        ),
    ] {
        let error = TokenCache::new(source).token().await.unwrap_err();
        assert_eq!(error.status().unwrap(), status);
    }
}

/// Calls the API of GitHub, which requires a user agent and a media type.
async fn github_call(layer: &AuthLayer, url: &str) -> u16 {
    use http::header::{ACCEPT, USER_AGENT};
    use tower::{Layer, ServiceExt};

    let request = http::Request::get(url)
        .header(USER_AGENT, "interop")
        .header(ACCEPT, "application/vnd.github+json");
    let request = request.body(reqwest::Body::default()).unwrap();
    let request = reqwest::Request::try_from(request).unwrap();
    let service = layer.layer(crate::servers::HTTP.clone());
    service.oneshot(request).await.unwrap().status().as_u16()
}
