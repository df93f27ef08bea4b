//! Any wait that a server asks for.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{any_header, any_status, outcome};
use crate::support::token_server::TokenServer;

/// A wait that a server asks for.
#[derive(Clone, Debug)]
enum Asked {
    Seconds(String),
    /// A date this many seconds from now, in one of the three date formats (RFC 9110 §5.6.7).
    Date {
        from_now: i64,
        format: Format,
    },
    /// Any other value, or a damaged one of the kinds above.
    Other(Vec<u8>),
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Imf,
    Rfc850,
    Asctime,
}

impl Format {
    fn write(self, date: SystemTime) -> String {
        let imf = httpdate::fmt_http_date(date);
        let [day, date, month, year, time, zone] =
            imf.split(' ').collect::<Vec<_>>().try_into().unwrap();
        match self {
            Self::Imf => imf,
            Self::Rfc850 => {
                let days = ["Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur", "Sun"];
                let day = days
                    .into_iter()
                    .find(|it| it.starts_with(&day[..3]))
                    .unwrap();
                format!("{day}day, {date}-{month}-{} {time} {zone}", &year[2..])
            }
            Self::Asctime => {
                let date = date.trim_start_matches('0');
                format!("{} {month} {date:>2} {time} {year}", &day[..3])
            }
        }
    }
}

impl Asked {
    fn write(&self, now: SystemTime) -> Vec<u8> {
        match self {
            Self::Seconds(digits) => digits.clone().into(),
            Self::Date { from_now, format } => {
                let by = Duration::from_secs(from_now.unsigned_abs());
                let date = if *from_now < 0 { now - by } else { now + by };
                format.write(date).into()
            }
            Self::Other(bytes) => bytes.clone(),
        }
    }
}

/// Within thirty years of today, a two-digit year is unambiguous.
const THIRTY_YEARS: i64 = 30 * 365 * 24 * 60 * 60;

fn any_date() -> impl Strategy<Value = (i64, Format)> {
    let format = select(vec![Format::Imf, Format::Rfc850, Format::Asctime]);
    (
        prop_oneof![-9000..9000_i64, -THIRTY_YEARS..THIRTY_YEARS],
        format,
    )
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let damaged = (any_date(), any::<Index>(), 32..127_u8).prop_map(|(date, at, byte)| {
        let (from_now, format) = date;
        let mut bytes = Asked::Date { from_now, format }.write(SystemTime::now());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    prop_oneof![
        2 => "[0-9]{1,4}|[0-9]{5,40}".prop_map(Asked::Seconds),
        3 => any_date().prop_map(|(from_now, format)| Asked::Date { from_now, format }),
        1 => any_header().prop_map(Asked::Other),
        1 => "[+-][0-9]{1,30}|[0-9]{0,5}[.,][0-9]{0,5}|[0-9]{1,3}([ ,;]|0x|e)[0-9]{1,3}|-?(inf|nan)"
            .prop_map(|text| Asked::Other(text.into())),
        1 => damaged.prop_map(Asked::Other),
    ]
}

proptest! {
    #[test]
    fn a_wait_that_is_asked_for_is_kept_to_up_to_an_hour(status in any_status(), asked in any_asked()) {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        let before = SystemTime::now();
        let text = asked.write(before);
        let server = TokenServer::new(status, "{}").with_header("retry-after", &text);
        let error = outcome(&server).unwrap_err();
        let passed = before.elapsed().unwrap_or_default();
        let wait = error.retry_after();

        prop_assert!(wait.is_none_or(|wait| wait <= HOUR), "{:?}", wait);
        prop_assert!(wait.is_none() || error.is_denied(), "{:?}", error);
        if !(400..600).contains(&status) {
            return Ok(());
        }
        match asked {
            Asked::Seconds(digits) => {
                let seconds = digits.parse().unwrap_or(u64::MAX);
                prop_assert_eq!(wait, Some(Duration::from_secs(seconds).min(HOUR)));
            }
            Asked::Date { from_now, .. } => {
                let at_most = Duration::from_secs(from_now.try_into().unwrap_or(0));
                // A date has no fractions of a second, and some time has passed since the header
                // was written.
                let at_least = at_most.saturating_sub(Duration::from_secs(1) + passed);
                let wait = wait.unwrap();
                prop_assert!((at_least.min(HOUR)..=at_most).contains(&wait), "{:?}", wait);
            }
            Asked::Other(text) => {
                let is_other = !text.trim_ascii().iter().all(u8::is_ascii_digit)
                    && !text.windows(3).any(|part| part.iter().all(u8::is_ascii_alphabetic));
                prop_assert!(!is_other || wait.is_none(), "{:?}", wait);
            }
        }
    }
}
