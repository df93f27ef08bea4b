//! The environment variables in which a platform describes an identity.

use std::collections::HashMap;
use std::env;

use zeroize::Zeroizing;

use crate::error::{Error, Kind};

/// A copy of environment variables. An empty variable counts as missing, because a template that
/// has no value sets an empty variable.
pub(crate) struct Environment {
    variables: HashMap<String, Zeroizing<String>>,
}

impl Environment {
    /// Copies the variables of this process. Leaves out variables that aren't UTF-8.
    pub(crate) fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::of(env::vars_os().filter_map(text))
    }

    pub(crate) fn of<N, V>(variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<String>,
    {
        let variables = variables.into_iter();
        let variables = variables.map(|(name, value)| (name.into(), Zeroizing::new(value.into())));
        Self {
            variables: variables.filter(|(_, value)| !value.is_empty()).collect(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.as_str())
    }

    /// Returns a variable that `what` needs.
    #[cfg_attr(
        not(any(feature = "azure", feature = "github", feature = "kubernetes")),
        allow(dead_code, reason = "the other platforms have no required variable")
    )]
    pub(crate) fn require(&self, name: &str, what: &str) -> Result<&str, Error> {
        self.get(name).ok_or_else(|| {
            let message = format!(
                "the environment variable `{name}` is not set or is empty; {what} needs it"
            );
            Error::new(Kind::Config, message)
        })
    }
}
