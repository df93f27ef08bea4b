//! The authorization server. The server writes HTTP by hand, because server libraries can't hold a
//! connection for ever, reset it, or cut a response short.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::Stopwatch;
use crate::pace::Pace;
use crate::schedule::{Fault, Schedule};
use crate::truth::Truth;

pub(crate) struct AuthorizationServer {
    token_url: String,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

struct Shared {
    watch: Stopwatch,
    truth: Arc<Truth>,
    schedule: Schedule,
    lifetime: Duration,
    retry_after: Duration,
    calls: Mutex<Vec<Call>>,
}

/// A request that reached the token endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) at: Duration,
    /// The fault that the request got instead of a token.
    pub(crate) fault: Option<Fault>,
}

impl AuthorizationServer {
    pub(crate) async fn start(
        watch: Stopwatch,
        truth: Arc<Truth>,
        schedule: Schedule,
        pace: &Pace,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let token_url = format!("http://{}/oauth/token", listener.local_addr()?);
        let shared = Arc::new(Shared {
            watch,
            truth,
            schedule,
            lifetime: pace.lifetime,
            retry_after: pace.retry_after,
            calls: Mutex::default(),
        });
        let listening = tokio::spawn(listen(listener, Arc::clone(&shared)));
        Ok(Self {
            token_url,
            shared,
            listening,
        })
    }

    pub(crate) fn token_url(&self) -> &str {
        &self.token_url
    }

    /// Stops the server, and returns the requests that it got.
    pub(crate) fn stop(self) -> Vec<Call> {
        self.listening.abort();
        let calls = self.shared.calls.lock();
        calls.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        // Errors of the connection are ignored, because the client gets them too.
        tokio::spawn(async move { shared.serve(stream).await.ok() });
    }
}

impl Shared {
    /// Reads one request, sends one response, and closes the connection. Each request then needs a
    /// new connection, so the client's connection pool can't cause failures.
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        if !read_request(&mut stream).await? {
            return Ok(());
        }
        let at = self.watch.now();
        let fault = self.schedule.fault_at(at);
        let nth = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.push(Call { at, fault });
            calls.len()
        };
        let answer = match fault {
            None => self.token(),
            Some(Fault::Hang) => return outlast(stream).await,
            Some(Fault::Reset) => return stream.set_zero_linger(),
            Some(Fault::Errors) => answer("500 Internal Server Error", "", SERVER_ERROR),
            Some(Fault::Unavailable) => self.busy("503 Service Unavailable"),
            Some(Fault::Flood) => self.busy("429 Too Many Requests"),
            Some(Fault::Garbage) => answer("200 OK", "", GARBAGE[nth % GARBAGE.len()]),
        };
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }

    fn token(&self) -> String {
        let (token, lifetime) = (self.truth.issue(), self.lifetime.as_secs());
        let body = format!(
            r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{lifetime}}}"#
        );
        answer("200 OK", "", &body)
    }

    fn busy(&self, status: &str) -> String {
        let retry_after = format!("retry-after: {}\r\n", self.retry_after.as_secs());
        answer(status, &retry_after, BUSY)
    }
}

const SERVER_ERROR: &str = r#"{"error":"server_error","error_description":"the database is away"}"#;
const BUSY: &str = r#"{"error":"temporarily_unavailable"}"#;

/// Bodies that aren't a token response: a proxy's page, JSON cut short, and JSON without the token.
const GARBAGE: [&str; 3] = [
    "<!doctype html><title>Please log in</title>",
    r#"{"access_token":"key-0-tok"#,
    r#"{"token_type":"Bearer","expires_in":3600}"#,
];

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n{headers}\r\n{body}"
    )
}

/// Holds the connection until the client closes it.
async fn outlast(mut stream: TcpStream) -> io::Result<()> {
    let mut ignored = [0; 64];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// A limit that is greater than the length of any token request.
const REQUEST_LIMIT: usize = 8 * 1024;

/// Reads to the end of the body. Returns `false` if the client closed the connection too early.
async fn read_request(stream: &mut TcpStream) -> io::Result<bool> {
    let mut request = Vec::new();
    while request.len() < REQUEST_LIMIT {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(false);
        }
        if is_whole(&request) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_whole(request: &[u8]) -> bool {
    let request = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}
