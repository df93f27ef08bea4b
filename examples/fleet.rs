//! Shares one token among eight processes with a thousand callers each. Shows three cases: no token
//! yet, an expired token, and a revoked token.
//!
//! ```text
//! cargo run --example fleet                                                  # they share a folder
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example fleet --features redis    # or Redis
//! ```
//!
//! Each process is this example, started again with the argument `member`. A process reads commands
//! from its standard input, one per line, and prints the results.
#![allow(clippy::print_stdout)]

mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use futures_util::future::{join_all, try_join_all};
use support::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, Report, SCOPE, Servers, optional, required};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, stdin};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tower_auth::TokenCache;
use tower_auth::cache::Clock;
use tower_auth::fleet::{FileStore, Fleet, Keyring};
use tower_auth::oauth2::ClientCredentials;

const PROCESSES: usize = 8;
const CALLERS: usize = 1000;

#[tokio::main]
async fn main() -> Result<(), Report> {
    match std::env::args().nth(1).as_deref() {
        Some("member") => member().await,
        _ => fleet().await,
    }
}

async fn fleet() -> Result<(), Report> {
    let servers = Servers::start().await?;
    let folder = tempfile::tempdir()?;
    let key = random_key();
    let mut members = Vec::new();
    for _ in 0..PROCESSES {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("member")
            .env("TOKEN_URL", servers.authorization.token_url())
            .env("CLIENT_ID", CLIENT_ID)
            .env("CLIENT_SECRET", CLIENT_SECRET)
            .env("SEALING_KEY", &key);
        if optional("REDIS_URL").is_none() {
            command.env("TOKEN_FOLDER", folder.path().join("tokens"));
        }
        members.push(Member::start(command)?);
    }

    println!("{:16}  processes  callers  fetches    time", "");
    for phase in ["no token yet", "token expired", "token revoked"] {
        match phase {
            "token expired" => drop(tell_all(&mut members, "expire").await?),
            "token revoked" => drop(tell_all(&mut members, "reject").await?),
            _ => {}
        }
        let (before, start) = (servers.authorization.fetches(), Instant::now());
        for answer in tell_all(&mut members, "ask").await? {
            if !answer.contains(" 0 failed") {
                return Err(answer.into());
            }
        }
        let (fetches, took) = (servers.authorization.fetches() - before, start.elapsed());
        let callers = PROCESSES * CALLERS;
        println!(
            "{phase:16}{PROCESSES:11}{callers:9}{fetches:9}{:5} ms",
            took.as_millis()
        );
        if fetches != 1 {
            return Err("each phase should cost exactly one fetch".into());
        }
    }
    Ok(())
}

async fn tell_all(members: &mut [Member], word: &str) -> Result<Vec<String>, Report> {
    try_join_all(members.iter_mut().map(|member| member.tell(word))).await
}

/// Another process of the fleet, which is killed when this program ends.
struct Member {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Member {
    fn start(mut command: Command) -> Result<Self, Report> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut process = command.spawn()?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let output = output.ok_or("the process has no output")?;
        Ok(Self {
            input: input.ok_or("the process has no input")?,
            output: BufReader::new(output).lines(),
            _process: process,
        })
    }

    /// Sends a command, and waits for the result.
    async fn tell(&mut self, word: &str) -> Result<String, Report> {
        self.input.write_all(format!("{word}\n").as_bytes()).await?;
        let answer = self.output.next_line().await?;
        Ok(answer.ok_or("a process has ended")?)
    }
}

/// Runs one process of the fleet.
async fn member() -> Result<(), Report> {
    let clock = Clock::manual();
    let source = ClientCredentials::new(
        required("TOKEN_URL")?,
        required("CLIENT_ID")?,
        required("CLIENT_SECRET")?,
    )?
    .audience(AUDIENCE)
    .scope(SCOPE);
    let mut fleet = share(Keyring::new("example", required("SEALING_KEY")?)?)?;
    if let Some(time) = optional("LEASE_MS") {
        fleet = fleet.lease_time(Duration::from_millis(time.parse()?));
    }
    let cache = TokenCache::builder(source)
        .clock(&clock)
        .fleet(fleet)?
        .build();

    let mut words = BufReader::new(stdin()).lines();
    while let Some(word) = words.next_line().await? {
        match word.as_str() {
            "ask" => ask(&cache).await,
            "expire" => {
                clock.advance(Duration::from_secs(3600));
                println!("an hour later");
            }
            "reject" => {
                let token = cache.token().await?;
                cache.accept(&token);
                cache.reject(&token);
                println!("rejected");
            }
            word => return Err(format!("unknown command `{}`", word.escape_debug()).into()),
        }
    }
    Ok(())
}

/// Makes the fleet, whose processes share Redis or a folder.
fn share(keys: Keyring) -> Result<Fleet, Report> {
    #[cfg(feature = "redis")]
    if let Some(url) = optional("REDIS_URL") {
        return Ok(Fleet::new(tower_auth::fleet::RedisStore::open(url)?, keys));
    }
    Ok(Fleet::new(FileStore::new(required("TOKEN_FOLDER")?), keys))
}

async fn ask(cache: &TokenCache) {
    // `at_once` counts the callers that don't wait because the cache has a token.
    let at_once = (0..CALLERS)
        .filter(|_| cache.token().now_or_never().is_some())
        .count();
    let mut times: Vec<Duration> = Vec::new();
    let mut failed = 0;
    let ask = async || {
        let start = Instant::now();
        (cache.token().await, start.elapsed())
    };
    for (token, time) in join_all((0..CALLERS).map(|_| ask())).await {
        failed += usize::from(token.is_err());
        times.push(time);
    }
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    println!(
        "{CALLERS} callers, {at_once} at once, {failed} failed, p99 {} us",
        p99.as_micros()
    );
}

/// Makes a key for this run. For a real fleet, use the output of `openssl rand -base64 32`.
fn random_key() -> String {
    let mut bytes = [0; 32];
    fastrand::Rng::new().fill(&mut bytes);
    STANDARD.encode(bytes)
}
