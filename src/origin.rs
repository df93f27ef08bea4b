//! Origins (RFC 6454), and whether a secret may travel to one: encrypted, or without leaving the
//! machine.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether what is sent to this scheme and host can't be read on the way.
///
/// The host is as [`http::Uri::host`] gives it: an IPv6 address stands in brackets.
pub(crate) fn is_secure(scheme: Option<&str>, host: Option<&str>) -> bool {
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return false;
    };
    scheme.is_some_and(is_encrypted) || is_loopback(host)
}

/// An origin as RFC 6454 §6.2 writes it: in lower case, and with no port that goes without saying.
pub(crate) fn text(scheme: &str, host: &str, port: Option<u16>) -> String {
    let mut text = format!("{scheme}://{host}");
    text.make_ascii_lowercase();
    if let Some(port) = port.filter(|port| default_port(scheme) != Some(*port)) {
        text.push_str(&format!(":{port}"));
    }
    text
}

/// The origin of an absolute address.
#[cfg(any(feature = "cookies", feature = "dpop"))]
pub(crate) fn of(address: &http::Uri) -> String {
    let (scheme, host) = (address.scheme_str(), address.host());
    text(
        scheme.unwrap_or_default(),
        host.unwrap_or_default(),
        address.port_u16(),
    )
}

pub(crate) fn default_port(scheme: &str) -> Option<u16> {
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

/// A name that only looks local (`localhost.evil.com`, `127.0.0.1.nip.io`) is a stranger's: only
/// whole addresses count, and only names whose *last* label is `localhost`, which no public DNS
/// may hold (RFC 6761 §6.3).
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

/// Plain letters only: what one URL parser takes for part of a name may end it for another.
pub(crate) fn is_label(label: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !label.is_empty() && label.bytes().all(is_plain)
}
