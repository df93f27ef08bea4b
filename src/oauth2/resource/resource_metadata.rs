//! What a protected resource says of itself (RFC 9728): which authorization servers issue tokens for
//! it, under which name, and with which scopes.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::Uri;
use serde_json::Value;

use crate::challenge::www_authenticate::Challenge;
use crate::error::{BoxError, Error, Kind, Reply};
use crate::http_client::endpoint_url;
use crate::http_client::retry_after;
use crate::http_client::transport::DynTransport;
use crate::oauth2::discovery::document::{Document, get_request};
use crate::oauth2::scope;
use crate::origin::Origin;
use crate::sanitize::sanitize;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// How many of the authorization servers that a resource names an error tells.
const TOLD: usize = 3;

/// A resource by its name, which is its address.
pub(crate) struct Resource {
    /// As it was given: what the metadata must hold.
    name: String,
    uri: Uri,
}

/// What a refusal of the resource says of where its metadata is (RFC 9728 §5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) metadata: Option<String>,
    pub(crate) scope: Option<String>,
}

/// What the metadata says.
#[derive(Clone, Debug)]
pub(crate) struct ResourceMetadata {
    /// The name that a token is asked for under.
    pub(crate) resource: String,
    pub(crate) authorization_servers: Vec<String>,
    /// The scopes that are wanted: those of the refusal, else all that there are.
    pub(crate) scope: String,
}

impl Resource {
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        Ok(Self {
            uri: endpoint_url::secure("the protected resource's address", name)?,
            name: name.to_owned(),
        })
    }

    /// Asks without a credential, for the refusal. Of the answer nothing but the head is read: it may be a
    /// stream without an end.
    pub(crate) async fn ask(&self, transport: &DynTransport) -> Result<Hint, Error> {
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
        // What it says when it is well again may be another thing.
        if refusal.is_transient() {
            return Err(refusal);
        }
        Ok(Hint::of(&Challenge::parse(&head.headers)))
    }

    /// Finds the metadata where the hint says, else at the well-known places (RFC 9728 §3.1): below this
    /// resource's own path, then at the root.
    pub(crate) async fn metadata(
        &self,
        hint: &Hint,
        transport: &DynTransport,
    ) -> Result<(ResourceMetadata, Duration), Error> {
        let places = match &hint.metadata {
            Some(place) => vec![self.own(place)?],
            None => self.well_known(),
        };
        let nowhere = || {
            format!(
                "the protected resource `{}` has no metadata (RFC 9728) where it should be, so there \
                 is no telling which authorization server issues its tokens",
                self.without_query()
            )
        };
        let (document, place) = Document::find(transport, places, nowhere).await?;
        let metadata = self.accept(&document, &place, hint)?;
        Ok((metadata, document.lifetime))
    }

    /// A place on this resource's own origin. Whoever answers for the resource could otherwise have any
    /// server that this machine reaches asked for something (server-side request forgery), and have
    /// anybody's metadata taken for the resource's.
    fn own(&self, place: &str) -> Result<Uri, Error> {
        let uri = endpoint_url::secure("the `resource_metadata` of a challenge", place)?;
        let own = Origin::of_uri(&self.uri);
        if own.is_some() && own == Origin::of_uri(&uri) {
            return Ok(uri);
        }
        let message = format!(
            "the challenge of the protected resource `{}` has its metadata at `{}`, which is another \
             origin and isn't asked",
            self.without_query(),
            sanitize(uri.authority().map_or("", |authority| authority.as_str()))
        );
        Err(Error::new(Kind::Config, message))
    }

    fn well_known(&self) -> Vec<Uri> {
        let base = base(&self.uri);
        // RFC 9728 §3.1: a slash that ends the host is taken away before, and any other stays.
        let path = self.uri.path_and_query().map_or("", |path| path.as_str());
        let path = match path.strip_prefix('/') {
            Some(rest) if rest.is_empty() || rest.starts_with('?') => rest,
            _ => path,
        };
        let mut places = vec![
            format!("{base}{WELL_KNOWN}{path}"),
            format!("{base}{WELL_KNOWN}"),
        ];
        places.dedup();
        let places = places.into_iter();
        places.filter_map(|place| place.parse().ok()).collect()
    }

    fn accept(
        &self,
        document: &Document,
        place: &Uri,
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
        if !self.is_named(resource, place) {
            let what = format!("is that of `{}`", endpoint_url::sanitize_url(resource));
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

    /// Whether metadata from this place may call the resource so (RFC 9728 §3.3): it is the very name that
    /// was given; or the one that the place is well known for, if that is this resource's origin or
    /// the beginning of its path. A neighbour's on the same host is neither: a token for it would
    /// be sent here.
    fn is_named(&self, name: &str, place: &Uri) -> bool {
        if name == self.name {
            return true;
        }
        let Some(path) = place.path().strip_prefix(WELL_KNOWN) else {
            return false;
        };
        let base = base(place);
        let is_above = path.is_empty() || is_beginning(path, self.uri.path());
        let is_same = |ending: &str| name == format!("{base}{path}{ending}");
        place.query().is_none() && is_above && (is_same("") || path.is_empty() && is_same("/"))
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
        let has_place = |it: &&Challenge| it.param("resource_metadata").is_some();
        let has_scope = |it: &&Challenge| it.scope().is_some();
        let challenge = challenges.iter().find(has_place);
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
    pub(crate) fn choose<'a, T>(
        &self,
        allowed: &'a [T],
        name: impl Fn(&T) -> &str,
    ) -> Result<&'a T, Error> {
        let find = |offered: &String| allowed.iter().find(|it| name(it) == offered);
        let mut servers = self.authorization_servers.iter();
        servers.find_map(find).ok_or_else(|| {
            let all = self.authorization_servers.iter();
            let mut told: Vec<_> = all.take(TOLD).map(|it| format!("`{}`", endpoint_url::sanitize_url(it))).collect();
            let more = self.authorization_servers.len() - told.len();
            if more > 0 {
                told.push(format!("{more} more"));
            }
            let message = format!(
                "the protected resource gets its tokens from {}, and the list of allowed issuers has \
                 none of them; if one of them is right, allow it exactly so",
                told.join(", ")
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

fn base(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let host = uri.authority().map_or("", |authority| authority.as_str());
    format!("{scheme}://{host}")
}

fn unreachable(error: BoxError) -> Error {
    let message = "the protected resource could not be reached, or the connection broke";
    Error::new(Kind::Transport, message).with_source(error)
}
