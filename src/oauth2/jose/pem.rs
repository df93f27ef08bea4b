//! Reads the private key from a PEM text (RFC 7468). The text may also contain other blocks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
#[cfg(feature = "dpop")]
use secrecy::SecretString;
use zeroize::Zeroizing;

/// A block of the text: its label and its content.
pub(crate) struct Block<'a> {
    pub(crate) label: &'a str,
    pub(crate) der: Zeroizing<Vec<u8>>,
}

/// Returns the first private key. Skips other blocks, such as a certificate or the parameters of a
/// curve.
pub(crate) fn private_key(text: &str) -> Result<Block<'_>, String> {
    let mut other = None;
    for (label, body) in blocks(text) {
        match label {
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {
                let der = decode(body)?;
                return Ok(Block { label, der });
            }
            "ENCRYPTED PRIVATE KEY" => return Err(ENCRYPTED.to_owned()),
            "PUBLIC KEY" | "RSA PUBLIC KEY" => other = Some("a public key"),
            "CERTIFICATE" => other = other.or(Some("a certificate")),
            _ => other = other.or(Some("something else")),
        }
    }
    Err(match other {
        Some(what) => format!("is PEM of {what}, not of a private key"),
        None => {
            String::from("isn't PEM: it has no `-----BEGIN … PRIVATE KEY-----` with an end line")
        }
    })
}

const ENCRYPTED: &str =
    "is encrypted with a passphrase; decrypt the key and protect its file instead";

/// Returns the label and the body of each complete block.
fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, begun) = rest.split_once("-----BEGIN ")?;
        let (label, begun) = begun.split_once("-----")?;
        let end = begun.find("-----END ")?;
        let (body, behind) = begun.split_at(end);
        rest = behind;
        Some((label, body))
    })
}

fn decode(body: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    // A block has headers only in the traditional encryption format. One of these headers contains
    // `ENCRYPTED`.
    if body.contains("ENCRYPTED") {
        return Err(ENCRYPTED.to_owned());
    }
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    base64.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    let mut der = Zeroizing::new(Vec::with_capacity(base64.len()));
    STANDARD
        .decode_vec(base64.as_bytes(), &mut der)
        .map_err(|_| {
            String::from("is PEM whose body isn't base64; use real line breaks, not `\\n`")
        })?;
    Ok(der)
}

/// Writes a private key in PKCS #8 as PEM, in lines of 64 characters (RFC 7468 §2).
#[cfg(feature = "dpop")]
pub(crate) fn write_pkcs8(der: &[u8]) -> SecretString {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // The buffer has its final capacity, because a buffer that grows frees memory without zeroizing
    // it.
    let mut pem = Zeroizing::new(String::with_capacity(base64.len() * 2 + 64));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for (at, letter) in base64.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str("\n-----END PRIVATE KEY-----\n");
    SecretString::from(pem.as_str())
}
