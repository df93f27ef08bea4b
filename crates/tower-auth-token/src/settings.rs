//! The settings of a token request: from the options, the environment and the settings file.

use std::path::PathBuf;

use clap::ValueEnum as _;
use secrecy::SecretString;
use tower_auth::oauth2::{ClientCredentials, EndpointUrl};
use tower_auth::{Error, SecretSource};

use crate::args::{Args, ClientAuth};
use crate::failure::{Failure, for_a_shell};
use crate::settings_file::SettingsFile;
use crate::variable;

/// All settings of a token request.
pub(crate) struct Settings {
    token_url: String,
    client_id: String,
    client_secret: SecretString,
    audience: Option<String>,
    resource: Option<String>,
    scope: Option<String>,
    client_auth: ClientAuth,
}

impl Settings {
    /// Reads the settings. The failure names all settings that are missing.
    pub(crate) async fn read(args: &Args) -> Result<Self, Failure> {
        let config = args.config.clone();
        let file = match config.or_else(|| variable::path("TOWER_AUTH_TOKEN_CONFIG")) {
            Some(path) => SettingsFile::read(&path)?,
            None => SettingsFile::default(),
        };
        let text = |option: &Option<String>, name| {
            let option = option.clone().filter(|value| !value.is_empty());
            Ok::<_, Failure>(match option {
                Some(value) => Some(value),
                None => variable::text(name)?.or_else(|| file.text(name).map(str::to_owned)),
            })
        };
        let token_url = text(&args.token_url, "TOKEN_URL")?;
        let client_id = text(&args.client_id, "CLIENT_ID")?;
        let client_secret = secret(args.client_secret_file.clone(), &file).await?;
        let client_auth = match args.client_auth {
            Some(how) => how,
            None => client_auth(text(&None, "CLIENT_AUTH")?)?,
        };
        let (Some(token_url), Some(client_id), Some(client_secret)) =
            (&token_url, &client_id, &client_secret)
        else {
            let settings = [
                (token_url.is_some(), "TOKEN_URL or --token-url"),
                (client_id.is_some(), "CLIENT_ID or --client-id"),
                (
                    client_secret.is_some(),
                    "CLIENT_SECRET, CLIENT_SECRET_FILE or --client-secret-file",
                ),
            ];
            let missing = settings.iter().filter(|(is_set, _)| !is_set);
            let missing: String = missing.map(|(_, name)| format!("\n  {name}")).collect();
            return Err(Failure::usage(format!("settings are missing:{missing}")));
        };
        Ok(Self {
            token_url: token_url.clone(),
            client_id: client_id.clone(),
            client_secret: client_secret.clone(),
            audience: text(&args.audience, "AUDIENCE")?,
            resource: text(&args.resource, "RESOURCE")?,
            scope: text(&args.scope, "SCOPE")?,
            client_auth,
        })
    }

    /// Makes the source of the token.
    pub(crate) fn source(self) -> Result<ClientCredentials, Failure> {
        let url = EndpointUrl::try_from(self.token_url).map_err(|error| wrong_url(&error))?;
        let mut source = ClientCredentials::new(url, self.client_id, self.client_secret)?;
        source = match self.client_auth {
            ClientAuth::Post => source,
            ClientAuth::Basic => source.basic_auth(),
            ClientAuth::Json => source.json(),
        };
        if let Some(audience) = self.audience {
            source = source.audience(audience);
        }
        if let Some(resource) = self.resource {
            source = source.resource(resource);
        }
        if let Some(scope) = self.scope {
            source = source.scope(scope);
        }
        Ok(source)
    }
}

/// Makes an error that names the wrong setting.
fn wrong_url(error: &Error) -> Failure {
    let message = error.to_string();
    let message = for_a_shell(&message);
    Failure::usage(format!("TOKEN_URL or --token-url: {message}"))
}

/// Reads the secret once, because a file such as `<(pass show api)` can be read only once.
async fn secret(
    option: Option<PathBuf>,
    settings: &SettingsFile,
) -> Result<Option<SecretString>, Failure> {
    if let Some(path) = option {
        return from_file(path).await.map(Some);
    }
    let value = variable::text("CLIENT_SECRET")?;
    let path = variable::path("CLIENT_SECRET_FILE");
    match one_of(value.map(SecretString::from), path, "the environment")? {
        Some(Given::Secret(secret)) => return Ok(Some(secret)),
        Some(Given::File(path)) => return from_file(path).await.map(Some),
        None => {}
    }
    let value = settings.text("CLIENT_SECRET").map(SecretString::from);
    let path = settings.path("CLIENT_SECRET_FILE");
    match one_of(value, path, "the settings file")? {
        Some(Given::Secret(secret)) => Ok(Some(secret)),
        Some(Given::File(path)) => from_file(path).await.map(Some),
        None => Ok(None),
    }
}

enum Given {
    Secret(SecretString),
    File(PathBuf),
}

/// Rejects two secrets in one place, because one of them may be out of date.
fn one_of(
    secret: Option<SecretString>,
    file: Option<PathBuf>,
    place: &str,
) -> Result<Option<Given>, Failure> {
    match (secret, file) {
        (Some(_), Some(_)) => Err(Failure::usage(format!(
            "{place} has both CLIENT_SECRET and CLIENT_SECRET_FILE; remove one"
        ))),
        (Some(secret), None) => Ok(Some(Given::Secret(secret))),
        (None, Some(file)) => Ok(Some(Given::File(file))),
        (None, None) => Ok(None),
    }
}

async fn from_file(path: PathBuf) -> Result<SecretString, Failure> {
    let secret = SecretSource::file(path).read().await;
    secret.map_err(|error| Failure::no_input(&error))
}

fn client_auth(name: Option<String>) -> Result<ClientAuth, Failure> {
    let Some(name) = name else {
        return Ok(ClientAuth::Post);
    };
    ClientAuth::from_str(&name, false)
        .map_err(|_| Failure::usage("CLIENT_AUTH is none of post, basic and json"))
}
