//! The formats in which a program prints a credential.

use std::borrow::Cow;
use std::time::SystemTime;

use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, Kind};
use crate::http_client::body_value::{BodyValue, Malformed, parse_json, without_marks};
use crate::http_client::json_pointer;
use crate::platform::timestamp;
use crate::token::redact::Redactor;

/// The format in which a [`Command`](crate::platform::Command) prints a credential.
///
/// # Example
///
/// ```
/// use tower_auth::platform::{Command, CommandFormat};
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let format = CommandFormat::json("/credential/access_token")?
///     .expires_at("/credential/token_expiry")?;
/// let gcloud = Command::new("gcloud")
///     .args(["config", "config-helper", "--format=json"])
///     .format(format);
///
/// let format = CommandFormat::json("/accessToken")?.expires_at("/expires_on")?;
/// let az = Command::new("az")
///     .args(["account", "get-access-token", "--output=json"])
///     .format(format);
///
/// let eks = Command::new("aws")
///     .args(["eks", "get-token", "--cluster-name", "prod", "--output=json"])
///     .format(CommandFormat::exec_credential_v1beta1());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct CommandFormat(Format);

#[derive(Clone, Debug)]
enum Format {
    Text,
    ExecCredential {
        api_version: &'static str,
    },
    GoogleExecutable {
        audience: String,
        token_type: String,
    },
    Json {
        token: String,
        expires_at: Option<String>,
    },
}

/// A credential that a program printed.
pub(crate) struct Credential {
    pub(crate) secret: SecretString,
    pub(crate) expires_at: Option<SystemTime>,
}

/// Why an output contains no credential.
pub(crate) type Objection = Cow<'static, str>;

impl CommandFormat {
    /// The program prints the token and nothing else. White space around the token is ignored. This
    /// is the default.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::{Command, CommandFormat};
    ///
    /// let token = Command::new("gh").args(["auth", "token"]).format(CommandFormat::text());
    /// ```
    pub fn text() -> Self {
        Self(Format::Text)
    }

    /// The program prints an `ExecCredential` of Kubernetes, in the version
    /// `client.authentication.k8s.io/v1`. A kubeconfig names such a program in `exec`. The program
    /// gets its input in the variable `KUBERNETES_EXEC_INFO`.
    ///
    /// The token expires at `expirationTimestamp`. A client certificate without a token is an error.
    ///
    /// | field of `exec` | setting |
    /// | --- | --- |
    /// | `command`, `args` | [`Command::new`](crate::platform::Command::new), [`args`](crate::platform::Command::args) |
    /// | `apiVersion` | this method, or [`exec_credential_v1beta1`](Self::exec_credential_v1beta1) |
    /// | `env` | [`env`](crate::platform::Command::env). `kubectl` also passes its own variables: name those that the program needs in [`pass_env`](crate::platform::Command::pass_env) |
    /// | `provideClusterInfo: true` | `env("KUBERNETES_EXEC_INFO", …)` with an `ExecCredential` whose `spec.cluster` describes the cluster |
    /// | `interactiveMode` | `Never` and `IfAvailable` work. `Always` doesn't, because the program gets no input |
    /// | `installHint` | none: the text is for a person |
    ///
    /// Source: [Kubernetes, client-go credential plugins][k8s] (2026).
    ///
    /// [k8s]: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::{Command, CommandFormat};
    ///
    /// let token = Command::new("kubelogin")
    ///     .arg("get-token")
    ///     .format(CommandFormat::exec_credential_v1());
    /// ```
    pub fn exec_credential_v1() -> Self {
        Self(Format::ExecCredential {
            api_version: "client.authentication.k8s.io/v1",
        })
    }

    /// The same as [`exec_credential_v1`](Self::exec_credential_v1), but in the older version
    /// `client.authentication.k8s.io/v1beta1`.
    pub fn exec_credential_v1beta1() -> Self {
        Self(Format::ExecCredential {
            api_version: "client.authentication.k8s.io/v1beta1",
        })
    }

