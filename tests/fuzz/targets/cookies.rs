//! `Set-Cookie` of a login and of later responses. Each cookie goes only where its own attributes
//! allow.
//!
//! The input has blocks, with an empty line between them. The first block is the login's response:
//! one `Set-Cookie` in each line. Every other block is a request: a line `METHOD ADDRESS`, and then
//! lines `> Cookie` of the request and `< Set-Cookie` of its response.
#![no_main]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use libfuzzer_sys::{Corpus, fuzz_target};
use percent_encoding::percent_decode;
use tower::{Layer, ServiceExt};
use tower_auth::login::Session;
use tower_auth::{AuthLayer, Error};
use tower_auth_fuzz::{assert_harmless, run, split};
use tower_auth_test::{RecordedRequest, ScriptedResponse, ScriptedServer};
use url::Url;

const LOGIN: &str = "https://api.example.com/v1/login";
const PASSWORD: &str = "planted-password";
const ALLOWED: [&str; 3] = [
    "https://api.example.com",
    "https://www.example.com:8443",
    "http://plain.example.com",
];

/// A `Set-Cookie` and the address whose response contained it.
struct Set {
    by: Url,
    line: String,
}

struct Block<'a> {
    method: &'a str,
    address: &'a str,
    cookies: Vec<&'a [u8]>,
    set: Vec<&'a [u8]>,
}

fuzz_target!(|data: &[u8]| -> Corpus { test(data).unwrap_or(Corpus::Reject) });

/// Returns `None` if the input isn't of the form above.
fn test(data: &[u8]) -> Option<Corpus> {
    let mut blocks = split(data, b"\n\n").into_iter();
    let login = setting(&lines(blocks.next()?))?;
    let blocks: Option<Vec<_>> = blocks.map(block).collect();
    let blocks = blocks.filter(|blocks| blocks.len() <= 6)?;

    let next = Arc::new(Mutex::new(login.clone()));
    let respond = next.clone();
    let login_server = ScriptedServer::new(move |_| login.clone());
    let api = ScriptedServer::new(move |_| respond.lock().unwrap().clone());
    let session = Session::new(LOGIN, "me", PASSWORD)
        .ok()?
        .transport(login_server);
    let session = session.csrf_cookie("XSRF-TOKEN", "x-xsrf-token").ok()?;
    let session = ALLOWED[1..]
        .iter()
        .try_fold(session, Session::origin)
        .ok()?;
    let layer = AuthLayer::new(session);
    let first = split(data, b"\n\n")[0];
    let mut known: Vec<Set> = sets(LOGIN, &lines(first));
    run(async {
        for block in &blocks {
            *next.lock().unwrap() = setting(&block.set)?;
            let request = request(block)?;
            let before = api.requests().len();
            match layer.layer(api.clone()).oneshot(request).await {
                Ok(_) => {}
                // Otherwise, the error shows the password as a part of the address.
                Err(_) if block.address.contains(PASSWORD) => {}
                Err(error) => assert_harmless(error.downcast_ref::<Error>()?, &[PASSWORD]),
            }
            for sent in &api.requests()[before..] {
                check(sent, block, &known);
                known.extend(sets(block.address, &block.set));
            }
        }
        Some(Corpus::Keep)
    })
}

/// Checks each cookie of a request.
fn check(sent: &RecordedRequest, block: &Block<'_>, known: &[Set]) {
    let url = Url::parse(block.address).unwrap();
    let header = sent
        .headers()
        .get(COOKIE)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let pairs: Vec<_> = pairs(header).collect();
    for pair in &pairs {
        let mut callers = block.cookies.iter().flat_map(|line| self::pairs(line));
        if callers.any(|own| own == *pair) {
            continue;
        }
        let origin = url.origin().ascii_serialization();
        assert!(ALLOWED.contains(&origin.as_str()), "{origin}");
        let text = std::str::from_utf8(pair).unwrap();
        assert!(
            known.iter().any(|set| set.allows(text, &url)),
            "{text:?} to {url}"
        );
    }
    if let Some(token) = sent.headers().get("x-xsrf-token") {
        let mut values = pairs
            .iter()
            .filter_map(|it| it.strip_prefix(b"XSRF-TOKEN="));
        assert!(
            values.any(|it| percent_decode(it).eq(token.as_bytes().iter().copied())),
            "{token:?}"
        );
    }
}

