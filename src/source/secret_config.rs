//! Secrets in a configuration: the configuration says where a secret is, and doesn't contain it.

use std::path::PathBuf;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::secret_source::SecretSource;

/// The forms that a configuration may have.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum SecretConfig {
    File {
        file: PathBuf,
    },
    Env {
        env: String,
    },
    /// A mistake, such as the secret itself.
    Other(IgnoredAny),
}

/// Reads where the secret is: `{ file = "/run/secrets/api" }` or `{ env = "API_KEY" }`. A relative
/// path starts at the working directory of the process.
///
/// Reading any other value, such as the secret itself, also succeeds. But each use of the source
/// then fails ([`is_config`](crate::Error::is_config)). A parser's own error could show the secret:
/// for TOML, such an error contains the line of the mistake.
///
/// # Example
///
/// ```
/// use tower_auth::{ApiKey, SecretSource};
///
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     api_key: SecretSource,
/// }
///
/// let text = r#"{"api_key": {"file": "/run/secrets/api-key"}}"#;
/// let settings: Settings = serde_json::from_str(text)?;
/// let source = ApiKey::new(settings.api_key).header("x-api-key")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
    where
        D: Deserializer<'de>,
    {
        Ok(match SecretConfig::deserialize(deserializer)? {
            SecretConfig::File { file } => Self::file(file),
            SecretConfig::Env { env } => Self::env(env),
            SecretConfig::Other(_) => Self::misconfigured(),
        })
    }
}