    /// The program prints a subject token in Google's format for executable-sourced credentials.
    /// The program gets the variables `GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE`,
    /// `GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE` and `GOOGLE_EXTERNAL_ACCOUNT_INTERACTIVE` (`0`).
    ///
    /// This crate's cache replaces Google's output file. If the program keeps a cache of its own in
    /// that file, set `GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE` with
    /// [`Command::env`](crate::platform::Command::env). If the program impersonates a service account, also
    /// set `GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL`.
    ///
    /// The token expires at `expiration_time`. A printed failure (`"success": false`) is an error
    /// that shows its `code` and `message`.
    ///
    /// Source: [AIP-4117, Google's external accounts][aip].
    ///
    /// [aip]: https://google.aip.dev/auth/4117
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::{Command, CommandFormat};
    ///
    /// let subject = Command::new("/usr/local/bin/workload-token").format(
    ///     CommandFormat::google_executable(
    ///         "//iam.googleapis.com/projects/1/locations/global/\
    ///          workloadIdentityPools/p/providers/q",
    ///         "urn:ietf:params:oauth:token-type:jwt",
    ///     ),
    /// );
    /// ```
    pub fn google_executable(audience: impl Into<String>, token_type: impl Into<String>) -> Self {
        Self(Format::GoogleExecutable {
            audience: audience.into(),
            token_type: token_type.into(),
        })
    }

    /// The program prints JSON, with the token at a JSON pointer (RFC 6901).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the text isn't a JSON pointer to a field.
    pub fn json(token: impl Into<String>) -> Result<Self, Error> {
        Ok(Self(Format::Json {
            token: json_pointer::checked(token.into())?,
            expires_at: None,
        }))
    }

    /// Sets the JSON pointer to the token's expiry: a time in RFC 3339, or a number of seconds since
    /// 1970. Default: the `exp` claim if the token is a JWT; otherwise, none.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the text isn't a JSON pointer to a field, or if the format
    /// isn't [`json`](Self::json).
    pub fn expires_at(mut self, pointer: impl Into<String>) -> Result<Self, Error> {
        match &mut self.0 {
            Format::Json { expires_at, .. } => {
                *expires_at = Some(json_pointer::checked(pointer.into())?);
                Ok(self)
            }
            _ => {
                let message = "only the format `CommandFormat::json` has a field for the expiry";
                Err(Error::new(Kind::Config, message))
            }
        }
    }

    /// Returns the variables that the format defines.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        match &self.0 {
            Format::Text | Format::Json { .. } => Vec::new(),
            Format::ExecCredential { api_version } => {
                let info = serde_json::json!({
                    "apiVersion": api_version,
                    "kind": "ExecCredential",
                    "spec": { "interactive": false },
                });
                vec![("KUBERNETES_EXEC_INFO", info.to_string())]
            }
            Format::GoogleExecutable {
                audience,
                token_type,
            } => vec![
                ("GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE", audience.clone()),
                ("GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE", token_type.clone()),
                ("GOOGLE_EXTERNAL_ACCOUNT_INTERACTIVE", String::from("0")),
            ],
        }
    }

    /// Returns whether a program that failed may have printed the reason.
    pub(super) fn reports_failures(&self) -> bool {
        matches!(self.0, Format::GoogleExecutable { .. })
    }

    /// Reads the output. `redactor` hides the secrets of the program's environment.
    pub(crate) fn read(&self, output: &[u8], redactor: &Redactor) -> Result<Credential, Objection> {
        let json = || {
            let parsed = parse_json(output);
            match parsed.malformed {
                None => Ok(parsed.value),
                Some(Malformed::Empty) => Err("is empty".into()),
                Some(malformed) => Err(malformed.what(redactor)),
            }
        };
        match &self.0 {
            Format::Text => read_text(output),
            Format::ExecCredential { api_version } => read_exec_credential(&json()?, api_version),
            Format::GoogleExecutable { .. } => read_google(&json()?, redactor),
            Format::Json { token, expires_at } => {
                let value = json()?;
                Ok(Credential {
                    secret: secret(&value, token)?,
                    expires_at: match expires_at {
                        Some(pointer) => time(&value, pointer)?,
                        None => None,
                    },
                })
            }
        }
    }
}

impl Default for CommandFormat {
    fn default() -> Self {
        Self::text()
    }
}

