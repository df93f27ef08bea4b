//! stub
use std::net::IpAddr;
pub(crate) fn is_secure(scheme: Option<&str>, host: Option<&str>) -> bool {
    let Some(host) = host else { return false };
    match scheme {
        Some("https" | "wss") => true,
        _ => {
            let h = host.trim_start_matches('[').trim_end_matches(']');
            h == "localhost" || h.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}
