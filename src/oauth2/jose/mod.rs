//! JSON Object Signing and Encryption (JOSE): keys, and JWTs that these keys sign.

pub(crate) mod pem;

pub(crate) mod key_pair;

pub(crate) mod jwk;

pub(crate) mod jws;

pub(crate) mod signing_key;

pub(crate) mod signed_jwt;
