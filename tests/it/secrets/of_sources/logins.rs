//! An API's own logins, and API keys.

use secrecy::SecretString;
use tower_auth::login::JsonLogin;
use tower_auth::{ApiKey, SecretSource};

use super::{SECRET, TOKEN, drive};

#[tokio::test(start_paused = true)]
async fn a_login_in_json_shows_no_password_and_no_field() {
    drive(async |_, echo| {
        let url = "https://api.example.com/login?key=planted-key";
        let login = JsonLogin::new(url, "me", SECRET)?.transport(echo);
        let login = login.refresh_at("https://api.example.com/refresh?key=planted-key")?;
        login.field("/device/pin", "planted \"pin\"")
    })
    .await;
}

#[cfg(feature = "cookies")]
#[tokio::test(start_paused = true)]
async fn a_session_shows_no_password_and_no_cookie() {
    use tower_auth::login::Session;

    drive(async |_, echo| {
        let url = "https://api.example.com/login?key=planted-key";
        let session = Session::new(url, "me", SECRET)?.transport(echo);
        let session = session.log_out_at("https://api.example.com/logout?key=planted-key")?;
        session.field("/pin", "planted \"pin\"")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_api_key_does_not_show() {
    use std::io::Write as _;

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"planted-in-a-file\n").unwrap();
    let path = file.path().to_owned();
    let sources: [&dyn Fn() -> SecretSource; 5] = [
        &|| SecretSource::from(TOKEN),
        &|| SecretSource::from("planted\nline"),
        &|| SecretSource::file(&path),
        &|| SecretSource::from_fn(|| async { Ok(SecretString::from(TOKEN)) }),
        &|| SecretSource::from_fn(|| async { Ok(SecretString::from("planted\0")) }),
    ];
    for source in sources {
        drive(async |finder, _| {
            finder.print(&source());
            finder.text(&source().to_string());
            Ok(source())
        })
        .await;
        drive(async |_, _| Ok(ApiKey::new(source()))).await;
        drive(async |_, _| ApiKey::new(source()).header("x-other-key")).await;
        drive(async |_, _| ApiKey::new(source()).query("key")).await;
    }
    drive(async |finder, _| {
        let (source, rotation) = ApiKey::rotating(TOKEN);
        rotation.offer("planted-next");
        finder.print(&rotation);
        Ok(source)
    })
    .await;
}
