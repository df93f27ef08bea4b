//! The token services of Azure, written from Microsoft's documentation. They reject each request
//! that differs from this documentation. The tests of `interop` let Microsoft's own client
//! use the same servers.
//!
//! - "How to use managed identities for Azure resources on an Azure VM to acquire an access token",
//!   27 February 2025
//! - "Use managed identities for App Service and Azure Functions", 27 March 2025
//! - "Access Azure resources by using managed identity on Azure Arc-enabled servers", 5 February
//!   2026
//! - "Microsoft identity platform and the OAuth 2.0 client credentials flow", third case: with a
//!   federated credential

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tower_auth_test::{RecordedRequest, ScriptedResponse, ScriptedServer};

pub(crate) const RESOURCE: &str = "https://vault.azure.net";

/// The identity without a parameter, and the identity that the ids choose.
pub(crate) const SYSTEM: &str = "the-system-assigned-identity";
pub(crate) const CLIENT_ID: &str = "5e29463d-71da-4fe0-8e69-999b57db23b0";
pub(crate) const OBJECT_ID: &str = "aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb";
pub(crate) const RESOURCE_ID: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/reports";

/// The path of the metadata server and of Azure Arc's agent.
pub(crate) const METADATA_PATH: &str = "/metadata/identity/oauth2/token";

/// The lifetime of tokens, in seconds.
pub(crate) const LIFETIME: u64 = 86_399;

/// A refusal. It is boxed so that the `Result` types stay small.
type Refused = Box<ScriptedResponse>;

fn refuse(status: u16, error: &str, description: &str) -> Refused {
    let body = json!({"error": error, "error_description": description});
    ScriptedResponse::json(status, body).into()
}

/// The parameters of a request.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &RecordedRequest) -> Result<Self, Refused> {
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query).into_owned().collect();
        let mut names: Vec<_> = pairs.iter().map(|(name, _)| name).collect();
        names.sort();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(refuse(400, "invalid_request", "a parameter occurs twice"));
        }
        Ok(Self(pairs))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        let found = pairs.find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Reads the parameters, and returns the resource and the identity. `ids` has the names of the
    /// parameters for the three ids.
    fn read(&self, versions: &[&str], ids: [&str; 3]) -> Result<(String, Option<String>), Refused> {
        let invalid = |text: &str| refuse(400, "invalid_request", text);
        let version = self.get("api-version").unwrap_or_default();
        if !versions.contains(&version) {
            return Err(invalid("the version isn't supported"));
        }
        let known = |name: &str| ["api-version", "resource"].contains(&name) || ids.contains(&name);
        if let Some((name, _)) = self.0.iter().find(|(name, _)| !known(name)) {
            return Err(invalid(&format!("unknown parameter {name}")));
        }
        let resource = self.get("resource").unwrap_or_default();
        if !resource.contains(':') || resource.ends_with("/.default") {
            let text = format!("AADSTS50001: The application named {resource} wasn't found");
            return Err(refuse(400, "invalid_resource", &text));
        }
        let chosen: Vec<_> = ids.iter().filter(|id| self.get(id).is_some()).collect();
        let identity = match chosen[..] {
            [] => None,
            [name] => {
                let id = self.get(name).unwrap();
                let at = ids.iter().position(|id| id == name).unwrap();
                if id != [CLIENT_ID, OBJECT_ID, RESOURCE_ID][at] {
                    return Err(invalid("Identity not found"));
                }
                Some((*name).to_owned())
            }
            _ => return Err(invalid("more than one identity")),
        };
        Ok((resource.to_owned(), identity))
    }
}

fn require(request: &RecordedRequest, name: &str, value: &str) -> Result<(), Refused> {
    if request.method() != http::Method::GET {
        return Err(ScriptedResponse::new(405).into());
    }
    if request.header(name) == Some(value) {
        return Ok(());
    }
    Err(match name {
        "metadata" => {
            let text = "Required metadata header not specified";
            refuse(400, "bad_request_102", text)
        }
        _ => ScriptedResponse::json(401, json!({"statusCode": 401, "message": "Unauthorized"}))
            .into(),
    })
}

pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// The token of an identity for a resource.
pub(crate) fn token_for(identity: Option<&str>, resource: &str) -> String {
    format!("{}@{resource}", identity.unwrap_or(SYSTEM))
}

fn server(
    respond: impl Fn(&RecordedRequest) -> Result<Value, Refused> + Send + Sync + 'static,
) -> ScriptedServer {
    ScriptedServer::new(move |request| match respond(request) {
        Ok(issued) => ScriptedResponse::json(200, issued),
        Err(refused) => *refused,
    })
}

/// The metadata server of a virtual machine (IMDS).
pub(crate) fn metadata() -> ScriptedServer {
    server(|request| {
        if request.path() != METADATA_PATH {
            return Err(ScriptedResponse::new(404).into());
        }
        require(request, "metadata", "true")?;
        if request.header("x-forwarded-for").is_some() {
            return Err(refuse(400, "invalid_request", "sent through a proxy"));
        }
        let ids = ["client_id", "object_id", "msi_res_id"];
        let (resource, identity) = Query::of(request)?.read(&["2018-02-01"], ids)?;
        Ok(json!({
            "access_token": token_for(identity.as_deref(), &resource), "refresh_token": "",
            "expires_in": LIFETIME.to_string(), "expires_on": (now() + LIFETIME).to_string(),
            "ext_expires_in": LIFETIME.to_string(), "not_before": (now() - 300).to_string(),
            "resource": resource, "token_type": "Bearer",
        }))
    })
}

