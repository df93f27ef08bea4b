//! Reads the client credentials grant and its layer from a configuration.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::client_credentials::ClientCredentials;
use super::config_fields::{ConfigFields, inside, wrong};
use crate::error::{Error, Kind};
use crate::http_client::endpoint_url::EndpointUrl;
use crate::layer::auth_layer::AuthLayer;
use crate::origin::Origin;
use crate::source::secret_source::SecretSource;

/// The settings of [`ClientCredentials`] and of an [`AuthLayer`], read from a configuration.
///
/// Serde reads these settings from formats such as TOML, JSON and YAML. For environment variables,
/// use a crate such as `config`.
///
/// | field | value |
/// | --- | --- |
/// | `token_endpoint` | the address of the token endpoint |
/// | `issuer` | instead of `token_endpoint`: the issuer whose metadata contains the address |
/// | `client_id` | required |
/// | `client_secret` | required: `{ file = "/path" }` or `{ env = "NAME" }` |
/// | `token_endpoint_auth_method` | `client_secret_post` (the default) or `client_secret_basic` |
/// | `scope`, `resource` | a list, or a text with spaces between the items |
/// | `audience` | a text |
/// | `only_to` | the origins that get the token: a list, or a text with spaces between the items |
/// | `any_https` | `true` instead of `only_to`: any `https` origin gets the token |
/// | `json`, `pass_elsewhere`, `retry`, `replace_existing`, `retry_without_challenge` | `true` or `false` |
/// | `body_limit` | a number of bytes |
///
/// The names are those of RFC 7591 and RFC 8414, and of the methods of [`ClientCredentials`] and
/// [`AuthLayer`]. The docs of these methods also state the defaults. An empty text and `null` count
/// as unset. A number, `true` or `false` may be a text, because environment variables are texts.
///
/// Without `only_to` and `any_https`, only the origins in `resource` get the token. If `resource`
/// has no origin, call [`AuthLayer::only_to`] on the layer; otherwise, each request fails.
///
/// Reading a configuration fails only if the syntax of the text is wrong. [`layer`](Self::layer),
/// [`source`](Self::source) and [`configure`](Self::configure) check the fields. Their errors name
/// the field and contain no secret. A parser's own error could show a secret: for TOML, such an
/// error contains the line of the mistake.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::ClientCredentialsConfig;
///
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     reports: ClientCredentialsConfig,
/// }
///
/// let text = r#"{
///     "reports": {
///         "issuer": "https://id.example.com",
///         "client_id": "reports",
///         "client_secret": {"file": "/run/secrets/reports"},
///         "scope": "read write",
///         "only_to": ["https://api.example.com"]
///     }
/// }"#;
/// let settings: Settings = serde_json::from_str(text)?;
/// let layer = settings.reports.layer()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Read")]
pub struct ClientCredentialsConfig {
    client_secret: Option<SecretSource>,
    fields: ConfigFields,
}

/// What a configuration contains. `Other` exists because a parser's error would show a value that
/// isn't a table.
#[derive(Deserialize)]
#[serde(untagged)]
enum Read {
    Table {
        client_secret: Option<SecretSource>,
        #[serde(flatten)]
        fields: ConfigFields,
    },
    Other(IgnoredAny),
}

impl From<Read> for ClientCredentialsConfig {
    fn from(read: Read) -> Self {
        let (client_secret, fields) = match read {
            Read::Table {
                client_secret,
                fields,
            } => (client_secret, fields),
            Read::Other(_) => (None, ConfigFields::without_table()),
        };
        Self {
            client_secret,
            fields,
        }
    }
}

/// The names of all fields. Any other name is an error.
const FIELDS: [&str; 16] = [
    "any_https",
    "audience",
    "body_limit",
    "client_id",
    "client_secret",
    "issuer",
    "json",
    "only_to",
    "pass_elsewhere",
    "replace_existing",
    "resource",
    "retry",
    "retry_without_challenge",
    "scope",
    "token_endpoint",
    "token_endpoint_auth_method",
];

impl ClientCredentialsConfig {
    /// Makes a layer with a new cache, which has default settings.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if a field is unknown, missing or wrong.
    pub fn layer(&self) -> Result<AuthLayer, Error> {
        self.configure(AuthLayer::new(self.source()?))
    }

