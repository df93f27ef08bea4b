//! A `RequestBuilder` in place of a `Request`. The compiler chooses the text.
//!
//! ```text
//! error[E0308]: mismatched types
//! expected `Request`, found `RequestBuilder`
//! ```

pub(crate) fn mistake(http: reqwest::Client) {
    let request = http.get("https://api.example.com/v1");
    _ = crate::auth(http).execute(request);
}
