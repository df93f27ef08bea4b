//! Parses `WWW-Authenticate`.

use std::fmt;

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use zeroize::Zeroizing;

use crate::sanitize::decode;

/// One challenge in the `WWW-Authenticate` of a response (RFC 9110 §11.6.1). The challenge says how
/// to authenticate. For a bearer token, the challenge also says what was wrong with the token (RFC
/// 6750 §3).
///
/// The parser is lenient. If it can't parse a part, it skips to the next comma, where a parameter
/// or a challenge can start. After an unclosed quoted string, it skips the rest of the field line.
/// Parameters may be separated by white space alone. An unquoted value may contain characters that
/// are invalid in a token, such as the characters of a URL.
///
/// The parser reads at most the first 16 KiB of a field line, 32 challenges, and 64 parameters of
/// each challenge. Its running time is linear in the length of the field lines.
///
/// # Example
///
/// ```
/// use http::HeaderMap;
/// use http::header::{HeaderValue, WWW_AUTHENTICATE};
/// use tower_auth::challenge::Challenge;
///
/// let mut headers = HeaderMap::new();
/// headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(
///     r#"Bearer realm="api", error="invalid_token", DPoP algs="RS256 ES256""#,
/// ));
/// let challenges = Challenge::parse(&headers);
/// assert_eq!(challenges.len(), 2);
/// assert!(challenges[0].is_bearer());
/// assert_eq!(challenges[0].error(), Some("invalid_token"));
/// assert_eq!(challenges[1].scheme(), "DPoP");
/// assert_eq!(challenges[1].param("algs"), Some("RS256 ES256"));
/// ```
///
/// A message for developers:
///
/// ```
/// use tower_auth::challenge::Challenge;
///
/// fn explain(challenge: &Challenge) -> String {
///     let realm = challenge.realm().unwrap_or("the API");
///     if challenge.is_insufficient_scope() {
///         let scope = challenge.scope().unwrap_or_default();
///         return format!("{realm:?} requires the scope {scope:?}");
///     }
///     if challenge.is_insufficient_user_authentication() {
///         return format!("{realm:?} requires a stronger or newer login");
///     }
///     format!("{realm:?} refused the token: {:?}", challenge.error_description())
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    // All texts are zeroized, because a server may repeat the token of the request.
    scheme: Zeroizing<String>,
    token68: Option<Zeroizing<String>>,
    params: Vec<(Zeroizing<String>, Zeroizing<String>)>,
}

/// How many bytes of a field line are parsed. Real lines have a few hundred bytes.
const LINE_LIMIT: usize = 16 * 1024;

/// How many challenges are kept. Real servers send a few.
const CHALLENGE_LIMIT: usize = 32;

/// How many parameters of a challenge are kept. The scheme `Digest` has the most parameters: about
/// ten.
const PARAM_LIMIT: usize = 64;

impl Challenge {
    /// Parses all `WWW-Authenticate` fields in their order in the response. Returns an empty list
    /// if there are no such fields.
    ///
    /// Several field lines are equivalent to one line joined with commas (RFC 9110 §5.3). So a line
    /// that starts with a parameter continues the last challenge of the previous line.
    pub fn parse(headers: &HeaderMap) -> Vec<Self> {
        let mut challenges = Vec::new();
        for line in headers.get_all(WWW_AUTHENTICATE) {
            let line = line.as_bytes();
            let mut cursor = Cursor {
                rest: line.get(..LINE_LIMIT).unwrap_or(line),
            };
            // Parses one challenge more than the limit, because a challenge is complete only when
            // the next challenge starts.
            while !cursor.rest.is_empty() && challenges.len() <= CHALLENGE_LIMIT {
                cursor.element(&mut challenges);
            }
        }
        challenges.truncate(CHALLENGE_LIMIT);
        challenges
    }

