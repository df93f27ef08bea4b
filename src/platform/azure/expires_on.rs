//! `expires_on`: when a managed identity's token expires.

use std::time::{Duration, SystemTime};

use time::PrimitiveDateTime;
use time::format_description::parse_borrowed;

use crate::error::{Error, Kind};
use crate::http_client::body_value::BodyValue;
use crate::http_client::bounded_response::EndpointResponse;
use crate::http_client::response_fields::ResponseFields;
use crate::http_client::token_response::server_time;
use crate::platform::timestamp;

/// The date formats of App Service's protocol of 2017, on Linux and on Windows.
const DATES: [&str; 2] = [
    "[month padding:none]/[day padding:none]/[year] [hour padding:none]:[minute]:[second] +00:00",
    "[month padding:none]/[day padding:none]/[year] \
     [hour padding:none repr:12]:[minute]:[second] [period] +00:00",
];

/// Returns how long the token is valid after the response, or `None` if the field is missing. Uses
/// the server's clock if the response has a `Date`.
///
/// `expires_in` isn't enough, because App Service doesn't send this field. The other services count
/// this field from the time of issuance, which may be hours ago.
pub(crate) fn left(
    response: &EndpointResponse,
    fields: &ResponseFields,
) -> Result<Option<Duration>, Error> {
    let found = fields.body.at("/expires_on");
    let Some(value) = found.last().filter(|it| !matches!(it, BodyValue::Null)) else {
        return Ok(None);
    };
    let Some(end) = timestamp::parse(value).or_else(|| date(value.text()?)) else {
        let message = format!(
            "{}'s reply has an `expires_on` that is neither a number of seconds nor a date",
            response.endpoint
        );
        return Err(Error::new(Kind::Reply, message));
    };
    let now = server_time(&response.headers).unwrap_or(response.started);
    Ok(Some(end.duration_since(now).unwrap_or_default()))
}

fn date(text: &str) -> Option<SystemTime> {
    let mut dates = DATES.iter().filter_map(|format| {
        let format = parse_borrowed::<2>(format).ok()?;
        PrimitiveDateTime::parse(text.trim(), &format).ok()
    });
    dates.next().map(|date| date.assume_utc().into())
}
