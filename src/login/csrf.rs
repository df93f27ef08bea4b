//! The token against cross-site request forgery (CSRF) that an API wants in addition to the
//! session's cookies.

use std::borrow::Cow;

use http::header::{COOKIE, HeaderName, HeaderValue};
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use crate::error::{Error, Kind};
use crate::http_client::bounded_response::EndpointResponse;
use crate::http_client::json_pointer;
use crate::http_client::response_fields::ResponseFields;
use crate::token::header_value::sensitive;
use crate::token::redact::Redactor;

/// Where the token comes from, and the header that it goes into.
#[derive(Clone, Debug)]
pub(super) struct CsrfSetting {
    header: HeaderName,
    origin: CsrfOrigin,
}

#[derive(Clone, Debug)]
enum CsrfOrigin {
    /// A cookie with this name.
    Cookie(String),
    /// The field of the login's response at this JSON pointer.
    Field(String),
}

/// The token of one session.
pub(super) struct CsrfToken {
    pub(super) header: HeaderName,
    value: CsrfValue,
}

enum CsrfValue {
    /// The current value of a cookie with this name.
    OfCookie(String),
    Fixed(HeaderValue),
}

impl CsrfSetting {
    pub(super) fn cookie(name: String, header: &str) -> Result<Self, Error> {
        // No cookie has such a name (RFC 6265 §5.2).
        if name.is_empty() || name.contains(['=', ';']) || name.trim() != name {
            let message = format!("`{}` isn't the name of a cookie", name.escape_debug());
            return Err(Error::new(Kind::Config, message));
        }
        Ok(Self {
            header: parse_header(header)?,
            origin: CsrfOrigin::Cookie(name),
        })
    }

    pub(super) fn field(pointer: String, header: &str) -> Result<Self, Error> {
        Ok(Self {
            header: parse_header(header)?,
            origin: CsrfOrigin::Field(json_pointer::checked(pointer)?),
        })
    }

    /// Returns the token of the session that a login has opened.
    pub(super) fn token(&self, response: &EndpointResponse) -> Result<CsrfToken, Error> {
        let value = match &self.origin {
            CsrfOrigin::Cookie(name) => CsrfValue::OfCookie(name.clone()),
            CsrfOrigin::Field(pointer) => {
                let value = field(response, pointer);
                let value = value.map_err(|why| no_token(pointer, &why))?;
                CsrfValue::Fixed(value)
            }
        };
        Ok(CsrfToken {
            header: self.header.clone(),
            value,
        })
    }
}

impl CsrfToken {
    /// Returns the header's value, or `None` if the token is in a cookie that is missing or empty.
    /// `cookie` finds a cookie's value in the request.
    pub(super) fn value<'a>(
        &self,
        cookie: impl FnOnce(&str) -> Option<&'a [u8]>,
    ) -> Result<Option<HeaderValue>, Error> {
        let name = match &self.value {
            CsrfValue::Fixed(value) => return Ok(Some(value.clone())),
            CsrfValue::OfCookie(name) => name,
        };
        let Some(encoded) = cookie(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        // The decoded value always fits, because decoding never makes a value longer. A buffer that
        // grows would free memory without zeroizing it.
        let mut value = Zeroizing::new(Vec::with_capacity(encoded.len()));
        value.extend(percent_decode(encoded));
        let value = header_value(value).ok_or_else(|| {
            let message = format!(
                "the CSRF token in the cookie `{}` contains bytes that are illegal in the `{}` \
                 header",
                name.escape_debug(),
                self.header
            );
            Error::new(Kind::IllegalToken, message)
        })?;
        Ok(Some(value))
    }
}

/// Reads a field of the login's response, or says why there is no token.
fn field(response: &EndpointResponse, pointer: &str) -> Result<HeaderValue, Cow<'static, str>> {
    let hidden = response.hiding(Redactor::default(), &ResponseFields::default());
    let fields = response.fields().map_err(|it| it.what(&hidden))?;
    let text = match fields.body.at(pointer).as_slice() {
        [value] => value.text().ok_or("has no string there")?,
        [] => return Err("has no string there".into()),
        _ => return Err("has a field twice, so its value is ambiguous".into()),
    };
    if text.is_empty() {
        return Err("has an empty string there".into());
    }
    let text = Zeroizing::new(text.as_bytes().to_vec());
    header_value(text).ok_or_else(|| "has a string there that is illegal in a header".into())
}

/// Makes a header value, unless HTTP would change or reject the bytes (RFC 9110 §5.5).
fn header_value(bytes: Zeroizing<Vec<u8>>) -> Option<HeaderValue> {
    let is_trimmed = bytes.trim_ascii().len() == bytes.len();
    is_trimmed.then(|| sensitive(bytes))?
}

fn parse_header(name: &str) -> Result<HeaderName, Error> {
    let header = HeaderName::try_from(name).map_err(|error| {
        let message = format!("`{}` is not a valid header name", name.escape_debug());
        Error::new(Kind::Config, message).with_source(error)
    })?;
    if header == COOKIE {
        let message = "the header `cookie` contains the session's cookies; \
                       put the CSRF token into another header";
        return Err(Error::new(Kind::Config, message));
    }
    Ok(header)
}

fn no_token(pointer: &str, why: &str) -> Error {
    let message = format!(
        "the login's response contains no CSRF token at `{}`, because the response {why}; \
         check the pointer of `Session::csrf_field`",
        pointer.escape_debug()
    );
    Error::new(Kind::Reply, message)
}
