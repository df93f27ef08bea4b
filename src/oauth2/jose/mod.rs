//! JSON Object Signing and Encryption (JOSE): keys and the JWTs that they sign.

pub(crate) mod pem;

pub(crate) mod key_pair;

pub(crate) mod jwk;

pub(crate) mod jws;

pub(crate) mod signing_key;

pub(crate) mod signed_jwt;
