//! Keys and the JWTs that are signed with them.

mod signed_jwt;
mod signing_key;