impl Set {
    /// Returns whether this `Set-Cookie` allows the cookie to go to this address (RFC 6265 §5.4). A
    /// repeated attribute allows what any of its values allows.
    fn allows(&self, pair: &str, url: &Url) -> bool {
        let mut parts = self.line.split(';');
        let set = parts.next().unwrap_or_default();
        let (name, value) = set.split_once('=').unwrap_or((set, ""));
        if pair != format!("{}={}", name.trim(), value.trim()) {
            return false;
        }
        let attributes = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
        let attributes: Vec<_> = attributes
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let named = |wanted: &'static str| {
            let attributes = attributes.iter();
            attributes
                .filter(move |(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|it| it.1)
        };
        let (own, host) = (self.by.host_str(), url.host_str());
        let covers = |domain: &str| {
            let domain = domain.trim_start_matches('.').to_ascii_lowercase();
            let is_below = |host: &str| host == domain || host.ends_with(&format!(".{domain}"));
            !domain.is_empty() && own.is_some_and(is_below) && host.is_some_and(is_below)
        };
        let is_host = own == host || named("domain").any(covers);
        let default = self
            .by
            .path()
            .rsplit_once('/')
            .map_or("/", |(folder, _)| folder);
        let mut paths: Vec<&str> = named("path").filter(|path| path.starts_with('/')).collect();
        if paths.is_empty() || named("path").any(|path| !path.starts_with('/')) {
            paths.push(if default.is_empty() { "/" } else { default });
        }
        let path = url.path();
        let is_below = |start: &&str| {
            let rest = path.strip_prefix(*start);
            rest.is_some_and(|it| it.is_empty() || it.starts_with('/') || start.ends_with('/'))
        };
        let is_secure = named("secure").next().is_some();
        is_host && paths.iter().any(is_below) && (!is_secure || url.scheme() == "https")
    }
}

fn block(text: &[u8]) -> Option<Block<'_>> {
    let lines = lines(text);
    let (first, rest) = lines.split_first()?;
    let (method, address) = std::str::from_utf8(first).ok()?.split_once(' ')?;
    let url = Url::parse(address).ok()?;
    // The layer and the test read the address with different parsers.
    if url.as_str() != address || url.host_str().is_none() || !url.username().is_empty() {
        return None;
    }
    let with = |mark: &[u8]| {
        rest.iter()
            .filter_map(|line| line.strip_prefix(mark))
            .collect()
    };
    Some(Block {
        method,
        address,
        cookies: with(b"> "),
        set: with(b"< "),
    })
}

fn request(block: &Block<'_>) -> Option<Request<Full<Bytes>>> {
    let request = Request::builder().method(block.method).uri(block.address);
    let request = block
        .cookies
        .iter()
        .fold(request, |request, line| request.header(COOKIE, *line));
    request.body(Full::default()).ok()
}

fn setting(lines: &[&[u8]]) -> Option<ScriptedResponse> {
    let mut response = Response::new(Bytes::new());
    for line in lines {
        response
            .headers_mut()
            .append(SET_COOKIE, HeaderValue::from_bytes(line).ok()?);
    }
    Some(ScriptedResponse::from(response))
}

fn sets(by: &str, lines: &[&[u8]]) -> Vec<Set> {
    let by = Url::parse(by).unwrap();
    let lines = lines
        .iter()
        .filter_map(|line| String::from_utf8(line.to_vec()).ok());
    lines
        .map(|line| Set {
            by: by.clone(),
            line,
        })
        .collect()
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty()).collect()
}

fn pairs(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let pairs = header.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    pairs.filter(|pair| !pair.is_empty())
}
