//! The local service that issues the tokens. Each product of Azure has its own service. The
//! environment variables describe this service.

use std::path::PathBuf;

use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::user_assigned::UserAssigned;
use crate::error::{Error, Kind};
use crate::http_client::endpoint_url::{EndpointUrl, base};
use crate::platform::environment::Environment;
use crate::platform::metadata_host;
use crate::token::header_value::sensitive;

const METADATA_HOST: &str = "http://169.254.169.254";
const METADATA_PATH: &str = "/metadata/identity/oauth2/token";

/// The service that issues the tokens of managed identities, and the differences between the
/// products.
#[derive(Debug)]
pub(crate) enum IdentityService {
    /// The metadata server of virtual machines (IMDS).
    Metadata,
    /// App Service, Functions, Container Apps and Automation.
    AppService { secret: HeaderValue },
    /// The version of 2017 of App Service's protocol. Machine Learning still uses this version.
    Version2017 { secret: HeaderValue },
    /// The agent of Azure Arc. The program has to prove that it may read the key files in a folder.
    Arc { keys: Option<PathBuf> },
}

impl IdentityService {
    /// Returns the service that the variables describe, and its address.
    pub(crate) fn detect(environment: &Environment) -> Result<(Self, EndpointUrl), Error> {
        let address = |name: &str, url: &str| {
            metadata_host::checked(&format!("the environment variable `{name}`"), url)
        };
        let has = |name: &str| environment.get(name).is_some();
        if let Some(url) = environment.get("IDENTITY_ENDPOINT") {
            if has("IDENTITY_SERVER_THUMBPRINT") {
                return Err(unsupported(
                    "`IDENTITY_SERVER_THUMBPRINT` is set, as on Service Fabric, whose certificate \
                     no HTTP client accepts without special settings; pass a closure as the \
                     token source",
                ));
            }
            let url = address("IDENTITY_ENDPOINT", url)?;
            let service = if has("IDENTITY_HEADER") {
                Self::AppService {
                    secret: secret(environment, "IDENTITY_HEADER")?,
                }
            } else if has("IMDS_ENDPOINT") {
                Self::Arc {
                    keys: key_folder(environment),
                }
            } else {
                return Err(unsupported(
                    "`IDENTITY_ENDPOINT` is set, but neither `IDENTITY_HEADER` (App Service) nor \
                     `IMDS_ENDPOINT` (Azure Arc); pass all variables of the platform to the \
                     program",
                ));
            };
            return Ok((service, url));
        }
        for name in ["IDENTITY_HEADER", "IMDS_ENDPOINT"] {
            if has(name) {
                let message = format!("`{name}` is set, but `IDENTITY_ENDPOINT` is missing");
                return Err(unsupported(&(message + "; pass both to the program")));
            }
        }
        match environment.get("MSI_ENDPOINT") {
            Some(url) if has("MSI_SECRET") => {
                let secret = secret(environment, "MSI_SECRET")?;
                Ok((Self::Version2017 { secret }, address("MSI_ENDPOINT", url)?))
            }
            Some(_) => Err(unsupported(
                "`MSI_ENDPOINT` is set without `MSI_SECRET`, as in Azure Cloud Shell, whose tokens \
                 belong to a person; run `az account get-access-token` with \
                 `tower_auth::platform::Command`",
            )),
            None if has("MSI_SECRET") => Err(unsupported(
                "`MSI_SECRET` is set, but `MSI_ENDPOINT` is missing; pass both to the program",
            )),
            None => {
                let name = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
                let host = environment.get(name).unwrap_or(METADATA_HOST);
                let host = base(&format!("the environment variable `{name}`"), host)?;
                let url = format!("{host}{METADATA_PATH}");
                Ok((Self::Metadata, address(name, &url)?))
            }
        }
    }

    /// Returns the name for error messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Metadata => "the metadata server of Azure",
            Self::AppService { .. } | Self::Version2017 { .. } => "the identity endpoint of Azure",
            Self::Arc { .. } => "the agent of Azure Arc",
        }
    }

    pub(crate) fn api_version(&self) -> &'static str {
        match self {
            Self::Metadata => "2018-02-01",
            Self::AppService { .. } => "2019-08-01",
            Self::Version2017 { .. } => "2017-09-01",
            Self::Arc { .. } => "2020-06-01",
        }
    }

    /// Returns the headers that prove that the request is intended. An attacker who tricks a
    /// program into sending a request usually can't set these headers.
    pub(crate) fn headers(&self) -> HeaderMap {
        let metadata = (
            HeaderName::from_static("metadata"),
            HeaderValue::from_static("true"),
        );
        let secret = |name, secret: &HeaderValue| (HeaderName::from_static(name), secret.clone());
        match self {
            Self::Metadata | Self::Arc { .. } => HeaderMap::from_iter([metadata]),
            // Automation sets the variables of App Service, but also requires the metadata header.
            Self::AppService { secret: value } => {
                HeaderMap::from_iter([metadata, secret("x-identity-header", value)])
            }
            Self::Version2017 { secret: value } => HeaderMap::from_iter([secret("secret", value)]),
        }
    }

    /// Returns the secret that the headers contain.
    pub(crate) fn secret(&self) -> Option<&str> {
        match self {
            Self::AppService { secret } | Self::Version2017 { secret } => secret.to_str().ok(),
            Self::Metadata | Self::Arc { .. } => None,
        }
    }

    /// Returns the name of the parameter that chooses a user-assigned identity.
    pub(crate) fn parameter(&self, identity: &UserAssigned) -> Result<&'static str, Error> {
        match (self, identity) {
            (Self::Version2017 { .. }, UserAssigned::Client(_)) => Ok("clientid"),
            (Self::Version2017 { .. }, _) => {
                let message = format!(
                    "the endpoint in `MSI_ENDPOINT` knows identities only by their client id; call \
                     `client_id` instead of `{}`",
                    identity.setter()
                );
                Err(Error::new(Kind::Config, message))
            }
            (_, UserAssigned::Client(_)) => Ok("client_id"),
            (_, UserAssigned::Object(_)) => Ok("object_id"),
            (Self::AppService { .. }, UserAssigned::Resource(_)) => Ok("mi_res_id"),
            (_, UserAssigned::Resource(_)) => Ok("msi_res_id"),
        }
    }
}

fn unsupported(message: &str) -> Error {
    Error::new(Kind::Config, message.to_owned())
}

/// Reads a variable whose value is sent as a header.
fn secret(environment: &Environment, name: &str) -> Result<HeaderValue, Error> {
    let text = environment.require(name, "a managed identity")?;
    sensitive(Zeroizing::new(text.as_bytes().to_vec())).ok_or_else(|| {
        let message = format!(
            "the environment variable `{name}` has characters that a header can't contain; pass \
             the platform's value unchanged"
        );
        Error::new(Kind::Config, message)
    })
}

/// Returns the folder in which the agent of Azure Arc writes its keys. The agent exists only for
/// Linux and Windows.
fn key_folder(environment: &Environment) -> Option<PathBuf> {
    if cfg!(windows) {
        let data = PathBuf::from(environment.get("ProgramData")?);
        return Some(data.join("AzureConnectedMachineAgent").join("Tokens"));
    }
    cfg!(target_os = "linux").then(|| PathBuf::from("/var/opt/azcmagent/tokens"))
}
