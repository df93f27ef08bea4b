//! The metadata of a protected resource (RFC 9728): its authorization servers, its name and its
//! scopes.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use http::Uri;
use serde_json::Value;

use crate::cache::cache_inner::shut_out;
use crate::challenge::www_authenticate::Challenge;
use crate::error::{BoxError, Error, Kind, Reply};
use crate::http_client::default_transport::no_response;
use crate::http_client::endpoint_url::{self, EndpointUrl, sanitize_url};
use crate::http_client::retry_after;
use crate::http_client::transport::DynTransport;
use crate::oauth2::discovery::document::{Document, base, get_request};
use crate::oauth2::scope;
use crate::origin::Origin;
use crate::sanitize::ServerText;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The maximum number of authorization servers that an error lists.
const MOST_NAMED: usize = 3;

/// The maximum number of locations that are read from a refusal. Without a limit, a refusal could
/// cause thousands of requests.
const MOST_HINTED: usize = 4;

/// A resource, whose name is its address.
pub(crate) struct Resource {
    /// The name as the caller wrote it. The metadata should contain the same name.
    name: String,
    uri: Uri,
}

/// The contents of a refusal (RFC 9728 §5.1): the locations of the metadata and the required
/// scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    /// The distinct locations, in the order of the refusal. A correct refusal has at most one.
    pub(crate) metadata: Vec<String>,
    pub(crate) scope: Option<String>,
}

/// The contents of the metadata.
#[derive(Clone, Debug)]
pub(crate) struct ResourceMetadata {
    /// The `resource` parameter of a token request.
    pub(crate) resource: String,
    pub(crate) authorization_servers: Vec<String>,
    /// The scopes to request. The scopes come from the refusal, otherwise from the metadata.
    pub(crate) scope: String,
}

