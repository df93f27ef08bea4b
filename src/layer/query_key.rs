//! Removes a key from a URL. Clients show the URLs of requests and responses in their errors.

use std::borrow::Cow;
use std::fmt;

use super::query;
use crate::token::redact::Redactor;

/// A key that the layer sent in the query of a request, for
/// [`AuthResponse::without_key`](super::AuthResponse::without_key).
///
/// # Example
///
/// ```
/// use http::{Extensions, HeaderMap, Response, StatusCode};
/// use tower_auth::layer::{AuthResponse, QueryKey};
///
/// /// A response that knows its URL.
/// struct Located<B> {
///     url: String,
///     inner: Response<B>,
/// }
///
/// impl<B> AuthResponse for Located<B> {
///     fn status(&self) -> StatusCode { self.inner.status() }
///     fn headers(&self) -> &HeaderMap { self.inner.headers() }
///     fn extensions(&self) -> &Extensions { self.inner.extensions() }
///     fn extensions_mut(&mut self) -> &mut Extensions { self.inner.extensions_mut() }
///
///     fn without_key(self, key: &QueryKey<'_>) -> Self {
///         let url = key.remove_from(&self.url).unwrap_or(self.url);
///         Self { url, inner: self.inner }
///     }
/// }
/// ```
pub struct QueryKey<'a> {
    name: &'a str,
    redactor: Redactor,
}

impl<'a> QueryKey<'a> {
    pub(super) fn new(name: &'a str, secret: &str) -> Self {
        let mut redactor = Redactor::default();
        redactor.hide(secret);
        Self { name, redactor }
    }

    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Returns the URL without the key, or `None` if the URL doesn't contain the key.
    ///
    /// Removes the parameter of the key. A redirect may repeat the key elsewhere, such as in
    /// `/login?return_to=%2Fthings%3Fkey%3D…`. So this method also removes each other parameter,
    /// the fragment and the user name if they contain the key. It redacts the key in
    /// the rest of the URL.
    ///
    /// The documentation of this type has an example.
    #[must_use]
    pub fn remove_from(&self, url: &str) -> Option<String> {
        let (rest, fragment) = split(url, '#');
        let (rest, query) = split(rest, '?');
        let is_removed = |pair: &&str| query::is_named(pair, self.name) || self.is_in(pair);
        if !query::pairs(query).any(|pair| is_removed(&pair)) && !self.is_in(url) {
            return None;
        }
        let others: Vec<_> = query::pairs(query)
            .filter(|pair| !is_removed(pair))
            .collect();
        let mut kept = self.without_user(rest).into_owned();
        if !others.is_empty() {
            kept.push('?');
            kept.push_str(&others.join("&"));
        }
        if let Some(fragment) = fragment.filter(|fragment| !self.is_in(fragment)) {
            kept.push('#');
            kept.push_str(fragment);
        }
        // The path may contain the key, or several parameters, because `&` may be part of a key.
        Some(match self.is_in(&kept) {
            true => self.redactor.redact_whole(&kept),
            false => kept,
        })
    }

    /// Removes `user:password@` if it contains the key.
    fn without_user<'u>(&self, url: &'u str) -> Cow<'u, str> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return url.into();
        };
        let end = rest.find('/').unwrap_or(rest.len());
        match rest[..end].rfind('@') {
            Some(at) if self.is_in(&rest[..at]) => format!("{scheme}://{}", &rest[at + 1..]).into(),
            _ => url.into(),
        }
    }

    fn is_in(&self, text: &str) -> bool {
        self.redactor.finds_in(text)
    }
}

/// Hides the key.
impl fmt::Debug for QueryKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("QueryKey");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

fn split(text: &str, by: char) -> (&str, Option<&str>) {
    text.split_once(by)
        .map_or((text, None), |(before, after)| (before, Some(after)))
}
