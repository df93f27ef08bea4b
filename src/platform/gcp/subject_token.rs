//! The token of another identity provider, which an external account exchanges: from a file, a URL
//! or a program.

use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};

use super::command_line;
use super::file_fields::FileFields;
use super::file_settings::FileSettings;
use crate::error::{BoxError, Error, Kind};
use crate::http_client::body_value::{BodyValue, inside, parse_json};
use crate::http_client::endpoint_client::{EndpointClient, EndpointRequest};
use crate::platform::command::command_format::CommandFormat;
use crate::platform::command::command_source::Command;
use crate::platform::metadata_host;
use crate::source::secret_file::{self, off_the_runtime};
use crate::source::secret_source::SecretSource;
use crate::token::redact::Redactor;

/// How a file or a response contains the token.
#[derive(Clone, Debug)]
enum SubjectFormat {
    Text,
    /// JSON, with the token at this pointer.
    Json(String),
}

/// What a program has to know about the exchange.
pub(crate) struct ExchangeContext<'a> {
    pub(crate) audience: &'a str,
    pub(crate) token_type: &'a str,
    /// The email address of the service account that the exchange finally leads to.
    pub(crate) impersonated: Option<&'a str>,
}

/// The time limit of a program, in milliseconds (AIP-4117).
const DEFAULT_LIMIT: u64 = 30_000;
const SHORTEST_LIMIT: u64 = 5_000;
const LONGEST_LIMIT: u64 = 120_000;

/// Returns the source that `credential_source` describes.
pub(crate) fn source(
    from: &FileFields<'_>,
    settings: &FileSettings,
    context: &ExchangeContext<'_>,
) -> Result<SecretSource, Error> {
    for (name, what) in [
        (
            "environment_id",
            "asks for credentials of AWS, which aren't supported; use a credentials file with a \
             `file`, a `url` or an `executable`",
        ),
        (
            "certificate",
            "asks for a client certificate, which isn't supported; use a credentials file with a \
             `file`, a `url` or an `executable`",
        ),
    ] {
        if from.has(name) {
            return Err(from.wrong(name, what));
        }
    }
    let file = from.text("file")?;
    let url = from.text("url")?;
    let executable = from.object("executable")?;
    match (file, url, executable) {
        (Some(path), None, None) => Ok(of_file(PathBuf::from(path), format(from)?)),
        (None, Some(url), None) => of_url(from, url, settings),
        (None, None, Some(executable)) => of_executable(&executable, settings, context),
        _ => {
            let what = "must have exactly one of `file`, `url` and `executable`";
            Err(from.objection(&format!("has a `credential_source` that {what}")))
        }
    }
}

fn format(from: &FileFields<'_>) -> Result<SubjectFormat, Error> {
    let Some(format) = from.object("format")? else {
        return Ok(SubjectFormat::Text);
    };
    match format.text("type")? {
        None | Some("text") => Ok(SubjectFormat::Text),
        Some("json") => {
            let field = format.required("subject_token_field_name")?;
            Ok(SubjectFormat::Json(inside("", field)))
        }
        Some(_) => Err(format.wrong("type", "is neither `text` nor `json`")),
    }
}

/// Reads the token at a JSON pointer. `what` names the file or the response.
fn token_at(value: &BodyValue, pointer: &str, what: &str) -> Result<SecretString, Error> {
    let wrong = |why: &str| {
        let message = format!("{what} {why} at `{pointer}`");
        Error::new(Kind::Source, message)
    };
    match *value.at(pointer) {
        [BodyValue::Text(token)] => Ok(token.clone()),
        [] => Err(wrong("has no subject token")),
        _ => Err(wrong("has no single string")),
    }
}

fn of_file(path: PathBuf, format: SubjectFormat) -> SecretSource {
    let what = format!("the subject token's file {}", path.display());
    let file = SecretSource::file(path);
    let SubjectFormat::Json(pointer) = format else {
        return file;
    };
    SecretSource::from_fn(move || {
        let (file, pointer, what) = (file.clone(), pointer.clone(), what.clone());
        async move {
            let text = file.read().await?;
            let parsed = parse_json(text.expose_secret().as_bytes());
            if let Some(malformed) = parsed.malformed {
                let why = malformed.what(&Redactor::default());
                return Err(Error::new(Kind::Source, format!("{what} {why}")).into());
            }
            Ok(token_at(&parsed.value, &pointer, &what)?)
        }
    })
}