impl Resource {
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        Ok(Self {
            uri: endpoint_url::secure("the protected resource's address", name)?,
            name: name.to_owned(),
        })
    }

    pub(crate) fn origin(&self) -> Option<Origin> {
        Origin::of_uri(&self.uri)
    }

    /// Sends a request without a credential, and returns the hint from the refusal. Reads only the
    /// head of the response, because the body may be an endless stream.
    pub(crate) async fn probe(&self, transport: &DynTransport) -> Result<Hint, Error> {
        let reply = transport.send(get_request(&self.uri)).await;
        let (head, _body) = reply.map_err(unreachable)?.into_parts();
        let refusal = Error::denied(
            "the protected resource is temporarily unavailable",
            Reply {
                status: Some(head.status),
                retry_after: retry_after::parse(&head.headers, SystemTime::now()),
                ..Reply::default()
            },
        );
        // A response with a transient status may lack the hint, so the caller gets the error
        // instead.
        if refusal.is_transient() {
            return Err(refusal);
        }
        Ok(Hint::of(&Challenge::parse(&head.headers)))
    }

    /// Fetches the metadata from the locations in the hint, and then from two well-known locations
    /// (RFC 9728 §3.1): with this resource's path, and without it.
    pub(crate) async fn metadata(
        &self,
        hint: &Hint,
        transport: &DynTransport,
    ) -> Result<(ResourceMetadata, Duration), Error> {
        let hinted = self.hinted(hint)?;
        let mut well_known = self.well_known();
        well_known.retain(|location| !hinted.contains(location));
        let mut searches: Vec<_> = hinted.into_iter().map(|location| vec![location]).collect();
        if searches.is_empty() || !well_known.is_empty() {
            searches.push(well_known);
        }
        let mut failed: Option<Error> = None;
        // An error about an unusable document says more than an error about a missing document.
        let says_more = |error: &Error| !error.is_denied();
        for locations in searches {
            match Document::find(transport, locations, || self.nowhere()).await {
                Ok((document, location)) => match self.accept(&document, &location, hint) {
                    // Other JSON, such as the metadata of an authorization server.
                    Err(error) if !document.fields.contains_key("resource") => {
                        failed = Some(failed.filter(says_more).unwrap_or(error));
                    }
                    metadata => return Ok((metadata?, document.lifetime)),
                },
                Err(error) if error.is_reply() || error.is_denied() && !error.is_transient() => {
                    failed = Some(failed.filter(says_more).unwrap_or(error));
                }
                Err(error) => return Err(error),
            }
        }
        let nowhere = || Error::denied(self.nowhere(), Reply::default());
        Err(failed.unwrap_or_else(nowhere))
    }

    fn nowhere(&self) -> String {
        format!(
            "the protected resource `{}` has no metadata (RFC 9728) at any expected location, so the \
             authorization server that issues its tokens is unknown",
            self.without_query()
        )
    }

    /// Returns the usable locations in the hint. Returns an error if the hint has no usable
    /// location, but has a location on another origin.
    fn hinted(&self, hint: &Hint) -> Result<Vec<String>, Error> {
        let mut usable = Vec::new();
        let mut elsewhere = None;
        for location in &hint.metadata {
            match self.own(location) {
                Ok(uri) => usable.extend(uri.map(|uri| uri.to_string())),
                Err(error) => elsewhere = elsewhere.or(Some(error)),
            }
        }
        match elsewhere {
            Some(error) if usable.is_empty() => return Err(error),
            Some(error) => shut_out(error.to_string()),
            None => {}
        }
        Ok(usable)
    }

    /// Parses a location, which must be on this resource's own origin. Otherwise, the resource
    /// could make this process send requests to any reachable server (server-side request forgery).
    /// The process would also accept the metadata of any server. Returns `None` if the location
    /// can't be read, for example because it is in single quotes.
    fn own(&self, location: &str) -> Result<Option<Uri>, Error> {
        let has_host =
            |uri: &Uri| uri.scheme().is_some() && uri.host().is_some_and(|host| !host.is_empty());
        let Some(uri) = location.parse().ok().filter(has_host) else {
            return Ok(None);
        };
        let own = Origin::of_uri(&self.uri);
        let is_own = own.is_some() && own == Origin::of_uri(&uri);
        let uri = match endpoint_url::secure("the `resource_metadata` of a challenge", location) {
            Ok(uri) if is_own => return Ok(Some(uri)),
            // A location on this origin may still be unusable, for example because of a fragment.
            Err(_) if is_own => return Ok(None),
            uri => uri?,
        };
        let message = format!(
            "the challenge of the protected resource `{}` names metadata at `{}`, which is another \
             origin; metadata is only fetched from the resource's own origin",
            self.without_query(),
            ServerText::new(uri.authority().map_or("", |authority| authority.as_str()))
        );
        Err(Error::new(Kind::Config, message))
    }

    fn well_known(&self) -> Vec<String> {
        let base = base(&self.uri);
        // RFC 9728 §3.1 removes the slash after the host if no path follows it. Any other slash
        // stays.
        let path = self.uri.path_and_query().map_or("", |path| path.as_str());
        let path = match path.strip_prefix('/') {
            Some(rest) if rest.is_empty() || rest.starts_with('?') => rest,
            _ => path,
        };
        vec![
            format!("{base}{WELL_KNOWN}{path}"),
            format!("{base}{WELL_KNOWN}"),
        ]
    }

    fn accept(
        &self,
        document: &Document,
        location: &Uri,
        hint: &Hint,
    ) -> Result<ResourceMetadata, Error> {
        let wrong = |what: String| {
            let name = self.without_query();
            let message = format!("the metadata of the protected resource `{name}` {what}");
            Error::new(Kind::Config, message)
        };
        let Some(resource) = document.text("resource") else {
            return Err(wrong("has no `resource`".into()));
        };
        if !self.is_named(resource, location) {
            let what = format!("belongs to another resource, `{}`", sanitize_url(resource));
            return Err(wrong(what));
        }
        let texts = |name: &str| -> Vec<String> {
            let list = document.fields.get(name).and_then(Value::as_array);
            let texts = list.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        let authorization_servers = texts("authorization_servers");
        if authorization_servers.is_empty() {
            return Err(wrong("has no `authorization_servers`".into()));
        }
        Ok(ResourceMetadata {
            resource: resource.to_owned(),
            authorization_servers,
            scope: match &hint.scope {
                Some(scope) => scope::join([scope]),
                None => scope::join(texts("scopes_supported")),
            },
        })
    }

    /// Returns whether metadata from this location may contain this `resource` (RFC 9728 §3.3).
    ///
    /// Two names are accepted. The first is the name that the caller gave. The second is the name
    /// to which the location belongs. That name must be this resource's origin, or the beginning of
    /// its path. Another resource on the same host is rejected. Otherwise this resource would
    /// receive a token for the other resource.
    fn is_named(&self, name: &str, location: &Uri) -> bool {
        if name == self.name {
            return true;
        }
        let Some(path) = location.path().strip_prefix(WELL_KNOWN) else {
            return false;
        };
        let base = base(location);
        let is_above = path.is_empty() || is_beginning(path, self.uri.path());
        let is_same = |ending: &str| name == format!("{base}{path}{ending}");
        location.query().is_none() && is_above && (is_same("") || path.is_empty() && is_same("/"))
    }

    /// Hides the query, because a query may contain a key.
    fn without_query(&self) -> &str {
        self.name.split('?').next().unwrap_or_default()
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.without_query())
    }
}

