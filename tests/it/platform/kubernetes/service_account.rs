//! The token of a pod's service account.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tempfile::NamedTempFile;
use tower::{Layer, ServiceExt};
use tower_auth::platform::kubernetes::ServiceAccount;
use tower_auth::{AuthLayer, NotReplayed, Reason, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::paused;
use crate::support::token_server::expiry;

const POD: [(&str, &str); 2] = [
    ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
    ("KUBERNETES_SERVICE_PORT", "443"),
];

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    file
}

fn account(file: &NamedTempFile) -> ServiceAccount {
    ServiceAccount::from_vars(POD)
        .unwrap()
        .token_file(file.path())
}

/// A JWT that expires after this time.
fn jwt(left: Duration) -> String {
    let exp = (SystemTime::now() + left)
        .duration_since(UNIX_EPOCH)
        .unwrap();
    let claims = format!(r#"{{"aud":["api"],"exp":{}}}"#, exp.as_secs());
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

#[test]
fn the_origin_is_that_of_the_clusters_api() {
    for (host, port, origin) in [
        ("10.0.0.1", "443", "https://10.0.0.1:443"),
        ("fd00::1", "6443", "https://[fd00::1]:6443"),
        ("[fd00::1]", "6443", "https://[fd00::1]:6443"),
        (
            "api.cluster.example.com",
            "443",
            "https://api.cluster.example.com:443",
        ),
    ] {
        let variables = [
            ("KUBERNETES_SERVICE_HOST", host),
            ("KUBERNETES_SERVICE_PORT", port),
        ];
        let account = ServiceAccount::from_vars(variables).unwrap();
        assert_eq!(account.origins()[0].to_string(), origin);
    }
}

#[test]
fn outside_of_a_pod_the_error_names_the_variables() {
    for (variables, says) in [
        (
            &[][..],
            "`KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT` are not set",
        ),
        (
            &[
                ("KUBERNETES_SERVICE_HOST", ""),
                ("KUBERNETES_SERVICE_PORT", ""),
            ],
            "doesn't run in a Kubernetes pod",
        ),
        (
            &[("KUBERNETES_SERVICE_HOST", "10.0.0.1")],
            "`KUBERNETES_SERVICE_PORT` is not set",
        ),
        (
            &[("KUBERNETES_SERVICE_PORT", "443")],
            "`KUBERNETES_SERVICE_HOST` is not set",
        ),
        (
            &[
                ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
                ("KUBERNETES_SERVICE_PORT", "https"),
            ],
            "don't contain the host and the port",
        ),
        (
            &[
                ("KUBERNETES_SERVICE_HOST", "10.0.0.1/path"),
                ("KUBERNETES_SERVICE_PORT", "443"),
            ],
            "don't contain the host and the port",
        ),
        (
            &[
                ("KUBERNETES_SERVICE_HOST", "a b"),
                ("KUBERNETES_SERVICE_PORT", "443"),
            ],
            "don't contain the host and the port",
        ),
    ] {
        let error = ServiceAccount::from_vars(variables.iter().copied()).unwrap_err();
        assert!(error.is_config(), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let account = ServiceAccount::from_vars(POD).unwrap();
    let error = account.fetch(Reason::First).await.unwrap_err();
    let path = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    assert!(
        error.is_config() && error.to_string().contains(path),
        "{error}"
    );
    let empty = file("\n");
    let error = self::account(&empty).fetch(Reason::First).await;
    assert!(error.unwrap_err().to_string().contains("is empty"));
    assert!(!format!("{account:?}").contains("eyJ"));
}

#[tokio::test(start_paused = true)]
async fn the_file_is_read_again_after_a_minute_and_not_earlier() {
    let year = Duration::from_secs(365 * 24 * 3600);
    let (old, new) = (jwt(year), jwt(2 * year));
    let file = file(&old);
    let cache = paused(account(&file)).build();
    assert_eq!(cache.token().await.unwrap().secret(), old);
    fs::write(&file, &new).unwrap();
    tokio::time::sleep(Duration::from_secs(59)).await;
    cache.token().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cache.token().await.unwrap().secret(), old);
    tokio::time::sleep(Duration::from_secs(1)).await;
    cache.token().await.unwrap();
    let fetched = || cache.token();
    for _ in 0..100 {
        if fetched().await.unwrap().secret() == new {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the file was not read again");
}

#[tokio::test]
async fn a_token_is_used_neither_after_its_exp_nor_long_without_the_file() {
    for (left, shown) in [(3600, "In(300s)"), (320, "In(300s)"), (200, "At(")] {
        let file = file(&jwt(Duration::from_secs(left)));
        let token = account(&file).fetch(Reason::First).await.unwrap();
        assert!(expiry(&token).starts_with(shown), "{token:?}");
    }
    let opaque = file("opaque");
    let token = account(&opaque).fetch(Reason::First).await.unwrap();
    assert_eq!(expiry(&token), "In(300s)");
}

#[tokio::test(start_paused = true)]
async fn the_same_text_is_the_same_credential_and_a_refusal_reads_the_file_at_once() {
    let file = file("old");
    let api = ScriptedServer::new(|request| match request.header("authorization") {
        Some("Bearer new") => ScriptedResponse::new(200),
        _ => ScriptedResponse::new(401),
    });
    // The transport of TLS isn't part of this test.
    let layer = AuthLayer::from(paused(account(&file)).build());
    let client = layer.layer(api.clone());
    let get = || {
        let request = Request::get("https://10.0.0.1/api/v1/pods");
        let request = request.body(Full::<Bytes>::default()).unwrap();
        client.clone().oneshot(request)
    };
    let refused = get().await.unwrap();
    assert_eq!(refused.status(), 401);
    let why = refused.extensions().get::<NotReplayed>().unwrap();
    assert!(matches!(why, NotReplayed::SameToken), "{why:?}");
    assert_eq!(api.requests().len(), 1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    fs::write(&file, "new").unwrap();
    assert_eq!(get().await.unwrap().status(), 200);
    assert_eq!(api.requests().len(), 3);
}

#[cfg(feature = "fleet")]
#[test]
fn another_pod_may_have_another_identity() {
    let account = ServiceAccount::from_vars(POD).unwrap();
    assert!(account.store_key().is_none());
}
