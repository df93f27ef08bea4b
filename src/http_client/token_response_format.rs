//! The format of token responses: the places of the fields, and the signs of an error.

use http::{HeaderMap, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::body_value::{BodyValue, Malformed, parse_form, parse_json};
use super::huge_number;
use super::invalid_text;
use super::json_pointer::pointer_setters;
use super::refresh_token_search;
use super::response_fields::{FieldValue, ResponseFields, is_registered};
use crate::error::{Error, Kind};
use crate::token::extra_fields::ExtraFields;

/// The format of a server's token responses, for servers that don't follow RFC 6749 §5.
///
/// By default, a response is a JSON object with the fields of RFC 6749 §5.1 and §5.2. Each setter
/// describes one difference. Pass the format to
/// [`Client::response_format`](crate::oauth2::Client::response_format), which applies it to every
/// grant of the client, or to
/// [`JsonLogin::response_format`](crate::login::JsonLogin::response_format).
///
/// | server | differences | settings |
/// | --- | --- | --- |
/// | GitHub | refusals with a 200; scopes with commas; a form unless the client asks for JSON, as this client does | [`login_required_code`](Self::login_required_code), [`comma_separated_scope`](Self::comma_separated_scope); for a form [`form_encoded`](Self::form_encoded) |
/// | Slack | `"ok":false` with a 200; its own token types; scopes with commas; the user token is in `authed_user` | [`success_value`](Self::success_value), [`accept_token_type`](Self::accept_token_type), `login_required_code`, `comma_separated_scope`; for a user token [`access_token_field`](Self::access_token_field), … |
/// | Supabase | `error_code` and `msg` | [`error_code_field`](Self::error_code_field), [`error_description_field`](Self::error_description_field), `login_required_code` |
///
/// Fields are JSON pointers (RFC 6901): `/data/token` is the field `token` of the object `data`. In
/// a form, `/token` is the parameter `token`. In every format, a new refresh token is saved even if
/// the rest of its response is unusable. [`Token::extra`](crate::Token::extra) returns the fields
/// for which a token has no method.
///
/// # GitHub
///
/// ```
/// use tower_auth::oauth2::{Client, RefreshToken, TokenResponseFormat};
///
/// # fn example(id: String, secret: String, token: String) -> Result<(), tower_auth::Error> {
/// let format = TokenResponseFormat::new()
///     .comma_separated_scope()
///     .login_required_code("bad_refresh_token");
/// let url = "https://github.com/login/oauth/access_token";
/// let client = Client::new(url, id, secret)?.response_format(format);
/// let source = RefreshToken::new(client, token);
/// # Ok(()) }
/// ```
///
/// # Slack
///
/// ```
/// use tower_auth::oauth2::{Client, RefreshToken, TokenResponseFormat};
///
/// # fn example(id: String, secret: String, token: String) -> Result<(), tower_auth::Error> {
/// let format = TokenResponseFormat::new()
///     .success_value("/ok", true)?
///     .accept_token_type("bot")?
///     .comma_separated_scope()
///     .login_required_code("invalid_refresh_token");
/// let client = Client::new("https://slack.com/api/oauth.v2.access", id, secret)?
///     .response_format(format);
/// let source = RefreshToken::new(client, token);
/// # Ok(()) }
/// ```
///
/// After a login, Slack returns the user token in `authed_user`. After a refresh, Slack returns the
/// user token at the top level. So the source that a login returns needs another format:
///
/// ```
/// use tower_auth::oauth2::{RefreshToken, TokenResponseFormat};
///
/// # fn example(login: RefreshToken) -> Result<(), tower_auth::Error> {
/// let refresh = TokenResponseFormat::new()
///     .success_value("/ok", true)?
///     .accept_token_type("user")?
///     .comma_separated_scope()
///     .login_required_code("invalid_refresh_token");
/// // The format of the client that logs the user in.
/// let login_format = refresh
///     .clone()
///     .access_token_field("/authed_user/access_token")?
///     .refresh_token_field("/authed_user/refresh_token")?
///     .expires_in_field("/authed_user/expires_in")?
///     .token_type_field("/authed_user/token_type")?
///     .scope_field("/authed_user/scope")?;
/// // `login` is the source that the login returned.
/// let source = login.response_format(refresh);
/// # Ok(()) }
/// ```
///
/// # Supabase
///
/// ```
/// use tower_auth::SecretSource;
/// use tower_auth::login::JsonLogin;
/// use tower_auth::oauth2::TokenResponseFormat;
///
/// # fn example(key: String) -> Result<(), tower_auth::Error> {
/// let format = TokenResponseFormat::new()
///     .error_code_field("/error_code")?
///     .error_description_field("/msg")?
///     .login_required_code("refresh_token_not_found")
///     .login_required_code("refresh_token_already_used")
///     .login_required_code("session_expired");
/// let url = format!("https://acme.supabase.co/auth/v1/token?apikey={key}&grant_type=");
/// let password = SecretSource::file("/run/secrets/password");
/// let login = JsonLogin::new(format!("{url}password"), "me@example.com", password)?
///     .refresh_at(format!("{url}refresh_token"))?
///     .response_format(format);
/// # Ok(()) }
/// ```
///
/// # A server that puts its tokens into an object
///
/// ```
/// use tower_auth::oauth2::TokenResponseFormat;
///
/// let format = TokenResponseFormat::new()
///     .access_token_field("/data/access_token")?
///     .refresh_token_field("/data/refresh_token")?
///     .id_token_field("/data/id_token")?
///     .expires_in_field("/data/expires_in")?;
/// # Ok::<(), tower_auth::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TokenResponseFormat {
    access_token: String,
    token_type: String,
    expires_in: String,
    scope: String,
    refresh_token: String,
    id_token: String,
    error_code: String,
    error_description: String,
    is_form: bool,
    has_comma_separated_scope: bool,
    /// The token types to accept besides `Bearer`.
    token_types: Vec<String>,
    /// The pointer to a field, and the field's value in a success.
    success: Option<(String, Value)>,
    login_required_codes: Vec<String>,
}

