//! The key that the agent of Azure Arc writes to a file. A program that sends the key proves that
//! it may read the file.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use http::HeaderMap;
use secrecy::SecretString;

use crate::challenge::www_authenticate::Challenge;
use crate::error::{Error, Kind};
use crate::sanitize::ServerText;
use crate::source::secret_file::{self, off_the_runtime};

/// The maximum length of a key in bytes. Microsoft's clients have the same limit.
const LIMIT: usize = 4096;

/// Reads the key in the file that the agent's challenge names. The file must be directly in
/// `folder`, and its name must end in `.key`. Otherwise, a program at the agent's address could get
/// the contents of any file on this machine.
pub(crate) async fn read(
    headers: &HeaderMap,
    folder: Option<&Path>,
) -> Result<SecretString, Error> {
    let path = file(headers, folder)?;
    let shown = ServerText::new(&path.to_string_lossy());
    let read = move || fs::File::open(path).and_then(secret_file::read);
    let text = off_the_runtime(read).await.map_err(|error| {
        let message = "could not read the key of Azure Arc; the runtime is shutting down";
        Error::new(Kind::Runtime, message).with_source(error)
    })?;
    let text = text.map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => {
            let message = format!(
                "could not read the key of Azure Arc in `{shown}`; on Linux, add the program's \
                 user to the group `himds`; on Windows, to the group `Hybrid Agent Extension \
                 Applications`"
            );
            Error::new(Kind::Config, message).with_source(error)
        }
        // The agent may have replaced the file since its challenge.
        _ => {
            let message = format!("could not read the key of Azure Arc in `{shown}`");
            Error::new(Kind::Transient, message).with_source(error)
        }
    })?;
    match text {
        Some(text) if text.len() <= LIMIT => Ok(SecretString::from(text.trim())),
        _ => {
            let message = format!("the file `{shown}` of Azure Arc is longer than {LIMIT} bytes");
            Err(Error::new(Kind::Reply, message))
        }
    }
}

/// Returns the file that the challenge names: `Basic realm=/var/opt/azcmagent/tokens/….key`.
fn file(headers: &HeaderMap, folder: Option<&Path>) -> Result<PathBuf, Error> {
    let challenges = Challenge::parse(headers);
    let basic = challenges.iter().find(|it| it.is_scheme("Basic"));
    let Some(path) = basic.and_then(Challenge::realm) else {
        let message = "the challenge of the agent of Azure Arc names no key file";
        return Err(Error::new(Kind::Reply, message));
    };
    let Some(folder) = folder else {
        let message = "the folder of Azure Arc's keys is unknown on this system; on Windows, pass \
                       the environment variable `ProgramData` to the program";
        return Err(Error::new(Kind::Config, message));
    };
    let path = PathBuf::from(path);
    let is_key = path.extension().is_some_and(|end| end == "key");
    if path.parent() == Some(folder) && is_key {
        return Ok(path);
    }
    let message = format!(
        "the agent of Azure Arc named the key file `{}`, which is not a `.key` file in {}; the \
         file was not read",
        ServerText::new(&path.to_string_lossy()),
        folder.display()
    );
    Err(Error::new(Kind::Reply, message))
}
