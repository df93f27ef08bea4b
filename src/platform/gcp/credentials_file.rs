//! The places of the credentials file, and its text.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::file_fields::FileFields;
use crate::error::{Error, Kind};
use crate::http_client::body_value::{BodyValue, Malformed, parse_json};
use crate::platform::environment::Environment;
use crate::source::secret_file::{self, off_the_runtime};
use crate::token::redact::Redactor;

const VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// Where the credentials file may be.
#[derive(Clone, Debug)]
pub(crate) struct FilePlaces {
    /// The path that the user set.
    explicit: Option<PathBuf>,
    /// The path at which `gcloud auth application-default login` writes the file.
    well_known: Option<PathBuf>,
}

/// The text of a credentials file, and its path.
pub(crate) struct CredentialsFile {
    pub(crate) path: String,
    pub(crate) text: SecretString,
}

/// The result of a search in all places.
pub(crate) enum Lookup {
    Found(CredentialsFile),
    /// No place has a file. The text says why.
    NotFound(String),
}

impl FilePlaces {
    pub(crate) fn of(environment: &Environment) -> Self {
        let folder = match environment.get("CLOUDSDK_CONFIG") {
            Some(folder) => Some(PathBuf::from(folder)),
            None if cfg!(windows) => environment
                .get("APPDATA")
                .map(|data| Path::new(data).join("gcloud")),
            None => environment
                .get("HOME")
                .map(|home| Path::new(home).join(".config").join("gcloud")),
        };
        Self {
            explicit: environment.get(VARIABLE).map(PathBuf::from),
            well_known: folder.map(|folder| folder.join("application_default_credentials.json")),
        }
    }

    /// Reads the first file. A file that the user named must exist.
    pub(crate) async fn look(&self) -> Result<Lookup, Error> {
        if let Some(path) = &self.explicit {
            let found = CredentialsFile::read(path).await?;
            return found.map(Lookup::Found).ok_or_else(|| {
                let message = format!(
                    "the environment variable `{VARIABLE}` names {}, but this file doesn't exist",
                    path.display()
                );
                Error::new(Kind::Config, message)
            });
        }
        let unset = format!("`{VARIABLE}` is not set");
        let Some(path) = &self.well_known else {
            let home = if cfg!(windows) { "APPDATA" } else { "HOME" };
            let message = format!("{unset}; neither `CLOUDSDK_CONFIG` nor `{home}` is set");
            return Ok(Lookup::NotFound(message));
        };
        let found = CredentialsFile::read(path).await?;
        Ok(found.map_or_else(
            || Lookup::NotFound(format!("{unset}; {} doesn't exist", path.display())),
            Lookup::Found,
        ))
    }
}

impl CredentialsFile {
    /// Reads a file. Returns `None` if there is no file.
    async fn read(path: &Path) -> Result<Option<Self>, Error> {
        let at = path.to_owned();
        let path = path.display().to_string();
        let text = off_the_runtime(move || fs::File::open(at).and_then(secret_file::read)).await;
        let wrong = |what: &str| {
            let message = format!("the credentials file {path} {what}");
            Error::new(Kind::Config, message)
        };
        let text = match text {
            Ok(Ok(text)) => text.ok_or_else(|| wrong("is longer than 64 KiB"))?,
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(Err(error)) => return Err(wrong("can't be read").with_source(error)),
            Err(error) => {
                let message = "the runtime is shutting down";
                return Err(Error::new(Kind::Runtime, message).with_source(error));
            }
        };
        let text = SecretString::from(text.as_str());
        Ok(Some(Self { path, text }))
    }

    pub(crate) fn parse(&self) -> Result<BodyValue, Error> {
        let parsed = parse_json(self.text.expose_secret().as_bytes());
        match parsed.malformed {
            None => Ok(parsed.value),
            Some(malformed) => {
                let what = match malformed {
                    Malformed::Empty => "is empty".into(),
                    other => other.what(&Redactor::default()),
                };
                Err(self.fields(&parsed.value).objection(&what))
            }
        }
    }

    pub(crate) fn fields<'a>(&'a self, value: &'a BodyValue) -> FileFields<'a> {
        FileFields::new(value, &self.path)
    }
}
