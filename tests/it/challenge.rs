//! Challenges are parsed from `WWW-Authenticate`, in every form that servers use.

use http::HeaderMap;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use tower_auth::challenge::Challenge;

mod parsing;
mod round_trip;

fn parse<T: AsRef<[u8]>>(lines: &[T]) -> Vec<Challenge> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(
            WWW_AUTHENTICATE,
            HeaderValue::from_bytes(line.as_ref()).unwrap(),
        );
    }
    Challenge::parse(&headers)
}
