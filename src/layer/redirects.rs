//! Where redirects led: no credential follows one to another origin.
//!
//! A layer outside that follows redirects makes each hop a request of its own, and nothing on that says
//! so. But the answer that sends it there comes through here. So the origin that it names is
//! remembered, and from then on has no credential put on its requests, unless the user names it.
//!
//! Origins are told apart by a keyed digest: a request's has to be known when its answer comes, and
//! must not cost an allocation.

use std::hash::BuildHasher;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock, OnceLock};

use http::header::LOCATION;

use super::auth_request::AuthRequest;
use super::auth_response::AuthResponse;
use crate::origin::{default_port, is_label};
use crate::sync::ArcSwapOption;
use crate::sync::atomic::{AtomicBool, Ordering};

/// The origins that redirects led to.
#[derive(Debug, Default)]
pub(crate) struct Redirects {
    usual: OnceLock<UsualOrigin>,
    /// Whether there was any redirect to another origin: for most clients, never.
    any: AtomicBool,
    known: ArcSwapOption<KnownTargets>,
}

/// Where the first request went, and most go: as it was written, and its mark, which is dearer to make than
/// to know.
#[derive(Debug)]
struct UsualOrigin {
    scheme: Box<str>,
    authority: Box<str>,
    mark: OriginMark,
}

/// In order, both.
#[derive(Clone, Debug, Default)]
struct KnownTargets {
    to: Vec<OriginMark>,
    /// Whence redirects led to an origin that couldn't be told, or to one too many. While there is any,
    /// these alone are sure to be no other origin.
    astray: Vec<OriginMark>,
}

/// How many origins are remembered.
const MOST: usize = 1000;

/// Which origin a request goes to. Two are the same if their origins are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OriginMark(u64);

impl OriginMark {
    /// Of a request that doesn't say where it goes: the client below decides.
    pub(crate) const UNKNOWN: Self = Self(0);

    /// Nothing is parsed here that can be had as it stands: this is asked of most requests.
    #[inline]
    pub(crate) fn of(request: &impl AuthRequest) -> Self {
        match (request.scheme(), request.authority()) {
            (Some(scheme), Some(authority)) => Self::digest(scheme, authority),
            _ => Self::UNKNOWN,
        }
    }

    #[cold]
    fn new(scheme: &str, host: &str, port: Option<u16>) -> Self {
        match port.filter(|port| default_port(scheme) != Some(*port)) {
            Some(port) => Self::digest(scheme, &format!("{host}:{port}")),
            None => Self::digest(scheme, host),
        }
    }

