//! How long a cookie lasts by its `Max-Age` or `Expires`, which are read as in browsers.

use crate::support::session_site::{Site, setting};
use crate::support::token_server::expiry;

use super::fetch;

/// Returns the expiry of a session whose cookie has these attributes, or `None` if the cookie has
/// already expired. The server's clock shows Sun, 06 Nov 2044 08:49:37 GMT.
async fn lifetime(attributes: &str) -> Option<String> {
    let line = format!("sid=1; {attributes}");
    let site =
        Site::new(move |_| setting(200, &[&line]).header("date", "Sun, 06 Nov 2044 08:49:37 GMT"));
    match fetch(&site.session()).await {
        Ok(token) => Some(expiry(&token)),
        Err(error) => {
            assert!(error.to_string().contains("has expired"), "{error}");
            None
        }
    }
}

#[tokio::test]
async fn a_date_that_browsers_read_ends_the_session() {
    for date in [
        "Sun, 06 Nov 2044 08:50:37 GMT",
        "Sun, 06-Nov-2044 08:50:37 GMT",
        "Sunday, 06-Nov-44 08:50:37 GMT",
        "Sun Nov  6 08:50:37 2044",
        "Sun, 06 Nov 2044 08:50:37",
        "Sun, 6 Nov 2044 8:50:37 GMT",
        "Sun, 6-Nov-44 8:50:37",
        "Wed, 06 Nov 2044 08:50:37 GMT",
        "06 Nov 2044 08:50:37 UTC",
        "6 november 44 08:50:37.999",
        "2044 NOV 6th 08:50:37",
        "08:50:37 Nov 6 2044",
        "Sun,06/Nov/2044 08:50:37 +0200",
        "Sun Nov 06 2044 08:50:37 GMT+0000 (Coordinated Universal Time)",
        "\"Sun, 06 Nov 2044 08:50:37 GMT\"",
        "  Sun, 06 Nov 2044 08:50:37 GMT  ",
        "S\u{f6}n, 06 Nov 2044 08:50:37\u{e9} GMT",
    ] {
        for name in ["Expires=", "expires = ", "EXPIRES="] {
            let attributes = format!("Path=/; {name}{date}; Secure");
            assert_eq!(lifetime(&attributes).await.unwrap(), "In(60s)", "{date}");
        }
    }
}

#[tokio::test]
async fn a_date_that_does_not_exist_ends_no_session() {
    for date in [
        "",
        "0",
        "60",
        "soon",
        "Session",
        "2044-11-06T08:50:37Z",
        "Sun, 06 Nov 2044",
        "Sun, 06 Nov 2044 08:50 GMT",
        "Sun, 06 Nov 2044 :50:37 GMT",
        "Sun, 06 Nov 2044 08h:50:37 GMT",
        "Sun, 06 Nov 2044 08:50m:37 GMT",
        "Sun, 06 Nov 2044 008:50:37 GMT",
        "Sun, 06 Nov 08:50:37 GMT",
        "Sun, 06 2044 08:50:37 GMT",
        "Sun, Nov 2044 08:50:37 GMT",
        "Sun, 06 Nov 20444 08:50:37 GMT",
        "Sun, 006 Nov 2044 08:50:37 GMT",
        "Sun, 00 Nov 2044 08:50:37 GMT",
        "Sun, 31 Nov 2044 08:50:37 GMT",
        "Sun, 30 Feb 2044 08:50:37 GMT",
        "Sun, 29 Feb 2045 08:50:37 GMT",
        "Sun, 32 Nov 2044 08:50:37 GMT",
        "Sun, 06 No\u{f6} 2044 08:50:37 GMT",
        "Sun, 06 Nov 2044 24:50:37 GMT",
        "Sun, 06 Nov 2044 08:60:37 GMT",
        "Sun, 06 Nov 2044 08:50:60 GMT",
        "Mon, 01 Jan 1600 00:00:00 GMT",
    ] {
        let end = lifetime(&format!("Expires={date}")).await;
        assert_eq!(end.as_deref(), Some("Never"), "{date}");
    }
    // A leap day exists.
    let end = lifetime("Expires=29 Feb 2048 00:00:00").await;
    assert_eq!(end.as_deref(), Some("In(104512223s)"));
}

#[tokio::test]
async fn a_date_in_the_past_deletes_the_cookie() {
    for date in [
        "Sun, 06 Nov 2044 08:49:37 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Thu, 1-Jan-70 0:0:0",
        "Wed, 31 Dec 69 23:59:59 GMT; Expires=01 Jan 70 00:00:00",
        "Fri, 29 Feb 1952 00:00:00",
        "Mon, 01 Jan 1601 00:00:00 GMT",
    ] {
        assert_eq!(lifetime(&format!("Expires={date}")).await, None, "{date}");
    }
}

#[tokio::test]
async fn of_two_digits_of_a_year_those_from_70_on_are_before_2000() {
    assert!(lifetime("Expires=06 Nov 69 08:50:37").await.is_some());
    assert_eq!(lifetime("Expires=06 Nov 70 08:50:37").await, None);
}

#[tokio::test]
async fn only_a_number_of_seconds_is_a_max_age() {
    for (attributes, end) in [
        ("Max-Age=60", Some("In(60s)")),
        ("max-age = 60 ", Some("In(60s)")),
        ("Max-Age=060", Some("In(60s)")),
        ("Max-Age=99999999999999999999", Some("In(315360000s)")),
        ("Max-Age=0", None),
        ("Max-Age=-1", None),
        ("Max-Age=-99999999999999999999", None),
        ("Max-Age", Some("Never")),
        ("Max-Age=", Some("Never")),
        ("Max-Age=-", Some("Never")),
        ("Max-Age=+60", Some("Never")),
        ("Max-Age=60s", Some("Never")),
        ("Max-Age=6.5", Some("Never")),
        ("Max-Age=\"60\"", Some("Never")),
    ] {
        assert_eq!(lifetime(attributes).await.as_deref(), end, "{attributes}");
    }
}

#[tokio::test]
async fn the_last_valid_value_counts_and_max_age_before_expires() {
    let early = "Expires=Sun, 06 Nov 2044 08:50:37 GMT";
    let late = "Expires=Sun, 06 Nov 2044 08:59:37 GMT";
    for (attributes, end) in [
        (format!("{late}; {early}"), "In(60s)"),
        (format!("{early}; Expires=soon"), "In(60s)"),
        (format!("{late}; Max-Age=60"), "In(60s)"),
        (format!("Max-Age=60; {late}"), "In(60s)"),
        (format!("Max-Age=; {early}"), "In(60s)"),
        (String::from("Max-Age=600; Max-Age=60"), "In(60s)"),
        (String::from("Max-Age=60; Max-Age=soon"), "In(60s)"),
    ] {
        assert_eq!(lifetime(&attributes).await.unwrap(), end, "{attributes}");
    }
}
