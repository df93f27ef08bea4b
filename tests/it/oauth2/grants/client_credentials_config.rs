//! The client credentials grant and its layer, read from a configuration.

use std::fmt::Debug;
use std::fs;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tower_auth::oauth2::ClientCredentialsConfig;
use tower_auth::{AuthLayer, Error, Reason, SecretSource, TokenCache, TokenSource};

use crate::support::token_server::{ID, SECRET, TokenServer, URL, all_text_of, pairs};

#[derive(Debug, Deserialize)]
struct Settings {
    reports: ClientCredentialsConfig,
}

fn read(fields: Value) -> ClientCredentialsConfig {
    serde_json::from_value(fields).unwrap()
}

/// Returns a complete configuration, with these fields in addition or instead.
fn with(fields: Value) -> ClientCredentialsConfig {
    let mut all = json!({
        "token_endpoint": URL, "client_id": ID, "client_secret": {"env": "PATH"},
    });
    let Value::Object(fields) = fields else {
        panic!("{fields} isn't an object")
    };
    all.as_object_mut().unwrap().extend(fields);
    read(all)
}

/// Returns the error of the layer.
fn error(config: &ClientCredentialsConfig) -> String {
    let error = config.layer().unwrap_err();
    assert!(error.is_config(), "{error:?}");
    let shown = format!("{} {config:?} {config:#?}", all_text_of(&error));
    assert!(!shown.contains("planted"), "{shown}");
    error.to_string()
}

/// Returns a file with the secret, and the folder that the file is in.
fn secret_file() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, SECRET).unwrap();
    let path = file.to_str().unwrap().to_owned();
    (folder, path)
}

#[tokio::test]
async fn toml_json_and_variables_make_the_same_request() {
    let (_folder, file) = secret_file();
    let toml = format!(
        r#"
        [reports]
        token_endpoint = "{URL}"
        client_id = "{ID}"
        client_secret = {{ file = '{file}' }}
        scope = ["read", "write"]
        audience = "https://api.example.com"
        resource = ["https://one.example.com", "https://two.example.com"]
        "#
    );
    let json = json!({"reports": {
        "token_endpoint": URL, "client_id": ID, "client_secret": {"file": file},
        "scope": "read write", "audience": "https://api.example.com", "retry": null,
        "resource": ["https://one.example.com", "https://two.example.com"],
    }});
    // Variables are texts, and an empty variable counts as unset.
    let variables = json!({"reports": {
        "token_endpoint": URL, "client_id": ID, "client_secret": {"file": file},
        "scope": "read write", "audience": "https://api.example.com", "only_to": "", "issuer": "",
        "resource": "https://one.example.com https://two.example.com",
        "token_endpoint_auth_method": "client_secret_post", "any_https": "true", "body_limit": "7",
    }});
    let all: [Settings; 3] = [
        toml::from_str(&toml).unwrap(),
        serde_json::from_str(&json.to_string()).unwrap(),
        serde_json::from_value(variables).unwrap(),
    ];
    for settings in all {
        let server = TokenServer::issuing();
        let source = settings.reports.source().unwrap();
        let source = source.transport(server.transport());
        source.fetch(Reason::First).await.unwrap();
        let expected = [
            ("grant_type", "client_credentials"),
            ("scope", "read write"),
            ("audience", "https://api.example.com"),
            ("resource", "https://one.example.com"),
            ("resource", "https://two.example.com"),
            ("client_id", ID),
            ("client_secret", SECRET),
        ];
        assert_eq!(server.form(), pairs(&expected));
        let origins = source.origins();
        assert_eq!(origins.len(), 2, "{origins:?}");
        drop(settings.reports.layer().unwrap());
    }
}

#[tokio::test]
async fn the_secret_may_be_sent_as_basic_authentication_or_in_json() {
    let server = TokenServer::issuing();
    let config = with(json!({"token_endpoint_auth_method": "client_secret_basic"}));
    let source = config.source().unwrap().transport(server.transport());
    source.fetch(Reason::First).await.unwrap();
    assert!(server.request().headers().contains_key("authorization"));
    let config = with(json!({"json": true}));
    let source = config.source().unwrap().transport(server.transport());
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(
        server.request().headers()["content-type"],
        "application/json"
    );
    let told = error(&with(json!({"token_endpoint_auth_method": "planted"})));
    assert!(told.contains("`client_secret_basic`"), "{told}");
}

#[test]
fn an_issuer_is_instead_of_the_endpoint() {
    let issuer = json!({"token_endpoint": null, "issuer": "https://id.example.com"});
    let source = format!("{:?}", with(issuer).source().unwrap());
    assert!(
        source.contains("as https://id.example.com says"),
        "{source}"
    );
    let told = error(&with(json!({"issuer": "https://id.example.com"})));
    assert!(told.contains("`token_endpoint` is set too"), "{told}");
    let told = error(&with(json!({"issuer": "planted", "token_endpoint": ""})));
    assert!(told.contains("`issuer`"), "{told}");
}

