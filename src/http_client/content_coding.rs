//! The content codings of a response, such as gzip (RFC 9110 §8.4): the codings that requests
//! accept, and the decoding of a body.

use std::borrow::Cow;

use http::{HeaderMap, header};
use zeroize::Zeroizing;

#[cfg(feature = "gzip")]
use super::gzip::{self, GzipError};
use crate::token::redact::Redactor;

/// The codings that every request accepts. Without `Accept-Encoding`, a server may choose any coding
/// (RFC 9110 §12.5.3).
pub(crate) const ACCEPTED: &str = if cfg!(feature = "gzip") {
    "gzip"
} else {
    "identity"
};

/// The maximum number of codings of one body. Without a limit, a server could name thousands of
/// codings for a small body that decodes to itself.
const MOST_CODINGS: usize = if cfg!(feature = "gzip") { 5 } else { 0 };

/// By how many bytes an encoded body may exceed the limit of the decoded body. Compression makes
/// some data longer.
const OVERHEAD: usize = 1024;

/// Why a body could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undecoded {
    /// A coding isn't supported.
    Unsupported {
        /// The `Content-Encoding` as the server wrote it.
        codings: String,
        /// Whether each coding is gzip.
        is_gzip: bool,
    },
    /// The gzip data ends too early.
    #[cfg(feature = "gzip")]
    CutOff,
    /// The body isn't gzip data, or a checksum is wrong.
    #[cfg(feature = "gzip")]
    Damaged,
}

/// Why decoding failed.
pub(crate) enum DecodeError {
    #[cfg(feature = "gzip")]
    TooLong,
    Undecoded(Undecoded),
}

/// The registered codings, except `identity`, which is no coding (IANA's HTTP Content Coding
/// Registry). Some servers send another name, such as the charset `utf-8`, with a body that has no
/// coding. Like browsers, this crate then reads the body as it is.
const REGISTERED: [&str; 12] = [
    "aes128gcm",
    "br",
    "compress",
    "dcb",
    "dcz",
    "deflate",
    "exi",
    "gzip",
    "pack200-gzip",
    "x-compress",
    "x-gzip",
    "zstd",
];

/// Decodes a body in place. The result of each decoding is at most `limit` bytes long. After an
/// error, the body contains the part that could be decoded. If nothing could be decoded, the body
/// is unchanged.
#[cfg_attr(not(feature = "gzip"), expect(unused_variables))]
pub(crate) fn decode(
    headers: &HeaderMap,
    body: &mut Zeroizing<Vec<u8>>,
    limit: usize,
) -> Result<(), DecodeError> {
    let (codings, others) = codings(headers);
    // A response without a body, such as a 204, may also name a coding.
    if body.is_empty() {
        return Ok(());
    }
    let is_gzip = codings.iter().all(|coding| is_gzip(coding));
    let is_decodable = is_gzip && (0..=MOST_CODINGS).contains(&codings.len());
    #[cfg(feature = "gzip")]
    if is_decodable {
        decode_gzip(codings.len(), body, limit)?;
    }
    if is_decodable && (others.is_empty() || is_text(body)) {
        return Ok(());
    }
    Err(DecodeError::Undecoded(Undecoded::Unsupported {
        codings: lines(headers).join(", "),
        is_gzip: is_gzip && others.is_empty(),
    }))
}

/// Returns the limit of the encoded body, if `limit` is the limit of the decoded body.
pub(crate) fn encoded_limit(headers: &HeaderMap, limit: usize) -> usize {
    match codings(headers).0.is_empty() {
        true => limit,
        false => limit + OVERHEAD,
    }
}

impl Undecoded {
    /// Describes what is wrong with the response, and what to do.
    pub(crate) fn what(&self, redactor: &Redactor) -> String {
        match self {
            Self::Unsupported { codings, is_gzip } => {
                let codings = redactor.redact(codings);
                let remedy = match (cfg!(feature = "gzip"), is_gzip) {
                    (false, true) => {
                        "the request accepts no coding; enable the feature `gzip`, or set a \
                         transport that decodes the body"
                    }
                    (false, false) => {
                        "the request accepts no coding; set a transport that decodes the body"
                    }
                    (true, _) => {
                        "this crate decodes only `gzip`, at most five times; set a transport that \
                         decodes the body"
                    }
                };
                format!("has the content coding `{codings}`, but {remedy}")
            }
            #[cfg(feature = "gzip")]
            Self::CutOff => String::from("has the content coding `gzip`, but ends too early"),
            #[cfg(feature = "gzip")]
            Self::Damaged => {
                String::from("has the content coding `gzip`, but isn't valid gzip data")
            }
        }
    }
}

/// Returns the registered codings in the order in which the server applied them, and then the other
/// names. Leaves out `identity`. Names are case-insensitive (RFC 9110 §8.4.1).
fn codings(headers: &HeaderMap) -> (Vec<String>, Vec<String>) {
    let lines = lines(headers);
    lines
        .iter()
        .flat_map(|line| line.split(','))
        .map(|coding| coding.trim().to_ascii_lowercase())
        .filter(|coding| !matches!(coding.as_str(), "" | "identity"))
        .partition(|coding| REGISTERED.contains(&coding.as_str()))
}

/// Returns whether the body is text. A body that has a coding contains control characters.
fn is_text(body: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    !body.iter().any(is_control)
}

fn lines(headers: &HeaderMap) -> Vec<Cow<'_, str>> {
    let lines = headers.get_all(header::CONTENT_ENCODING).iter();
    lines
        .map(|line| String::from_utf8_lossy(line.as_bytes()))
        .collect()
}

/// Returns whether the coding is gzip. `x-gzip` is another name of gzip (RFC 9110 §8.4.1.3).
fn is_gzip(coding: &str) -> bool {
    matches!(coding, "gzip" | "x-gzip")
}

#[cfg(feature = "gzip")]
fn decode_gzip(
    times: usize,
    body: &mut Zeroizing<Vec<u8>>,
    limit: usize,
) -> Result<(), DecodeError> {
    let mut error = None;
    for _ in 0..times {
        let decoded = gzip::decode(body, limit);
        error = error.or(decoded.error);
        if decoded.error.is_some() && decoded.bytes.is_empty() {
            break;
        }
        *body = decoded.bytes;
    }
    match error {
        None => Ok(()),
        Some(GzipError::TooLong) => Err(DecodeError::TooLong),
        Some(GzipError::CutOff) => Err(DecodeError::Undecoded(Undecoded::CutOff)),
        Some(GzipError::Damaged) => Err(DecodeError::Undecoded(Undecoded::Damaged)),
    }
}
