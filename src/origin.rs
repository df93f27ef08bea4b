//! Origins (RFC 6454). Only loopback origins and origins with an encrypted channel may receive a
//! secret.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
#[cfg(any(feature = "azure", feature = "gcp", feature = "reqwest"))]
use std::net::IpAddr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::LazyLock;

use http::Uri;
use http::uri::Authority;

use crate::error::{Error, Kind};

/// An origin (RFC 6454 §4): scheme, host and port.
///
/// # Example
///
/// ```
/// use tower_auth::Origin;
///
/// let origin: Origin = "https://API.example.com".parse()?;
/// assert_eq!(origin.to_string(), "https://api.example.com:443");
/// assert!("api.example.com".parse::<Origin>().is_err());
/// # Ok::<(), tower_auth::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The origin as [`serialize`] writes it. All spellings of one origin have the same text.
    text: Box<str>,
    scheme_len: usize,
    /// The offset of the authority in `text`.
    authority_at: usize,
    host_len: usize,
    port: u16,
    is_https: bool,
}

impl Origin {
    /// Makes an origin. `None` if there is no port and the scheme has no default port.
    pub(crate) fn new(scheme: &str, host: &str, port: Option<u16>) -> Option<Self> {
        let port = port.or_else(|| default_port(scheme))?;
        Some(Self {
            text: serialize(scheme, host, Some(port)).into_boxed_str(),
            scheme_len: scheme.len(),
            authority_at: scheme.len() + "://".len(),
            is_https: scheme.eq_ignore_ascii_case("https"),
            host_len: host.len(),
            port,
        })
    }

    pub(crate) fn scheme(&self) -> &str {
        &self.text[..self.scheme_len]
    }

    /// Returns whether the scheme and the authority are spelled exactly as [`serialize`] writes
    /// this origin. The layer checks this for each request.
    #[inline]
    pub(crate) fn is_written(&self, scheme: &str, authority: &str) -> bool {
        let text = self.text.as_bytes();
        // `is_https` is checked first, because a comparison with a constant needs no function call.
        let is_scheme = match self.is_https {
            true => scheme == "https",
            false => text.get(..self.scheme_len) == Some(scheme.as_bytes()),
        };
        is_scheme && text.get(self.authority_at..) == Some(authority.as_bytes())
    }

    /// Returns the host, and the port if it isn't the scheme's default.
    pub(crate) fn authority(&self) -> &str {
        &self.text[self.authority_at..]
    }

    fn host(&self) -> &str {
        &self.authority()[..self.host_len]
    }

    /// Returns the origin of an absolute URI. `None` if the URI contains a user name or an invalid
    /// port.
    pub(crate) fn of_uri(uri: &Uri) -> Option<Self> {
        let host = uri.host().filter(|host| !host.is_empty())?;
        let authority = uri.authority().map(Authority::as_str)?;
        let port = match authority.strip_prefix(host)? {
            "" => None,
            port => Some(port.strip_prefix(':')?.parse().ok()?),
        };
        Self::new(uri.scheme_str()?, host, port)
    }

    /// Returns the origin of a URL over `https` or on loopback. `None` for other cleartext URLs,
    /// and for a URI without a server, such as a URN.
    pub(crate) fn of_secure_url(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        is_secure(uri.scheme_str(), uri.host()).then(|| Self::of_uri(&uri))?
    }

    /// Returns whether this is the origin of this scheme, host and port. Allocates nothing.
    #[inline]
    pub(crate) fn is_at(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        self.scheme().eq_ignore_ascii_case(scheme)
            && self.host().eq_ignore_ascii_case(host)
            && port.or_else(|| default_port(scheme)) == Some(self.port)
    }

    pub(crate) fn digest(&self) -> OriginDigest {
        OriginDigest::new(self.scheme(), self.host(), Some(self.port))
    }
}

impl FromStr for Origin {
    type Err = Error;

    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the text isn't `scheme://host[:port]`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let is_bare = |uri: &Uri| uri.path() == "/" && uri.query().is_none();
        // `Uri` drops a fragment silently, so the text itself is checked for `#`.
        let uri = text.parse().ok().filter(is_bare);
        let uri = uri.filter(|_| !text.contains('#'));
        let fault = list_fault(text).or_else(|| port_fault(text));
        let origin = uri.filter(|_| fault.is_none());
        origin.and_then(|uri| Self::of_uri(&uri)).ok_or_else(|| {
            let what = fault.as_deref().unwrap_or("is invalid");
            let message = format!(
                "the origin {what}; write `scheme://host[:port]`, such as \
                 `https://api.example.com`, without a path or user name"
            );
            Error::new(Kind::Config, message)
        })
    }
}

/// Reads `scheme://host[:port]`.
#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Origin {
    fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
    where
        D: serde::Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Returns the origin in the form of RFC 6454 §6.2, without the scheme's default port. So a method
/// that takes the text of an origin, such as [`only_to`](crate::AuthLayer::only_to), also takes an
/// `Origin`.
impl AsRef<str> for Origin {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme(), self.host(), self.port)
    }
}

/// A keyed hash of an origin. A request in flight keeps the hash, to recognize responses from other
/// origins. The hash is small, and computing it doesn't allocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OriginDigest(u64);

impl OriginDigest {
    /// The digest of a request whose URI is only a path. The client below the layer decides where
    /// such a request goes.
    pub(crate) const UNKNOWN: Self = Self(0);

