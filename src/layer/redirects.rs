//! The targets of redirects to other origins, which get no credential.
//!
//! A layer outside that follows redirects sends each hop as a new request, and nothing marks such a
//! request. But the redirect response passes through this layer. So the layer remembers the origin
//! in it, and attaches no credential to later requests to that origin, unless the user names it.
//!
//! Origins are compared by a keyed digest. A request's digest is needed when its response arrives, and
//! computing it must not allocate.

use std::hash::BuildHasher;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock, OnceLock};

use http::header::LOCATION;

use super::auth_request::AuthRequest;
use super::auth_response::AuthResponse;
use crate::origin::{default_port, is_label};
use crate::sync::ArcSwapOption;
use crate::sync::atomic::{AtomicBool, Ordering};

/// The origins to which other origins redirected requests.
#[derive(Debug, Default)]
pub(crate) struct Redirects {
    usual: OnceLock<UsualOrigin>,
    /// Whether any redirect named another origin. For most clients none does.
    any: AtomicBool,
    known: ArcSwapOption<KnownTargets>,
}

/// The origin of the first request, to which most requests go. Comparing its text costs less than
/// computing a digest.
#[derive(Debug)]
struct UsualOrigin {
    scheme: Box<str>,
    authority: Box<str>,
    digest: OriginDigest,
}

/// Both lists are sorted.
#[derive(Clone, Debug, Default)]
struct KnownTargets {
    to: Vec<OriginDigest>,
    /// Origins that sent a redirect we could not parse, or one too many to remember. While there are
    /// any, only they are certain not to be the target of such a redirect.
    unclear_from: Vec<OriginDigest>,
}

/// The most origins that each list remembers.
const MAX_ORIGINS: usize = 1000;

/// A digest of the origin that a request is sent to. Equal origins have equal digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OriginDigest(u64);

impl OriginDigest {
    /// The digest of a request whose URI is only a path: the client below decides where it goes.
    pub(crate) const UNKNOWN: Self = Self(0);

    /// Parses no more of the URI than needed: this runs for most requests.
    #[inline]
    pub(crate) fn of(request: &impl AuthRequest) -> Self {
        match (request.scheme(), request.authority()) {
            (Some(scheme), Some(authority)) => Self::of_authority(scheme, authority),
            _ => Self::UNKNOWN,
        }
    }

    #[cold]
    fn new(scheme: &str, host: &str, port: Option<u16>) -> Self {
        match port.filter(|port| default_port(scheme) != Some(*port)) {
            Some(port) => Self::of_authority(scheme, &format!("{host}:{port}")),
            None => Self::of_authority(scheme, host),
        }
    }

    /// Ignores a user name and the scheme's default port, which are not part of the origin.
    #[inline]
    fn of_authority(scheme: &str, authority: &str) -> Self {
        let host = authority.rsplit('@').next().unwrap_or(authority);
        let without_port = match default_port(scheme) {
            Some(443) => host.strip_suffix(":443"),
            Some(80) => host.strip_suffix(":80"),
            _ => None,
        };
        let host = without_port.unwrap_or(host).as_bytes();
        let [start, factor] = *KEYS;
        let mix = |digest: u64, word: u64| {
            // This bit converts to lower case. It makes no other two characters of schemes and hosts
            // equal.
            let word = word | 0x2020_2020_2020_2020;
            let wide = u128::from(digest ^ word) * u128::from(factor);
            (wide as u64) ^ ((wide >> 64) as u64)
        };
        let lengths = (scheme.len() as u64) << 32 | host.len() as u64;
        let mut digest = mix(start ^ lengths, last_word(scheme.as_bytes()));
        let (words, rest) = host.as_chunks::<8>();
        for word in words {
            digest = mix(digest, u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            digest = mix(digest, last_word(host));
        }
        Self(digest.max(1))
    }
}

/// The last eight bytes, or all bytes if there are fewer.
#[inline]
fn last_word(text: &[u8]) -> u64 {
    if let Some(last) = text.last_chunk::<8>() {
        return u64::from_le_bytes(*last);
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last));
    }
    text.iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Random in each process, so that nobody can construct two origins with one digest.
static KEYS: LazyLock<[u64; 2]> = LazyLock::new(|| {
    let random = std::hash::RandomState::new();
    [random.hash_one(0), random.hash_one(1) | 1]
});

impl Redirects {
    /// The digest of the origin that a request is sent to.
    #[inline]
    pub(crate) fn origin_of(&self, request: &impl AuthRequest) -> OriginDigest {
        match self.usual.get() {
            Some(usual) if usual.is_of(request) => usual.digest,
            Some(_) => OriginDigest::of(request),
            None => self.first(request),
        }
    }

    #[cold]
    fn first(&self, request: &impl AuthRequest) -> OriginDigest {
        let digest = OriginDigest::of(request);
        if let (Some(scheme), Some(authority)) = (request.scheme(), request.authority()) {
            let usual = UsualOrigin {
                scheme: scheme.into(),
                authority: authority.into(),
                digest,
            };
            // A concurrent request may have set it first.
            drop(self.usual.set(usual));
        }
        digest
    }

    /// Whether the request may have a credential: no redirect named its origin.
    #[inline]
    pub(crate) fn allow(&self, request: &impl AuthRequest) -> bool {
        !self.any.load(Ordering::Acquire) || self.allow_unless_known(request)
    }

