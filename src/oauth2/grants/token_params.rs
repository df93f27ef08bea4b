//! The token request parameters that several grants have in common, and the setters for them.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::error::{Error, Kind};
use crate::http_client::token_response::{ASSUMED_LIFETIME, TokenResponse};
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;
use crate::oauth2::scope;
use crate::origin::Origin;
use crate::token::issued_token::Token;

/// The parameters of a token request, and the lifetime to assume if the server specifies no
/// lifetime.
pub(crate) struct TokenParams {
    scope: String,
    audiences: Vec<String>,
    resources: Vec<String>,
    /// Parameters that the grant doesn't define. Any of their values may be a secret.
    extra_params: Vec<(String, SecretString)>,
    reserved: Reserved,
    assumed_lifetime: Duration,
}

/// Names that extra params must not have. Each name comes with the reason, or with the setter to
/// use instead.
pub(crate) type Reserved = &'static [(&'static str, &'static str)];

/// The parameters of client authentication. They are reserved in every grant (RFC 6749 §2.3.1, RFC
/// 7521 §4.2).
const CLIENT_AUTH: [&str; 4] = [
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
];

impl TokenParams {
    pub(crate) fn new(reserved: Reserved) -> Self {
        Self {
            scope: String::new(),
            audiences: Vec::new(),
            resources: Vec::new(),
            extra_params: Vec::new(),
            reserved,
            assumed_lifetime: ASSUMED_LIFETIME,
        }
    }

    pub(crate) fn set_scope<I>(&mut self, scopes: I)
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.scope = scope::join(scopes);
    }

    pub(crate) fn set_audience(&mut self, audience: String) {
        self.audiences = vec![audience];
    }

    pub(crate) fn add_audience(&mut self, audience: String) {
        self.audiences.push(audience);
    }

    pub(crate) fn add_resource(&mut self, resource: String) {
        self.resources.push(resource);
    }

    /// Returns the origins of the resources, which may receive the tokens. Audiences don't count,
    /// because an audience may be a name instead of an address.
    pub(crate) fn origins(&self) -> Vec<Origin> {
        let urls = self.resources.iter();
        urls.filter_map(|url| Origin::of_secure_url(url)).collect()
    }

    pub(crate) fn add_extra_param(
        &mut self,
        name: String,
        value: SecretString,
    ) -> Result<(), Error> {
        if let Some(why) = self.objection(&name) {
            let name = name.escape_debug();
            let message = format!("could not add the parameter `{name}`; {why}");
            return Err(Error::new(Kind::Config, message));
        }
        self.extra_params.push((name, value));
        Ok(())
    }

    /// Returns the reason why extra params must not have this name, or `None` if the name is
    /// allowed.
    fn objection(&self, name: &str) -> Option<&'static str> {
        if name.is_empty() {
            return Some("it has no name");
        }
        if let Some((_, instead)) = self.reserved.iter().find(|(taken, _)| *taken == name) {
            return Some(instead);
        }
        if CLIENT_AUTH.contains(&name) {
            return Some("the `Client` sets it");
        }
        let is_set = self.extra_params.iter().any(|(taken, _)| taken == name);
        is_set.then_some("it is already set")
    }

    pub(crate) fn assume_lifetime(&mut self, lifetime: Duration) {
        self.assumed_lifetime = lifetime;
    }

    pub(crate) fn assumed_lifetime(&self) -> Duration {
        self.assumed_lifetime
    }

    /// Adds all parameters in the order that most grants use.
    pub(crate) fn add_to<'a>(&'a self, params: &mut Params<'a>) {
        self.add_scope_to(params);
        self.add_targets_to(params);
        self.add_extra_params_to(params);
    }

    pub(crate) fn add_scope_to<'a>(&'a self, params: &mut Params<'a>) {
        params.push("scope", &self.scope);
    }

    /// Adds the audiences and the resources that the tokens are for.
    pub(crate) fn add_targets_to<'a>(&'a self, params: &mut Params<'a>) {
        for audience in &self.audiences {
            params.push("audience", audience);
        }
        self.add_resources_to(params);
    }

    pub(crate) fn add_resources_to<'a>(&'a self, params: &mut Params<'a>) {
        for resource in &self.resources {
            params.push("resource", resource);
        }
    }

    pub(crate) fn add_extra_params_to<'a>(&'a self, params: &mut Params<'a>) {
        for (name, value) in &self.extra_params {
            params.push_secret(name, value.expose_secret());
        }
    }

    /// Returns a digest of the parameters that a request sends, and of the client's id. Two processes
    /// with the same digest can use each other's tokens. The order of the parameters and of the
    /// scope's names doesn't matter.
    ///
    /// The hash needn't resist attacks, because the digest is stored beside the tokens. It must be
    /// the same in all processes.
    pub(crate) fn digest(&self, client: &Client) -> String {
        let mut lines = vec![Zeroizing::new(format!("client {:?}", client.id()))];
        let mut add = |name: &str, value: &str| {
            // `Debug` turns one byte into at most six (`\u{7f}`). So the buffer never grows. A
            // buffer that grows would free memory without zeroizing it.
            let length = 6 * (name.len() + value.len()) + 5;
            let mut line = Zeroizing::new(String::with_capacity(length));
            // Writing to a `String` never fails.
            let _ = write!(line, "{name:?} {value:?}");
            lines.push(line);
        };
        let mut params = Params::default();
        self.add_to(&mut params);
        for (name, value) in params.pairs() {
            match name {
                "scope" => value.split(' ').for_each(|word| add(name, word)),
                _ => add(name, value),
            }
        }
        lines.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        // A new `DefaultHasher` has fixed keys.
        let mut hasher = DefaultHasher::new();
        for line in lines {
            hasher.write(line.as_bytes());
            hasher.write(b"\n");
        }
        format!("{:016x}", hasher.finish())
    }

    /// Makes the token of a response. Without a scope in the response, the token has the requested
    /// scope. Without a lifetime, the token has the assumed lifetime.
    pub(crate) fn token(&self, client: &Client, response: TokenResponse) -> Result<Token, Error> {
        client.token(response, &self.scope, self.assumed_lifetime)
    }
}

