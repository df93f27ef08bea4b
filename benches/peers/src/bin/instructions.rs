//! Sends requests in one of several ways, so that `drift.sh` can count the instructions of that
//! way. Without an argument, prints the names of the ways.
//!
//! `instructions <way> <requests>`

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::unconstrained;
use tower_auth::{Token, TokenCache};
use tower_auth_peers::client::{Bare, Call, Sending};
use tower_auth_peers::contenders::Contender;
use tower_auth_peers::contenders::ours::Ours;
use tower_auth_peers::contenders::static_header::{StaticHeader, WithLook, WithRetry};
use tower_auth_peers::issuer::{Issuer, Terms};

/// The ways to send a request. `bare` sends it without a credential, and `token` only gets a token.
/// All ways except `token` include the work of `bare`.
const WAYS: [&str; 7] = [
    "bare",
    "static",
    "look-for-401",
    "auth",
    "static+retry",
    "auth+replay",
    "token",
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let way = args.next();
    let count = args.next().and_then(|count| count.parse().ok());
    let (Some(way), Some(count)) = (way, count) else {
        println!("{}", WAYS.join("\n"));
        return ExitCode::SUCCESS;
    };
    let runtime = Builder::new_current_thread().enable_all().build();
    let sending = unconstrained(async {
        match way.as_str() {
            "bare" => send(Sending(Bare), count).await,
            "static" => send_with::<StaticHeader>(count).await,
            "look-for-401" => send_with::<WithLook>(count).await,
            "auth" => send_with::<Ours<false>>(count).await,
            "static+retry" => send_with::<WithRetry>(count).await,
            "auth+replay" => send_with::<Ours<true>>(count).await,
            "token" => take(count).await,
            _ => return ExitCode::FAILURE,
        }
        ExitCode::SUCCESS
    });
    runtime.expect("a runtime").block_on(sending)
}

async fn send_with<C: Contender>(count: u32) {
    send(C::new(&Issuer::new(Terms::DAY)).await.lean(), count).await;
}

async fn send(mut call: impl Call, count: u32) {
    for _ in 0..count {
        call.call().await.expect("an answer");
    }
}

/// Gets the cached token, without Tower.
async fn take(count: u32) {
    let cache = TokenCache::new(|_| async {
        Ok(Token::bearer("a".repeat(1_000))?.expires_in(Duration::from_secs(86_400)))
    });
    for _ in 0..count {
        black_box(cache.token().await.expect("a token"));
    }
}