#[test]
fn each_setting_of_the_layer_does_what_the_method_does() {
    let cache = TokenCache::new(SecretSource::from("planted"));
    let plain = || AuthLayer::from(cache.clone());
    let shown = |layer: &dyn Debug| format!("{layer:?}");
    let to = ["https://a.example.com", "http://b.example.com:81"];
    let expected = [
        (json!({"only_to": to}), plain().only_to(to).unwrap()),
        (
            json!({"only_to": to.join(" ")}),
            plain().only_to(to).unwrap(),
        ),
        (json!({"any_https": true}), plain().any_https()),
        (
            json!({"any_https": "true", "only_to": ""}),
            plain().any_https(),
        ),
        (json!({"pass_elsewhere": true}), plain().pass_elsewhere()),
        (json!({"retry": false}), plain().retry(false)),
        (
            json!({"replace_existing": "true"}),
            plain().replace_existing(true),
        ),
        (json!({"body_limit": 9}), plain().body_limit(9)),
        (
            json!({"retry_without_challenge": false}),
            plain().retry_without_challenge(false),
        ),
    ];
    for (fields, layer) in expected {
        let configured = read(fields.clone()).configure(plain()).unwrap();
        assert_eq!(shown(&configured), shown(&layer), "{fields}");
        assert_ne!(shown(&configured), shown(&plain()), "{fields}");
    }
    let unset = json!({
        "only_to": "", "any_https": false, "pass_elsewhere": false, "retry": true, "body_limit": null,
    });
    let configured = read(unset).configure(plain()).unwrap();
    assert_eq!(shown(&configured), shown(&plain()));
}

#[test]
fn an_unknown_field_is_an_error_that_names_the_nearest_right_one() {
    for (unknown, nearest) in [
        ("client_idd", "client_id"),
        ("clientId", "client_id"),
        ("client-secret", "client_secret"),
        ("CLIENT_SECRET", "client_secret"),
        ("client_secret_file", "client_secret"),
        ("secret", "client_secret"),
        ("id", "client_id"),
        ("endpoint", "token_endpoint"),
        ("my_scope", "scope"),
        ("token_endpont", "token_endpoint"),
        ("issuer_url", "issuer"),
        ("scopes", "scope"),
        ("audiences", "audience"),
        ("resources", "resource"),
        ("onlyTo", "only_to"),
        ("any-https", "any_https"),
        ("auth_method", "token_endpoint_auth_method"),
        ("retries", "retry"),
        ("body_limit_bytes", "body_limit"),
    ] {
        let told = error(&with(json!({unknown: "planted"})));
        let advice = format!(
            "`{unknown}` from the configuration: there is no such field; did you mean `{nearest}`?"
        );
        assert!(told.contains(&advice), "{told}");
    }
    let long = error(&with(json!({"y".repeat(1 << 20): 7})));
    assert!(long.contains("the fields are any_https, "), "{long}");
    for unknown in ["", "x", "…", "password", "proxy\u{202e}\n"] {
        let told = error(&with(json!({unknown: {"deep": ["planted"]}})));
        assert!(told.contains("the fields are any_https, "), "{told}");
        assert!(!told.contains('\n') && !told.contains('\u{202e}'), "{told}");
    }
    // Each method checks the names, because a service may use only one of them.
    let config = with(json!({"scopes": "planted"}));
    config.source().unwrap_err();
    let layer = AuthLayer::new(SecretSource::from("x"));
    config.configure(layer).unwrap_err();
}

#[test]
fn a_secret_in_the_configuration_is_an_error_that_says_what_to_write_and_shows_nothing() {
    let shapes = [
        json!("planted"),
        json!(""),
        json!(7),
        json!(true),
        json!(["planted"]),
        json!({}),
        json!({"value": "planted"}),
        json!({"file": ["planted"]}),
        json!({"file": "/run/secrets/x", "value": "planted"}),
    ];
    for shape in shapes {
        let told = error(&with(json!({"client_secret": shape})));
        let advice = "`client_secret` from the configuration: the value is neither `{ file = \"/path\" }` nor \
                      `{ env = \"NAME\" }`";
        assert!(told.contains(advice), "{told}");
    }
    let both = json!({"file": "/run/secrets/x", "env": "PLANTED"});
    let told = error(&with(json!({"client_secret": both})));
    assert!(told.contains("`file` and `env` are both set"), "{told}");
}

