//! An API's own logins.

use tower_auth::login::{JsonLogin, Session};
use tower_auth_freed::unwatched;

use crate::planted::{secret, text};
use crate::watched::drive;

const URL: &str = "https://api.example.com/login";

#[test]
fn a_login_in_json_leaves_no_password_and_no_field() {
    drive(async |server| {
        let login = JsonLogin::new(URL, "me", secret("password"))?.transport(server);
        let login = login.refresh_at("https://api.example.com/refresh")?;
        login.field("/device/pin", unwatched(|| text("pin")))
    });
}

/// The request can't be built, because one field is inside another.
#[test]
fn a_login_that_cannot_be_built_leaves_no_password_and_no_field() {
    for pointer in ["/password/pin", "/a/b", "/password"] {
        drive(async |server| {
            let login = JsonLogin::new(URL, "me", secret("password"))?.transport(server);
            let login = login.field("/a", unwatched(|| text("a")))?;
            login.field(pointer, unwatched(|| text("pin")))
        });
    }
}

#[test]
fn a_session_leaves_no_password_and_no_cookie() {
    drive(async |server| {
        let session = Session::new(URL, "me", secret("password"))?.transport(server);
        let session = session.log_out_at("https://api.example.com/logout")?;
        let session = session.csrf_cookie("csrf", "x-csrf")?;
        session.field("/pin", unwatched(|| text("pin")))
    });
    drive(async |server| {
        let session = Session::new(URL, "me", secret("password"))?.transport(server);
        session
            .session_cookie("sid")?
            .csrf_field("/note/deep/0", "x-csrf")
    });
}
