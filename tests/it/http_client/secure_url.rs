//! Which URLs may get a secret, and which parts of a URL errors show.

use tower_auth::oauth2::{ClientCredentials, EndpointUrl};
use tower_auth::{Error, Origin, Reason, TokenSource};

use crate::support::token_server::{ID, SECRET, TokenServer, all_text_of};

fn at(url: &str) -> Result<ClientCredentials, Error> {
    ClientCredentials::new(url, ID, SECRET)
}

#[test]
fn the_address_is_https_or_loopback() {
    for url in [
        "https://id.example.com/token",
        "https://id.example.com:8443/token?api-version=1",
        "HTTPS://ID.EXAMPLE.COM/token",
        "http://localhost/token",
        "http://LOCALHOST:8080/token",
        "http://localhost./token",
        "http://id.localhost:8080/token",
        "http://127.0.0.1:8080/token",
        "http://127.255.0.3/token",
        "http://[::1]:8080/token",
    ] {
        assert!(at(url).is_ok(), "{url}: {:?}", at(url));
    }
}

#[test]
fn a_cleartext_address_is_refused_before_anything_is_sent() {
    for url in [
        "http://example.com/token",
        "http://10.0.0.1/token",
        "http://0.0.0.0/token",
        "http://localhost.evil.com/token",
        "http://127.0.0.1.nip.io/token",
        "http://127.0.0.1.localhost.evil/token",
        "http://notlocalhost/token",
        "http://.localhost/token",
        "http://[::2]/token",
        "http://[::ffff:10.0.0.1]/token",
        "http://128.0.0.1/token",
    ] {
        let error = at(url).map(|_| url).unwrap_err();
        assert!(error.is_config());
        assert!(error.to_string().contains("use https"), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_cleartext_address_can_be_allowed_by_name() {
    let server = TokenServer::issuing();
    let url = EndpointUrl::danger_allow_http("http://id.internal/token").unwrap();
    let source = ClientCredentials::new(url, ID, SECRET)
        .unwrap()
        .transport(server.transport());
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(server.request().uri(), "http://id.internal/token");
}

#[test]
fn an_address_that_is_none_is_refused_without_quoting_it() {
    for (url, what) in [
        ("https://me:hunter22@id.example.com/token", "user name"),
        ("https://hunter22@id.example.com/token", "user name"),
        ("https://id.example.com/token#hunter22", "fragment"),
        ("ftp://localhost/hunter22", "neither https nor http"),
        ("/hunter22", "not absolute"),
        ("hunter22", "not absolute"),
        ("id.example.com/hunter22", "not absolute"),
        ("id.example.com:8443/hunter22?a", "not absolute"),
        ("hunter22 and more", "isn't a valid URL"),
        ("", "isn't a valid URL"),
        ("https:///hunter22", "isn't a valid URL"),
        ("http://[::1]hunter22.example.com/", "isn't a valid URL"),
        ("https://[2001:db8::1]hunter22/token", "isn't a valid URL"),
        ("https://id.example.com:99999/hunter22", "the port 99999"),
        (" https://id.example.com/hunter22", "isn't a valid URL"),
    ] {
        for error in [
            at(url).unwrap_err(),
            EndpointUrl::danger_allow_http(url).unwrap_err(),
        ] {
            assert!(error.is_config());
            assert!(error.to_string().contains(what), "{url}: {error}");
            assert!(!all_text_of(&error).contains("hunter22"), "{error}");
        }
    }
}

#[test]
fn debug_shows_no_secret_no_query_and_no_value_of_an_extra_parameter() {
    let url = "https://id.example.com/token?key=query-key";
    let transport = TokenServer::issuing().transport();
    let source = ClientCredentials::new(url, ID, "hunter22")
        .unwrap()
        .transport(transport);
    let source = source.basic_auth().param("pin", "pin-value").unwrap();
    let text = format!("{source:?} {source:#?}");
    assert!(
        text.contains(ID) && text.contains("\"pin\"") && text.contains("[redacted]"),
        "{text}"
    );
    for secret in ["hunter22", "pin-value", "query-key"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

/// `Uri` takes such ports for no port, and some clients then use the default port.
#[test]
fn an_invalid_port_is_named() {
    for (port, what) in [
        ("99999", "has the port 99999"),
        ("65536", "has the port 65536"),
        ("0", "has the port 0"),
        ("000", "has the port 000"),
        ("", "has an empty port"),
        ("hunter22", "has a port that isn't a number"),
        ("80a", "has a port that isn't a number"),
        ("-1", "has a port that isn't a number"),
        ("+443", "has a port that isn't a number"),
        ("123456789012", "has a port of 12 digits"),
    ] {
        for host in ["id.example.com", "127.0.0.1", "[::1]", "[2001:db8::1]"] {
            for rest in ["", "/", "/token", "/token?a=b:c"] {
                let url = format!("https://{host}:{port}{rest}");
                for error in [
                    at(&url).unwrap_err(),
                    EndpointUrl::danger_allow_http(&url).unwrap_err(),
                    EndpointUrl::from_issuer(&url).unwrap_err(),
                ] {
                    let text = error.to_string();
                    assert!(error.is_config(), "{url}: {error}");
                    assert!(text.contains(what), "{url}: {text}");
                    assert!(text.contains("from 1 to 65535"), "{url}: {text}");
                    let secret = ["hunter22", "123456789012"];
                    assert!(!secret.iter().any(|it| text.contains(it)), "{text}");
                }
                if rest.len() < 2 {
                    let error = url.parse::<Origin>().unwrap_err();
                    assert!(
                        error.is_config() && error.to_string().contains(what),
                        "{url}: {error}"
                    );
                }
            }
        }
    }
    for url in [
        "https://id.example.com:1/",
        "https://id.example.com:65535/",
        "https://[::1]:08443/token",
        "https://id.example.com/a:99999",
        "https://id.example.com?a=//b:99999",
    ] {
        assert!(at(url).is_ok(), "{url}: {:?}", at(url));
    }
}