/// An error of the parser of TOML contains the line of the mistake.
#[test]
fn no_mistake_makes_the_parser_show_the_line_with_a_secret() {
    for mistake in [
        "client_id = 7.5",
        "retry = [1]",
        "scopes = 'read'",
        "only_to = { a = 1 }",
        "audience = 1979-05-27",
    ] {
        let text = format!("reports = {{ client_secret = 'planted', {mistake} }}");
        let settings: Settings = toml::from_str(&text).unwrap();
        error(&settings.reports);
    }
}

#[test]
fn all_missing_fields_are_named_at_once() {
    let told = error(&read(json!({})));
    let all =
        "the configuration lacks `token_endpoint` or `issuer` and `client_id` and `client_secret`";
    assert_eq!(told, all);
    let told = error(&with(json!({"client_id": " "})));
    assert_eq!(told, "the configuration lacks `client_id`");
}

#[test]
fn an_error_names_the_field_and_shows_no_value() {
    let origins = json!([
        "https://api.example.com",
        "https://planted.example.com/path"
    ]);
    let fields = [
        (
            "token_endpoint",
            json!("http://planted.internal/token"),
            "http to",
        ),
        ("token_endpoint", json!("planted"), "absolute"),
        ("token_endpoint", json!({"planted": 1}), "isn't a text"),
        ("client_id", json!(true), "isn't a text"),
        ("audience", json!(["planted"]), "isn't a text"),
        ("scope", json!(7), "neither a list"),
        ("resource", json!(["planted", 7]), "neither a list"),
        ("only_to", json!({"planted": 1}), "neither a list"),
        ("only_to", json!([]), "no origin"),
        ("only_to[1]", origins, "scheme://host"),
        ("only_to[0]", json!("planted"), "scheme://host"),
        ("any_https", json!("planted"), "neither `true` nor `false`"),
        ("pass_elsewhere", json!(1), "neither `true` nor `false`"),
        ("json", json!("planted"), "neither `true` nor `false`"),
        ("retry", json!("planted"), "neither `true` nor `false`"),
        (
            "replace_existing",
            json!([true]),
            "neither `true` nor `false`",
        ),
        (
            "retry_without_challenge",
            json!("yes"),
            "neither `true` nor `false`",
        ),
        ("body_limit", json!(-1), "isn't a number of bytes"),
        (
            "body_limit",
            json!("64 KiB planted"),
            "isn't a number of bytes",
        ),
        ("body_limit", json!(0.5), "isn't a number of bytes"),
    ];
    for (path, value, what) in fields {
        let field = path.split('[').next().unwrap();
        let config = with(json!({field: value}));
        let error = config.layer().unwrap_err().to_string();
        assert!(error.contains(&format!("`{path}`")), "{error}");
        assert!(error.contains(what), "{error}");
        // The host of an address helps to find the mistake.
        assert!(!error.contains("planted") || what == "http to", "{error}");
    }
    let both = json!({"only_to": ["https://api.example.com"], "any_https": true});
    let told = error(&with(both));
    assert!(
        told.contains("`any_https`") && told.contains("`only_to` is set too"),
        "{told}"
    );
}

/// The page of the type lists each field. Each listed field is known.
#[test]
fn the_documented_fields_are_the_fields() {
    let text = crate::support::tree::text("src/oauth2/grants/client_credentials_config.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("/// | `"));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let listed = cells.flat_map(|cell| cell.split(['`', ',', ' ']).filter(|name| !name.is_empty()));
    let mut listed: Vec<&str> = listed.collect();
    listed.sort_unstable();
    let (_, known) = text.split_once("const FIELDS").unwrap();
    let (known, _) = known.split_once("];").unwrap();
    let known: Vec<&str> = known.split('"').skip(1).step_by(2).collect();
    assert_eq!(listed, known);
}

#[test]
fn a_variable_of_the_environment_is_read_for_each_fetch_and_not_before() {
    let absent = with(json!({"client_secret": {"env": "NO_SUCH_VARIABLE_OF_TOWER_AUTH"}}));
    drop(absent.layer().unwrap());
    let shown = format!("{absent:?}");
    assert!(shown.contains("NO_SUCH_VARIABLE_OF_TOWER_AUTH"), "{shown}");
}

#[test]
fn a_number_may_be_an_id() -> Result<(), Error> {
    let source = with(json!({"client_id": 12345})).source()?;
    assert!(format!("{source:?}").contains("12345"));
    Ok(())
}

/// A parser's error about a value of the wrong type shows the value, such as the secret itself.
#[test]
fn a_configuration_that_is_no_table_is_an_error_that_shows_nothing() {
    for value in [
        json!("planted"),
        json!(["planted"]),
        json!(7),
        json!(true),
        Value::Null,
    ] {
        let settings: Settings = serde_json::from_value(json!({"reports": value})).unwrap();
        assert_eq!(
            error(&settings.reports),
            "the configuration isn't a table of fields"
        );
        settings.reports.source().unwrap_err();
    }
    assert!(error(&read(Value::Object(Map::new()))).contains("lacks"));
}
