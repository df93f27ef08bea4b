//! Reads one claim of a JWT without verifying it.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};

use super::issued_token::Token;
use super::jwt;
use crate::error::{Error, Kind};
use crate::sanitize::ServerText;

impl Token {
    /// Reads a claim of a JWT (RFC 7519 §4) **without verifying the signature**.
    ///
    /// Use this method for data that an API puts in the token for its client, such as a tenant.
    /// Don't use the claim to decide who a user is or what a user may do. Only the server and the
    /// API decide the format of a token (RFC 6749 §1.4). The format may change at any time.
    ///
    /// `name` is the exact name of a top-level claim. The name may be a URL, as Auth0 requires for
    /// your own claims. The result is `None` in these cases:
    ///
    /// - There is no such claim, or it is `null`.
    /// - The token is not a JWT, or is encrypted.
    /// - The token has more than 64 KiB of claims.
    ///
    /// # Errors
    ///
    /// [`is_reply`](Error::is_reply) if the claim isn't a `T` or occurs twice. The error names the
    /// claim, but contains no value of the token.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::Token;
    ///
    /// # use base64::Engine as _;
    /// # let claims = r#"{"https://api.example.com/account_id":"acme","roles":["reader"]}"#;
    /// # let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
    /// # let jwt = format!("eyJhbGciOiJub25lIn0.{claims}.");
    /// let token = Token::bearer(jwt)?;
    /// let name = "https://api.example.com/account_id";
    /// let account: Option<String> = token.unverified_claim(name)?;
    /// let roles: Option<Vec<String>> = token.unverified_claim("roles")?;
    /// assert_eq!(account.as_deref(), Some("acme"));
    /// assert_eq!(roles.unwrap_or_default(), ["reader"]);
    /// assert_eq!(token.unverified_claim::<u64>("absent")?, None);
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    #[doc(alias = "claim")]
    #[doc(alias = "jwt")]
    pub fn unverified_claim<T>(&self, name: &str) -> Result<Option<T>, Error>
    where
        T: DeserializeOwned,
    {
        let Some(payload) = jwt::payload(self.secret()) else {
            return Ok(None);
        };
        let mut problem = None;
        let search = ClaimSearch {
            name,
            problem: &mut problem,
            claim: PhantomData,
        };
        let mut json = serde_json::Deserializer::from_slice(&payload);
        let found = search.deserialize(&mut json);
        let found = found.and_then(|found| json.end().map(|()| found));
        match (found, problem) {
            (Ok(found), _) => Ok(found),
            (Err(error), Some(problem)) if error.is_data() => {
                let problem = match problem {
                    Problem::OtherType => format!("is no `{}`", type_name::<T>()),
                    Problem::Repeated => String::from("occurs twice"),
                };
                let message = format!(
                    "the claim `{}` of the token {problem}",
                    ServerText::new(name)
                );
                // serde's error may show the claim's value, so the new error doesn't contain
                // serde's error.
                Err(Error::new(Kind::Reply, message))
            }
            // The payload doesn't contain the claims of a JWT.
            (Err(_), _) => Ok(None),
        }
    }
}

/// Reads the value of one key of an object, and skips the others.
struct ClaimSearch<'a, T> {
    name: &'a str,
    problem: &'a mut Option<Problem>,
    claim: PhantomData<T>,
}

/// What is wrong with the claim itself.
enum Problem {
    OtherType,
    Repeated,
}

impl<'de, T> DeserializeSeed<'de> for ClaimSearch<'_, T>
where
    T: DeserializeOwned,
{
    type Value = Option<T>;

    fn deserialize<D>(self, deserializer: D) -> Result<Self::Value, D::Error>
    where
        D: Deserializer<'de>,
    {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T> Visitor<'de> for ClaimSearch<'_, T>
where
    T: DeserializeOwned,
{
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the claims of a JWT")
    }

    fn visit_map<A>(self, mut map: A) -> Result<Self::Value, A::Error>
    where
        A: MapAccess<'de>,
    {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(IsName(self.name))? {
            if !is_it {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if found.is_some() {
                // RFC 7519 §4 doesn't say which of two values counts.
                *self.problem = Some(Problem::Repeated);
                return Err(A::Error::custom("a claim occurs twice"));
            }
            *self.problem = Some(Problem::OtherType);
            found = Some(map.next_value::<Option<T>>()?);
            *self.problem = None;
        }
        Ok(found.flatten())
    }
}

/// Compares a key of the object with this name in place, without copying the key.
struct IsName<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;

    fn deserialize<D>(self, deserializer: D) -> Result<bool, D::Error>
    where
        D: Deserializer<'de>,
    {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsName<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a claim")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}
