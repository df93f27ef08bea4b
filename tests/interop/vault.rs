//! OpenBao, which has the HTTP API of HashiCorp Vault.

use std::fs;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::oauth2::{ReqwestTransport, SignedJwt};
use tower_auth::platform::kubernetes::{ServiceAccount, TokenRequest};
use tower_auth::platform::vault::{self, Login};
use tower_auth::{Auth, AuthLayer, NotReplayed, Reason, SecretSource, TokenCache, TokenSource};

use crate::free_port::free_port;
use crate::key::Key;
use crate::kubernetes_api::{IN_CLUSTER, Pod, mounted_token, url};
use crate::process::{Program, Server};
use crate::servers::{AUTHORITY, HTTP};

/// A server with its root token. The policy `reports` allows only the secret `cubbyhole/allowed`.
struct Bao {
    server: Server,
    root: String,
    unseal_key: String,
}

/// The server of all tests that don't seal it.
static BAO: LazyLock<Bao> = LazyLock::new(Bao::start);

/// An AppRole in a mount of its own.
struct AppRole {
    bao: &'static Bao,
    mount: String,
    role_id: String,
    secret_id: String,
}

/// How many logins a secret id allows.
const USES: u64 = 1000;

impl Bao {
    /// Starts a server that keeps everything in memory, and unseals it.
    fn start() -> Self {
        let port = free_port();
        let program = Program::packaged("bao");
        let config = format!(
            "storage \"inmem\" {{}}\n\
             listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  tls_disable = true\n}}\n"
        );
        let file = program.folder().join("config.hcl");
        fs::write(&file, config).unwrap();
        let home = program.folder().to_owned();
        let program = program.argument("server").variable("HOME", home);
        let server = Server::start_on(port, program.argument("-config").argument(file));
        // The caller is a `LazyLock`, which can't await.
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(Self::initialized(server))
        })
        .join()
        .unwrap()
    }

    async fn initialized(server: Server) -> Self {
        let mut bao = Self {
            server,
            root: String::new(),
            unseal_key: String::new(),
        };
        let keys = bao
            .admin(
                "PUT",
                "sys/init",
                &json!({"secret_shares": 1, "secret_threshold": 1}),
            )
            .await;
        bao.root = text(&keys["root_token"]);
        bao.unseal_key = text(&keys["keys"][0]);
        bao.unseal().await;
        let policy = r#"path "cubbyhole/allowed" { capabilities = ["read", "create", "update"] }
            path "cubbyhole/forbidden" { capabilities = ["deny"] }"#;
        let policy = json!({ "policy": policy });
        bao.admin("PUT", "sys/policies/acl/reports", &policy).await;
        bao
    }

    async fn unseal(&self) {
        let key = json!({ "key": self.unseal_key });
        self.admin("PUT", "sys/unseal", &key).await;
        let start = Instant::now();
        loop {
            let health = HTTP.get(self.server.url("/v1/sys/health"));
            if health.send().await.unwrap().status() == 200 {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "never unsealed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a request with the root token. The request has to succeed.
    async fn admin(&self, method: &str, path: &str, body: &Value) -> Value {
        let method: Method = method.parse().unwrap();
        let request = HTTP
            .request(method, self.server.url(&format!("/v1/{path}")))
            .header("x-vault-token", &self.root)
            .body(body.to_string());
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn address(&self) -> vault::Server {
        vault::Server::new(self.server.url("")).unwrap()
    }

    /// Mounts an auth method of this type at a path of its own.
    async fn mount(&self, kind: &str) -> String {
        let path = format!("{kind}-{:08x}", fastrand::u32(..));
        let body = json!({ "type": kind });
        self.admin("POST", &format!("sys/auth/{path}"), &body).await;
        path
    }

    async fn app_role(&'static self, settings: &Value) -> AppRole {
        let mount = self.mount("approle").await;
        let role = format!("auth/{mount}/role/r");
        self.admin("POST", &role, settings).await;
        let id = self
            .admin("GET", &format!("{role}/role-id"), &Value::Null)
            .await;
        let uses = json!({ "num_uses": USES });
        let secret = format!("{role}/secret-id");
        let secret = self.admin("POST", &secret, &uses).await;
        AppRole {
            bao: self,
            mount,
            role_id: text(&id["data"]["role_id"]),
            secret_id: text(&secret["data"]["secret_id"]),
        }
    }
}

impl AppRole {
    fn login(&self) -> Login {
        let secret_id = self.secret_id.as_str();
        let login = Login::app_role(self.bao.address(), self.role_id.as_str(), secret_id);
        login.mount(&self.mount).unwrap()
    }

    /// Returns how many logins there were.
    async fn logins(&self) -> u64 {
        let path = format!("auth/{}/role/r/secret-id/lookup", self.mount);
        let secret = json!({ "secret_id": self.secret_id });
        let found = self.bao.admin("POST", &path, &secret).await;
        USES - found["data"]["secret_id_num_uses"].as_u64().unwrap()
    }

    async fn revoke(&self, token: &str) {
        let token = json!({ "token": token });
        self.bao.admin("POST", "auth/token/revoke", &token).await;
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn reports(ttl: &str, max_ttl: &str) -> Value {
    json!({ "token_policies": ["reports"], "token_ttl": ttl, "token_max_ttl": max_ttl })
}

fn client(cache: &TokenCache) -> Auth<reqwest::Client> {
    let layer = AuthLayer::from(cache.clone());
    ServiceBuilder::new().layer(layer).service(HTTP.clone())
}

/// Reads what the server says about the request's own token. Each token may do this.
async fn status(client: &Auth<reqwest::Client>, bao: &Bao, path: &str) -> u16 {
    let request = HTTP.get(bao.server.url(&format!("/v1/{path}")));
    let response = client.clone().oneshot(request.build().unwrap()).await;
    response.unwrap().status().as_u16()
}

const OWN: &str = "auth/token/lookup-self";

#[tokio::test]
async fn fifty_callers_are_one_login_of_an_app_role_and_a_revocation_is_one_more() {
    let role = BAO.app_role(&reports("1h", "2h")).await;
    let cache = TokenCache::new(role.login());
    let client = client(&cache);
    let callers = || join_all((0..50).map(|_| status(&client, role.bao, OWN)));
    assert_eq!(callers().await, [200; 50]);
    assert_eq!(role.logins().await, 1);
    let token = cache.token().await.unwrap();
    let auth = token.extra("auth").unwrap();
    assert_eq!(auth["metadata"]["role_name"], "r");

    role.revoke(token.secret()).await;
    assert_eq!(callers().await, [200; 50]);
    assert_eq!(role.logins().await, 2);
}

#[tokio::test]
async fn a_lease_is_renewed_with_the_same_token_until_its_maximum_and_then_there_is_a_login() {
    let role = BAO.app_role(&reports("3s", "6s")).await;
    let cache = TokenCache::new(role.login());
    let client = client(&cache);
    let mut tokens = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(7500) {
        assert_eq!(status(&client, role.bao, OWN).await, 200);
        let token = cache.token().await.unwrap().secret().to_owned();
        if tokens.last().is_none_or(|(last, _)| *last != token) {
            tokens.push((token, start.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Without renewals, the first token would end after 3 s.
    assert_eq!(role.logins().await, 2);
    assert_eq!(tokens.len(), 2);
    assert!(tokens[1].1 > Duration::from_secs(3), "{:?}", tokens[1].1);
}

#[tokio::test]
async fn a_path_that_the_policies_forbid_costs_no_login() {
    let role = BAO.app_role(&reports("1h", "2h")).await;
    let cache = TokenCache::new(role.login());
    let client = client(&cache);
    for _ in 0..100 {
        assert_eq!(status(&client, role.bao, "cubbyhole/forbidden").await, 403);
        assert_eq!(status(&client, role.bao, OWN).await, 200);
    }
    assert_eq!(role.logins().await, 1);
    let request = HTTP.get(role.bao.server.url("/v1/sys/mounts"));
    let response = client.oneshot(request.build().unwrap()).await.unwrap();
    let why = response.extensions().get::<NotReplayed>();
    assert!(why.is_some(), "{response:?}");
}

#[tokio::test]
async fn a_wrong_secret_id_is_an_error_for_the_operator() {
    let role = BAO.app_role(&reports("1h", "2h")).await;
    let login = Login::app_role(role.bao.address(), role.role_id.as_str(), "wrong-secret");
    let login = login.mount(&role.mount).unwrap();
    let error = login.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_permanent() && error.is_denied());
    let shown = error.to_string();
    assert!(shown.contains("invalid role or secret ID"), "{shown}");
    assert!(!shown.contains("wrong-secret"), "{shown}");
}

#[tokio::test]
async fn a_jwt_is_known_by_the_key_that_signed_it() {
    let (mount, key) = (BAO.mount("jwt").await, Key::new());
    let config = json!({ "jwt_validation_pubkeys": [key.public_pem()] });
    let path = format!("auth/{mount}/config");
    BAO.admin("POST", &path, &config).await;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"],
        "token_policies": ["reports"], "token_ttl": "1h",
    });
    let path = format!("auth/{mount}/role/ci");
    BAO.admin("POST", &path, &role).await;
    let login = |key: &Key| {
        let jwt = SignedJwt::new(key.signing())
            .issuer("ci")
            .subject("job-7")
            .audience("vault");
        let login = Login::jwt(BAO.address(), "ci", SecretSource::from(jwt));
        login.mount(&mount).unwrap()
    };
    let cache = TokenCache::new(login(&key));
    assert_eq!(status(&client(&cache), &BAO, OWN).await, 200);
    let forged = login(&Key::new()).fetch(Reason::First).await;
    assert!(forged.unwrap_err().is_permanent());
}

#[tokio::test]
async fn a_pod_logs_in_with_a_token_of_its_cluster() {
    let mount = BAO.mount("kubernetes").await;
    let config = json!({
        "kubernetes_host": url(""), "kubernetes_ca_cert": AUTHORITY.root(),
        "disable_local_ca_jwt": true, "token_reviewer_jwt": mounted_token("reviewer").await,
    });
    let path = format!("auth/{mount}/config");
    BAO.admin("POST", &path, &config).await;
    let role = json!({
        "bound_service_account_names": ["reports"], "bound_service_account_namespaces": ["prod"],
        "audience": "vault", "token_policies": ["reports"], "token_ttl": "1h",
    });
    let path = format!("auth/{mount}/role/reports");
    BAO.admin("POST", &path, &role).await;
    let pod = Pod::of("pod").await;
    let account = ServiceAccount::from_vars(Pod::variables()).unwrap();
    let account = account.token_file(pod.token_file());
    let jwt = TokenRequest::new(url(""), "prod", "reports", account).unwrap();
    let transport = ReqwestTransport::new(IN_CLUSTER.clone());
    let jwt = jwt.audience("vault").transport(transport);
    let login = Login::jwt(BAO.address(), "reports", jwt).mount(&mount);
    let cache = TokenCache::new(login.unwrap());
    assert_eq!(status(&client(&cache), &BAO, OWN).await, 200);
    let token = cache.token().await.unwrap();
    let auth = token.extra("auth").unwrap();
    assert_eq!(auth["metadata"]["service_account_name"], "reports");

    // The pod's own token is for another audience.
    let jwt = SecretSource::file(pod.token_file());
    let login = Login::jwt(BAO.address(), "reports", jwt).mount(&mount);
    let error = login.unwrap().fetch(Reason::First).await.unwrap_err();
    assert!(error.is_permanent(), "{error}");
}

#[tokio::test]
async fn a_sealed_server_is_a_transient_error_and_the_token_is_valid_afterwards() {
    let bao: &'static Bao = Box::leak(Box::new(Bao::start()));
    let role = bao.app_role(&reports("1h", "2h")).await;
    let cache = TokenCache::new(role.login());
    let client = client(&cache);
    assert_eq!(status(&client, bao, OWN).await, 200);
    bao.admin("PUT", "sys/seal", &json!({})).await;
    assert_eq!(status(&client, bao, OWN).await, 503);
    let error = role.login().fetch(Reason::First).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("sealed"), "{error}");
    bao.unseal().await;
    assert_eq!(status(&client, bao, OWN).await, 200);
    assert_eq!(role.logins().await, 1);
}

#[tokio::test]
async fn a_token_is_revoked_when_the_cache_is_closed() {
    let role = BAO.app_role(&reports("1h", "2h")).await;
    let cache = TokenCache::new(role.login().revoke_on_close());
    let token = cache.token().await.unwrap();
    cache.close().await;
    let request = HTTP.get(role.bao.server.url(&format!("/v1/{OWN}")));
    let request = request.header("x-vault-token", token.secret());
    assert_eq!(request.send().await.unwrap().status(), 403);
}
