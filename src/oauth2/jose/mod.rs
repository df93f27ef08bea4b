//! JSON Object Signing and Encryption: keys, and what is signed with them.

pub(crate) mod pem;

pub(crate) mod key_pair;

pub(crate) mod jwk;

pub(crate) mod jws;

pub(crate) mod signing_key;

pub(crate) mod signed_jwt;
