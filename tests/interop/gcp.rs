//! Google's own clients get tokens from our servers of Google Cloud. Then this crate gets the same
//! tokens from the same servers.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::service_fn;
use tower_auth::oauth2::Transport;
use tower_auth::platform::gcp::{ApplicationDefault, Metadata};
use tower_auth::{BoxError, Reason, TokenSource};
use tower_auth_test::Loopback;

use crate::google_cloud::{
    self, SUBJECT, external, impersonated, impersonation_url, person, service_account,
    subject_at_url, with,
};
use crate::keys::{RSA_PKCS8, RSA_PUBLIC};
use crate::process::Program;
use crate::servers::HTTP;

const PUBSUB: &str = "https://www.googleapis.com/auth/pubsub";
const AUDIENCE: &str = "https://orders.example.com";

async fn google() -> Loopback {
    let server = google_cloud::server(RSA_PKCS8, RSA_PUBLIC);
    server.serve().await.unwrap()
}

/// Runs another project's client on another thread, because the servers run on this thread.
async fn printed(program: Program, input: String) -> Vec<String> {
    let run = move || program.output(&input);
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    output.lines().map(str::to_owned).collect()
}

/// Sends each request to one server, which sees in `Host` where the request should have gone.
fn redirected(server: &Loopback) -> impl Transport + use<> {
    let origin = server.origin();
    service_fn(move |request: Request<Full<Bytes>>| {
        let origin = origin.clone();
        async move {
            let (head, body) = request.into_parts();
            let (path, host) = (head.uri.path_and_query().unwrap(), head.uri.authority());
            let sent = HTTP
                .request(head.method, format!("{origin}{path}"))
                .headers(head.headers)
                .header("host", host.unwrap().as_str())
                .body(body.collect().await?.to_bytes());
            let answer = sent.send().await?;
            let mut response = Response::builder().status(answer.status());
            response
                .headers_mut()
                .unwrap()
                .extend(answer.headers().clone());
            Ok::<_, BoxError>(response.body(Full::<Bytes>::from(answer.bytes().await?))?)
        }
    })
}

/// Returns the claims of an ID token that depend on the request.
fn audience(jwt: &str) -> String {
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_audience(&[AUDIENCE]);
    let key = jsonwebtoken::DecodingKey::from_rsa_pem(RSA_PUBLIC.as_bytes()).unwrap();
    let jwt = jsonwebtoken::decode::<Value>(jwt, &key, &validation).unwrap();
    jwt.claims["aud"].to_string()
}

#[tokio::test]
async fn each_identity_gets_the_token_that_googles_client_for_python_gets() {
    let (google, folder) = (google().await, tempfile::tempdir().unwrap());
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let subject = write("subject", SUBJECT);
    let printed_subject = json!({
        "version": 1, "success": true, "token_type": google_cloud::JWT, "id_token": SUBJECT,
    });
    let output = write("printed", &printed_subject.to_string());
    let impersonating = |file: Value| {
        with(
            file,
            "service_account_impersonation_url",
            impersonation_url(),
        )
    };
    let workforce = with(
        external(&subject_at_url()),
        "audience",
        google_cloud::WORKFORCE_POOL,
    );
    let files = [
        service_account(RSA_PKCS8),
        person(),
        impersonated(&person()),
        impersonated(&service_account(RSA_PKCS8)),
        external(&json!({"file": subject})),
        external(&subject_at_url()),
        impersonating(external(&subject_at_url())),
        external(&json!({"executable": {"command": format!("/bin/cat '{output}'")}})),
        with(workforce, "workforce_pool_user_project", "123456"),
    ];
    let home = folder.path().to_str().unwrap();
    let mut cases = vec![json!({"variables": {"HOME": home}, "scopes": [PUBSUB]})];
    for (number, file) in files.iter().enumerate() {
        let path = write(&format!("{number}.json"), &file.to_string());
        let variables = json!({
            "HOME": home, "PATH": "/usr/bin:/bin", "GOOGLE_APPLICATION_CREDENTIALS": path,
            "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES": "1",
        });
        cases.push(json!({"variables": variables, "scopes": [PUBSUB]}));
    }
    let host = google.address().to_string();
    let told = json!({"host": host, "cases": cases, "audience": AUDIENCE});
    let theirs = printed(Program::python_client("google_auth.py"), told.to_string()).await;

    let mut ours = Vec::new();
    for case in &cases {
        let variables = case["variables"].as_object().unwrap().iter();
        let variables = variables.map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
        let variables = variables.chain([("GCE_METADATA_HOST", host.as_str())]);
        let source = ApplicationDefault::from_vars(variables).unwrap();
        let source = source.scopes([PUBSUB]).transport(redirected(&google));
        let token = source.fetch(Reason::First).await.unwrap();
        ours.push(token.secret().to_owned());
    }
    let (id_token, theirs) = theirs.split_last().unwrap();
    assert_eq!(ours, theirs);
    assert_eq!(ours[0], "ya29.machine.pubsub");

    let machine = Metadata::from_vars([("GCE_METADATA_HOST", &host)]).unwrap();
    let token = machine.id_token(AUDIENCE).fetch(Reason::First).await;
    assert_eq!(audience(token.unwrap().secret()), audience(id_token));
}

#[tokio::test]
async fn the_metadata_server_serves_googles_client_for_node_and_this_crate() {
    let google = google().await;
    let host = google.address().to_string();
    let program = Program::node_client("gcp_metadata.mjs").variable("GCE_METADATA_HOST", &host);
    let theirs = printed(program, String::new()).await;
    let [access_token, id_token] = &theirs[..] else {
        panic!("{theirs:?}");
    };
    // The crate's own transport sends these requests.
    let machine = Metadata::from_vars([("GCE_METADATA_HOST", &host)]).unwrap();
    let token = machine.clone().scopes([PUBSUB]).fetch(Reason::First).await;
    assert_eq!(token.unwrap().secret(), access_token);
    let token = machine.id_token(AUDIENCE).fetch(Reason::First).await;
    assert_eq!(audience(token.unwrap().secret()), audience(id_token));
}
