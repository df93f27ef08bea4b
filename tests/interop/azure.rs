//! The identities on Azure. Microsoft's own client gets tokens from the same servers first, with
//! the same parameters.

use std::fs;

use serde_json::{Value, json};
use tower_auth::oauth2::ReqwestTransport;
use tower_auth::platform::azure::{ManagedIdentity, WorkloadIdentity};
use tower_auth::{Reason, TokenSource};
use tower_auth_test::{RecordedRequest, ScriptedServer};

use crate::azure_server::{
    self as azure, CLIENT_ID, Cluster, METADATA_PATH, OBJECT_ID, RESOURCE, RESOURCE_ID, TENANT,
};
use crate::free_port::free_port;
use crate::nginx::Nginx;
use crate::nginx_clients::of_reqwest;
use crate::process::Program;
use crate::servers::AUTHORITY;

/// The environment variables of a program.
type Variables = Vec<(&'static str, String)>;

/// Lets Microsoft's client get a token for each case, and returns the tokens.
async fn tokens_of_azure_identity(cases: Vec<Value>) -> Vec<String> {
    let cases = Value::from(cases).to_string();
    let run = move || Program::python_client("azure_identity.py").output(&cases);
    let printed = tokio::task::spawn_blocking(run).await.unwrap();
    printed.lines().map(str::to_owned).collect()
}

fn case(variables: &Variables, arguments: &Value) -> Value {
    let variables = variables.iter().cloned();
    let variables: serde_json::Map<_, _> = variables
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    json!({
        "variables": variables, "arguments": arguments, "scope": format!("{RESOURCE}/.default"),
    })
}

/// Returns what both clients have to send in the same way.
fn sent(request: &RecordedRequest) -> (String, Vec<(String, String)>, [Option<String>; 3]) {
    let uri = request.uri();
    let query = uri.query().unwrap_or_default().as_bytes();
    let mut params: Vec<_> = form_urlencoded::parse(query).into_owned().collect();
    params.extend(request.form());
    params.sort();
    let headers = ["metadata", "x-identity-header", "secret"];
    let headers = headers.map(|name| request.header(name).map(str::to_owned));
    (uri.path().to_owned(), params, headers)
}

/// Asserts that the second half of the requests is the same as the first half.
fn assert_same(server: &ScriptedServer) {
    let requests = server.requests();
    let sent: Vec<_> = requests.iter().map(sent).collect();
    let (theirs, ours) = sent.split_at(sent.len() / 2);
    assert!(!theirs.is_empty());
    assert_eq!(theirs, ours);
}

/// The identities that a program may choose, as arguments of Microsoft's client.
fn identities() -> [Value; 4] {
    [
        json!({}),
        json!({"client_id": CLIENT_ID}),
        json!({"identity_config": {"object_id": OBJECT_ID}}),
        json!({"identity_config": {"resource_id": RESOURCE_ID}}),
    ]
}

/// Asserts that this crate gets these tokens: one with each of the first [`identities`].
async fn assert_our_tokens(variables: &Variables, folder: &str, tokens: &[String]) {
    for (at, token) in tokens.iter().enumerate() {
        let source = ManagedIdentity::from_vars(RESOURCE, variables.clone()).unwrap();
        let source = source.arc_key_folder(folder);
        let source = match at {
            0 => Ok(source),
            1 => source.client_id(CLIENT_ID),
            2 => source.object_id(OBJECT_ID),
            _ => source.resource_id(RESOURCE_ID),
        };
        let issued = source.unwrap().fetch(Reason::First).await.unwrap();
        assert_eq!(issued.secret(), token);
    }
}

#[tokio::test]
async fn each_product_issues_tokens_of_each_identity_to_microsofts_client_and_to_ours() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let [machine, app, old, arc] = [
        azure::metadata(),
        azure::app_service("a-secret"),
        azure::version_2017("a-secret"),
        azure::arc(folder.into()),
    ];
    let mut running = Vec::new();
    for server in [&machine, &app, &old, &arc] {
        running.push(server.serve().await.unwrap());
    }
    let secret = || String::from("a-secret");
    let variables: [Variables; 4] = [
        vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", running[0].origin())],
        vec![
            ("IDENTITY_ENDPOINT", running[1].url("/MSI/token/")),
            ("IDENTITY_HEADER", secret()),
        ],
        vec![
            ("MSI_ENDPOINT", running[2].url("/MSI/token/")),
            ("MSI_SECRET", secret()),
        ],
        vec![
            ("IDENTITY_ENDPOINT", running[3].url(METADATA_PATH)),
            ("IMDS_ENDPOINT", running[3].origin()),
        ],
    ];
    let mut cases = Vec::new();
    let mut counts = Vec::new();
    for (at, variables) in variables.iter().enumerate() {
        // The protocol of 2017 knows only client ids.
        let count = if at == 2 { 2 } else { 4 };
        for arguments in identities().iter().take(count) {
            let mut case = case(variables, arguments);
            case["arc_keys"] = folder.into();
            cases.push(case);
        }
        counts.push(count);
    }
    let mut theirs = tokens_of_azure_identity(cases).await;
    for (variables, count) in variables.iter().zip(counts) {
        let tokens: Vec<String> = theirs.drain(..count).collect();
        assert_our_tokens(variables, folder, &tokens).await;
    }
    for server in [machine, app, old, arc] {
        assert_same(&server);
    }
}

#[tokio::test]
async fn entra_issues_tokens_to_the_pod_of_microsofts_client_and_to_ours() {
    let cluster = Cluster::new();
    let server = cluster.entra();
    let running = server.serve().await.unwrap();
    let port = free_port();
    let front = format!(
        "server {{
            listen 127.0.0.1:{port} ssl;
            ssl_certificate server.pem;
            ssl_certificate_key server.pem;
            location / {{ proxy_pass {}; }}
        }}",
        running.origin()
    );
    let certificate = AUTHORITY.issue("localhost").unwrap();
    let _nginx = Nginx::start(&front, &[("server.pem", &certificate)]);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let variables: Variables = vec![
        ("AZURE_TENANT_ID", TENANT.to_owned()),
        ("AZURE_CLIENT_ID", CLIENT_ID.to_owned()),
        (
            "AZURE_FEDERATED_TOKEN_FILE",
            write("token", &cluster.token()),
        ),
        ("AZURE_AUTHORITY_HOST", format!("https://localhost:{port}/")),
    ];
    let arguments = json!({"connection_verify": write("root.pem", &AUTHORITY.root())});
    let theirs = tokens_of_azure_identity(vec![case(&variables, &arguments)]).await;

    let http = of_reqwest(&AUTHORITY).build().unwrap();
    let source = WorkloadIdentity::from_vars(format!("{RESOURCE}/.default"), variables).unwrap();
    let source = source.transport(ReqwestTransport::new(http));
    let ours = source.fetch(Reason::First).await.unwrap();
    assert_eq!([ours.secret()], theirs[..]);
    assert_same(&server);
}
