//! The identity of another provider that Google accepts (workload and workforce identity
//! federation). Google's security token service exchanges the other provider's token (RFC 8693).

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::file_fields::FileFields;
use super::file_settings::FileSettings;
use super::impersonation::account_of;
use super::subject_token::{self, ExchangeContext};
use crate::error::Error;
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::grants::token_exchange::TokenExchange;

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const AWS: &str = "urn:ietf:params:aws:token-type:aws4_request";

/// Returns the exchange that a file of the type `external_account` describes. `settings` contain
/// the scope of the exchanged token.
pub(crate) fn exchange(
    file: &FileFields<'_>,
    settings: &FileSettings,
) -> Result<TokenExchange, Error> {
    let audience = file.required("audience")?;
    let token_type = file.required("subject_token_type")?;
    if token_type == AWS {
        let what = "asks for credentials of AWS, which aren't supported; use a provider with \
                    OpenID Connect or SAML";
        return Err(file.wrong("subject_token_type", what));
    }
    let impersonated = file.text("service_account_impersonation_url")?;
    let subject = subject_token::source(
        &file.required_object("credential_source")?,
        settings,
        &ExchangeContext {
            audience,
            token_type,
            impersonated: impersonated.and_then(account_of),
        },
    )?;
    let source = TokenExchange::new(client(file, settings)?, subject)
        .audience(audience)
        .subject_token_type(token_type)
        .requested_token_type(ACCESS_TOKEN)
        .scope(settings.scope_or_all());
    match options(file, audience)? {
        Some(options) => source.param("options", options),
        None => Ok(source),
    }
}

fn client(file: &FileFields<'_>, settings: &FileSettings) -> Result<Client, Error> {
    let default = format!("https://sts.{}/v1/token", settings.universe.domain());
    let url = file.text("token_url")?.unwrap_or(&default);
    let url = settings.universe.service(file, "token_url", url, "sts")?;
    let client = match file.text("client_id")? {
        None => Client::anonymous(url)?,
        Some(id) => Client::new(url, id, file.required("client_secret")?)?.basic_auth(),
    };
    Ok(settings.client(client))
}

/// Returns the options of Google's exchange, as percent-encoded JSON. They name the project that
/// pays for the requests of a person in a workforce pool. A client's id already names the project.
fn options(file: &FileFields<'_>, audience: &str) -> Result<Option<String>, Error> {
    const PROJECT: &str = "workforce_pool_user_project";
    let Some(project) = file.text(PROJECT)? else {
        return Ok(None);
    };
    if !audience.contains("/workforcePools/") {
        let what = "is only for an `audience` in a workforce pool";
        return Err(file.wrong(PROJECT, what));
    }
    if file.text("client_id")?.is_some() {
        return Ok(None);
    }
    let options = serde_json::json!({ "userProject": project }).to_string();
    Ok(Some(
        utf8_percent_encode(&options, NON_ALPHANUMERIC).to_string(),
    ))
}
