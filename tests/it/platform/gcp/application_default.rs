//! Where the identity is found, and the identities of files.

use serde_json::{Value, json};
use tower_auth::platform::gcp::ApplicationDefault;
use tower_auth::{Reason, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use super::files::{Folder, error_of, fetch, fetch_with, google, service_account};
use crate::support::google_cloud::{
    CLOUD_PLATFORM, DELEGATE, EMAIL, external, impersonated, impersonation_url, person, with,
};
use crate::support::keys::{RSA_PKCS8, RSA_PUBLIC};
use crate::support::token_server::{all_text_of, expiry};
use crate::support::web::line;

const PUBSUB: &str = "https://www.googleapis.com/auth/pubsub";

#[tokio::test]
async fn a_service_account_signs_for_its_scopes() {
    let (server, folder) = (google(), Folder::with(&service_account()));
    let token = fetch(&folder.source(&server)).await.unwrap();
    assert_eq!(token.secret(), "ya29.key.cloud-platform");
    assert_eq!(expiry(&token), "In(3599s)");
    let scoped = folder.source(&server).scopes([PUBSUB, CLOUD_PLATFORM]);
    let token = fetch(&scoped).await.unwrap();
    assert_eq!(token.secret(), "ya29.key.pubsub+cloud-platform");
    let sent: Vec<String> = server.requests().iter().map(line).collect();
    assert_eq!(sent, ["POST https://oauth2.googleapis.com/token"; 2]);
}

#[tokio::test]
async fn a_person_has_the_scopes_of_the_login() {
    let (server, folder) = (google(), Folder::with(&person()));
    let token = fetch(&folder.source(&server)).await.unwrap();
    assert_eq!(token.secret(), "ya29.person.of-the-login");
    let token = fetch(&folder.source(&server).scopes([PUBSUB])).await;
    assert_eq!(token.unwrap().secret(), "ya29.person.of-the-login");
    let sent = server.requests();
    assert!(sent.iter().all(|request| request.param("scope").is_none()));

    let revoked = with(person(), "refresh_token", "planted-old");
    let error = fetch_with(&revoked).await.unwrap_err();
    assert!(error.is_login_required(), "{error:?}");
    assert!(!all_text_of(&error).contains("planted"), "{error:?}");
}

#[tokio::test]
async fn an_account_or_a_person_may_impersonate_a_service_account() {
    for (source, by) in [(service_account(), "key"), (person(), "person")] {
        let (server, folder) = (google(), Folder::with(&impersonated(&source)));
        let token = fetch(&folder.source(&server)).await.unwrap();
        let secret = format!("ya29.impersonated-by-{by}.cloud-platform");
        assert_eq!(token.secret(), secret);
        assert!(expiry(&token).starts_with("At("), "{token:?}");
        let scoped = folder.source(&server).scopes([PUBSUB]);
        let token = fetch(&scoped).await.unwrap();
        assert_eq!(token.secret(), format!("ya29.impersonated-by-{by}.pubsub"));
        let [first, sent, ..] = &server.requests()[..] else {
            panic!("two requests were sent");
        };
        // A person's login has its own scopes.
        assert_eq!(first.param("scope"), None);
        assert_eq!(line(sent), format!("POST {}", impersonation_url()));
        let body: Value = serde_json::from_slice(sent.body()).unwrap();
        let expected =
            json!({"delegates": [DELEGATE], "lifetime": "3600s", "scope": [CLOUD_PLATFORM]});
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn the_token_of_the_first_account_stays_in_use() {
    let (server, folder) = (google(), Folder::with(&impersonated(&person())));
    let source = folder.source(&server);
    for reason in [Reason::First, Reason::Stale, Reason::Refused] {
        source.fetch(reason).await.unwrap();
    }
    let hosts: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.uri().host().unwrap().to_owned())
        .collect();
    let iam = "iamcredentials.googleapis.com";
    assert_eq!(hosts, ["oauth2.googleapis.com", iam, iam, iam]);
}

#[tokio::test]
async fn a_first_token_that_was_revoked_is_replaced_once() {
    let (server, folder) = (google(), Folder::with(&impersonated(&person())));
    let source = folder.source(&server);
    fetch(&source).await.unwrap();
    let issued = json!({"access_token": "ya29.second.iam", "expires_in": 3599});
    let refusal = ScriptedResponse::json(401, json!({"error": {"status": "UNAUTHENTICATED"}}));
    server.respond_next(refusal.clone());
    server.respond_next(ScriptedResponse::json(200, issued));
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.secret(), "ya29.impersonated-by-second.cloud-platform");

    server.respond_next(refusal.clone());
    server.respond_next(ScriptedResponse::json(
        200,
        json!({"access_token": "ya29.third.iam", "expires_in": 3599}),
    ));
    server.respond_next(refusal);
    let before = server.requests().len();
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.code(), Some("UNAUTHENTICATED"));
    assert_eq!(server.requests().len(), before + 3);
}

