//! The servers of Google Cloud that issue tokens, as strict as Google's documentation. The tests
//! `interop` let Google's own clients get tokens from these servers too.
//!
//! Sources:
//! - <https://cloud.google.com/compute/docs/metadata/querying-metadata>
//! - <https://cloud.google.com/compute/docs/access/authenticate-workloads>
//! - <https://cloud.google.com/compute/docs/instances/verifying-instance-identity>
//! - <https://developers.google.com/identity/protocols/oauth2/service-account>
//! - <https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token>
//! - <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken>

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde_json::{Value, json};
use tower_auth_test::{RecordedRequest, ScriptedResponse, ScriptedServer};

/// The service account of the machine, of the key and of the impersonation.
pub(crate) const EMAIL: &str = "robot@project.iam.gserviceaccount.com";
pub(crate) const KEY_ID: &str = "c0ffee";
/// An account on the way to [`EMAIL`].
pub(crate) const DELEGATE: &str =
    "projects/-/serviceAccounts/between@project.iam.gserviceaccount.com";

pub(crate) const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
pub(crate) const STS_URL: &str = "https://sts.googleapis.com/v1/token";
pub(crate) const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// A person's login.
pub(crate) const CLIENT_ID: &str = "gcloud.apps.googleusercontent.com";
pub(crate) const CLIENT_SECRET: &str = "planted-secret-of-gcloud";
pub(crate) const REFRESH_TOKEN: &str = "1//planted-refresh-token";

/// The identity of another provider.
pub(crate) const POOL: &str = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/pool/providers/provider";
pub(crate) const WORKFORCE_POOL: &str =
    "//iam.googleapis.com/locations/global/workforcePools/pool/providers/provider";
pub(crate) const SUBJECT: &str = "planted-subject-token";
pub(crate) const SUBJECT_URL: &str =
    "http://169.254.169.254/metadata/identity/oauth2/token?resource=pool";
pub(crate) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Returns the URL that issues a token of [`EMAIL`].
pub(crate) fn impersonation_url() -> String {
    format!(
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
    )
}

/// The file of a service account with this key.
pub(crate) fn service_account(private_key: &str) -> Value {
    json!({
        "type": "service_account", "project_id": "project", "private_key_id": KEY_ID,
        "private_key": private_key, "client_email": EMAIL, "client_id": "1234567890",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": TOKEN_URL,
        "universe_domain": "googleapis.com",
    })
}

/// The file of a person's login.
pub(crate) fn person() -> Value {
    json!({
        "type": "authorized_user", "account": "", "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET, "refresh_token": REFRESH_TOKEN,
        "quota_project_id": "paying-project", "universe_domain": "googleapis.com",
    })
}

/// The file of an account that may impersonate [`EMAIL`].
pub(crate) fn impersonated(source: &Value) -> Value {
    json!({
        "type": "impersonated_service_account", "delegates": [DELEGATE],
        "service_account_impersonation_url": impersonation_url(), "source_credentials": source,
    })
}

/// The file of another provider's identity.
pub(crate) fn external(credential_source: &Value) -> Value {
    json!({
        "type": "external_account", "audience": POOL, "subject_token_type": JWT,
        "token_url": STS_URL, "credential_source": credential_source,
        "universe_domain": "googleapis.com",
    })
}

/// The source of a subject token at [`SUBJECT_URL`].
pub(crate) fn subject_at_url() -> Value {
    let format = json!({"type": "json", "subject_token_field_name": "access_token"});
    json!({"url": SUBJECT_URL, "headers": {"Metadata": "True"}, "format": format})
}

/// Returns the file with this field.
pub(crate) fn with(mut file: Value, name: &str, value: impl Into<Value>) -> Value {
    file[name] = value.into();
    file
}

