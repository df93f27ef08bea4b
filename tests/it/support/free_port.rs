//! Ports for servers that can't find one for themselves.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// A port that nobody listens on, nor on the one that the nodes of a Redis cluster would talk over. Below those that the
/// system gives to whoever wants any, for one of those could be given away before the server has it.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    // Other processes with such tests begin elsewhere.
    let start = std::process::id().wrapping_mul(97);
    loop {
        let at = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + at).unwrap();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}