fn of_url(
    from: &FileFields<'_>,
    url: &str,
    settings: &FileSettings,
) -> Result<SecretSource, Error> {
    const NAME: &str = "the server of the subject token";
    let url = metadata_host::checked(&from.name_of("url"), url)?;
    let http = settings.endpoint(EndpointClient::new(url).named(NAME));
    let request = Arc::new((http, from.headers("headers")?, format(from)?));
    Ok(SecretSource::from_fn(move || {
        let request = Arc::clone(&request);
        async move {
            let (http, headers, format) = &*request;
            Ok::<_, BoxError>(http.within(get(http, headers, format)).await?)
        }
    }))
}

async fn get(
    http: &EndpointClient,
    headers: &HeaderMap,
    format: &SubjectFormat,
) -> Result<SecretString, Error> {
    const REPLY: &str = "the reply with the subject token";
    let mut redactor = Redactor::default();
    for value in headers.values() {
        redactor.hide(&String::from_utf8_lossy(value.as_bytes()));
    }
    let mut request = EndpointRequest::get();
    request.headers = headers.clone();
    let response = http.complete(http.post_partial(request).await?)?;
    let refused = "the server of the subject token refused the request";
    if let Some(error) = response.refusal(redactor, refused) {
        return Err(error);
    }
    let unreadable = |why: Cow<'_, str>| Error::new(Kind::Reply, format!("{REPLY} {why}"));
    match format {
        SubjectFormat::Text => {
            let body = response.decoded();
            let body = body.map_err(|why| unreadable(why.what(&Redactor::default())))?;
            let text = str::from_utf8(body).map_err(|_| unreadable("isn't UTF-8".into()))?;
            Ok(SecretString::from(text.trim()))
        }
        SubjectFormat::Json(pointer) => {
            let fields = response.fields();
            let fields = fields.map_err(|why| unreadable(why.what(&Redactor::default())))?;
            token_at(&fields.body, pointer, REPLY)
        }
    }
}

fn of_executable(
    from: &FileFields<'_>,
    settings: &FileSettings,
    context: &ExchangeContext<'_>,
) -> Result<SecretSource, Error> {
    let line = from.required("command")?;
    if !settings.allows_executables {
        let what = "names a program, which is not allowed to run; if you trust the file, set the \
                    environment variable `GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES` to `1`";
        return Err(from.wrong("command", what));
    }
    let words =
        command_line::words(line).ok_or_else(|| from.wrong("command", "has an unclosed quote"))?;
    let [program, args @ ..] = words.as_slice() else {
        return Err(from.wrong("command", "is empty"));
    };
    let limit = from.number("timeout_millis")?.unwrap_or(DEFAULT_LIMIT);
    if !(SHORTEST_LIMIT..=LONGEST_LIMIT).contains(&limit) {
        return Err(from.wrong("timeout_millis", "isn't between 5000 and 120000"));
    }
    let format = CommandFormat::google_executable(context.audience, context.token_type);
    let mut command = Command::new(program)
        .args(args)
        .pass_env(settings.passed.iter().cloned())
        .timeout(Duration::from_millis(limit))
        .format(format.clone());
    if let Some(email) = context.impersonated {
        command = command.env("GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL", email);
    }
    let Some(output) = from.text("output_file")? else {
        return Ok(command.into());
    };
    let command = command.env("GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE", output);
    let (path, run) = (PathBuf::from(output), SecretSource::from(command));
    Ok(SecretSource::from_fn(move || {
        let (path, format, run) = (path.clone(), format.clone(), run.clone());
        async move {
            match kept(path, format).await {
                Some(token) => Ok(token),
                None => Ok(run.read().await?),
            }
        }
    }))
}

/// Returns the token that the program wrote into its output file earlier, unless the token has
/// expired. A token without an expiry isn't used, because its age is unknown (AIP-4117).
async fn kept(path: PathBuf, format: CommandFormat) -> Option<SecretString> {
    let read = move || fs::File::open(path).and_then(secret_file::read);
    let text = off_the_runtime(read).await.ok()?.ok()??;
    let credential = format.read(text.as_bytes(), &Redactor::default()).ok()?;
    let is_fresh = credential.expires_at? > SystemTime::now();
    is_fresh.then_some(credential.secret)
}