/// Starts the servers. The machine signs ID tokens with the key, and the service account signs its
/// assertions with the same key.
pub(crate) fn server(private_key: &'static str, public_key: &'static str) -> ScriptedServer {
    ScriptedServer::new(move |request| {
        match host(request).as_str() {
            "oauth2.googleapis.com" => token_endpoint(request, public_key),
            "sts.googleapis.com" => exchange(request),
            "iamcredentials.googleapis.com" => impersonate(request),
            "169.254.169.254" if request.path().starts_with("/metadata/") => subject(request),
            "metadata.google.internal" | "127.0.0.1" | "169.254.169.254" => {
                metadata(request, private_key)
            }
            // Google's client for Python requests the name of the project here.
            "cloudresourcemanager.googleapis.com" => refuse(403, "PERMISSION_DENIED", "no"),
            other => panic!("nobody is {other}"),
        }
    })
}

fn host(request: &RecordedRequest) -> String {
    let host = request.uri().host().map(str::to_owned);
    let host = host.or_else(|| request.header("host").map(str::to_owned));
    let host = host.unwrap_or_default();
    host.split(':').next().unwrap_or_default().to_owned()
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// An error of Google's APIs (AIP-193).
fn refuse(status: u16, code: &str, message: &str) -> ScriptedResponse {
    let error = json!({"error": {"code": status, "message": message, "status": code}});
    ScriptedResponse::json(status, error)
}

/// An error of a token endpoint (RFC 6749 §5.2).
fn deny(code: &str, description: &str) -> ScriptedResponse {
    ScriptedResponse::json(
        400,
        json!({"error": code, "error_description": description}),
    )
}

/// Returns the name of a token: which identity has which scopes.
fn token(identity: &str, scope: &str) -> String {
    let scopes = scope.split([' ', ',']);
    let scopes = scopes.map(|scope| scope.rsplit('/').next().unwrap_or_default());
    format!("ya29.{identity}.{}", scopes.collect::<Vec<_>>().join("+"))
}

fn metadata(request: &RecordedRequest, private_key: &str) -> ScriptedResponse {
    let respond = |status, kind: &str, body: String| {
        ScriptedResponse::new(status)
            .header("metadata-flavor", "Google")
            .header("server", "Metadata Server for VM")
            .header("content-type", kind)
            .body(body)
    };
    let refuse = |status| respond(status, "text/html; charset=UTF-8", String::from("<html>"));
    if request.method() != "GET" {
        return refuse(405);
    }
    let flavor = request.header("metadata-flavor") == Some("Google");
    if request.path() != "/" && (!flavor || request.header("x-forwarded-for").is_some()) {
        return refuse(403);
    }
    let query: HashMap<String, String> =
        form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let only = |names: &[&str]| query.keys().all(|name| names.contains(&name.as_str()));
    let path = request.path().strip_prefix("/computeMetadata/v1/");
    let place = path.and_then(|path| path.strip_prefix("instance/service-accounts/"));
    let Some((account, what)) = place.and_then(|place| place.split_once('/')) else {
        return match path {
            Some("universe/universe-domain") => {
                respond(200, "application/text", "googleapis.com".into())
            }
            Some("project/project-id") => respond(200, "application/text", "project".into()),
            // Google's client for Node.js checks whether this folder exists.
            Some("instance") => respond(200, "application/text", "service-accounts/".into()),
            _ if request.path() == "/" => {
                respond(200, "application/text", "computeMetadata/".into())
            }
            _ => refuse(404),
        };
    };
    if account != "default" && account.replace("%40", "@") != EMAIL {
        return refuse(404);
    }
    let json = |body: Value| respond(200, "application/json", body.to_string());
    match what {
        "" if query.contains_key("recursive") => {
            json(json!({"aliases": ["default"], "email": EMAIL, "scopes": [CLOUD_PLATFORM]}))
        }
        "token" if only(&["scopes"]) => {
            let scopes = query.get("scopes").map_or(CLOUD_PLATFORM, String::as_str);
            assert!(
                !scopes.contains(' '),
                "scopes have commas between them: {scopes}"
            );
            json(json!({
                "access_token": token("machine", scopes), "expires_in": 3599, "token_type": "Bearer",
            }))
        }
        "identity" if only(&["audience", "format", "licenses"]) => {
            let format = query.get("format").map_or("standard", String::as_str);
            let Some(audience) = query
                .get("audience")
                .filter(|_| ["full", "standard"].contains(&format))
            else {
                return refuse(400);
            };
            let claims = json!({
                "iss": "https://accounts.google.com", "aud": audience, "azp": "1234567890",
                "sub": "1234567890", "email": EMAIL, "email_verified": true,
                "iat": now(), "exp": now() + 3600,
            });
            let key = EncodingKey::from_rsa_pem(private_key.as_bytes()).unwrap();
            let jwt = encode(&Header::new(Algorithm::RS256), &claims, &key).unwrap();
            respond(200, "text/html", jwt)
        }
        _ => refuse(400),
    }
}

fn token_endpoint(request: &RecordedRequest, public_key: &str) -> ScriptedResponse {
    if (request.method().as_str(), request.path()) != ("POST", "/token") {
        return refuse(404, "NOT_FOUND", "nothing here");
    }
    let form = request.params();
    let field = |name: &str| form.get(name).map(String::as_str);
    let secret = match field("grant_type") {
        Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => {
            match signed(field("assertion").unwrap_or_default(), public_key) {
                Ok(scope) => token("key", &scope),
                Err(why) => return deny("invalid_grant", &why),
            }
        }
        Some("refresh_token") => {
            let id = (field("client_id"), field("client_secret"));
            if id != (Some(CLIENT_ID), Some(CLIENT_SECRET)) {
                return deny("invalid_client", "unknown client");
            }
            if field("refresh_token") != Some(REFRESH_TOKEN) {
                return deny("invalid_grant", "Token has been expired or revoked.");
            }
            token("person", field("scope").unwrap_or("of-the-login"))
        }
        _ => return deny("unsupported_grant_type", "Invalid grant_type"),
    };
    ScriptedResponse::json(
        200,
        json!({"access_token": secret, "expires_in": 3599, "token_type": "Bearer"}),
    )
}

/// Checks the assertion of a service account, and returns its scope.
fn signed(assertion: &str, public_key: &str) -> Result<String, String> {
    let key = DecodingKey::from_rsa_pem(public_key.as_bytes()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[TOKEN_URL]);
    validation.set_issuer(&[EMAIL]);
    let jwt = decode::<Value>(assertion, &key, &validation).map_err(|error| error.to_string())?;
    if jwt.header.kid.as_deref() != Some(KEY_ID) || jwt.header.typ.as_deref() != Some("JWT") {
        return Err(String::from("the header has no `kid` or no `typ`"));
    }
    let number = |name: &str| jwt.claims[name].as_u64().unwrap_or_default();
    let (iat, exp) = (number("iat"), number("exp"));
    if iat > now() || exp > iat + 3600 {
        return Err(String::from(
            "Token must be a short-lived token (60 minutes)",
        ));
    }
    match jwt.claims["scope"].as_str() {
        Some(scope) if !scope.is_empty() => Ok(scope.to_owned()),
        _ => Err(String::from("the assertion has no `scope`")),
    }
}

fn exchange(request: &RecordedRequest) -> ScriptedResponse {
    if (request.method().as_str(), request.path()) != ("POST", "/v1/token") {
        return refuse(404, "NOT_FOUND", "nothing here");
    }
    let form = request.params();
    let field = |name: &str| form.get(name).map(String::as_str);
    for (name, value) in [
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        (
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        ("subject_token_type", JWT),
    ] {
        if field(name) != Some(value) {
            return deny("invalid_request", &format!("Invalid value for {name}"));
        }
    }
    let known = [Some(POOL), Some(WORKFORCE_POOL)];
    if !known.contains(&field("audience")) {
        return deny("invalid_target", "The target service is invalid");
    }
    if field("subject_token") != Some(SUBJECT) {
        return deny("invalid_grant", "ID Token issued at is stale to sign-in.");
    }
    if let Some(options) = field("options") {
        let options = percent_encoding::percent_decode_str(options)
            .decode_utf8()
            .unwrap();
        let options: Value = serde_json::from_str(&options).unwrap();
        assert_eq!(options, json!({"userProject": "123456"}));
    }
    if request.header("authorization").is_some() {
        assert_eq!(
            request.basic(),
            Some((CLIENT_ID.into(), CLIENT_SECRET.into()))
        );
    }
    let Some(scope) = field("scope") else {
        return deny("invalid_scope", "the scope is empty");
    };
    ScriptedResponse::json(
        200,
        json!({
            "access_token": token("federated", scope), "expires_in": 3599, "token_type": "Bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }),
    )
}

fn impersonate(request: &RecordedRequest) -> ScriptedResponse {
    let path = format!("/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken");
    if request.method() != "POST" || request.path() != path {
        return refuse(404, "NOT_FOUND", "Not found; Gaia id not found for email");
    }
    let source = request.token().unwrap_or_default();
    let scopes = source.rsplit('.').next().unwrap_or_default();
    if !source.starts_with("ya29.") {
        return refuse(
            401,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials.",
        );
    }
    // A person's login may contain any scope.
    if !["iam", "cloud-platform", "of-the-login"].contains(&scopes) {
        return refuse(
            403,
            "PERMISSION_DENIED",
            "Request had insufficient authentication scopes.",
        );
    }
    let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    let scope = body["scope"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let scope: Option<Vec<&str>> = scope.iter().map(Value::as_str).collect();
    let lifetime = body["lifetime"]
        .as_str()
        .and_then(|text| text.strip_suffix('s')?.parse().ok());
    let delegates = match &body["delegates"] {
        Value::Null => &[][..],
        Value::Array(delegates) => delegates,
        _ => return refuse(400, "INVALID_ARGUMENT", "delegates"),
    };
    let (Some(scope), Some(1..=3600)) = (scope, lifetime) else {
        return refuse(
            400,
            "INVALID_ARGUMENT",
            "Request contains an invalid argument.",
        );
    };
    if scope.is_empty() || delegates.iter().any(|delegate| delegate != DELEGATE) {
        return refuse(400, "INVALID_ARGUMENT", "Scope required.");
    }
    let lifetime: u64 = lifetime.unwrap_or_default();
    let by = source.split('.').nth(1).unwrap_or_default();
    let identity = format!("impersonated-by-{by}");
    let seconds = now() + lifetime;
    ScriptedResponse::json(
        200,
        json!({"accessToken": token(&identity, &scope.join(" ")), "expireTime": rfc3339(seconds)}),
    )
}

/// Writes a time as Google does, such as `2026-11-28T22:00:00Z`.
fn rfc3339(seconds: u64) -> String {
    // An HTTP date has the same parts: `Sat, 28 Nov 2026 22:00:00 GMT`.
    let date = httpdate::fmt_http_date(UNIX_EPOCH + std::time::Duration::from_secs(seconds));
    let parts: Vec<&str> = date.split_whitespace().collect();
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = MONTHS.find(parts[2]).unwrap() / 3 + 1;
    format!("{}-{month:02}-{}T{}Z", parts[3], parts[1], parts[4])
}

/// Another cloud's metadata server, from which an external account gets its subject token.
fn subject(request: &RecordedRequest) -> ScriptedResponse {
    let is_right = request.method() == "GET"
        && request.header("metadata") == Some("True")
        && request.uri().query() == Some("resource=pool");
    match is_right {
        true => ScriptedResponse::json(200, json!({"access_token": SUBJECT, "client_id": "x"})),
        false => ScriptedResponse::json(400, json!({"error": "invalid_request"})),
    }
}
