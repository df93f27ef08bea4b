//! Free ports for servers that can't choose a port themselves.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Returns a port on which nobody listens. Its Redis cluster bus port (10,000 higher) is free too.
/// The port is below the range from which the system assigns ports. The system could otherwise
/// assign it before the server binds it.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    // Other test processes start elsewhere in the range, so that they rarely race for a port.
    let start = std::process::id().wrapping_mul(97);
    loop {
        let at = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + at).unwrap();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}
