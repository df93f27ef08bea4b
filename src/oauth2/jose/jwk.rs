//! A private key as a JWK (RFC 7517), with the fields of RFC 7518 §6 and RFC 8037 §2.

use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD_INDIFFERENT;
use zeroize::Zeroizing;

use super::key_pair::{KeyPair, Padding};
use crate::http_client::body_value::{BodyValue, Malformed, inside, parse_json};

/// Returns the key and its `kid`.
pub(crate) fn read(text: &str) -> Result<(KeyPair, Option<String>), String> {
    let parsed = parse_json(text.as_bytes());
    match parsed.malformed {
        None => Jwk(&parsed.value).read(),
        Some(Malformed::NotAnObject) => {
            Err(String::from("isn't a JWK: it is JSON, but not an object"))
        }
        Some(_) => Err(String::from("isn't a JWK: it isn't JSON")),
    }
}

struct Jwk<'a>(&'a BodyValue);

impl Jwk<'_> {
    fn read(&self) -> Result<(KeyPair, Option<String>), String> {
        if self.field("keys").is_some() {
            return Err(String::from("is a set of keys; pass one of them"));
        }
        if self.text("use").is_some_and(|use_for| use_for != "sig") {
            return Err(String::from("isn't for signatures, by its `use`"));
        }
        let pair = match self.text("kty") {
            Some("RSA") => self.rsa()?,
            Some("EC") => self.ec()?,
            Some("OKP") => self.okp()?,
            Some("oct") => {
                self.algorithm(&["HS256"])?;
                KeyPair::from_secret(&self.bytes("k")?)?
            }
            Some(_) => return Err(String::from("has a `kty` other than RSA, EC, OKP and oct")),
            None => return Err(String::from("isn't a JWK: it has no `kty`")),
        };
        Ok((pair, self.text("kid").map(str::to_owned)))
    }

    fn rsa(&self) -> Result<KeyPair, String> {
        let padding = match self.algorithm(&["RS256", "PS256"])? {
            "PS256" => Padding::Pss,
            _ => Padding::Pkcs1,
        };
        let components = KeyPairComponents {
            d: self.private("d")?,
            public_key: PublicKeyComponents {
                n: self.number("n")?,
                e: self.number("e")?,
            },
            p: self.bytes("p")?,
            q: self.bytes("q")?,
            dP: self.bytes("dp")?,
            dQ: self.bytes("dq")?,
            qInv: self.bytes("qi")?,
        };
        RsaKeyPair::from_components(&components)
            .map(|pair| KeyPair::Rsa(pair, padding))
            .map_err(|_| {
                String::from("isn't an RSA key of 2048 to 8192 bits, or its fields don't match")
            })
    }

    fn ec(&self) -> Result<KeyPair, String> {
        self.curve("P-256")?;
        self.algorithm(&["ES256"])?;
        let d = self.private("d")?;
        let mut point = vec![4];
        point.extend_from_slice(&self.bytes("x")?);
        point.extend_from_slice(&self.bytes("y")?);
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        EcdsaKeyPair::from_private_key_and_public_key(curve, &d, &point)
            .map(KeyPair::Ecdsa)
            .map_err(|_| {
                String::from("isn't an EC key on the curve P-256, or its fields don't match")
            })
    }

    fn okp(&self) -> Result<KeyPair, String> {
        self.curve("Ed25519")?;
        self.algorithm(&["EdDSA"])?;
        Ed25519KeyPair::from_seed_and_public_key(&self.private("d")?, &self.bytes("x")?)
            .map(KeyPair::Ed25519)
            .map_err(|_| String::from("isn't an Ed25519 key, or its fields don't match"))
    }

    /// Returns the algorithm that `alg` names. Without an `alg`, returns the first algorithm in
    /// `known`.
    fn algorithm(&self, known: &[&'static str]) -> Result<&'static str, String> {
        let Some(wanted) = self.field("alg") else {
            return Ok(known[0]);
        };
        let mut names = known.iter().copied();
        let found = names.find(|name| wanted.text() == Some(name));
        found.ok_or_else(|| {
            let known = known.join(" or ");
            format!("has an `alg` other than {known}; no other is supported for its `kty`")
        })
    }

    fn curve(&self, known: &str) -> Result<(), String> {
        if self.text("crv") == Some(known) {
            return Ok(());
        }
        Err(format!("has a `crv` other than {known}, or none"))
    }

    fn field(&self, name: &str) -> Option<&BodyValue> {
        self.0.at(&inside("", name)).pop()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.field(name)?.text()
    }

    fn private(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        if self.field(name).is_none() {
            return Err(format!("is a public key: it has no `{name}`"));
        }
        self.bytes(name)
    }

    fn bytes(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        let absent = || format!("has no `{name}` that is a string");
        let text = self.text(name).ok_or_else(absent)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        URL_SAFE_NO_PAD_INDIFFERENT
            .decode_vec(text, &mut bytes)
            .map_err(|_| format!("has a `{name}` that isn't base64url"))?;
        Ok(bytes)
    }

    /// Returns a number without leading zeros. RFC 7518 §2 forbids these zeros, but some keys
    /// contain them.
    fn number(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        let mut bytes = self.bytes(name)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.drain(..zeros);
        Ok(bytes)
    }
}
