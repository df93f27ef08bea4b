//! The metadata of a protected resource (RFC 9728): which authorization servers issue its tokens,
//! under which name, and with which scopes.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::Uri;
use serde_json::Value;

use crate::challenge::www_authenticate::Challenge;
use crate::error::{BoxError, Error, Kind, Reply};
use crate::http_client::default_transport::no_response;
use crate::http_client::endpoint_url::{self, EndpointUrl, sanitize_url};
use crate::http_client::retry_after;
use crate::http_client::transport::DynTransport;
use crate::oauth2::discovery::document::{Document, base, get_request};
use crate::oauth2::scope;
use crate::origin::Origin;
use crate::sanitize::sanitize;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// How many of a resource's authorization servers an error names.
const MOST_NAMED: usize = 3;

/// A resource by its name, which is its address.
pub(crate) struct Resource {
    /// As the caller gave it, which the metadata must repeat.
    name: String,
    uri: Uri,
}

/// Where the metadata is, and which scopes are wanted, according to a refusal (RFC 9728 §5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) metadata: Option<String>,
    pub(crate) scope: Option<String>,
}

/// What the metadata says.
#[derive(Clone, Debug)]
pub(crate) struct ResourceMetadata {
    /// The `resource` of a token request.
    pub(crate) resource: String,
    pub(crate) authorization_servers: Vec<String>,
    /// The scopes that are wanted: those of the refusal, else all that the metadata names.
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

    /// Sends a request without a credential, to be refused. Only the head of the response is read,
    /// because its body may be an endless stream.
    pub(crate) async fn probe(&self, transport: &DynTransport) -> Result<Hint, Error> {
        let reply = transport.send(get_request(&self.uri)).await;
        let (head, _body) = reply.map_err(unreachable)?.into_parts();
        let refusal = Error::denied(
            "the protected resource is in trouble",
            Reply {
                status: Some(head.status),
                retry_after: retry_after::parse(&head.headers, SystemTime::now()),
                ..Reply::default()
            },
        );
        // A server in trouble may not say what it says at other times.
        if refusal.is_transient() {
            return Err(refusal);
        }
        Ok(Hint::of(&Challenge::parse(&head.headers)))
    }

    /// Finds the metadata where the hint says, else at the well-known locations (RFC 9728 §3.1): with
    /// this resource's own path, then without.
    pub(crate) async fn metadata(
        &self,
        hint: &Hint,
        transport: &DynTransport,
    ) -> Result<(ResourceMetadata, Duration), Error> {
        let locations = match &hint.metadata {
            Some(location) => vec![self.own(location)?.to_string()],
            None => self.well_known(),
        };
        let nowhere = || {
            format!(
                "the protected resource `{}` has no metadata (RFC 9728) where it should be, so the \
                 authorization server that issues its tokens isn't known",
                self.without_query()
            )
        };
        let (document, location) = Document::find(transport, locations, nowhere).await?;
        let metadata = self.accept(&document, &location, hint)?;
        Ok((metadata, document.lifetime))
    }

    /// Parses a location, which must be on this resource's own origin. Otherwise the resource could
    /// make this process send requests to any server that it reaches (server-side request forgery),
    /// and accept any server's metadata.
    fn own(&self, location: &str) -> Result<Uri, Error> {
        let uri = endpoint_url::secure("the `resource_metadata` of a challenge", location)?;
        let own = Origin::of_uri(&self.uri);
        if own.is_some() && own == Origin::of_uri(&uri) {
            return Ok(uri);
        }
        let message = format!(
            "the challenge of the protected resource `{}` has its metadata at `{}`, which is another \
             origin and gets no request",
            self.without_query(),
            sanitize(uri.authority().map_or("", |authority| authority.as_str()))
        );
        Err(Error::new(Kind::Config, message))
    }

    fn well_known(&self) -> Vec<String> {
        let base = base(&self.uri);
        // RFC 9728 §3.1: the slash after the host is removed first, and any other stays.
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
            let what = format!("is that of `{}`", sanitize_url(resource));
            return Err(wrong(what));
        }
        let texts = |name: &str| -> Vec<String> {
            let list = document.fields.get(name).and_then(Value::as_array);
            let texts = list.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        let authorization_servers = texts("authorization_servers");
        if authorization_servers.is_empty() {
            return Err(wrong("names no `authorization_servers`".into()));
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

    /// Whether metadata from this location may have this `resource` (RFC 9728 §3.3). That is the name
    /// that the caller gave, or the one to which the location belongs, if it is this resource's
    /// origin or the beginning of its path. Another resource on the same host is neither: this
    /// resource would get a token for the other.
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

    /// A query may hold a key.
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
        let text = |name| challenge?.param(name).map(str::to_owned);
        Self {
            metadata: text("resource_metadata"),
            scope: text("scope"),
        }
    }
}

impl ResourceMetadata {
    /// The first of its authorization servers that is one of these.
    pub(crate) fn choose<'a>(&self, allowed: &'a [EndpointUrl]) -> Result<&'a EndpointUrl, Error> {
        let find = |offered: &String| allowed.iter().find(|it| it.issuer() == Some(offered));
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
                "the protected resource gets its tokens from {}, and the list of allowed issuers has \
                 none of them; if one of them is right, allow it exactly so",
                named.join(", ")
            );
            Error::new(Kind::Config, message)
        })
    }
}

/// `/a` begins `/a`, `/a/` and `/a/b`, and not `/ab`.
fn is_beginning(start: &str, path: &str) -> bool {
    let rest = path.strip_prefix(start);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || start.ends_with('/'))
}

fn unreachable(error: BoxError) -> Error {
    let message = "the protected resource could not be reached, or the connection broke";
    no_response(String::from(message), error)
}
