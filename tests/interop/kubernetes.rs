//! Identities in Kubernetes. Each test runs Kubernetes' own client against the API server, and then
//! this crate. The API server has to see the same requests from both.

use std::process::Command as Process;
use std::time::Duration;

use tower::{ServiceBuilder, ServiceExt};
use tower_auth::oauth2::ReqwestTransport;
use tower_auth::platform::kubernetes::{ServiceAccount, TokenRequest};
use tower_auth::platform::{Command, CommandFormat};
use tower_auth::{AuthLayer, Reason, TokenCache, TokenSource};

use crate::kubernetes_api::{IN_CLUSTER, Pod, mounted_token, url};
use crate::process::{installed, script};
use crate::servers::text;

const PODS: &str = "/api/v1/namespaces/prod/pods";
const TOKEN: &str = "/api/v1/namespaces/prod/serviceaccounts/reports/token";

/// Runs Kubernetes' own client, and returns the lines that it prints.
fn own_client(pod: &Pod, arguments: &[&str]) -> Vec<String> {
    let output = Process::new(installed("venv/bin/python"))
        .arg(script("kubernetes_client/run.py"))
        .args(arguments)
        .envs(Pod::variables())
        .current_dir(pod.folder())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Lists the pods with this source, and returns the status.
async fn list_pods(cache: &TokenCache) -> u16 {
    let layer = AuthLayer::from(cache.clone()).only_to([url("")]).unwrap();
    let client = ServiceBuilder::new()
        .layer(layer)
        .service(IN_CLUSTER.clone());
    let request = IN_CLUSTER.get(url(PODS)).build().unwrap();
    client.oneshot(request).await.unwrap().status().as_u16()
}

/// Returns the subject of a token that is valid for this audience.
async fn subject(token: &str, audience: &str) -> String {
    let check = IN_CLUSTER.post(url(&format!("/interop/check/{audience}")));
    text(check.body(token.to_owned())).await
}

async fn seen(account: &str) -> Vec<String> {
    let seen = text(IN_CLUSTER.get(url(&format!("/interop/seen/{account}")))).await;
    serde_json::from_str(&seen).unwrap()
}

fn transport() -> ReqwestTransport {
    ReqwestTransport::new(IN_CLUSTER.clone())
}

#[tokio::test]
async fn a_pod_is_known_by_its_service_account_as_to_kubernetes_own_client() {
    let theirs = Pod::of("theirs").await;
    let lines = own_client(&theirs, &["pod"]);
    assert_eq!(lines[0], "reports-0");
    assert_eq!(
        subject(&lines[1], "stock").await,
        "system:serviceaccount:prod:reports"
    );

    let pod = Pod::of("ours").await;
    let account = || {
        let account = ServiceAccount::from_vars(Pod::variables()).unwrap();
        account.token_file(pod.token_file())
    };
    let cache = TokenCache::new(account());
    assert_eq!(list_pods(&cache).await, 200);
    let source = TokenRequest::new(url(""), "prod", "reports", account()).unwrap();
    let source = source.audience("stock").transport(transport());
    let source = source.lifetime(Duration::from_secs(600)).unwrap();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(
        subject(token.secret(), "stock").await,
        "system:serviceaccount:prod:reports"
    );
    assert_eq!(
        seen("ours").await,
        [format!("GET {PODS}"), format!("POST {TOKEN}")]
    );
    assert_eq!(seen("ours").await, seen("theirs").await);

    // The kubelet replaces the token, and the API server refuses the old token.
    let old = cache.token().await.unwrap();
    let revoke = IN_CLUSTER.post(url("/interop/revoke"));
    text(revoke.body(old.secret().to_owned())).await;
    pod.mount(&mounted_token("ours").await);
    assert_eq!(list_pods(&cache).await, 200);
}

#[tokio::test]
async fn a_credential_plugin_prints_the_same_for_both_clients() {
    for (version, format) in [
        (
            "client.authentication.k8s.io/v1",
            CommandFormat::exec_credential_v1(),
        ),
        (
            "client.authentication.k8s.io/v1beta1",
            CommandFormat::exec_credential_v1beta1(),
        ),
    ] {
        let pod = Pod::of("plugin").await;
        let python = installed("venv/bin/python");
        let (plugin, file) = (script("kubernetes_client/plugin.py"), pod.token_file());
        let command = [python.as_path(), plugin.as_path(), file.as_path()];
        let command = command.map(|part| part.to_str().unwrap());
        let (server, before) = (url(""), seen("plugin").await.len());
        let arguments = [&["exec", &server, version], &command[..]].concat();
        assert_eq!(own_client(&pod, &arguments)[0], "reports-0");

        let source = Command::new(&python).args([&plugin, &file]).format(format);
        let cache = TokenCache::new(source);
        assert_eq!(list_pods(&cache).await, 200);
        let request = TokenRequest::new(&server, "prod", "reports", cache).unwrap();
        let request = request.audience("stock").transport(transport());
        request.fetch(Reason::First).await.unwrap();
        let both = seen("plugin").await.split_off(before);
        assert_eq!(both[..2], both[2..], "{both:?}");
    }
}

#[tokio::test]
async fn the_api_server_says_why_it_issues_no_token() {
    let pod = Pod::of("guest").await;
    let account = ServiceAccount::from_vars(Pod::variables()).unwrap();
    let account = account.token_file(pod.token_file());
    let source = TokenRequest::new(url(""), "prod", "reports", account).unwrap();
    let error = source.transport(transport()).fetch(Reason::First).await;
    let error = error.unwrap_err();
    assert!(error.is_permanent(), "{error}");
    let shown = error.to_string();
    assert!(shown.contains("cannot create resource"), "{shown}");
}