    #[cold]
    fn allow_unless_known(&self, request: &impl AuthRequest) -> bool {
        let digest = OriginDigest::of(request);
        self.known
            .load()
            .as_ref()
            .is_none_or(|known| known.allow(digest))
    }

    /// Remembers the target of a redirect, the response to a request to `from`.
    #[cold]
    pub(crate) fn record(&self, from: OriginDigest, response: &impl AuthResponse) {
        // If the client follows redirects itself, the response is from the last hop's origin.
        let from = response.answered_by().map_or(from, |(scheme, host, port)| {
            OriginDigest::new(scheme, host, port)
        });
        for location in response.headers().get_all(LOCATION) {
            let target = RedirectTarget::of(location.as_bytes()).other_than(from);
            if target == RedirectTarget::SameOrigin {
                continue;
            }
            self.known.rcu(|known| {
                let mut known = known.as_deref().cloned().unwrap_or_default();
                known.record(&target, from);
                Some(Arc::new(known))
            });
            self.any.store(true, Ordering::Release);
        }
    }
}

impl UsualOrigin {
    #[inline]
    fn is_of(&self, request: &impl AuthRequest) -> bool {
        request.scheme() == Some(&*self.scheme) && request.authority() == Some(&*self.authority)
    }
}

impl KnownTargets {
    fn allow(&self, digest: OriginDigest) -> bool {
        let is_in = |digests: &[OriginDigest]| digests.binary_search(&digest).is_ok();
        !is_in(&self.to) && (self.unclear_from.is_empty() || is_in(&self.unclear_from))
    }

    fn record(&mut self, target: &RedirectTarget, from: OriginDigest) {
        let digests = match target {
            RedirectTarget::SameOrigin => return,
            RedirectTarget::Others(digests) => &digests[..],
            RedirectTarget::Unclear => return insert(&mut self.unclear_from, from),
        };
        for digest in digests {
            if self.to.len() < MAX_ORIGINS {
                insert(&mut self.to, *digest);
            } else {
                insert(&mut self.unclear_from, from);
            }
        }
    }
}

fn insert(digests: &mut Vec<OriginDigest>, digest: OriginDigest) {
    if let Err(index) = digests.binary_search(&digest)
        && digests.len() < MAX_ORIGINS
    {
        digests.insert(index, digest);
    }
}

/// The settings of a layer are cloned when they change. A changed layer has seen no redirect yet.
impl Clone for Redirects {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The target of a `Location`, by every client's parser. Parsers disagree about unusual URIs, so a
/// URI that is not plain is unclear.
#[derive(Debug, PartialEq, Eq)]
enum RedirectTarget {
    /// The same origin, or no server at all.
    SameOrigin,
    /// Other origins: one, or two if the `Location` has no scheme.
    Others(Vec<OriginDigest>),
    Unclear,
}

impl RedirectTarget {
    fn of(location: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(location) else {
            return Self::Unclear;
        };
        let text = text.trim_matches(' ');
        // Some parsers drop tabs anywhere, and take a backslash for a slash.
        let before_query = text.split(['?', '#']).next().unwrap_or(text);
        if before_query.contains(|c: char| c.is_ascii_control() || c == '\\') {
            return Self::Unclear;
        }
        if let Some(rest) = before_query.strip_prefix("//") {
            return Self::at(&["https", "http"], rest);
        }
        match before_query.split_once(':') {
            Some((scheme, rest)) if has_servers(scheme) => match rest.strip_prefix("//") {
                Some(rest) => Self::at(&[scheme], rest),
                None => Self::Unclear,
            },
            _ => Self::SameOrigin,
        }
    }

    /// Without the origin that sent the redirect.
    fn other_than(self, from: OriginDigest) -> Self {
        let Self::Others(mut digests) = self else {
            return self;
        };
        digests.retain(|digest| *digest != from);
        if digests.is_empty() {
            Self::SameOrigin
        } else {
            Self::Others(digests)
        }
    }

    fn at(schemes: &[&str], rest: &str) -> Self {
        let authority = rest.split('/').next().unwrap_or(rest);
        let (host, port) = match authority.split_once(':') {
            None => (authority, None),
            Some((host, port)) => match port.parse::<u16>() {
                Ok(port) if is_plain_number(port, authority) => (host, Some(port)),
                _ => return Self::Unclear,
            },
        };
        if !is_plain(host) {
            return Self::Unclear;
        }
        let digests = schemes
            .iter()
            .map(|scheme| OriginDigest::new(scheme, host, port));
        Self::Others(digests.collect())
    }
}

fn has_servers(scheme: &str) -> bool {
    let schemes = ["https", "http", "wss", "ws", "ftp"];
    schemes
        .iter()
        .any(|server| scheme.eq_ignore_ascii_case(server))
}

/// Whether the port is written without leading zeros or a sign.
fn is_plain_number(port: u16, authority: &str) -> bool {
    authority.ends_with(&format!(":{port}"))
}

/// Whether every parser reads the same host: a name of plain characters, or an IPv4 address in four
/// decimal numbers.
fn is_plain(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or(name);
    // If the last label starts with a digit, some parsers read an address: `0x7f.1` is `127.0.0.1`.
    if last.starts_with(|c: char| c.is_ascii_digit()) {
        return host
            .parse::<Ipv4Addr>()
            .is_ok_and(|ip| ip.to_string() == host);
    }
    name.split('.').all(is_label)
}
