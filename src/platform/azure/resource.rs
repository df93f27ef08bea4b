//! The resource that a token is for.

use crate::error::{Error, Kind};
use crate::origin::Origin;

/// The suffix of a scope that requests all permissions of the identity for a resource.
const ALL_PERMISSIONS: &str = "/.default";

/// The App ID URI of the API that accepts the token, such as `https://vault.azure.net`.
#[derive(Debug)]
pub(crate) struct Resource(String);

impl Resource {
    /// Reads a resource, or a scope that ends in `/.default`.
    pub(crate) fn of(text: &str) -> Result<Self, Error> {
        let resource = text.strip_suffix(ALL_PERMISSIONS).unwrap_or(text);
        let bad = |why: &str| {
            let message = format!(
                "the resource {why}; pass one resource or scope, such as \
                 `https://vault.azure.net/.default`"
            );
            Err(Error::new(Kind::Config, message))
        };
        if resource.is_empty() {
            return bad("is empty");
        }
        // A token is for one resource, but a list of scopes contains spaces.
        if resource.contains(char::is_whitespace) {
            return bad("contains white space");
        }
        Ok(Self(resource.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the origin of the resource, which may receive the tokens. Some App ID URIs name no
    /// server.
    pub(crate) fn origins(&self) -> Vec<Origin> {
        Origin::of_secure_url(&self.0).into_iter().collect()
    }
}
