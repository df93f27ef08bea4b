//! Secrets in a configuration: the configuration says where a secret is, and doesn't contain it.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::secret_source::SecretSource;

/// The forms that a configuration may have.
#[derive(Deserialize)]
#[serde(untagged)]
enum SecretConfig {
    Place(Place),
    /// A mistake, such as the secret itself.
    Other(IgnoredAny),
}

/// An empty text counts as unset, as in other fields of a configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    file: Option<String>,
    env: Option<String>,
}

const NO_PLACE: &str = "the value is neither `{ file = \"/path\" }` nor `{ env = \"NAME\" }`; write one of them \
                        instead of the secret itself";

const TWO_PLACES: &str = "`file` and `env` are both set; remove one of them";

/// Reads where the secret is: `{ file = "/run/secrets/api" }` or `{ env = "API_KEY" }`. A relative
/// path starts at the working directory of the process. An empty text and `null` count as unset.
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
        let SecretConfig::Place(place) = SecretConfig::deserialize(deserializer)? else {
            return Ok(Self::misconfigured(NO_PLACE));
        };
        let set = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        Ok(match (set(place.file), set(place.env)) {
            (Some(file), None) => Self::file(file),
            (None, Some(env)) => Self::env(env),
            (Some(_), Some(_)) => Self::misconfigured(TWO_PLACES),
            (None, None) => Self::misconfigured(NO_PLACE),
        })
    }
}