/// The endpoint of App Service, Functions and Container Apps.
pub(crate) fn app_service(secret: &'static str) -> ScriptedServer {
    server(move |request| {
        require(request, "x-identity-header", secret)?;
        let ids = ["client_id", "object_id", "mi_res_id"];
        let (resource, identity) = Query::of(request)?.read(&["2019-08-01"], ids)?;
        Ok(json!({
            "access_token": token_for(identity.as_deref(), &resource),
            "expires_on": (now() + LIFETIME).to_string(), "resource": resource,
            "token_type": "Bearer", "client_id": CLIENT_ID,
        }))
    })
}

/// The endpoint of the protocol of 2017, which Machine Learning still uses.
pub(crate) fn version_2017(secret: &'static str) -> ScriptedServer {
    server(move |request| {
        require(request, "secret", secret)?;
        let ids = ["clientid", "", ""];
        let (resource, identity) = Query::of(request)?.read(&["2017-09-01"], ids)?;
        Ok(json!({
            "access_token": token_for(identity.as_deref(), &resource),
            "expires_on": (now() + LIFETIME).to_string(), "resource": resource,
            "token_type": "Bearer",
        }))
    })
}

/// The agent of Azure Arc. It accepts each key only once.
pub(crate) fn arc(folder: PathBuf) -> ScriptedServer {
    let keys: Mutex<Vec<String>> = Mutex::default();
    server(move |request| {
        require(request, "metadata", "true")?;
        let ids = ["client_id", "object_id", "msi_res_id"];
        let (resource, identity) = Query::of(request)?.read(&["2020-06-01"], ids)?;
        let mut keys = keys.lock().unwrap();
        let sent = request.header("authorization").unwrap_or_default();
        let sent = sent.strip_prefix("Basic ").unwrap_or_default();
        let Some(at) = keys.iter().position(|key| key == sent) else {
            let key = format!("{:032x}", fastrand::u128(..));
            let file = folder.join(format!("{:032x}.key", fastrand::u128(..)));
            fs::write(&file, &key).unwrap();
            keys.push(key);
            let realm = format!("Basic realm={}", file.display());
            let challenge = ScriptedResponse::new(401).header("www-authenticate", realm);
            return Err(challenge.into());
        };
        keys.remove(at);
        let mut issued = json!({
            "access_token": token_for(identity.as_deref(), &resource),
            "expires_in": LIFETIME.to_string(), "expires_on": (now() + LIFETIME).to_string(),
            "not_before": now().to_string(), "resource": resource, "token_type": "Bearer",
        });
        if let Some(name) = identity {
            let id = match name.as_str() {
                "client_id" => CLIENT_ID,
                "object_id" => OBJECT_ID,
                _ => RESOURCE_ID,
            };
            issued[name] = id.to_uppercase().into();
        }
        Ok(issued)
    })
}

pub(crate) const TENANT: &str = "contoso.onmicrosoft.com";
const SUBJECT: &str = "system:serviceaccount:shop:orders";
const ISSUER: &str = "https://cluster.example.com/";
const AUDIENCE: &str = "api://AzureADTokenExchange";

/// A Kubernetes cluster, which signs the tokens of its pods.
pub(crate) struct Cluster {
    pair: KeyPair,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self { pair }
    }

    /// Signs a token of the pod.
    pub(crate) fn token(&self) -> String {
        let claims = json!({
            "iss": ISSUER, "sub": SUBJECT, "aud": [AUDIENCE], "iat": now(), "exp": now() + 3600,
        });
        let key = EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key.unwrap()).unwrap()
    }

    /// Microsoft Entra, which trusts this cluster.
    pub(crate) fn entra(&self) -> ScriptedServer {
        let key = DecodingKey::from_ec_pem(self.pair.public_key_pem().as_bytes()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.sub = Some(SUBJECT.to_owned());
        server(move |request| {
            if request.path() != format!("/{TENANT}/oauth2/v2.0/token") {
                return Err(ScriptedResponse::new(404).into());
            }
            let form = request.form();
            let get = |name: &str| {
                let mut found = form.iter().filter(|(other, _)| other == name);
                match (found.next(), found.next()) {
                    (Some((_, value)), None) => value.as_str(),
                    _ => "",
                }
            };
            let bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            if get("grant_type") != "client_credentials"
                || get("client_assertion_type") != bearer
                || form.len() != 5
            {
                return Err(refuse(400, "invalid_request", "AADSTS900144: …"));
            }
            if get("client_id") != CLIENT_ID {
                return Err(refuse(401, "unauthorized_client", "AADSTS700016: …"));
            }
            let assertion = get("client_assertion");
            if jsonwebtoken::decode::<Value>(assertion, &key, &validation).is_err() {
                let text = "AADSTS700213: No matching federated identity record found";
                return Err(refuse(401, "invalid_client", text));
            }
            let Some(resource) = get("scope").strip_suffix("/.default") else {
                return Err(refuse(400, "invalid_scope", "AADSTS1002012: …"));
            };
            Ok(json!({
                "token_type": "Bearer", "expires_in": LIFETIME, "ext_expires_in": LIFETIME,
                "refresh_in": 43_199, "access_token": token_for(Some(CLIENT_ID), resource),
            }))
        })
    }
}
