//! The store: a folder with sealed tokens, which all shells of a user share, and its key.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use tower_auth::fleet::{FileStore, Fleet, Keyring};
use zeroize::Zeroizing;

use crate::args::Args;
use crate::failure::{Code, Failure};
use crate::{file_access, variable, warnings};

/// The name of the key in sealed tokens.
const KEY_NAME: &str = "tower-auth-token";

/// The limit of each access to the store. The user's home folder may be on a slow network.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens the store. Returns `None` if the store can't be used, after a warning: a token for this
/// run alone is better than none.
pub(crate) fn open(args: &Args) -> Result<Option<Fleet>, Failure> {
    let chosen = args.store.clone();
    let chosen = chosen.or_else(|| variable::path("TOWER_AUTH_TOKEN_STORE"));
    let Some(folder) = chosen.or_else(default_folder) else {
        warnings::warn("no token is stored, because HOME isn't set; set TOWER_AUTH_TOKEN_STORE");
        return Ok(None);
    };
    let key_file = args.key_file.clone();
    let keys = match key_file.or_else(|| variable::path("TOWER_AUTH_TOKEN_KEY_FILE")) {
        Some(path) => chosen_key(&path)?,
        None => match own_key(&folder) {
            Ok(keys) => keys,
            Err(problem) => {
                warnings::warn(&format!("no token is stored: {problem}"));
                return Ok(None);
            }
        },
    };
    let fleet = Fleet::new(FileStore::new(folder.join("tokens")), keys);
    Ok(Some(fleet.store_timeout(STORE_TIMEOUT)))
}

/// Returns the program's folder in the user's cache folder.
fn default_folder() -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let cache = variable::path("XDG_CACHE_HOME").filter(absolute);
    let cache = cache.or_else(file_access::cache_folder);
    Some(cache?.join("tower-auth-token"))
}

/// Reads the user's key. It may be a mounted secret, so the program neither makes the file nor
/// judges its mode.
fn chosen_key(path: &Path) -> Result<Keyring, Failure> {
    let key = read(path).map_err(|error| {
        let path = path.display();
        let message = format!("the key file {path} can't be read: {error}");
        Failure::new(Code::NoInput, message)
    })?;
    Ok(Keyring::new(KEY_NAME, key)?)
}

/// Reads the store's own key. The first run makes the key.
fn own_key(folder: &Path) -> Result<Keyring, String> {
    let path = folder.join("sealing.key");
    let at = |error: io::Error| format!("{}: {error}", path.display());
    let key = match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(folder, &path).map_err(at)?;
            read(&path).map_err(at)?
        }
        key => key.map_err(at)?,
    };
    file_access::check_key(&path)?;
    Keyring::new(KEY_NAME, key).map_err(|_| {
        let path = path.display();
        format!("{path}: not a key; remove the file, and the next run makes another key")
    })
}

fn read(path: &Path) -> io::Result<SecretString> {
    let text = Zeroizing::new(fs::read_to_string(path)?);
    Ok(SecretString::from(text.trim()))
}

/// Makes a key that only the user can read. If another process is faster, its key stays.
fn make(folder: &Path, path: &Path) -> io::Result<()> {
    file_access::create_folder(folder)?;

    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(io::Error::other)?;
    let text = Zeroizing::new(STANDARD.encode(*bytes) + "\n");
    // `tempfile` creates files with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}
