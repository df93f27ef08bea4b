//! Parses `WWW-Authenticate`.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// One challenge of a response's `WWW-Authenticate` (RFC 9110 §11.6.1): how the server wants to be
/// authenticated to, and for a bearer token what was wrong with it (RFC 6750 §3).
///
/// Servers are read leniently. Of what can't be understood, everything up to the next comma is
/// skipped, which is where a parameter or a challenge can start again; a quoted string that isn't
/// closed takes the rest of its field line with it. Parameters may be separated by white space
/// alone, and an unquoted value may hold what a token may not, as in a URL.
///
/// What is read is bounded, whatever a server sends: the first 16 KiB of a field line, 32
/// challenges, 64 parameters of each. Time is linear in the length.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    scheme: String,
    token68: Option<String>,
    params: Vec<(String, String)>,
}

/// How much of a field line is looked at. Real ones have a few hundred bytes.
const LINE_LIMIT: usize = 16 * 1024;

/// How many challenges are kept. Real servers send a handful.
const CHALLENGE_LIMIT: usize = 32;

/// How many parameters of one challenge are kept. Digest, the most talkative, has about ten.
const PARAM_LIMIT: usize = 64;

impl Challenge {
    /// Reads all `WWW-Authenticate` fields, in the order they were sent; empty if there is none.
    ///
    /// Several field lines mean the same as one joined with commas (RFC 9110 §5.3), so a line that
    /// starts with a parameter goes on with the last challenge of the line before.
    pub fn parse(headers: &HeaderMap) -> Vec<Self> {
        let mut challenges = Vec::new();
        for line in headers.get_all(WWW_AUTHENTICATE) {
            let line = line.as_bytes();
            let mut cursor = Cursor {
                rest: line.get(..LINE_LIMIT).unwrap_or(line),
            };
            // Reads one more than it keeps: the last one is complete only when the next one starts.
            while !cursor.rest.is_empty() && challenges.len() <= CHALLENGE_LIMIT {
                cursor.element(&mut challenges);
            }
        }
        challenges.truncate(CHALLENGE_LIMIT);
        challenges
    }

    /// The authentication scheme as it was sent, such as `Bearer` (RFC 9110 §11.1). Compare it
    /// with [`is_scheme`](Self::is_scheme).
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Whether this is the scheme; schemes are case-insensitive (RFC 9110 §11.1).
    pub fn is_scheme(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The one value instead of parameters (RFC 9110 §11.2), as in
    /// `Negotiate YIIabc==`.
    pub fn token68(&self) -> Option<&str> {
        self.token68.as_deref()
    }

    /// The value of a parameter, without its quotes and escapes; names are case-insensitive
    /// (RFC 9110 §11.2). If the server sent it more than once, the first.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params()
            .find(|(sent, _)| sent.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The parameters, names and values, as they were sent (RFC 9110 §11.2).
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        let params = self.params.iter();
        params.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The `realm`: what on this server the credential is for (RFC 9110 §11.5).
    pub fn realm(&self) -> Option<&str> {
        self.param("realm")
    }

    /// The `error` code, such as `invalid_token` (RFC 6750 §3.1).
    pub fn error(&self) -> Option<&str> {
        self.param("error")
    }

    /// The `error_description`: for developers, not for users (RFC 6750 §3). It is the server's
    /// text, as long and as strange as the server likes.
    pub fn error_description(&self) -> Option<&str> {
        self.param("error_description")
    }

    /// The `scope` that is needed: space-separated (RFC 6750 §3).
    pub fn scope(&self) -> Option<&str> {
        self.param("scope")
    }

    /// Whether the server wants a bearer token (RFC 6750 §3).
    pub fn is_bearer(&self) -> bool {
        self.is_scheme("Bearer")
    }

    /// Whether the token is good but not enough (`insufficient_scope`, RFC 6750 §3.1; for DPoP,
    /// RFC 9449 §7.1). A new token with the same scope would be refused again.
    pub fn is_insufficient_scope(&self) -> bool {
        self.has_error_of_token("insufficient_scope")
    }

    /// Whether the token is good, but the user's login behind it too weak or too long ago
    /// (`insufficient_user_authentication`, RFC 9470 §3). A new token of the same login would be
    /// refused again.
    pub fn is_insufficient_user_authentication(&self) -> bool {
        self.has_error_of_token("insufficient_user_authentication")
    }

    fn has_error_of_token(&self, error: &str) -> bool {
        (self.is_bearer() || self.is_scheme("DPoP")) && self.error() == Some(error)
    }
}

/// What is left to read of a field line. A method either takes what it is named after or returns
/// `None`. Looking ahead is done on a copy, at most twice over the same bytes.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Takes all up to the next comma. The commas between challenges and those between parameters
    /// are the same, so only what follows one tells whether a challenge starts there.
    fn element(&mut self, challenges: &mut Vec<Challenge>) {
        self.space();
        if let Some(scheme) = self.scheme() {
            challenges.push(Challenge {
                scheme: text(scheme),
                token68: self.token68().map(text),
                params: Vec::new(),
            });
        }
        while let Some((name, value)) = self.param() {
            // A parameter before any challenge is ignored.
            if let Some(challenge) = challenges.last_mut()
                && challenge.params.len() < PARAM_LIMIT
            {
                challenge.params.push((text(name), value));
            }
        }
        self.junk();
    }

    /// A token that is no parameter's name.
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

    /// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`, and nothing behind it: what
    /// starts `realm=` is a token68 only if no value follows.
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

    /// `token BWS "=" BWS ( token / quoted-string )`, and the white space behind it.
    fn param(&mut self) -> Option<(&'a [u8], String)> {
        let name = self.token()?;
        self.space();
        self.byte(b'=')?;
        self.space();
        let value = match self.byte(b'"') {
            Some(()) => self.quoted_string()?,
            None => text(self.unquoted()?),
        };
        self.space();
        Some((name, value))
    }

    /// What is left of a quoted string behind its opening quote; `None` if it isn't closed.
    fn quoted_string(&mut self) -> Option<String> {
        let mut value = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(text(&value)),
                b'\\' => value.push(self.next()?),
                byte => value.push(byte),
            }
        }
    }

    /// More than a token: a server that forgets to quote a URL still means it.
    fn unquoted(&mut self) -> Option<&'a [u8]> {
        let value = self.take_while(|byte| !matches!(byte, b' ' | b'\t' | b',' | b';' | b'"'));
        (!value.is_empty()).then_some(value)
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let token = self.take_while(is_tchar);
        (!token.is_empty()).then_some(token)
    }

    /// Everything up to and including the next comma that isn't in a quoted string.
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

/// RFC 9110 §5.6.2.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 §11.2.
fn is_token68_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
}

/// Bytes beyond ASCII are read as UTF-8, since RFC 9110 §5.5 leaves open what else they could be.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
