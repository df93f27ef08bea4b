//! The exit code and the message of each failure. A failure prints nothing on stdout.

use std::net::TcpListener;

use serde_json::json;
use tower_auth_test::ScriptedResponse;

use crate::support::{Run, World};

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let world = World::new().await;
    let run = world
        .program()
        .env("CLIENT_SECRET", "planted-wrong")
        .run()
        .await;
    run.fails(77, "invalid_client");
    assert!(run.stderr.starts_with("tower-auth-token: "), "{run:?}");
    // The refusal is reported once: the warning of the cache is left out.
    assert!(!run.stderr.contains("warning"), "{run:?}");
    assert_eq!(world.server.requests().len(), 1);
}

#[tokio::test]
async fn a_scope_that_the_client_may_not_have_is_refused() {
    let world = World::new().await;
    world.server.set_scopes("read");
    let run = world.program().env("SCOPE", "everything").run().await;
    run.fails(77, "invalid_scope");
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    let world = World::new().await;
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let program = world
        .program()
        .env("TOKEN_URL", format!("http://{closed}/"));
    program.run().await.fails(75, "because ");
}

#[tokio::test]
async fn a_server_that_fails_or_is_busy_is_unavailable() {
    for status in [429, 500, 503] {
        let world = World::new().await;
        world.server.respond_always(ScriptedResponse::new(status));
        let run = world.program().run().await;
        run.fails(75, &status.to_string());
    }
}

#[tokio::test]
async fn a_server_that_stalls_is_unavailable_after_the_timeout() {
    let world = World::new().await;
    world.server.respond_always(ScriptedResponse::stall());
    let run = world.program().args(["--timeout", "1"]).run().await;
    run.fails(75, "tower-auth-token: ");
}

#[tokio::test]
async fn a_response_without_a_usable_token_is_its_own_failure() {
    for body in [
        json!({}),
        json!({"access_token": "", "token_type": "Bearer"}),
        json!({"access_token": "planted\nplanted", "token_type": "Bearer"}),
        json!({"access_token": "planted", "token_type": "mac"}),
    ] {
        let world = World::new().await;
        world
            .server
            .respond_always(ScriptedResponse::json(200, &body));
        let run = world.program().run().await;
        run.fails(76, "tower-auth-token: ");
        assert_is_for_a_shell(&run);
    }
}

/// Asserts that the message names no function of the crate, which users of a shell can't call.
#[track_caller]
fn assert_is_for_a_shell(run: &Run) {
    assert!(!run.stderr.contains("::"), "{run:?}");
    assert!(!run.stderr.trim_end().ends_with([';', ',']), "{run:?}");
}

#[tokio::test]
async fn advice_for_rust_programs_is_left_out() {
    let form = ScriptedResponse::new(200)
        .header("content-type", "application/x-www-form-urlencoded")
        .body("access_token=planted");
    let other_type = json!({"access_token": "planted", "token_type": "mac"});
    let no_access_token = json!({"access_token": "planted", "token_type": "N_A"});
    for (response, said) in [
        (
            form,
            "its content type is `application/x-www-form-urlencoded`\n",
        ),
        (
            ScriptedResponse::json(200, other_type),
            "has a `token_type` other than `Bearer`\n",
        ),
        (
            ScriptedResponse::json(200, no_access_token),
            "so the issued token is no access token\n",
        ),
    ] {
        let world = World::new().await;
        world.server.respond_always(response);
        let run = world.program().run().await;
        run.fails(76, said);
        assert_is_for_a_shell(&run);
    }
}

#[tokio::test]
async fn wrong_settings_are_named() {
    let world = World::new().await;
    for (url, said) in [
        ("http://id.example.com/token", "in transit; use https\n"),
        ("id.example.com/token", "start it with `https://`"),
        ("https://id.example.com:99999/token", "the port 99999"),
        ("https://me:planted@id.example.com/token", "user name"),
        ("not a url", "address"),
    ] {
        let run = world.program().env("TOKEN_URL", url).run().await;
        run.fails(64, said);
        assert!(run.stderr.contains("TOKEN_URL or --token-url: "), "{run:?}");
        assert_is_for_a_shell(&run);
    }
    let wrong: [&[&str]; 5] = [
        &["--timeout", "0"],
        &["--timeout", "soon"],
        &["--client-auth", "none"],
        &["--token-ur", "x"],
        &["--token-url"],
    ];
    for args in wrong {
        world.program().args(args).run().await.fails(64, args[0]);
    }
}

#[tokio::test]
async fn a_secret_file_has_to_be_readable_and_not_empty() {
    let world = World::new().await;
    world.file("empty", "\n");
    for (path, said) in [
        ("absent", "absent can't be read"),
        ("empty", "empty is empty"),
    ] {
        let run = world
            .program()
            .args(["--client-secret-file", path])
            .run()
            .await;
        run.fails(66, said);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_variable_that_is_not_text_is_named_and_not_shown() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let world = World::new().await;
    let value = OsStr::from_bytes(b"planted\xff");
    let run = world.program().env("CLIENT_SECRET", value).run().await;
    run.fails(64, "the variable CLIENT_SECRET isn't UTF-8");
}

#[tokio::test]
async fn verbose_says_what_is_done_and_shows_no_secret() {
    let world = World::new().await;
    let run = world.program().args(["--verbose"]).run().await;
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "token-1\n"));
    assert!(run.stderr.contains("debug: a token was fetched"), "{run:?}");
    let run = world.program().args(["-v"]).run().await;
    assert!(
        run.stderr.contains("taken from the shared store"),
        "{run:?}"
    );
}
