//! The domain of Google's APIs. A credentials file may name only addresses in this domain.
//!
//! Otherwise, the author of the file could choose the server that gets the secrets of this machine.
//! Google's clients don't check the addresses; Google's documentation asks the user to check them.

use http::Uri;

use super::file_fields::FileFields;
use crate::error::{Error, Kind};
use crate::http_client::endpoint_url::EndpointUrl;
use crate::sanitize::ServerText;

/// Google Cloud's own domain.
const GOOGLE: &str = "googleapis.com";

/// The host of the token endpoint in service account keys from before 2017.
const OLD_HOST: &str = "accounts.google.com";

#[derive(Clone, Debug)]
pub(crate) struct Universe {
    domain: String,
}

impl Default for Universe {
    fn default() -> Self {
        Self {
            domain: String::from(GOOGLE),
        }
    }
}

impl Universe {
    /// Checks the domain. `what` names the setting or the variable that contains the domain.
    pub(crate) fn new(what: &str, domain: &str) -> Result<Self, Error> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let mut labels = domain.split('.');
        let is_domain = labels.all(|label| !label.is_empty() && label.bytes().all(is_plain));
        // A single label could be `com`, or a machine of the local network.
        if !is_domain || !domain.contains('.') {
            let message = format!("{what} is no domain; write a domain such as `{GOOGLE}`");
            return Err(Error::new(Kind::Config, message));
        }
        Ok(Self {
            domain: domain.to_ascii_lowercase(),
        })
    }

    pub(crate) fn domain(&self) -> &str {
        &self.domain
    }

    pub(crate) fn is_google(&self) -> bool {
        self.domain == GOOGLE
    }

    /// Rejects a file for another universe.
    pub(crate) fn check(&self, file: &FileFields<'_>) -> Result<(), Error> {
        let domain = file.text("universe_domain")?.unwrap_or(GOOGLE);
        if domain.eq_ignore_ascii_case(&self.domain) {
            return Ok(());
        }
        let what = format!(
            "is for the universe `{}`, but the program expects `{}`; if the file is right, set \
             `GOOGLE_CLOUD_UNIVERSE_DOMAIN` or `ApplicationDefault::universe_domain`",
            ServerText::new(domain),
            self.domain
        );
        Err(file.objection(&what))
    }

    /// Checks the address in the field `name` of a file: `https`, and of this service. The service
    /// gets a secret of this machine. Other services of the domain, such as `storage`, keep what
    /// anyone sends, so the author of the file could read the secret there.
    pub(crate) fn service(
        &self,
        file: &FileFields<'_>,
        name: &str,
        url: &str,
        service: &str,
    ) -> Result<EndpointUrl, Error> {
        let address = self.checked(file, name, url)?;
        let host = address.address().and_then(Uri::host).unwrap_or_default();
        let host = host.to_ascii_lowercase();
        let below = host.strip_suffix(&format!(".{}", self.domain));
        if below.is_some_and(|name| is_service(name, service)) {
            return Ok(address);
        }
        let what = format!(
            "leads to `{}`, which isn't the service `{service}`; check who wrote the file",
            ServerText::new(&host)
        );
        Err(file.wrong(name, &what))
    }

    /// Checks the address in the field `name` of a file: `https`, and in this domain.
    pub(crate) fn checked(
        &self,
        file: &FileFields<'_>,
        name: &str,
        url: &str,
    ) -> Result<EndpointUrl, Error> {
        let uri: Option<Uri> = url.parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        let host = host.to_ascii_lowercase();
        let below = host.strip_suffix(self.domain.as_str());
        let is_old = self.is_google() && host == OLD_HOST;
        if is_old || below.is_some_and(|name| name.ends_with('.')) {
            return EndpointUrl::secure(&file.name_of(name), url);
        }
        let what = format!(
            "leads to `{}`, which isn't in the domain `{}`; check who wrote the file",
            ServerText::new(&host),
            self.domain
        );
        Err(file.wrong(name, &what))
    }
}

/// Returns whether a name below the domain belongs to this service: `sts`, `sts.mtls`, of a region
/// (`us-east1-sts` or `sts.us-east1.rep`), or of a private connection (`sts-name.p`).
fn is_service(name: &str, service: &str) -> bool {
    let Some((first, rest)) = name.split_once('.') else {
        return name.rsplit('-').next() == Some(service);
    };
    let region = rest.strip_suffix(".rep");
    match rest {
        "p" => first.split('-').next() == Some(service),
        "mtls" => first == service,
        _ => first == service && region.is_some_and(|region| !region.contains('.')),
    }
}
