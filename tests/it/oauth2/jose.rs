//! Keys, and the JWTs that they sign.

mod signed_jwt;
mod signing_key;