    /// Makes the source of the tokens. Use the source for a cache with your own settings, and pass
    /// the cache's layer to [`configure`](Self::configure).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if a field is unknown, or if a field of the source is
    /// missing or wrong.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::oauth2::ClientCredentialsConfig;
    /// use tower_auth::{Error, TokenCache};
    ///
    /// fn cache(config: &ClientCredentialsConfig) -> Result<TokenCache, Error> {
    ///     Ok(TokenCache::new(config.source()?))
    /// }
    /// ```
    pub fn source(&self) -> Result<ClientCredentials, Error> {
        self.fields.check_names(&FIELDS)?;
        let (url, id) = (self.endpoint()?, self.fields.text("client_id")?);
        let (Some(url), Some(id), Some(secret)) = (&url, &id, &self.client_secret) else {
            let required = [
                ("`token_endpoint` or `issuer`", url.is_none()),
                ("`client_id`", id.is_none()),
                ("`client_secret`", self.client_secret.is_none()),
            ];
            let missing = required.iter().filter(|(_, is_missing)| *is_missing);
            let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
            let message = format!("the configuration lacks {}", missing.join(" and "));
            return Err(Error::new(Kind::Config, message));
        };
        let source = ClientCredentials::new(url.clone(), id, secret.clone());
        let mut source = source.map_err(inside("client_secret"))?;
        source = match self.fields.text("token_endpoint_auth_method")?.as_deref() {
            None | Some("client_secret_post") => source,
            Some("client_secret_basic") => source.basic_auth(),
            Some(_) => {
                let what = "the value is neither `client_secret_post` nor `client_secret_basic`; for other \
                            methods, use `ClientCredentials::with_client`";
                return Err(wrong("token_endpoint_auth_method", what));
            }
        };
        if self.fields.flag("json")? == Some(true) {
            source = source.json();
        }
        if let Some(audience) = self.fields.text("audience")? {
            source = source.audience(audience);
        }
        for resource in self.fields.list("resource")?.unwrap_or_default() {
            source = source.resource(resource);
        }
        Ok(source.scopes(self.fields.list("scope")?.unwrap_or_default()))
    }

    /// Applies the layer's settings to a layer. Fields that are unset change nothing.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if a field is unknown, or if a field of the layer is
    /// wrong.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::oauth2::ClientCredentialsConfig;
    /// use tower_auth::{AuthLayer, Error, TokenCache};
    ///
    /// fn layer(config: &ClientCredentialsConfig) -> Result<AuthLayer, Error> {
    ///     let cache = TokenCache::builder(config.source()?).keep_fresh().build();
    ///     config.configure(AuthLayer::from(cache))
    /// }
    /// ```
    pub fn configure(&self, mut layer: AuthLayer) -> Result<AuthLayer, Error> {
        self.fields.check_names(&FIELDS)?;
        match (self.fields.list("only_to")?, self.fields.flag("any_https")?) {
            (Some(_), Some(true)) => {
                return Err(wrong(
                    "any_https",
                    "`only_to` is set too; remove one of them",
                ));
            }
            (Some(origins), _) => {
                for (at, origin) in origins.iter().enumerate() {
                    let parsed = origin.parse::<Origin>();
                    parsed.map_err(inside(&format!("only_to[{at}]")))?;
                }
                layer = layer.only_to(origins).map_err(inside("only_to"))?;
            }
            (None, Some(true)) => layer = layer.any_https(),
            (None, _) => {}
        }
        if self.fields.flag("pass_elsewhere")? == Some(true) {
            layer = layer.pass_elsewhere();
        }
        if let Some(retry) = self.fields.flag("retry")? {
            layer = layer.retry(retry);
        }
        if let Some(replace) = self.fields.flag("replace_existing")? {
            layer = layer.replace_existing(replace);
        }
        if let Some(retry) = self.fields.flag("retry_without_challenge")? {
            layer = layer.retry_without_challenge(retry);
        }
        if let Some(bytes) = self.fields.number("body_limit")? {
            layer = layer.body_limit(bytes);
        }
        Ok(layer)
    }

    fn endpoint(&self) -> Result<Option<EndpointUrl>, Error> {
        match (
            self.fields.text("token_endpoint")?,
            self.fields.text("issuer")?,
        ) {
            (Some(_), Some(_)) => Err(wrong(
                "issuer",
                "`token_endpoint` is set too; remove one of them",
            )),
            (Some(url), None) => {
                let url = EndpointUrl::try_from(url);
                url.map(Some).map_err(inside("token_endpoint"))
            }
            (None, Some(issuer)) => {
                let url = EndpointUrl::from_issuer(issuer);
                url.map(Some).map_err(inside("issuer"))
            }
            (None, None) => Ok(None),
        }
    }
}
