//! The private key in a PEM text (RFC 7468), of all that may stand there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// One block: what it says it is, and what it holds.
pub(crate) struct Block<'a> {
    pub(crate) label: &'a str,
    pub(crate) der: Zeroizing<Vec<u8>>,
}

/// The first private key. Others may stand around it: a certificate, the parameters of a curve.
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
        Some(what) => format!("is PEM of {what} and not of a private key"),
        None => String::from("isn't PEM: it has no `-----BEGIN … PRIVATE KEY-----` with its end"),
    })
}

const ENCRYPTED: &str = "is encrypted with a passphrase; decrypt it, and guard the file instead";

/// Label and body of each block that has an end.
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
    // Headers, which only the traditional way of encrypting has.
    if body.contains("ENCRYPTED") {
        return Err(ENCRYPTED.to_owned());
    }
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    base64.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    let mut der = Zeroizing::new(Vec::with_capacity(base64.len()));
    STANDARD
        .decode_vec(base64.as_bytes(), &mut der)
        .map_err(|_| {
            String::from(
                "is PEM that isn't base64 inside; its line breaks must not be written `\\n`",
            )
        })?;
    Ok(der)
}