    /// Returns the authentication scheme as the server sent it, such as `Bearer` (RFC 9110 §11.1).
    /// Compare it with [`is_scheme`](Self::is_scheme).
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns whether the challenge has this scheme. Schemes are case-insensitive (RFC 9110
    /// §11.1).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::challenge::Challenge;
    ///
    /// /// Returns whether the server accepts tokens that are bound to a key.
    /// fn accepts_dpop(challenges: &[Challenge]) -> bool {
    ///     challenges.iter().any(|challenge| challenge.is_scheme("DPoP"))
    /// }
    /// ```
    pub fn is_scheme(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// Returns the value that a challenge may have instead of parameters (RFC 9110 §11.2). An
    /// example is `YIIabc==` in `Negotiate YIIabc==`.
    ///
    /// # Example
    ///
    /// ```
    /// use http::HeaderMap;
    /// use http::header::{HeaderValue, WWW_AUTHENTICATE};
    /// use tower_auth::challenge::Challenge;
    ///
    /// let mut headers = HeaderMap::new();
    /// headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Negotiate YIIabc=="));
    /// assert_eq!(Challenge::parse(&headers)[0].token68(), Some("YIIabc=="));
    /// ```
    pub fn token68(&self) -> Option<&str> {
        self.token68.as_ref().map(|text| text.as_str())
    }

    /// Returns the value of a parameter, without quotes and escapes. Names are case-insensitive
    /// (RFC 9110 §11.2). If a parameter occurs more than once, the first value counts.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params()
            .find(|(sent, _)| sent.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Returns the names and values of all parameters, as the server sent them (RFC 9110 §11.2).
    ///
    /// # Example
    ///
    /// ```
    /// use http::HeaderMap;
    /// use http::header::{HeaderValue, WWW_AUTHENTICATE};
    /// use tower_auth::challenge::Challenge;
    ///
    /// let mut headers = HeaderMap::new();
    /// let field = r#"Digest realm="api", nonce=4f2a"#;
    /// headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(field));
    /// let challenges = Challenge::parse(&headers);
    /// let params: Vec<_> = challenges[0].params().collect();
    /// assert_eq!(params, [("realm", "api"), ("nonce", "4f2a")]);
    /// ```
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        let params = self.params.iter();
        params.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the `realm`, which names the part of the server that the credential is for (RFC 9110
    /// §11.5).
    pub fn realm(&self) -> Option<&str> {
        self.param("realm")
    }

    /// Returns the `error` code, such as `invalid_token` (RFC 6750 §3.1).
    pub fn error(&self) -> Option<&str> {
        self.param("error")
    }

    /// Returns the `error_description`, which is meant for developers, not for users (RFC 6750 §3).
    /// The server chose this text. Its length and content are not checked.
    pub fn error_description(&self) -> Option<&str> {
        self.param("error_description")
    }

    /// Returns the required `scope`: names separated by spaces (RFC 6750 §3).
    pub fn scope(&self) -> Option<&str> {
        self.param("scope")
    }

    /// Returns whether the server requires a bearer token (RFC 6750 §3).
    pub fn is_bearer(&self) -> bool {
        self.is_scheme("Bearer")
    }

    /// Returns whether the token is valid but lacks scope. The code is `insufficient_scope` (RFC
    /// 6750 §3.1; for DPoP, RFC 9449 §7.1). The server would also refuse a new token with the same
    /// scope.
    pub fn is_insufficient_scope(&self) -> bool {
        self.has_error_of_token("insufficient_scope")
    }

    /// Returns whether the token is valid but the user's login is too weak or too old. The code is
    /// `insufficient_user_authentication` (RFC 9470 §3). The server would also refuse a new token
    /// from the same login.
    pub fn is_insufficient_user_authentication(&self) -> bool {
        self.has_error_of_token("insufficient_user_authentication")
    }

    fn has_error_of_token(&self, error: &str) -> bool {
        (self.is_bearer() || self.is_scheme("DPoP")) && self.error() == Some(error)
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge")
            .field("scheme", &self.scheme())
            .field("token68", &self.token68())
            .field("params", &self.params().collect::<Vec<_>>())
            .finish()
    }
}

/// The rest of a field line. Each method takes the part that it is named after, or returns `None`.
/// To look ahead, a method copies the cursor. No byte is read more than three times.
/// Non-ASCII bytes are read as UTF-8, because RFC 9110 §5.5 doesn't define their encoding.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Takes everything up to the next comma. Commas separate both challenges and parameters. Only
    /// the text after a comma shows whether a challenge starts there.
    fn element(&mut self, challenges: &mut Vec<Challenge>) {
        self.space();
        if let Some(scheme) = self.scheme() {
            challenges.push(Challenge {
                scheme: decode(scheme),
                token68: self.token68().map(decode),
                params: Vec::new(),
            });
        }
        while let Some((name, value)) = self.param() {
            // A parameter before the first challenge is ignored.
            if let Some(challenge) = challenges.last_mut()
                && challenge.params.len() < PARAM_LIMIT
            {
                challenge.params.push((decode(name), value));
            }
        }
        self.junk();
    }

    /// Takes a token that is a scheme, not the name of a parameter.
    fn scheme(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let scheme = ahead.token()?;
        let is_apart = !ahead.space().is_empty();
        let is_name = ahead.rest.first() == Some(&b'=');
        if is_name || !(is_apart || ahead.is_at_end()) {
            return None;
        }
        *self = ahead;
        Some(scheme)
    }

    /// Takes `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`, if the element ends
    /// there. For example, `realm=` is a token68 only if no value follows.
    fn token68(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let digits = ahead.take_while(is_token68_char).len();
        let padding = ahead.take_while(|byte| byte == b'=').len();
        ahead.space();
        if digits == 0 || !ahead.is_at_end() {
            return None;
        }
        let token68 = self.rest.get(..digits + padding);
        *self = ahead;
        token68
    }

    /// Takes `token BWS "=" BWS ( token / quoted-string )` and the white space that follows.
    fn param(&mut self) -> Option<(&'a [u8], Zeroizing<String>)> {
        let name = self.token()?;
        self.space();
        self.byte(b'=')?;
        self.space();
        let value = match self.byte(b'"') {
            Some(()) => self.quoted_string()?,
            None => decode(self.unquoted()?),
        };
        self.space();
        Some((name, value))
    }

    /// Takes the rest of a quoted string, whose opening quote was already taken. Returns `None` if
    /// the string isn't closed.
    fn quoted_string(&mut self) -> Option<Zeroizing<String>> {
        let mut quoted = *self;
        let mut length = 0;
        loop {
            match self.next()? {
                b'"' => break,
                b'\\' => drop(self.next()?),
                _ => {}
            }
            length += 1;
        }
        // The buffer has its final capacity, because a buffer that grows leaves copies in memory.
        let mut value = Zeroizing::new(Vec::with_capacity(length));
        while value.len() < length {
            value.push(match quoted.next()? {
                b'\\' => quoted.next()?,
                byte => byte,
            });
        }
        Some(decode(&value))
    }

    /// Accepts more characters than a token may contain, because some servers don't quote URLs.
    fn unquoted(&mut self) -> Option<&'a [u8]> {
        let value = self.take_while(|byte| !matches!(byte, b' ' | b'\t' | b',' | b';' | b'"'));
        (!value.is_empty()).then_some(value)
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let token = self.take_while(is_tchar);
        (!token.is_empty()).then_some(token)
    }

    /// Takes everything up to and including the next comma outside of a quoted string.
    fn junk(&mut self) {
        while let Some(byte) = self.next() {
            match byte {
                b',' => return,
                b'"' => drop(self.quoted_string()),
                _ => {}
            }
        }
    }

    fn space(&mut self) -> &'a [u8] {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'))
    }

    fn is_at_end(&self) -> bool {
        matches!(self.rest.first(), None | Some(b','))
    }

    fn byte(&mut self, wanted: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[wanted])?;
        Some(())
    }

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn take_while(&mut self, is_wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| !is_wanted(byte));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }
}

/// Returns whether the byte is a `tchar` (RFC 9110 §5.6.2).
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns whether the byte may be in a token68 (RFC 9110 §11.2).
fn is_token68_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
}