const ERROR_CODE: &str = "/error";

/// The media type of a form.
const FORM: &str = "application/x-www-form-urlencoded";

impl TokenResponseFormat {
    /// Creates the format of RFC 6749 §5.
    pub fn new() -> Self {
        Self {
            access_token: String::from("/access_token"),
            token_type: String::from("/token_type"),
            expires_in: String::from("/expires_in"),
            scope: String::from("/scope"),
            refresh_token: String::from("/refresh_token"),
            id_token: String::from("/id_token"),
            error_code: String::from(ERROR_CODE),
            error_description: String::from("/error_description"),
            is_form: false,
            has_comma_separated_scope: false,
            token_types: Vec::new(),
            success: None,
            login_required_codes: Vec::new(),
        }
    }

    pointer_setters! {
        /// Sets the field for the access token. Default: `/access_token`.
        access_token_field => access_token;
        /// Sets the field for the refresh token. Default: `/refresh_token`.
        refresh_token_field => refresh_token;
        /// Sets the field for the ID token. Default: `/id_token`.
        id_token_field => id_token;
        /// Sets the field for the lifetime in seconds. Default: `/expires_in`.
        expires_in_field => expires_in;
        /// Sets the field for the granted scope. Default: `/scope`.
        scope_field => scope;
        /// Sets the field for the token type. Default: `/token_type`.
        token_type_field => token_type;
        /// Sets the field for the code of an error. Default: `/error`. A code is a string, or a
        /// number other than 0. [`Error::code`](crate::Error::code) returns the code. Without a code
        /// in this field, a code of RFC 6749 in `/error` counts.
        error_code_field => error_code;
        /// Sets the field for the description of an error. Default: `/error_description`.
        /// [`Error::description`](crate::Error::description) returns the description.
        error_description_field => error_description;
    }

    /// Reads responses as forms (`application/x-www-form-urlencoded`), and asks for a form with
    /// `Accept`. A response whose `Content-Type` is JSON is still read as JSON. So is JSON whose
    /// `Content-Type` is no form.
    pub fn form_encoded(mut self) -> Self {
        self.is_form = true;
        self
    }

    /// Reads a scope whose names are separated by commas.
    pub fn comma_separated_scope(mut self) -> Self {
        self.has_comma_separated_scope = true;
        self
    }

    /// Accepts a token type besides `Bearer`, in upper or lower case. The API still gets the token
    /// as `Bearer`. Call this method again to accept more types.
    ///
    /// This setting has no effect on a client with a DPoP key, which accepts only tokens that are
    /// bound to the key.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the type is empty, or is `DPoP` or `N_A`. A `DPoP` token
    /// requires a key, and `N_A` means that the token is no access token.
    pub fn accept_token_type(mut self, token_type: impl Into<String>) -> Result<Self, Error> {
        let token_type = token_type.into();
        let why = match token_type.to_ascii_lowercase().as_str() {
            "" => "it is empty",
            "dpop" => "such a token is useless without its key; use `Client::dpop`",
            "n_a" => "it means no access token; use `TokenExchange::requested_token_type`",
            _ => {
                self.token_types.push(token_type);
                return Ok(self);
            }
        };
        let message = format!(
            "could not accept the token type `{}`; {why}",
            token_type.escape_debug()
        );
        Err(Error::new(Kind::Config, message))
    }