fn read_text(output: &[u8]) -> Result<Credential, Objection> {
    let text = std::str::from_utf8(without_marks(output)).map_err(|_| "isn't UTF-8")?;
    match text.trim() {
        "" => Err("is empty".into()),
        token => Ok(Credential {
            secret: SecretString::from(token),
            expires_at: None,
        }),
    }
}

fn read_exec_credential(value: &BodyValue, api_version: &str) -> Result<Credential, Objection> {
    if text(value, "/kind")? != Some("ExecCredential") {
        return Err("isn't an `ExecCredential`".into());
    }
    if text(value, "/apiVersion")? != Some(api_version) {
        let other = match api_version {
            "client.authentication.k8s.io/v1" => "v1beta1",
            _ => "v1",
        };
        let what = format!(
            "has another `apiVersion` than `{api_version}`; to read {other}, use \
             `CommandFormat::exec_credential_{other}`"
        );
        return Err(what.into());
    }
    let token = text(value, "/status/token")?.filter(|token| !token.is_empty());
    let certificate = text(value, "/status/clientCertificateData")?;
    if token.is_none() && certificate.is_some() {
        return Err(
            "contains a client certificate instead of a token; configure the certificate in the \
             TLS settings of the HTTP client"
                .into(),
        );
    }
    Ok(Credential {
        secret: secret(value, "/status/token")?,
        expires_at: time(value, "/status/expirationTimestamp")?,
    })
}

fn read_google(value: &BodyValue, redactor: &Redactor) -> Result<Credential, Objection> {
    if only(value, "/version")?
        .and_then(BodyValue::scalar)
        .as_deref()
        != Some("1")
    {
        return Err("has a `version` other than 1".into());
    }
    match only(value, "/success")? {
        Some(BodyValue::Bool(true)) => {}
        Some(BodyValue::Bool(false)) => return Err(google_failure(value, redactor)),
        _ => return Err("has no `success`".into()),
    }
    let at = match text(value, "/token_type")? {
        Some("urn:ietf:params:oauth:token-type:saml2") => "/saml_response",
        Some(
            "urn:ietf:params:oauth:token-type:id_token" | "urn:ietf:params:oauth:token-type:jwt",
        ) => "/id_token",
        _ => return Err("has an unknown `token_type`".into()),
    };
    Ok(Credential {
        secret: secret(value, at)?,
        expires_at: time(value, "/expiration_time")?,
    })
}

fn google_failure(value: &BodyValue, redactor: &Redactor) -> Objection {
    let shown = |pointer| {
        let value = only(value, pointer).ok().flatten();
        let text = value.and_then(BodyValue::scalar);
        text.map_or_else(
            || String::from("none"),
            |text| redactor.redact(&text).to_string(),
        )
    };
    format!(
        "reports a failure; code: {}; message: {}",
        shown("/code"),
        shown("/message")
    )
    .into()
}

/// Returns the value at the pointer. Fails if there are two values.
fn only<'a>(value: &'a BodyValue, pointer: &str) -> Result<Option<&'a BodyValue>, Objection> {
    match *value.at(pointer) {
        [] | [BodyValue::Null] => Ok(None),
        [value] => Ok(Some(value)),
        _ => Err(format!("has `{pointer}` twice").into()),
    }
}

fn text<'a>(value: &'a BodyValue, pointer: &str) -> Result<Option<&'a str>, Objection> {
    Ok(only(value, pointer)?.and_then(BodyValue::text))
}

fn secret(value: &BodyValue, pointer: &str) -> Result<SecretString, Objection> {
    match only(value, pointer)? {
        None => Err(format!("has no `{pointer}`").into()),
        Some(BodyValue::Text(secret)) if secret.expose_secret().is_empty() => {
            Err(format!("has an empty `{pointer}`").into())
        }
        Some(BodyValue::Text(secret)) => Ok(secret.clone()),
        Some(_) => Err(format!("has a `{pointer}` that isn't a string").into()),
    }
}

fn time(value: &BodyValue, pointer: &str) -> Result<Option<SystemTime>, Objection> {
    let Some(value) = only(value, pointer)? else {
        return Ok(None);
    };
    let time = timestamp::parse(value);
    let what = "that is neither a time in RFC 3339 nor a number of seconds since 1970";
    time.map(Some)
        .ok_or_else(|| format!("has a `{pointer}` {what}").into())
}