    /// Of an authority with or without a user's name and the scheme's own port, which say nothing of an
    /// origin.
    #[inline]
    fn digest(scheme: &str, authority: &str) -> Self {
        let host = authority.rsplit('@').next().unwrap_or(authority);
        let own = match default_port(scheme) {
            Some(443) => host.strip_suffix(":443"),
            Some(80) => host.strip_suffix(":80"),
            _ => None,
        };
        let host = own.unwrap_or(host).as_bytes();
        let [start, factor] = *KEYS;
        let mix = |digest: u64, word: u64| {
            // In lower case. Of what stands in schemes and hosts, nothing else becomes the same by this bit.
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

/// The last eight bytes, or all if there are less.
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

/// Drawn anew in each process, so that nobody can find two origins of one mark.
static KEYS: LazyLock<[u64; 2]> = LazyLock::new(|| {
    let random = std::hash::RandomState::new();
    [random.hash_one(0), random.hash_one(1) | 1]
});

impl Redirects {
    /// Where a request goes.
    #[inline]
    pub(crate) fn mark(&self, request: &impl AuthRequest) -> OriginMark {
        match self.usual.get() {
            Some(usual) if usual.is_of(request) => usual.mark,
            Some(_) => OriginMark::of(request),
            None => self.first(request),
        }
    }

    #[cold]
    fn first(&self, request: &impl AuthRequest) -> OriginMark {
        let mark = OriginMark::of(request);
        if let (Some(scheme), Some(authority)) = (request.scheme(), request.authority()) {
            let usual = UsualOrigin {
                scheme: scheme.into(),
                authority: authority.into(),
                mark,
            };
            // Another may have come first.
            drop(self.usual.set(usual));
        }
        mark
    }

    /// Whether no redirect led to where the request goes.
    #[inline]
    pub(crate) fn leave(&self, request: &impl AuthRequest) -> bool {
        !self.any.load(Ordering::Acquire) || self.leave_one_of_many(request)
    }

    #[cold]
    fn leave_one_of_many(&self, request: &impl AuthRequest) -> bool {
        let mark = OriginMark::of(request);
        self.known
            .load()
            .as_ref()
            .is_none_or(|known| known.leaves(mark))
    }

    /// Takes in a redirect that answered a request to `from`.
    #[cold]
    pub(crate) fn take(&self, from: OriginMark, response: &impl AuthResponse) {
        // Of a client that follows redirects itself it is the last one's.
        let from = response.answered_by().map_or(from, |(scheme, host, port)| {
            OriginMark::new(scheme, host, port)
        });
        for location in response.headers().get_all(LOCATION) {
            let lead = RedirectTarget::of(location.as_bytes()).beyond(from);
            if lead == RedirectTarget::Within {
                continue;
            }
            self.known.rcu(|known| {
                let mut known = known.as_deref().cloned().unwrap_or_default();
                known.note(&lead, from);
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
    fn leaves(&self, mark: OriginMark) -> bool {
        let is_in = |marks: &[OriginMark]| marks.binary_search(&mark).is_ok();
        !is_in(&self.to) && (self.astray.is_empty() || is_in(&self.astray))
    }

    fn note(&mut self, lead: &RedirectTarget, from: OriginMark) {
        let marks = match lead {
            RedirectTarget::Within => return,
            RedirectTarget::At(marks) => &marks[..],
            RedirectTarget::Unclear => return insert(&mut self.astray, from),
        };
        for mark in marks {
            if self.to.len() < MOST {
                insert(&mut self.to, *mark);
            } else {
                insert(&mut self.astray, from);
            }
        }
    }
}

fn insert(marks: &mut Vec<OriginMark>, mark: OriginMark) {
    if let Err(place) = marks.binary_search(&mark)
        && marks.len() < MOST
    {
        marks.insert(place, mark);
    }
}

/// Settings that are changed are another layer's, and it has seen no redirect.
impl Clone for Redirects {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Where a `Location` leads, whoever reads it: clients read addresses that are oddly written in more
/// than one way, so what isn't plain is unclear.
#[derive(Debug, PartialEq, Eq)]
enum RedirectTarget {
    /// To the same origin, or to no server at all.
    Within,
    /// To this one; without a scheme of its own, by either.
    At(Vec<OriginMark>),
    Unclear,
}

impl RedirectTarget {
    fn of(location: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(location) else {
            return Self::Unclear;
        };
        let text = text.trim_matches(' ');
        // Some readers drop tabs wherever they stand, and take a backslash for a slash.
        let head = text.split(['?', '#']).next().unwrap_or(text);
        if head.contains(|c: char| c.is_ascii_control() || c == '\\') {
            return Self::Unclear;
        }
        if let Some(rest) = head.strip_prefix("//") {
            return Self::at(&["https", "http"], rest);
        }
        match head.split_once(':') {
            Some((scheme, rest)) if is_of_a_server(scheme) => match rest.strip_prefix("//") {
                Some(rest) => Self::at(&[scheme], rest),
                None => Self::Unclear,
            },
            _ => Self::Within,
        }
    }

    /// What of it is another origin than the one that redirects there.
    fn beyond(self, from: OriginMark) -> Self {
        let Self::At(mut marks) = self else {
            return self;
        };
        marks.retain(|mark| *mark != from);
        if marks.is_empty() {
            Self::Within
        } else {
            Self::At(marks)
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
        let marks = schemes
            .iter()
            .map(|scheme| OriginMark::new(scheme, host, port));
        Self::At(marks.collect())
    }
}

fn is_of_a_server(scheme: &str) -> bool {
    let schemes = ["https", "http", "wss", "ws", "ftp"];
    schemes
        .iter()
        .any(|server| scheme.eq_ignore_ascii_case(server))
}

/// A port that is written in no other way than this.
fn is_plain_number(port: u16, authority: &str) -> bool {
    authority.ends_with(&format!(":{port}"))
}

/// A name of plain letters, or an address in four numbers: nobody reads it as another.
fn is_plain(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or(name);
    // A last label that begins as a number does makes an address of it: `0x7f.1` is `127.0.0.1`.
    if last.starts_with(|c: char| c.is_ascii_digit()) {
        return host
            .parse::<Ipv4Addr>()
            .is_ok_and(|ip| ip.to_string() == host);
    }
    name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::{OriginMark, RedirectTarget};

    fn at(scheme: &str, host: &str, port: u16) -> RedirectTarget {
        RedirectTarget::At(vec![OriginMark::new(scheme, host, Some(port))])
    }

    #[test]
    fn a_location_without_an_authority_is_of_the_same_origin() {
        for location in [
            "/x",
            "x/y",
            "",
            "?q=//evil.example",
            "#a",
            "../x",
            "/a:b",
            "a:b",
            "app://b",
            "/?\\\\evil",
        ] {
            assert_eq!(
                RedirectTarget::of(location.as_bytes()),
                RedirectTarget::Within,
                "{location}"
            );
        }
    }

    #[test]
    fn an_origin_is_the_same_however_its_case_and_its_port_are_written() {
        let secure = at("https", "a.example", 443);
        for location in [
            "https://a.example",
            "HTTPS://A.Example/x",
            "https://a.example:443?q",
        ] {
            assert_eq!(
                RedirectTarget::of(location.as_bytes()),
                secure,
                "{location}"
            );
        }
        assert_eq!(
            RedirectTarget::of(b"http://127.0.0.1:80/"),
            at("http", "127.0.0.1", 80)
        );
        for other in [
            "https://a.example:8443",
            "http://a.example:443",
            "https://b.example",
            "https://a.example.",
        ] {
            assert_ne!(RedirectTarget::of(other.as_bytes()), secure, "{other}");
        }
    }

    #[test]
    fn without_a_scheme_it_is_by_either() {
        let either = ["https", "http"].map(|scheme| OriginMark::new(scheme, "a.example", None));
        assert_eq!(
            RedirectTarget::of(b"//a.example/x"),
            RedirectTarget::At(either.to_vec())
        );
    }

    /// Each of these is another host to some reader of addresses.
    #[test]
    fn what_is_oddly_written_is_unclear() {
        for location in [
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "https:\\\\evil.example",
            "https:/evil.example",
            "https:evil.example",
            "https://user@evil.example",
            "https://ex%61mple.com",
            "https://0x7f.1",
            "https://2130706433",
            "https://127.0.0.01",
            "https://a.example:0443",
            "https://a.example:",
            "https://\u{e9}.example",
            "https://[::1]/",
            "https://",
            "///evil.example",
            "https:///evil.example",
            "https://a_b.example\u{0}",
        ] {
            assert_eq!(
                RedirectTarget::of(location.as_bytes()),
                RedirectTarget::Unclear,
                "{location}"
            );
        }
        assert_eq!(RedirectTarget::of(b"/\xff"), RedirectTarget::Unclear);
    }
}