    /// Sets the value that a field has in a success, such as `true` for `/ok` or `0` for
    /// `/errcode`. A response with another value is a refusal, even if its status is 200. A missing
    /// or null field has no effect.
    ///
    /// The comparison ignores the type and the case of the value: `"True"` equals `true`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if `pointer` isn't a JSON pointer (RFC 6901) to a field, or
    /// if the value is null, an array or an object.
    pub fn success_value(
        mut self,
        pointer: impl Into<String>,
        value: impl Into<Value>,
    ) -> Result<Self, Error> {
        let (pointer, value) = (super::json_pointer::checked(pointer.into())?, value.into());
        if scalar(&value).is_none() {
            let message = "a success can't have null, an array or an object as its value; use a \
                           string, a number or a boolean";
            return Err(Error::new(Kind::Config, message));
        }
        self.success = Some((pointer, value));
        Ok(self)
    }

    /// Adds an error code that means that the refresh token is invalid, as `invalid_grant` does.
    ///
    /// An error with this code is an [invalid grant](Error::is_invalid_grant), whatever the status
    /// of the response. A `RefreshToken` then [requires a login](Error::is_login_required), and
    /// doesn't send the refresh token again. A `JsonLogin` logs in again.
    pub fn login_required_code(mut self, code: impl Into<String>) -> Self {
        self.login_required_codes.push(code.into());
        self
    }

    /// Returns the pointer to the access token, if it isn't the default.
    pub(crate) fn access_token_elsewhere(&self) -> Option<&str> {
        let pointer = self.access_token.as_str();
        Some(pointer).filter(|pointer| *pointer != "/access_token")
    }

    /// Returns the access token's field for messages: the standard name, or the pointer.
    pub(crate) fn access_token_name(&self) -> &str {
        self.access_token_elsewhere().unwrap_or("access_token")
    }

    pub(crate) fn is_form_encoded(&self) -> bool {
        self.is_form
    }

    pub(crate) fn accept(&self) -> HeaderValue {
        HeaderValue::from_static(match self.is_form {
            true => "application/x-www-form-urlencoded, application/json;q=0.5",
            false => "application/json",
        })
    }

    pub(crate) fn accepts_token_type(&self, sent: &str) -> bool {
        let mut types = self.token_types.iter();
        types.any(|accepted| accepted.eq_ignore_ascii_case(sent))
    }

    pub(crate) fn requires_login(&self, code: &str) -> bool {
        self.login_required_codes.iter().any(|known| known == code)
    }

    /// Returns the scope with spaces between the names.
    pub(crate) fn scope_of(&self, sent: &str) -> String {
        match self.has_comma_separated_scope {
            true => sent.replace(',', " "),
            false => sent.to_owned(),
        }
    }

    /// Reads the fields of a body. If the body has an error, the fields are those before the error.
    pub(crate) fn read(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        is_complete: bool,
    ) -> (ResponseFields, Option<Malformed>) {
        if !self.is_form || is_json(headers) {
            return self.read_json(body);
        }
        let parsed = parse_form(body, is_complete);
        if parsed.malformed == Some(Malformed::NotAForm) && media_type(headers) != FORM {
            let (fields, malformed) = self.read_json(body);
            if malformed.is_none() {
                return (fields, None);
            }
        }
        let mut fields = self.fields(parsed.value);
        // A parameter without a value counts as omitted (RFC 6749 §3.2).
        for field in [&mut fields.token_type, &mut fields.expires_in] {
            if field.text() == Some("") {
                *field = FieldValue::Absent;
            }
        }
        (fields, parsed.malformed)
    }

    /// Reads JSON. Invalid text is replaced, except in a token. Numbers that are too large are also
    /// replaced.
    fn read_json(&self, body: &[u8]) -> (ResponseFields, Option<Malformed>) {
        let parsed = parse_json(body);
        if parsed.malformed == Some(Malformed::NotJson) {
            let mut replaced = invalid_text::replace(body);
            huge_number::replace(&mut replaced);
            let replaced = parse_json(&replaced);
            let fields = self.fields(replaced.value);
            let tokens = [
                &fields.access_token,
                &fields.refresh_token,
                &fields.id_token,
            ];
            let is_valid = |token: &FieldValue| {
                let text = token.text().unwrap_or_default();
                !text.contains(invalid_text::REPLACEMENT)
            };
            if replaced.malformed.is_none() && tokens.into_iter().all(is_valid) {
                return (fields, None);
            }
        }
        (self.fields(parsed.value), parsed.malformed)
    }

