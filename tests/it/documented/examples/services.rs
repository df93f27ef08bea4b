//! Examples that call a service. The test passes the service's address to them.

use std::collections::BTreeMap;

use super::support::ClientAuth;
use super::{Example, ID, Run, SECRET, Servers, example, support};
use crate::support::tree::binary;

#[tokio::test]
async fn print_token_prints_the_token_and_a_newline_and_nothing_else() {
    let servers = Servers::start("https://api.example.com", "read").await;
    let run = example("print_token")
        .env("TOKEN_URL", servers.authorization.token_url())
        .env("CLIENT_ID", ID)
        .env("CLIENT_SECRET", SECRET)
        .env("AUDIENCE", "https://api.example.com")
        .env("SCOPE", "read")
        .run()
        .await;
    run.succeeded();
    let issued = servers.authorization.tokens().issued();
    assert_eq!(run.stdout, format!("{}\n", issued[0]));
    assert_eq!(run.stderr, "");
    let asked = servers.asked_once();
    assert_eq!(asked.params["audience"], "https://api.example.com");
    assert_eq!(asked.params["scope"], "read");
}

#[tokio::test]
async fn print_token_says_what_is_missing() {
    let bare = example("print_token").run().await;
    bare.failed();
    for name in ["TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET"] {
        assert!(bare.stderr.contains(name), "{bare:?}");
        let run = example("print_token")
            .env("TOKEN_URL", "http://127.0.0.1:1/")
            .env("CLIENT_ID", ID)
            .env("CLIENT_SECRET", SECRET)
            .env(name, "")
            .run()
            .await;
        run.failed();
        assert_eq!(
            run.stderr,
            format!("Error: set the environment variable {name}\n")
        );
    }
}

#[tokio::test]
async fn print_token_tells_what_the_authorization_server_said() {
    let servers = Servers::start("https://api.example.com", "read").await;
    servers.authorization.set_scopes("read write");
    for (secret, scope, code) in [
        ("planted-wrong-secret", "read", "invalid_client"),
        (SECRET, "read everything", "invalid_scope"),
    ] {
        let run = example("print_token")
            .env("TOKEN_URL", servers.authorization.token_url())
            .env("CLIENT_ID", ID)
            .env("CLIENT_SECRET", secret)
            .env("SCOPE", scope)
            .run()
            .await;
        run.failed();
        assert!(run.stderr.contains(code), "{run:?}");
        run.leaks_nothing(&[secret]);
    }
}

#[tokio::test]
async fn loopback_gives_a_command_its_servers_and_passes_its_exit_code_on() {
    let run = example("loopback").arg(binary("print_token")).run().await;
    run.succeeded();
    assert!(
        run.stdout.starts_with("eyJ") && run.stdout.ends_with('\n'),
        "{run:?}"
    );

    for service in ["metafold", "netfoundry", "meti", "quickstart"] {
        let run = example("loopback").arg(binary(service)).run().await;
        run.succeeded();
        run.leaks_nothing(&[support::CLIENT_SECRET]);
    }

    let run = example("loopback")
        .arg("sh")
        .arg("-c")
        .arg("exit 7")
        .run()
        .await;
    assert_eq!(run.code, Some(7));
    example("loopback").run().await.failed();
}

#[tokio::test]
async fn metafold_asks_for_its_audience_and_prints_the_usage() {
    let audience = "https://api.metafold3d.com";
    let (servers, run) = in_a_form(example("metafold"), "METAFOLD", audience).await;
    assert!(run.has("GET /user/usage"));
    run.leaks_nothing(&servers.secrets());
}

#[tokio::test]
async fn netfoundry_asks_for_its_audience_slash_and_all_and_prints_the_networks() {
    let audience = "https://gateway.production.netfoundry.io/";
    let (servers, run) = in_a_form(example("netfoundry"), "NETFOUNDRY", audience).await;
    assert!(run.has("GET /rest/v1/networks"));
    run.leaks_nothing(&servers.secrets());
}

/// Runs the example of a service with this audience. The service expects token requests as forms.
async fn in_a_form(example: Example, prefix: &str, audience: &str) -> (Servers, Run) {
    let servers = Servers::start(audience, "").await;
    let run = servers.lead(example, prefix).run().await;
    run.succeeded();
    let asked = servers.asked_once();
    assert_eq!(asked.client_auth, ClientAuth::Form);
    assert_eq!(
        asked.params,
        params([
            ("grant_type", "client_credentials"),
            ("client_id", ID),
            ("audience", audience),
        ])
    );
    (servers, run)
}