/// Shows only the names of the extra params.
impl fmt::Debug for TokenParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.extra_params.iter().map(|(name, _)| name).collect();
        f.debug_struct("TokenParams")
            .field("scope", &self.scope)
            .field("audiences", &self.audiences)
            .field("resources", &self.resources)
            .field("extra_params", &names)
            .field("assumed_lifetime", &self.assumed_lifetime)
            .finish()
    }
}

/// Defines the public setters of a grant that has [`TokenParams`] in a field. The caller lists the
/// setters, because grants have different parameters.
macro_rules! token_param_setters {
    ($grant:ident, $field:tt, [$($setter:ident),+]) => {
        impl $grant {
            $( token_param_setters!(@$setter $grant $field); )+
        }
    };
    (@scope $grant:ident ($($field:ident).+)) => {
        /// Requests a scope (RFC 6749 §3.3): names separated by spaces. The new value replaces the
        /// previous scope. By default, and if empty, no scope is sent and the server decides. If
        /// the server grants less, the cache [warns](crate::docs::watching#logs).
        #[must_use]
        pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
            self.$($field).+.set_scope([scope]);
            self
        }
    };
    (@scopes $grant:ident ($($field:ident).+)) => {
        /// Requests a [`scope`](Self::scope) with one name per item.
        #[must_use]
        pub fn scopes<I>(mut self, scopes: I) -> Self
        where
            I: IntoIterator,
            I::Item: AsRef<str>,
        {
            self.$($field).+.set_scope(scopes);
            self
        }
    };
    (@audience $grant:ident ($($field:ident).+)) => {
        /// Sets the API that the tokens are for, as Auth0 requires. The new value replaces the
        /// previous audience. By default, and if empty, no audience is sent.
        #[must_use]
        pub fn audience(mut self, audience: impl Into<String>) -> Self {
            self.$($field).+.set_audience(audience.into());
            self
        }
    };
    (@resource $grant:ident ($($field:ident).+)) => {
        /// Adds a resource for which the tokens are valid (RFC 8707 §2): an absolute URI without a
        /// fragment. Call this method again to add more resources. If the resource is an `https` or
        /// loopback URL, its origin may receive the tokens
        /// ([`TokenSource::origins`](crate::TokenSource::origins)).
        #[must_use]
        pub fn resource(mut self, resource: impl Into<String>) -> Self {
            self.$($field).+.add_resource(resource.into());
            self
        }
    };
    (@param $grant:ident ($($field:ident).+)) => {
        /// Adds any other parameter. Its value is treated as a secret.
        ///
        /// # Errors
        ///
        /// [`is_config`](crate::Error::is_config) if the name is empty, is already set, or belongs
        /// to the client, the constructor or another method. RFC 6749 §3.2 allows each parameter
        /// once.
        ///
        /// # Example
        ///
        /// ```
        /// use tower_auth::Error;
        #[doc = concat!("use tower_auth::oauth2::", stringify!($grant), ";")]
        ///
        #[doc = concat!(
            "fn for_customers(source: ", stringify!($grant), ") -> Result<", stringify!($grant), ", Error> {",
        )]
        ///     source.param("realm", "customers")
        /// }
        /// ```
        pub fn param(
            mut self,
            name: impl Into<String>,
            value: impl Into<secrecy::SecretString>,
        ) -> Result<Self, crate::error::Error> {
            self.$($field).+.add_extra_param(name.into(), value.into())?;
            Ok(self)
        }
    };
    (@assume_lifetime $grant:ident ($($field:ident).+)) => {
        /// Sets the lifetime to assume if neither the response nor the token (a JWT) specifies a
        /// lifetime. Default: 1 h.
        #[must_use]
        pub fn assume_lifetime(mut self, lifetime: std::time::Duration) -> Self {
            self.$($field).+.assume_lifetime(lifetime);
            self
        }
    };
}

pub(super) use token_param_setters;