    fn fields(&self, body: BodyValue) -> ResponseFields {
        let mut has_duplicate = false;
        let mut at = |pointer: &str| {
            let values = body.at(pointer);
            has_duplicate |= values.len() > 1;
            values
                .last()
                .map_or(FieldValue::Absent, |&value| value.into())
        };
        let mut fields = ResponseFields {
            access_token: at(&self.access_token),
            token_type: at(&self.token_type),
            expires_in: at(&self.expires_in),
            scope: at(&self.scope),
            id_token: at(&self.id_token),
            issued_token_type: at("/issued_token_type"),
            error: at(&self.error_code),
            error_description: at(&self.error_description),
            refresh_token: at(&self.refresh_token),
            ..ResponseFields::default()
        };
        // Uses the last refresh token with text. A repeated field without text must not hide a new
        // refresh token.
        let is_text = |value: &&&BodyValue| value.text().is_some_and(|text| !text.is_empty());
        if let Some(text) = body.at(&self.refresh_token).iter().rev().find(is_text) {
            fields.refresh_token = (*text).into();
        }
        // A duplicate `refresh_in` is no error, because this field is only a hint.
        let refresh_in = body.at("/refresh_in");
        fields.refresh_in = refresh_in
            .last()
            .map_or(FieldValue::Absent, |&value| value.into());
        // Some servers send a number as the code.
        if fields.error.is_error()
            && let Some(BodyValue::Number(code)) = body.at(&self.error_code).last()
            && let code = code.to_string()
            && (self.error_code != ERROR_CODE || self.requires_login(&code))
        {
            fields.error = FieldValue::Text(SecretString::from(code));
        }
        // Some servers also send the codes of RFC 6749 §5.2 in their own field.
        if !fields.error.is_error()
            && let Some(standard) = body.at(ERROR_CODE).last()
            && standard.text().is_some_and(is_registered)
        {
            fields.error = (*standard).into();
        }
        let is_success = self.success.as_ref().and_then(|(pointer, expected)| {
            let expected = scalar(expected).unwrap_or_default();
            let is_success = |value: &BodyValue| {
                let found = value.scalar();
                found.is_some_and(|found| found.trim().eq_ignore_ascii_case(&expected))
            };
            let values = body.at(pointer).into_iter();
            let values = values.filter(|value| !matches!(value, BodyValue::Null));
            // If the field is repeated, one failure is enough.
            values.map(is_success).min()
        });
        let success_is_code = self
            .success
            .as_ref()
            .is_some_and(|(pointer, _)| *pointer == self.error_code);
        fields.has_duplicate = has_duplicate;
        fields.says_failure = is_success == Some(false);
        fields.reports_error = fields.says_failure
            || (fields.error.is_error() && !(success_is_code && is_success == Some(true)));
        fields.body = body;
        fields
    }

    /// Returns the refresh token of a response. If the body can't be parsed, also searches the raw
    /// body.
    pub(crate) fn refresh_token(
        &self,
        fields: &ResponseFields,
        malformed: Option<&Malformed>,
        body: &[u8],
        is_complete: bool,
    ) -> Option<SecretString> {
        let read = fields
            .refresh_token
            .text()
            .filter(|token| !token.is_empty());
        if let Some(token) = read {
            return Some(SecretString::from(token));
        }
        match malformed {
            // The fields contain everything that arrived.
            None | Some(Malformed::Empty | Malformed::CutOff) => None,
            Some(Malformed::NotJson | Malformed::NotAnObject | Malformed::NotAForm) => {
                refresh_token_search::find(body, &self.refresh_token, is_complete)
            }
            Some(Malformed::Undecoded(_)) => {
                refresh_token_search::find(body, &self.refresh_token, false)
            }
        }
    }

    /// Returns the fields for which a token has no method of its own. No field contains the access
    /// token or the refresh token.
    pub(crate) fn extra(&self, fields: &ResponseFields) -> ExtraFields {
        let tokens = [&fields.access_token, &fields.refresh_token];
        let tokens = tokens.map(|token| token.text().unwrap_or_default());
        let is_left_out = |at: &str, value: &BodyValue| {
            at == self.access_token
                || at == self.refresh_token
                || at == self.id_token
                || (at == self.scope && value.text().is_some())
                || value
                    .text()
                    .is_some_and(|text| !text.is_empty() && tokens.contains(&text))
        };
        let mut extra = ExtraFields::default();
        for (name, value) in fields.body.members_as_json(&is_left_out) {
            extra.insert(name, value);
        }
        extra
    }