#[tokio::test]
async fn a_first_token_that_comes_back_is_not_sent_again() {
    let (server, folder) = (google(), Folder::with(&impersonated(&person())));
    let source = folder.source(&server);
    fetch(&source).await.unwrap();
    let refusal = json!({"error": {"status": "UNAUTHENTICATED"}});
    server.respond_next(ScriptedResponse::json(401, refusal));
    let before = server.requests().len();
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.code(), Some("UNAUTHENTICATED"));
    assert_eq!(server.requests().len(), before + 2);
}

#[tokio::test]
async fn a_refused_impersonation_says_what_google_says() {
    let (server, folder) = (google(), Folder::with(&impersonated(&person())));
    let source = folder.source(&server);
    fetch(&source).await.unwrap();
    let message =
        "Permission 'iam.serviceAccounts.getAccessToken' denied; ya29.person.of-the-login";
    let error = json!({"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED"}});
    server.respond_next(ScriptedResponse::json(403, error));
    let error = fetch(&source).await.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
    assert_eq!(error.code(), Some("PERMISSION_DENIED"));
    let description = error.description().unwrap();
    assert!(description.contains("getAccessToken"), "{description}");
    assert!(!all_text_of(&error).contains("ya29"), "{error:?}");
    assert!(
        error.to_string().contains("the IAM credentials API"),
        "{error}"
    );
}

#[tokio::test]
async fn an_impersonated_token_needs_an_expiry() {
    for end in [
        Value::Null,
        json!("tomorrow"),
        json!(["2026-01-01T00:00:00Z"]),
    ] {
        let (server, folder) = (google(), Folder::with(&impersonated(&person())));
        let source = folder.source(&server);
        fetch(&source).await.unwrap();
        let reply = json!({"accessToken": "tok", "expireTime": end});
        server.respond_next(ScriptedResponse::json(200, reply));
        let error = fetch(&source).await.unwrap_err();
        assert!(error.is_reply(), "{error:?}");
        assert!(error.to_string().contains("`/expireTime`"), "{error}");
    }
}

#[tokio::test]
async fn a_file_of_gcloud_is_found_where_gcloud_writes_it() {
    const NAME: &str = "application_default_credentials.json";
    let (server, folder) = (google(), Folder::with(&person()));
    let home = folder.path().to_str().unwrap();
    folder.write(&format!(".config/gcloud/{NAME}"), &person().to_string());
    let found = ApplicationDefault::from_vars([("HOME", home)]).unwrap();
    let token = fetch(&found.transport(server.clone())).await.unwrap();
    assert_eq!(token.secret(), "ya29.person.of-the-login");

    folder.write(&format!("sdk/{NAME}"), &service_account().to_string());
    let sdk = folder.path().join("sdk").to_str().unwrap().to_owned();
    let variables = [("HOME", home), ("CLOUDSDK_CONFIG", &sdk)];
    let found = ApplicationDefault::from_vars(variables).unwrap();
    let token = fetch(&found.transport(server.clone())).await.unwrap();
    assert_eq!(token.secret(), "ya29.key.cloud-platform");

    // The variable comes first.
    let first = folder.source_with(&server, &[("CLOUDSDK_CONFIG", &sdk)]);
    let token = fetch(&first).await.unwrap();
    assert_eq!(token.secret(), "ya29.person.of-the-login");
}

#[tokio::test]
async fn a_file_that_the_variable_names_must_exist() {
    let (server, folder) = (google(), Folder::with(&person()));
    std::fs::remove_file(folder.path().join("credentials.json")).unwrap();
    let error = fetch(&folder.source(&server)).await.unwrap_err();
    assert!(error.is_config());
    let text = error.to_string();
    assert!(
        text.contains("`GOOGLE_APPLICATION_CREDENTIALS` names"),
        "{text}"
    );
    assert!(
        text.contains("credentials.json, but this file doesn't exist"),
        "{text}"
    );
    server.assert_no_requests();
}

