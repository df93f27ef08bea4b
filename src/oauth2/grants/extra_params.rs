//! Parameters that no RFC has, as a user adds them to a token request.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, Kind};
use crate::oauth2::client::params::Params;

/// Names and values; a value may be a secret, for what a server wants on top may be one.
#[derive(Default)]
pub(crate) struct Extra {
    list: Vec<(String, SecretString)>,
}

/// What says who the client is, whatever the grant (RFC 6749 §2.3.1, RFC 7521 §4.2).
const OF_THE_CLIENT: [&str; 4] = [
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
];

impl Extra {
    /// Adds one whose name isn't empty, taken, the client's, or `reserved`: set in another way, which
    /// is told.
    pub(crate) fn add(
        &mut self,
        name: String,
        value: SecretString,
        reserved: &[(&str, &str)],
    ) -> Result<(), Error> {
        let wrong = |why: &str| {
            let message = format!(
                "the parameter `{}` can't be added: {why}",
                name.escape_debug()
            );
            Err(Error::new(Kind::Config, message))
        };
        if name.is_empty() {
            return wrong("it has no name");
        }
        if let Some((_, instead)) = reserved.iter().find(|(taken, _)| *taken == name) {
            return wrong(instead);
        }
        if OF_THE_CLIENT.contains(&name.as_str()) {
            return wrong("it says who the client is, which its constructor and methods do");
        }
        if self.list.iter().any(|(taken, _)| *taken == name) {
            return wrong("it is set already");
        }
        self.list.push((name, value));
        Ok(())
    }

    pub(crate) fn add_to<'a>(&'a self, params: &mut Params<'a>) {
        for (name, value) in &self.list {
            params.push_secret(name, value.expose_secret());
        }
    }
}

/// The names alone.
impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.list.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}
