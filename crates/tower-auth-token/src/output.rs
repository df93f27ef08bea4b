//! What the program prints: the token alone, a line for a shell, or a credential for kubectl.

use std::io::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tower_auth::Token;
use zeroize::Zeroizing;

use crate::args::Args;
use crate::failure::{Code, Failure};
use crate::variable;

/// The form of the output.
pub(crate) enum Output {
    Token,
    Export { name: String },
    ExecCredential { api_version: &'static str },
}

const VERSIONS: [&str; 2] = [
    "client.authentication.k8s.io/v1",
    "client.authentication.k8s.io/v1beta1",
];

/// An `ExecCredential` of Kubernetes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecCredential<'a> {
    api_version: &'a str,
    kind: &'a str,
    status: ExecCredentialStatus<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecCredentialStatus<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_timestamp: Option<String>,
    token: &'a str,
}

impl Output {
    /// Chooses the form that the options ask for.
    pub(crate) fn new(args: &Args) -> Result<Self, Failure> {
        if let Some(name) = &args.export {
            return Ok(Self::Export { name: name.clone() });
        }
        if !args.exec_credential {
            return Ok(Self::Token);
        }
        let api_version = api_version(variable::text("KUBERNETES_EXEC_INFO")?)?;
        Ok(Self::ExecCredential { api_version })
    }

    /// Prints the token, which expires at `end`.
    pub(crate) fn print(&self, token: &Token, end: Option<SystemTime>) -> Result<(), Failure> {
        let text = Zeroizing::new(self.text(token.secret(), end)?);
        let mut stdout = io::stdout().lock();
        let written = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        written.map_err(|error| {
            Failure::new(Code::Output, format!("could not write the token: {error}"))
        })
    }

    fn text(&self, secret: &str, end: Option<SystemTime>) -> Result<String, Failure> {
        Ok(match self {
            Self::Token => format!("{secret}\n"),
            Self::Export { name } => format!("export {name}={}\n", quoted(secret)),
            Self::ExecCredential { api_version } => {
                let credential = ExecCredential {
                    api_version,
                    kind: "ExecCredential",
                    status: ExecCredentialStatus {
                        expiration_timestamp: end.and_then(timestamp),
                        token: secret,
                    },
                };
                let text = serde_json::to_string(&credential);
                text.map_err(|error| Failure::new(Code::Internal, error))? + "\n"
            }
        })
    }
}

/// Returns the version that kubectl asks for. kubectl accepts no other.
fn api_version(info: Option<String>) -> Result<&'static str, Failure> {
    let Some(info) = info else {
        return Ok(VERSIONS[0]);
    };
    let info: Value = serde_json::from_str(&info).unwrap_or_default();
    let asked = info.get("apiVersion").and_then(Value::as_str);
    let known = VERSIONS.into_iter().find(|known| asked == Some(known));
    known.ok_or_else(|| {
        let [first, second] = VERSIONS;
        Failure::usage(format!(
            "KUBERNETES_EXEC_INFO asks for neither {first} nor {second}; \
             change the apiVersion in the kubeconfig's `exec` section"
        ))
    })
}

/// Quotes a text for a shell: nothing is special between single quotation marks.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Formats a time as RFC 3339. Returns `None` for times after the year 9999, which that format can't
/// express.
fn timestamp(time: SystemTime) -> Option<String> {
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let time = OffsetDateTime::from_unix_timestamp(seconds.try_into().ok()?).ok()?;
    time.format(&Rfc3339).ok()
}