    /// Computes the digest. All spellings of one origin have the same digest.
    pub(crate) fn new(scheme: &str, host: &str, port: Option<u16>) -> Self {
        /// The key is random in each process, so an attacker can't construct two origins with the
        /// same digest.
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let mut hasher = KEY.build_hasher();
        for text in [scheme, host] {
            text.len().hash(&mut hasher);
            for byte in text.bytes() {
                hasher.write_u8(byte.to_ascii_lowercase());
            }
        }
        port.or_else(|| default_port(scheme)).hash(&mut hasher);
        Self(hasher.finish().max(1))
    }
}

/// Writes an origin in lower case (RFC 6454 §6.2). The port is left out if it is the scheme's
/// default.
pub(crate) fn serialize(scheme: &str, host: &str, port: Option<u16>) -> String {
    let mut text = format!("{scheme}://{host}");
    text.make_ascii_lowercase();
    if let Some(port) = port.filter(|port| default_port(scheme) != Some(*port)) {
        text.push_str(&format!(":{port}"));
    }
    text
}

/// Writes the origin of an absolute URI as [`serialize`] does.
#[cfg(any(feature = "cookies", feature = "dpop"))]
pub(crate) fn serialize_uri(uri: &Uri) -> String {
    let (scheme, host) = (uri.scheme_str(), uri.host());
    serialize(
        scheme.unwrap_or_default(),
        host.unwrap_or_default(),
        uri.port_u16(),
    )
}

/// Returns the scheme, the host and the port of an absolute URI, spelled as in the URI.
pub(crate) fn parts_of(uri: &Uri) -> Option<(&str, &str, Option<u16>)> {
    Some((uri.scheme_str()?, uri.host()?, uri.port_u16()))
}

/// Returns what is wrong with a pattern or a list of origins. `Uri` accepts these characters in a
/// host, but no request goes to such a host.
fn list_fault(text: &str) -> Option<String> {
    let found = ['*', ','].into_iter().find(|c| text.contains(*c))?;
    Some(format!("has a `{found}`, but must be a single origin"))
}

/// Returns what is wrong with the port of an absolute URL, for an error message. `None` if the port
/// is valid, or if there is no port.
///
/// `Uri` also accepts other ports, but then returns no port.
pub(crate) fn port_fault(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    authority_port_fault(rest.split(['/', '?', '#']).next()?)
}

/// Does the same as [`port_fault`] for an authority: `[user@]host[:port]`.
pub(crate) fn authority_port_fault(authority: &str) -> Option<String> {
    let place = authority.rsplit('@').next()?;
    let port = match place.strip_prefix('[') {
        Some(address) => address.split_once(']')?.1.strip_prefix(':')?,
        None => place.split_once(':')?.1,
    };
    if port.contains(':') {
        // This is an IPv6 address without brackets. `Uri` rejects such an address.
        return None;
    }
    let what = if port.is_empty() {
        String::from("an empty port")
    } else if !port.bytes().all(|b| b.is_ascii_digit()) {
        // The text may be a password, so the message doesn't contain it.
        String::from("a port that isn't a number")
    } else if port.parse::<u16>().is_ok_and(|port| port > 0) {
        return None;
    } else if port.len() > LONGEST_PORT {
        format!("a port of {} digits", port.len())
    } else {
        format!("the port {port}")
    };
    Some(format!(
        "has {what}, but a port is a number from 1 to 65535"
    ))
}

/// The maximum length of a port that errors show. A longer number may be a secret.
const LONGEST_PORT: usize = 8;

/// Returns whether data sent to this scheme and host is encrypted or stays on this machine.
///
/// The host has the form of [`http::Uri::host`], with an IPv6 address in brackets.
pub(crate) fn is_secure(scheme: Option<&str>, host: Option<&str>) -> bool {
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return false;
    };
    scheme.is_some_and(is_encrypted) || is_loopback(host)
}

fn default_port(scheme: &str) -> Option<u16> {
    if is_encrypted(scheme) {
        Some(443)
    } else if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("ws") {
        Some(80)
    } else {
        None
    }
}

fn is_encrypted(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss")
}

/// Returns whether the host is this machine. The whole name or address must match.
///
/// For example, `localhost.evil.com` and `127.0.0.1.nip.io` are other machines. A name counts only
/// if its *last* label is `localhost`, because public DNS never contains such names (RFC 6761
/// §6.3).
fn is_loopback(host: &str) -> bool {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        return address.parse().is_ok_and(|ip: Ipv6Addr| ip.is_loopback());
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return ip.is_loopback();
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost") && name.split('.').all(is_label)
}

/// The name of Google Cloud's metadata server, which has a link-local address and no encryption.
#[cfg(any(feature = "azure", feature = "gcp", feature = "reqwest"))]
pub(crate) const GOOGLE_METADATA: &str = "metadata.google.internal";

/// Returns whether the host is this machine or on its own network link. The host has the form of
/// `reqwest::Url::host_str`, which spells each address in one way.
#[cfg(any(feature = "azure", feature = "gcp", feature = "reqwest"))]
pub(crate) fn is_loopback_or_link_local(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let ip = match bare {
        Some(address) => address.parse().map(IpAddr::V6),
        None => host.parse().map(IpAddr::V4),
    };
    let Ok(ip) = ip else {
        return is_loopback(host);
    };
    // A connection to the unspecified address reaches this machine.
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified(),
    }
}

/// Returns whether a label contains only ASCII letters, digits, `-` and `_`. URL parsers disagree
/// about other characters. One parser may include such a character in the name, and another may end
/// the name before such a character.
fn is_label(label: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !label.is_empty() && label.bytes().all(is_plain)
}