impl Hint {
    pub(crate) fn of(challenges: &[Challenge]) -> Self {
        let has_location = |it: &&Challenge| it.param("resource_metadata").is_some();
        let has_scope = |it: &&Challenge| it.scope().is_some();
        let challenge = challenges.iter().find(has_location);
        let challenge = challenge.or_else(|| challenges.iter().find(has_scope));
        let scope = challenge.and_then(Challenge::scope);
        let mut metadata: Vec<String> = Vec::new();
        // A server may send its challenge twice, or send a parameter twice. Each location counts.
        for (name, location) in challenges.iter().flat_map(Challenge::params) {
            let is_location = name.eq_ignore_ascii_case("resource_metadata");
            let is_new = metadata.iter().all(|known| known != location);
            if is_location && is_new && metadata.len() < MOST_HINTED {
                metadata.push(location.to_owned());
            }
        }
        Self {
            metadata,
            scope: scope.map(str::to_owned),
        }
    }
}

impl ResourceMetadata {
    /// Returns the scopes that are allowed. Returns an error if the resource names scopes, but none
    /// that is allowed.
    pub(crate) fn bounded_scope(
        &self,
        allowed: Option<&BTreeSet<String>>,
    ) -> Result<String, Error> {
        let Some(allowed) = allowed else {
            return Ok(self.scope.clone());
        };
        let names = self.scope.split_whitespace();
        let bounded = scope::join(names.filter(|name| allowed.contains(*name)));
        // An empty scope would let the authorization server choose.
        if bounded.is_empty() && !self.scope.is_empty() {
            let message = format!(
                "the protected resource names the scopes `{}`, but none of them is allowed; if you \
                 trust one of them, add it with `allow_scopes`",
                ServerText::new(&self.scope)
            );
            return Err(Error::new(Kind::Config, message));
        }
        Ok(bounded)
    }

    /// Returns the first authorization server in the metadata that is in `allowed`.
    pub(crate) fn choose<'a>(
        &self,
        allowed: &'a [EndpointUrl],
        are_equal: fn(&str, &str) -> bool,
    ) -> Result<&'a EndpointUrl, Error> {
        let find = |offered: &String| {
            let is_it = |url: &&EndpointUrl| url.issuer().is_some_and(|it| are_equal(offered, it));
            allowed.iter().find(is_it)
        };
        let mut servers = self.authorization_servers.iter();
        servers.find_map(find).ok_or_else(|| {
            let all = self.authorization_servers.iter();
            let named = all.take(MOST_NAMED).map(|it| format!("`{}`", sanitize_url(it)));
            let mut named: Vec<_> = named.collect();
            let more = self.authorization_servers.len() - named.len();
            if more > 0 {
                named.push(format!("{more} more"));
            }
            let message = format!(
                "the protected resource gets its tokens from {}, but the list of allowed issuers has \
                 none of them; if you trust one of them, add it exactly as written here",
                named.join(", ")
            );
            Error::new(Kind::Config, message)
        })
    }
}

/// Returns whether `start` is a prefix of whole segments. For example, `/a` is such a prefix of
/// `/a`, `/a/` and `/a/b`, but not of `/ab`.
fn is_beginning(start: &str, path: &str) -> bool {
    let rest = path.strip_prefix(start);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || start.ends_with('/'))
}

fn unreachable(error: BoxError) -> Error {
    let message = "the protected resource could not be reached, or the connection broke";
    no_response(String::from(message), error)
}