    /// Returns the names and the texts of the fields that explain a refusal, except for its code
    /// and its description.
    pub(crate) fn remarks(&self, fields: &ResponseFields) -> Vec<(String, SecretString)> {
        let code = fields.error.text().map(|_| self.error_code.as_str());
        let description = fields.error_description.text();
        let description = description.map(|_| self.error_description.as_str());
        let shown = [code, description];
        let mut remarks = Vec::new();
        add_remarks(&fields.body, "", &shown, 0, &mut remarks);
        // Some servers send the same text in two fields.
        let known = [fields.error.text(), fields.error_description.text()];
        let mut seen: Vec<SecretString> = Vec::new();
        remarks.retain(|(_, text)| {
            let is_same = |other: &SecretString| other.expose_secret() == text.expose_secret();
            let is_new = !known.contains(&Some(text.expose_secret())) && !seen.iter().any(is_same);
            seen.push(text.clone());
            is_new
        });
        remarks
    }
}

/// The format of RFC 6749 §5.
impl Default for TokenResponseFormat {
    fn default() -> Self {
        Self::new()
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = media_type(headers);
    kind.ends_with("/json") || kind.ends_with("+json")
}

/// Returns the media type in lower case, without parameters.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let full = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = full.split(';').next().unwrap_or_default().trim();
    kind.to_ascii_lowercase()
}

/// Returns the text of a string, a number or a boolean.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The names of fields in which servers explain an error, in lower case and without `_` and `-`.
/// Errors show no other field, because other fields may contain a secret.
const REMARKS: &[&str] = &[
    "msg",
    "message",
    "errormsg",
    "errormessage",
    "errmsg",
    "errordescription",
    "errorsummary",
    "description",
    "reason",
    "title",
    "detail",
    "details",
    "hint",
    "errorhint",
    "explanation",
    "error",
    "errors",
    "errorcode",
    "errorcodes",
    "errcode",
    "code",
    "suberror",
    "errorsubtype",
    "subcode",
    "errorsubcode",
    "type",
    "status",
    "fault",
    "faultstring",
    "errorcauses",
    "nonfielderrors",
    "needed",
];

/// The maximum number of remarks in an error, and their maximum depth in the body.
const MAX_REMARKS: usize = 8;
const DEEPEST_REMARK: usize = 4;

/// Adds the texts of those members whose names are in [`REMARKS`]. Also searches the objects and
/// the arrays with such names.
fn add_remarks(
    value: &BodyValue,
    at: &str,
    shown: &[Option<&str>],
    depth: usize,
    remarks: &mut Vec<(String, SecretString)>,
) {
    let BodyValue::Object(members) = value else {
        return;
    };
    for (name, value) in members {
        let at = super::body_value::inside(at, name);
        if is_remark(name) && !shown.contains(&Some(&at)) {
            add_remark(name, value, &at, shown, depth, remarks);
        }
    }
}

fn add_remark(
    name: &str,
    value: &BodyValue,
    at: &str,
    shown: &[Option<&str>],
    depth: usize,
    remarks: &mut Vec<(String, SecretString)>,
) {
    if depth > DEEPEST_REMARK || remarks.len() >= MAX_REMARKS {
        return;
    }
    match value {
        BodyValue::Text(_) | BodyValue::Number(_) => {
            let text = value.scalar().unwrap_or_default();
            if !text.trim().is_empty() {
                remarks.push((name.to_owned(), SecretString::from(text.into_owned())));
            }
        }
        BodyValue::Array(values) => {
            for value in values {
                add_remark(name, value, at, shown, depth + 1, remarks);
            }
        }
        // A member of `errors` may be a rejected parameter with a list of texts.
        BodyValue::Object(members) if is_list_of_errors(name) => {
            for (name, value) in members {
                let at = super::body_value::inside(at, name);
                if is_remark(name) || matches!(value, BodyValue::Array(_)) {
                    add_remark(name, value, &at, shown, depth + 1, remarks);
                }
            }
        }
        BodyValue::Object(_) => add_remarks(value, at, shown, depth + 1, remarks),
        BodyValue::Null | BodyValue::Bool(_) => {}
    }
}

fn is_remark(name: &str) -> bool {
    let name = name.replace(['_', '-'], "").to_ascii_lowercase();
    REMARKS.contains(&name.as_str())
}

fn is_list_of_errors(name: &str) -> bool {
    name.eq_ignore_ascii_case("errors")
}
