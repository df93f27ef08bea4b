//! A response of the device authorization endpoint, whose text is shown to a person.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use tower_auth::oauth2::{Client, DeviceAuthorization};
use tower_auth_fuzz::{assert_harmless, is_harmful, response, run, secrets_in, server};
use url::Url;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(response) = response(data) else {
        return Corpus::Reject;
    };
    let body = response.body().clone();
    let client = Client::public("https://id.example.com/token", "the-app").unwrap();
    let client = client.transport(server([response]));
    let login = DeviceAuthorization::new(client, "https://id.example.com/device").unwrap();
    let prompt = match run(login.begin()) {
        Ok(prompt) => prompt,
        Err(error) => {
            assert_harmless(&error, &secrets_in(&body, &["device_code", "user_code"]));
            return Corpus::Keep;
        }
    };
    assert!(!prompt.user_code().is_empty() && !prompt.user_code().contains(is_harmful));
    assert!(!prompt.expires_in().is_zero());
    for address in [
        Some(prompt.verification_uri()),
        prompt.verification_uri_complete(),
    ] {
        let Some(address) = address else { continue };
        assert!(
            address.bytes().all(|byte| byte.is_ascii_graphic()),
            "{address}"
        );
        let url = Url::parse(address).unwrap();
        let host = url.host_str().unwrap_or_default();
        let is_loopback =
            host == "[::1]" || host.starts_with("127.") || host.ends_with("localhost");
        let is_loopback = is_loopback || host.ends_with("localhost.");
        assert!(
            url.scheme() == "https" || url.scheme() == "http" && is_loopback,
            "{address}"
        );
        assert!(
            url.username().is_empty() && url.password().is_none(),
            "{address}"
        );
    }
    let shown = format!("{prompt:?}");
    for code in secrets_in(&body, &["device_code"]) {
        assert!(
            !shown.contains(&code) || prompt.verification_uri().contains(&code),
            "{shown}"
        );
    }
    Corpus::Keep
});
