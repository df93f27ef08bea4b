//! reqwest's client, without the feature `reqwest`.
//!
//! ```text
//! error[E0277]: the layer can't authenticate requests of type `reqwest::Request`
//! = note: the layer takes `http::Request` of http 1, and `reqwest::Request` of reqwest 0.13 with tower-auth's feature `reqwest`
//! error[E0277]: the layer can't read responses of type `reqwest::Response`
//! ```

pub(crate) fn mistake(http: reqwest::Client, request: reqwest::Request) {
    _ = crate::auth(http).send(request);
}
