//! Runs the examples as separate processes, and checks the requests that their servers get.
//!
//! Build the examples first, with `cargo build --workspace --all-features --examples`.
#![cfg(feature = "reqwest")]

use std::ffi::OsStr;
use std::process::{Output, Stdio};
use std::time::Duration;

use support::{Api, AuthorizationServer, TokenRequest, Tokens};
use tokio::process::Command;
use tower_auth::cache::Clock;

use crate::support::tree::binary;

mod clients;
mod many;
mod servers;
mod services;
mod sources;

#[path = "../../../examples/support/mod.rs"]
mod support;

const ID: &str = "planted-id";

/// A secret that needs encoding, both in a form and in a Basic header.
const SECRET: &str = "planted-secret/+&: %ü";

/// The time limit of an example, with a reserve for a busy machine.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// An authorization server that knows the planted client, and an API for one audience.
struct Servers {
    authorization: AuthorizationServer,
    api: Api,
}

impl Servers {
    async fn start(audience: &str, scope: &str) -> Self {
        let tokens = Tokens::new(Clock::default());
        Self {
            authorization: AuthorizationServer::start(ID, SECRET, tokens.clone())
                .await
                .unwrap(),
            api: Api::start([audience], scope, tokens).await.unwrap(),
        }
    }

    /// Sets the variables of an example for a real service. The example then uses these servers.
    fn lead(&self, example: Example, prefix: &str) -> Example {
        example
            .env("TOKEN_URL", self.authorization.token_url())
            .env("API_URL", self.api.url())
            .env(format!("{prefix}_CLIENT_ID"), ID)
            .env(format!("{prefix}_CLIENT_SECRET"), SECRET)
    }

    fn asked_once(&self) -> TokenRequest {
        let [request] = &self.authorization.requests()[..] else {
            panic!("{:?}", self.authorization.requests());
        };
        request.clone()
    }

    /// Returns the secrets that no output may contain.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = self.authorization.tokens().issued();
        assert!(!secrets.is_empty());
        // The beginning of `SECRET`. It is the same when `SECRET` is escaped or percent-encoded.
        secrets.push("planted-secret".to_owned());
        secrets
    }
}

/// The result of an example.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "{self:?}");
    }

    fn failed(&self) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(1), ""), "{self:?}");
    }

    fn has(&self, text: &str) -> bool {
        self.stdout.contains(text)
    }

    fn line(&self, start: &str) -> &str {
        let line = self.stdout.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no line starts with {start:?}: {self:?}"))
    }

    fn lines_with(&self, text: &str) -> usize {
        self.stdout
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }

    /// Asserts that the output contains none of the secrets and nothing that looks like a token.
    fn leaks_nothing(&self, secrets: &[impl AsRef<str>]) {
        for output in [&self.stdout, &self.stderr] {
            for secret in secrets {
                assert!(
                    !output.contains(secret.as_ref()),
                    "a secret is in {output:?}"
                );
            }
            assert!(!output.contains("eyJ"), "a token is in {output:?}");
        }
    }
}

/// Prepares an example. Removes all variables that the example may read.
fn example(name: &str) -> Example {
    let mut command = Command::new(binary(name));
    for prefix in ["", "AUTH0_", "METAFOLD_", "NETFOUNDRY_"] {
        command.env_remove(format!("{prefix}CLIENT_ID"));
        command.env_remove(format!("{prefix}CLIENT_SECRET"));
    }
    for name in [
        "TOKEN_URL",
        "API_URL",
        "PROJECT",
        "CLOUDSDK_CONFIG",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CLOUD_QUOTA_PROJECT",
        "NO_GCE_CHECK",
        "KEY_FILE",
        "ORGANIZATION",
        "GITHUB_API_URL",
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "AUDIENCE",
        "SCOPE",
        "AUTHORIZE_URL",
        "DEVICE_URL",
        "ISSUER",
        "PORT",
        "REDIS_URL",
        "AUTH0_DOMAIN",
        "BAO_ADDR",
        "BAO_NAMESPACE",
        "KUBERNETES_SERVICE_HOST",
        "KUBERNETES_SERVICE_PORT",
        "ROLE_ID",
        "SECRET",
        "SECRET_ID",
        "VAULT_ADDR",
        "VAULT_NAMESPACE",
        "RUST_BACKTRACE",
    ] {
        command.env_remove(name);
    }
    Example { command }
}

struct Example {
    command: Command,
}

impl Example {
    fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Runs the example to its end. Kills the example if it exceeds the time limit.
    async fn run(mut self) -> Run {
        self.command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(LONG_ENOUGH, self.command.output()).await;
        let Output {
            status,
            stdout,
            stderr,
        } = output.expect("it took too long").unwrap();
        Run {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }
}
