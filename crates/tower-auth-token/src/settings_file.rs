//! The settings file: lines of `NAME=value`, or JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::failure::{Code, Failure};

/// The settings of a file, by the names of their variables.
#[derive(Default)]
pub(crate) struct SettingsFile {
    values: BTreeMap<&'static str, Zeroizing<String>>,
    folder: PathBuf,
}

/// The longest settings file. Without a limit, a wrong path could fill the memory.
const LONGEST: u64 = 64 * 1024;

impl SettingsFile {
    /// Reads a file. Names that aren't settings of this program are ignored, because other programs
    /// may read the same file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |code, what: String| {
            let message = format!("the settings file {} {what}", path.display());
            Err(Failure::new(code, message))
        };
        let text = match fs::File::open(path).and_then(read_bounded) {
            Ok(Some(text)) => text,
            Ok(None) => return wrong(Code::NoInput, "is longer than 64 KiB".into()),
            Err(error) => return wrong(Code::NoInput, format!("can't be read: {error}")),
        };
        let values = match text.trim_start().starts_with('{') {
            true => from_json(&text),
            false => from_lines(&text),
        };
        match values {
            Ok(values) => Ok(Self {
                values,
                folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            }),
            Err(what) => wrong(Code::Usage, what),
        }
    }

    /// Returns a setting, or `None` if it is missing or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let value = self.values.get(name).map(|value| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    /// Returns a path, which is relative to the folder of the settings file.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(|path| self.folder.join(path))
    }
}

fn read_bounded(file: fs::File) -> std::io::Result<Option<Zeroizing<String>>> {
    use std::io::Read as _;

    // Allocates the maximum length. A buffer that grows leaves copies of secrets in memory.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST as usize + 1));
    file.take(LONGEST + 1).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= LONGEST).then_some(text))
}

type Values = BTreeMap<&'static str, Zeroizing<String>>;

/// Error messages name a line of the file, but quote nothing, because the file may contain a secret.
fn from_json(text: &str) -> Result<Values, String> {
    let members: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("isn't valid JSON (line {line}, column {column})")
    })?;
    let mut values = Values::new();
    for (name, value) in members {
        match (setting(&name), value) {
            (Some(setting), Value::String(value)) => {
                values.insert(setting, Zeroizing::new(value));
            }
            (Some(_), Value::Null) | (None, _) => {}
            (Some(_), _) => {
                return Err(format!(
                    "has a member `{}` that isn't a text",
                    name.escape_debug()
                ));
            }
        }
    }
    Ok(values)
}

fn from_lines(text: &str) -> Result<Values, String> {
    let mut values = Values::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("has no `NAME=value` in line {number}"));
        };
        if let Some(setting) = setting(name.trim()) {
            values.insert(setting, Zeroizing::new(unquoted(value.trim()).to_owned()));
        }
    }
    Ok(values)
}

/// Removes a pair of quotation marks.
fn unquoted(value: &str) -> &str {
    let inside = |mark| value.strip_prefix(mark)?.strip_suffix(mark);
    inside('\'').or_else(|| inside('"')).unwrap_or(value)
}

/// Returns the setting that a name means. Services spell the names in their files differently.
fn setting(name: &str) -> Option<&'static str> {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    let name: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    Some(match name.as_str() {
        "tokenurl" | "tokenuri" | "tokenendpoint" | "authenticationurl" => "TOKEN_URL",
        "clientid" => "CLIENT_ID",
        "clientsecret" | "password" => "CLIENT_SECRET",
        "clientsecretfile" => "CLIENT_SECRET_FILE",
        "audience" => "AUDIENCE",
        "resource" => "RESOURCE",
        "scope" | "scopes" => "SCOPE",
        "clientauth" => "CLIENT_AUTH",
        _ => return None,
    })
}