#[tokio::test]
async fn meti_asks_in_json_for_its_audience_and_scopes_and_prints_the_sources() {
    let servers = Servers::start("https://api.meti.millpont.com", "read:sources").await;
    let run = servers.lead(example("meti"), "AUTH0").run().await;
    run.succeeded();
    assert!(run.has("GET /sources"));
    assert_eq!(run.line("account_id: "), "account_id: account-7");
    assert_eq!(run.line("role: "), "role: reader");
    let asked = servers.asked_once();
    assert_eq!(asked.client_auth, ClientAuth::Json);
    assert_eq!(
        asked.params,
        params([
            ("grant_type", "client_credentials"),
            ("client_id", ID),
            ("audience", "https://api.meti.millpont.com"),
            ("scope", "read:sources write:sources delete:sources"),
        ])
    );
    run.leaks_nothing(&servers.secrets());
}

#[tokio::test]
async fn meti_explains_that_the_token_is_not_accepted() {
    let servers = Servers::start("https://another.example.com", "read:sources").await;
    let run = servers.lead(example("meti"), "AUTH0").run().await;
    run.failed();
    let text = "401 Unauthorized: the API does not accept the token, and ";
    assert!(run.stderr.contains(text), "{run:?}");
    assert!(
        run.stderr
            .contains("The access token is for another audience"),
        "{run:?}"
    );
    assert!(servers.authorization.fetches() <= 2);
    run.leaks_nothing(&servers.secrets());
}

#[tokio::test]
async fn meti_explains_that_the_scope_does_not_suffice() {
    let servers = Servers::start("https://api.meti.millpont.com", "admin:sources").await;
    let run = servers.lead(example("meti"), "AUTH0").run().await;
    run.failed();
    assert!(
        run.stderr
            .contains("403 Forbidden: the token is valid, but its scope isn't enough"),
        "{run:?}"
    );
    assert!(
        run.stderr.contains("requires the scope admin:sources"),
        "{run:?}"
    );
    assert_eq!(servers.authorization.fetches(), 1);
    run.leaks_nothing(&servers.secrets());
}

#[tokio::test]
async fn the_examples_of_real_services_say_which_variable_is_missing() {
    for (name, prefix) in [
        ("metafold", "METAFOLD"),
        ("netfoundry", "NETFOUNDRY"),
        ("meti", "AUTH0"),
    ] {
        let id = format!("{prefix}_CLIENT_ID");
        let secret = format!("{prefix}_CLIENT_SECRET");
        for (set, missing) in [(&secret, &id), (&id, &secret)] {
            let run = example(name)
                .env("TOKEN_URL", "http://127.0.0.1:1/")
                .env(set, SECRET)
                .run()
                .await;
            run.failed();
            assert_eq!(
                run.stderr,
                format!("Error: set the environment variable {missing}\n")
            );
        }
    }
}

#[tokio::test]
async fn meti_needs_a_domain_unless_it_is_told_of_a_token_endpoint() {
    let run = example("meti").env("AUTH0_CLIENT_ID", ID).run().await;
    run.failed();
    assert_eq!(
        run.stderr,
        "Error: set the environment variable AUTH0_DOMAIN\n"
    );
}

#[tokio::test]
async fn the_examples_of_real_services_take_audience_and_scope_from_the_environment() {
    for (name, prefix) in [
        ("metafold", "METAFOLD"),
        ("netfoundry", "NETFOUNDRY"),
        ("meti", "AUTH0"),
    ] {
        let audience = "https://another.example.com/";
        let servers = Servers::start(audience, "read:others").await;
        let run = servers
            .lead(example(name), prefix)
            .env("AUDIENCE", audience)
            .env("SCOPE", "read:others")
            .run()
            .await;
        run.succeeded();
        let asked = servers.asked_once();
        assert_eq!(asked.params["audience"], audience, "{name}");
        assert_eq!(asked.params["scope"], "read:others", "{name}");
        if name == "meti" {
            assert_eq!(run.line("account_id: "), "account_id: account-7");
        }
    }
}

fn params<const N: usize>(params: [(&str, &str); N]) -> BTreeMap<String, String> {
    params
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}
