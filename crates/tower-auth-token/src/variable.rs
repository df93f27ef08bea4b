//! Environment variables. An empty variable counts as unset.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::failure::Failure;

/// Reads a variable that contains text.
pub(crate) fn text(name: &str) -> Result<Option<String>, Failure> {
    let value = raw(name).map(OsString::into_string).transpose();
    // The value may be a secret, so the message doesn't show it.
    value.map_err(|_| Failure::usage(format!("the variable {name} isn't UTF-8")))
}

/// Reads a variable that contains a path.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    raw(name).map(PathBuf::from)
}

fn raw(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