#[tokio::test]
async fn without_a_file_the_metadata_server_is_asked() {
    let (server, folder) = (google(), Folder::with(&person()));
    let empty = folder.path().to_str().unwrap();
    let variables = [
        ("HOME", empty),
        ("GCE_METADATA_HOST", "169.254.169.254"),
        ("GOOGLE_APPLICATION_CREDENTIALS", ""),
    ];
    let source = ApplicationDefault::from_vars(variables).unwrap();
    let source = source.transport(server.clone()).scopes([PUBSUB]);
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.secret(), "ya29.machine.pubsub");
    assert_eq!(server.requests()[0].uri().host(), Some("169.254.169.254"));

    // A refusal shows that the server is there.
    server.respond_always(ScriptedResponse::new(404));
    let error = fetch(&source).await.unwrap_err();
    assert!(error.is_denied(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_names_each_place_and_why_it_does_not_serve() {
    let (server, folder) = (google(), Folder::with(&person()));
    server.respond_always(ScriptedResponse::reset());
    let home = folder.path().to_str().unwrap();
    let source = ApplicationDefault::from_vars([("HOME", home)]).unwrap();
    let error = fetch(&source.transport(server.clone())).await.unwrap_err();
    // The metadata server of a new pod may answer later.
    assert!(error.is_transient(), "{error:?}");
    let text = error.to_string();
    let file = folder
        .path()
        .join(".config/gcloud/application_default_credentials.json");
    for part in [
        "`GOOGLE_APPLICATION_CREDENTIALS` is not set",
        &format!("{} doesn't exist", file.display()),
        "http://metadata.google.internal: the metadata server could not be reached",
        "gcloud auth application-default login",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(server.requests().len(), 3);

    server.respond_always(ScriptedResponse::new(200).body("<html>a login page</html>"));
    let source = ApplicationDefault::from_vars([("HOME", home)]).unwrap();
    let error = fetch(&source.transport(server.clone())).await.unwrap_err();
    assert!(error.is_config(), "{error:?}");
    assert!(
        error.to_string().contains("something else answered"),
        "{error}"
    );

    let variables = [("NO_GCE_CHECK", "true")];
    let source = ApplicationDefault::from_vars(variables).unwrap();
    let error = fetch(&source.transport(server.clone())).await.unwrap_err();
    assert!(error.is_config(), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("neither `CLOUDSDK_CONFIG` nor `HOME` is set"),
        "{text}"
    );
    assert!(text.contains("`NO_GCE_CHECK`"), "{text}");
}

#[test]
fn a_wrong_variable_is_named_at_once() {
    for (name, value) in [
        ("GCE_METADATA_HOST", "example.com"),
        ("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "https://example.com"),
        ("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "com"),
    ] {
        let error = ApplicationDefault::from_vars([(name, value)]).unwrap_err();
        assert!(error.is_config(), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_replaced_file_is_used_by_the_next_fetch() {
    let (server, folder) = (google(), Folder::with(&person()));
    let source = folder.source(&server);
    let secret = async || fetch(&source).await.unwrap().secret().to_owned();
    assert_eq!(secret().await, "ya29.person.of-the-login");
    folder.write("credentials.json", &service_account().to_string());
    assert_eq!(secret().await, "ya29.key.cloud-platform");
}

#[tokio::test]
async fn a_broken_file_is_named_with_its_fault() {
    let key_error = |key: &str| with(service_account(), "private_key", key);
    for (file, says) in [
        (json!({}), "`type` in the credentials file"),
        (
            json!({"type": "gdch_service_account"}),
            "is `gdch_service_account`, but this source supports `service_account`, `authorized_user`, `impersonated_service_account` or `external_account`",
        ),
        (json!({"type": 7}), "isn't a string"),
        (json!([]), "is JSON, but not an object"),
        (
            with(service_account(), "client_email", Value::Null),
            "`client_email` in the credentials file",
        ),
        (
            with(service_account(), "client_email", ""),
            "is missing or empty",
        ),
        (
            key_error("planted-key"),
            "`private_key` in the credentials file",
        ),
        (key_error(RSA_PUBLIC), "is unusable"),
        (
            with(person(), "refresh_token", Value::Null),
            "`refresh_token`",
        ),
        (
            with(person(), "client_secret", json!({})),
            "`client_secret`",
        ),
        (
            with(impersonated(&person()), "source_credentials", Value::Null),
            "`source_credentials`",
        ),
        (
            with(impersonated(&person()), "delegates", "x"),
            "isn't an array of strings",
        ),
        (
            impersonated(&json!({"type": "authorized_user"})),
            "`source_credentials.client_id`",
        ),
        (
            impersonated(&json!({"type": "planet"})),
            "`source_credentials.type` in the credentials file",
        ),
    ] {
        let text = error_of(&file).await;
        assert!(text.contains(says), "{says}: {text}");
    }
    let (server, folder) = (google(), Folder::with(&person()));
    for (text, says) in [
        ("", "is empty"),
        ("{", "is not valid JSON"),
        ("\u{feff}{}", "`type`"),
        (
            r#"{"type":"authorized_user","type":"authorized_user"}"#,
            "`type` in the credentials file",
        ),
        (&" ".repeat(65 * 1024), "longer than 64 KiB"),
    ] {
        folder.write("credentials.json", text);
        let error = fetch(&folder.source(&server)).await.unwrap_err();
        assert!(
            error.is_config() && error.to_string().contains(says),
            "{error}"
        );
    }
    std::fs::remove_file(folder.path().join("credentials.json")).unwrap();
    std::fs::create_dir(folder.path().join("credentials.json")).unwrap();
    let error = fetch(&folder.source(&server)).await.unwrap_err();
    assert!(error.to_string().contains("can't be read"), "{error}");
}

/// The author of a file must not choose which server gets the machine's secrets.
#[tokio::test]
async fn the_addresses_of_a_file_must_be_googles() {
    let exchange = || external(&json!({"file": "/dev/null"}));
    for url in [
        "https://evil.example.com/token",
        "https://googleapis.com.example.com/token",
        "https://evilgoogleapis.com/token",
        "https://googleapis.com@example.com/token",
        "https://example.com/?.googleapis.com",
        "https://example.com#.googleapis.com",
        "http://oauth2.googleapis.com/token",
        "http://127.0.0.1:8080/token",
        "https://googleapis.com/token",
        "https://oauth2.googleapis.com:0/token",
        "token",
    ] {
        let impersonation = "service_account_impersonation_url";
        let method = format!("{url}/a:generateAccessToken");
        for (file, name) in [
            (with(service_account(), "token_uri", url), "token_uri"),
            (with(person(), "token_uri", url), "token_uri"),
            (with(exchange(), "token_url", url), "token_url"),
            (
                with(exchange(), impersonation, method.as_str()),
                impersonation,
            ),
            (
                with(impersonated(&person()), impersonation, method.as_str()),
                impersonation,
            ),
        ] {
            let text = error_of(&file).await;
            assert!(text.contains(&format!("`{name}` in")), "{url}: {text}");
        }
    }
    for url in [
        "https://iamcredentials.googleapis.com/v1",
        "https://iamcredentials.googleapis.com/v1/a:signJwt",
        "https://iamcredentials.googleapis.com/v1/a?x=b:generateAccessToken",
        "https://iamcredentials.googleapis.com/v1/:generateAccessToken",
    ] {
        let file = with(
            impersonated(&person()),
            "service_account_impersonation_url",
            url,
        );
        let text = error_of(&file).await;
        assert!(text.contains(":generateAccessToken"), "{text}");
    }
}

#[tokio::test]
async fn old_keys_name_googles_old_token_endpoint() {
    let url = "https://accounts.google.com/o/oauth2/token";
    let (server, folder) = (
        google(),
        Folder::with(&with(service_account(), "token_uri", url)),
    );
    let issued = json!({"access_token": "tok", "expires_in": 3599});
    server.respond_always(ScriptedResponse::json(200, issued));
    fetch(&folder.source(&server)).await.unwrap();
    assert_eq!(line(&server.requests()[0]), format!("POST {url}"));
}

#[tokio::test]
async fn another_universe_must_be_expected() {
    let file = with(service_account(), "universe_domain", "s3nsapis.fr");
    let text = error_of(&file).await;
    assert!(text.contains("is for the universe `s3nsapis.fr`"), "{text}");
    assert!(text.contains("`GOOGLE_CLOUD_UNIVERSE_DOMAIN`"), "{text}");

    // The APIs of that universe accept a JWT that the account signs.
    let (server, folder) = (google(), Folder::with(&file));
    let variables = [("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "s3nsapis.fr")];
    let source = folder.source_with(&server, &variables);
    let token = fetch(&source).await.unwrap();
    server.assert_no_requests();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.validate_aud = false;
    let key = jsonwebtoken::DecodingKey::from_rsa_pem(RSA_PUBLIC.as_bytes()).unwrap();
    let jwt = jsonwebtoken::decode::<Value>(token.secret(), &key, &validation).unwrap();
    assert_eq!(jwt.claims["iss"], EMAIL);
    assert_eq!(jwt.claims["sub"], EMAIL);
    assert_eq!(jwt.claims["scope"], CLOUD_PLATFORM);
    assert!(expiry(&token).starts_with("At("), "{token:?}");

    let domain = folder
        .source(&server)
        .universe_domain("s3nsapis.fr")
        .unwrap();
    fetch(&domain).await.unwrap();
    let text = folder.source(&server).universe_domain("x").unwrap_err();
    assert!(text.to_string().contains("the universe domain"), "{text}");
}

/// `storage.googleapis.com` and others store what anyone sends, for anyone to read.
#[tokio::test]
async fn each_secret_only_goes_to_the_service_that_takes_it() {
    let folder = Folder::with(&json!({}));
    let subject = folder.write("subject", "planted-subject");
    let exchange = || external(&json!({ "file": subject }));
    let impersonation = "service_account_impersonation_url";
    for host in [
        "storage.googleapis.com",
        "firebasestorage.googleapis.com",
        "www.googleapis.com",
        "mysts.googleapis.com",
        "logging.googleapis.com",
    ] {
        let url = format!("https://{host}/upload/storage/v1/b/theirs/o?uploadType=media&name=n");
        let text = error_of(&with(exchange(), "token_url", url)).await;
        assert!(text.contains("`token_url` in"), "{text}");
        let url = format!("https://{host}/upload/storage/v1/b/theirs/a:generateAccessToken");
        for file in [exchange(), impersonated(&person())] {
            let text = error_of(&with(file, impersonation, url.as_str())).await;
            assert!(text.contains(&format!("`{impersonation}` in")), "{text}");
        }
    }
    for host in [
        "sts.googleapis.com",
        "STS.googleapis.com",
        "sts.mtls.googleapis.com",
        "us-east1-sts.googleapis.com",
        "sts.us-east1.rep.googleapis.com",
        "sts-private.p.googleapis.com",
    ] {
        let server = ScriptedServer::new(|_| ScriptedResponse::new(503));
        let url = format!("https://{host}/v1/token");
        folder.write(
            "credentials.json",
            &with(exchange(), "token_url", url).to_string(),
        );
        fetch(&folder.source(&server)).await.unwrap_err();
        assert_eq!(server.requests()[0].uri().host(), Some(host));
    }
}

#[tokio::test]
async fn the_clock_of_google_says_when_an_impersonation_ends() {
    let body = json!({"accessToken": "ya29.a", "expireTime": "2030-01-02T03:04:05Z"});
    let server = google();
    let folder = Folder::with(&impersonated(&person()));
    let source = folder.source(&server);
    // The first response is the person's token.
    server.respond_next(ScriptedResponse::as_usual());
    let response = ScriptedResponse::json(200, body);
    server.respond_next(response.header("date", "Wed, 02 Jan 2030 02:04:05 GMT"));
    let token = fetch(&source).await.unwrap();
    assert_eq!(expiry(&token), "In(3600s)");
}

#[tokio::test]
async fn the_quota_project_is_of_the_variable_or_of_the_file() {
    let (server, folder) = (google(), Folder::with(&person()));
    let project = async |more: &[(&str, &str)]| {
        let source = folder.source_with(&server, more);
        source.quota_project().await.unwrap()
    };
    assert_eq!(project(&[]).await.as_deref(), Some("paying-project"));
    let variable = [("GOOGLE_CLOUD_QUOTA_PROJECT", "another")];
    assert_eq!(project(&variable).await.as_deref(), Some("another"));
    folder.write("credentials.json", &service_account().to_string());
    assert_eq!(project(&[]).await, None);
    let nowhere = ApplicationDefault::from_vars([("HOME", "/nowhere")]).unwrap();
    assert_eq!(nowhere.quota_project().await.unwrap(), None);
}

#[tokio::test]
async fn nothing_shows_a_secret_of_a_file() {
    for file in [person(), service_account(), impersonated(&person())] {
        let (server, folder) = (google(), Folder::with(&file));
        let source = folder.source(&server);
        fetch(&source).await.unwrap();
        let shown = format!("{source:?} {source:#?}");
        for secret in ["planted", "MIIE", "ya29"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    assert!(RSA_PKCS8.contains("MIIE"));
}
