//! Clocks that differ between this machine and GitHub.

use tower_auth::{Reason, TokenSource};
use tower_auth_test::ScriptedResponse;

use super::github;
use crate::support::github_server::INSTALLATION;
use crate::support::token_server::expiry;

#[tokio::test]
async fn a_clock_that_is_wrong_by_less_than_a_minute_is_not_noticed() {
    for ahead in [-55, -30, 0, 30, 500] {
        let (github, app) = github();
        github.set_clock(ahead);
        let source = app.installation(INSTALLATION);
        let token = source.fetch(Reason::First).await.unwrap();
        assert_eq!(github.asked().len(), 1, "{ahead}");
        // GitHub's clock says when the token expires.
        assert_eq!(expiry(&token), "In(3600s)");
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_costs_one_more_request() {
    for ahead in [-86_400, -3_600, -120, 700, 3_600, 86_400] {
        let (github, app) = github();
        github.set_clock(ahead);
        let source = app.installation_of_organization("octo-org").unwrap();
        let token = source.fetch(Reason::First).await.unwrap();
        assert_eq!(github.asked().len(), 4, "{ahead}");
        assert_eq!(expiry(&token), "In(3600s)");
    }
}

#[tokio::test]
async fn a_refused_jwt_is_sent_once_if_the_clocks_agree_or_github_states_no_time() {
    let (github, app) = github();
    let source = app.installation(INSTALLATION);
    let refusal = || ScriptedResponse::json(401, r#"{"message":"Bad credentials"}"#);
    let now = httpdate::fmt_http_date(std::time::SystemTime::now());
    for refusal in [refusal(), refusal().header("date", now)] {
        let before = github.asked().len();
        github.server.respond_next(refusal);
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(error.is_permanent(), "{error:?}");
        assert_eq!(github.asked().len(), before + 1);
    }
}

#[tokio::test]
async fn a_jwt_that_is_refused_at_githubs_time_too_is_not_sent_again() {
    let (github, app) = github();
    github.set_clock(86_400);
    let old = "Mon, 11 Jul 2016 22:14:10 GMT";
    let refusal = ScriptedResponse::json(401, r#"{"message":"no"}"#).header("date", old);
    github.server.respond_always(refusal);
    let source = app.installation(INSTALLATION);
    assert!(source.fetch(Reason::First).await.is_err());
    assert_eq!(github.asked().len(), 2);
}
