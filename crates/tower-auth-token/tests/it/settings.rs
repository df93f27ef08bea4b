//! Where the settings come from.

use tower_auth_test::ScriptedResponse;

use crate::support::{ID, SECRET, World};

#[tokio::test]
async fn all_missing_settings_are_named_at_once() {
    let world = World::new().await;
    let all = ["TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET"];
    let run = world.bare().run().await;
    for name in all {
        run.fails(64, name);
    }
    for missing in all {
        // An empty variable counts as unset.
        for program in [
            world.program().without(missing),
            world.program().env(missing, ""),
        ] {
            let run = program.run().await;
            for name in all {
                let is_named = run.stderr.contains(&format!("\n  {name}"));
                assert_eq!(is_named, name == missing, "{run:?}");
            }
            run.fails(64, "settings are missing");
        }
    }
    world.server.assert_requests::<[&str; 0]>([]);
}

#[tokio::test]
async fn options_give_all_but_the_secret() {
    let world = World::new().await;
    let secret = world.file("secret", &format!("{SECRET}\n"));
    let url = world.token_url();
    let program = world.bare().args([
        "--token-url",
        &url,
        "--client-id",
        ID,
        "--client-secret-file",
        secret.to_str().unwrap(),
        "--audience",
        "https://api.example.com",
        "--scope",
        "read write",
    ]);
    assert_eq!(program.prints().await, "token-1\n");
    let issued = &world.server.issued()[0];
    assert_eq!(issued.client_id(), ID);
    assert_eq!(issued.audience(), Some("https://api.example.com"));
    assert_eq!(issued.scope(), "read write");
}

#[tokio::test]
async fn variables_give_all() {
    let world = World::new().await;
    let secret = world.file("secret", SECRET);
    let program = world.program().without("CLIENT_SECRET");
    let program = program
        .env("CLIENT_SECRET_FILE", secret)
        .env("RESOURCE", "https://api.example.com")
        .env("SCOPE", "read");
    assert_eq!(program.prints().await, "token-1\n");
    let issued = &world.server.issued()[0];
    assert_eq!(issued.audience(), Some("https://api.example.com"));
    assert_eq!(issued.scope(), "read");
}

#[tokio::test]
async fn a_settings_file_has_lines_or_json() {
    let world = World::new().await;
    let url = world.token_url();
    world.file("secret", SECRET);
    let lines = format!(
        "# A comment\n\nexport TOKEN_URL=\"{url}\"\nCLIENT_ID = '{ID}'\nCLIENT_SECRET={SECRET}\nSCOPE=read\nPATH=/x\n"
    );
    let beside = format!("TOKEN_URL={url}\nCLIENT_ID={ID}\nCLIENT_SECRET_FILE=secret\nSCOPE=read");
    let json = serde_json::json!({
        "clientId": ID, "password": SECRET, "authenticationUrl": url, "scope": "read", "other": 1,
    });
    let json = format!("\n{json}");
    for text in [lines, beside, json] {
        let file = world.file("settings", &text);
        let by_option = world.bare().args(["--no-store", "--config"]).args([&file]);
        by_option.prints().await;
        let by_variable = world.bare().env("TOWER_AUTH_TOKEN_CONFIG", &file);
        // Paths in the settings file are relative to its folder, not to the current folder.
        let elsewhere = by_variable.args(["--no-store"]).current_dir("/");
        elsewhere.prints().await;
    }
    let issued = world.server.issued();
    assert_eq!(issued.len(), 6);
    assert!(issued.iter().all(|token| token.scope() == "read"));
}

#[tokio::test]
async fn a_broken_settings_file_is_named_and_not_shown() {
    let world = World::new().await;
    for (text, said) in [
        ("TOKEN_URL=x\nplanted", "line 2"),
        ("{\"clientSecret\": \"planted\", planted", "line 1"),
        ("{\"clientSecret\": [\"planted\"]}", "clientSecret"),
    ] {
        let file = world.file("broken", text);
        let run = world.bare().args(["--config"]).args([&file]).run().await;
        run.fails(64, said);
        run.fails(64, file.to_str().unwrap());
    }
    let run = world.program().args(["--config", "absent"]).run().await;
    run.fails(66, "the settings file absent can't be read");
    let long = world.file("long", &"#".repeat(64 * 1024 + 1));
    let run = world.program().args(["--config"]).args([&long]).run().await;
    run.fails(66, "longer than 64 KiB");
}

#[tokio::test]
async fn an_option_counts_before_a_variable_and_a_variable_before_the_file() {
    let world = World::new().await;
    let file = world.file(
        "settings",
        "SCOPE=of-file\nAUDIENCE=of-file\nCLIENT_SECRET=wrong",
    );
    let program = world.program().env("TOWER_AUTH_TOKEN_CONFIG", file);
    let program = program
        .env("SCOPE", "of-variable")
        .args(["--scope", "of-option"]);
    program.prints().await;
    let issued = &world.server.issued()[0];
    assert_eq!(issued.scope(), "of-option");
    assert_eq!(issued.audience(), Some("of-file"));

    let secret = world.file("secret", SECRET);
    let program = world
        .program()
        .env("CLIENT_SECRET", "wrong")
        .env("SCOPE", "other");
    let program = program.args(["--client-secret-file"]).args([&secret]);
    assert_eq!(program.prints().await, "token-2\n");
}

#[tokio::test]
async fn two_secrets_in_one_place_are_an_error() {
    let world = World::new().await;
    let secret = world.file("secret", SECRET);
    let run = world
        .program()
        .env("CLIENT_SECRET_FILE", &secret)
        .run()
        .await;
    run.fails(64, "the environment has both");
    let file = world.file("settings", "CLIENT_SECRET=a\nCLIENT_SECRET_FILE=b");
    let program = world.program().without("CLIENT_SECRET");
    let run = program.args(["--config"]).args([&file]).run().await;
    run.fails(64, "the settings file has both");
}

#[tokio::test]
async fn the_client_authenticates_as_the_server_wants() {
    let world = World::new().await;
    for how in ["post", "basic", "json"] {
        let program = world.program().args(["--no-store"]);
        program.env("CLIENT_AUTH", how).prints().await;
        let program = world.program().args(["--no-store", "--client-auth", how]);
        program.prints().await;
    }
    let sent: Vec<(bool, String)> = (world.server.requests().iter())
        .map(|request| {
            let headers = request.headers();
            let kind = headers["content-type"].to_str().unwrap();
            (headers.contains_key("authorization"), kind.to_owned())
        })
        .collect();
    let form = "application/x-www-form-urlencoded";
    let expected = [(false, form), (true, form), (false, "application/json")];
    for (sent, (has_header, kind)) in sent.chunks(2).zip(expected) {
        assert!(
            sent.iter().all(|it| *it == (has_header, kind.to_owned())),
            "{sent:?}"
        );
    }
    let run = world.program().env("CLIENT_AUTH", "planted").run().await;
    run.fails(64, "CLIENT_AUTH");
}

#[tokio::test]
async fn no_option_takes_a_secret_and_no_message_repeats_one() {
    let world = World::new().await;
    let wrong: [&[&str]; 7] = [
        &["--client-secret", "planted"],
        &["--client-secret=planted"],
        &["--client-secret", "-planted"],
        &["--client-secret"],
        &["--secret", "planted"],
        &["--password=planted"],
        &["planted"],
    ];
    for args in wrong {
        let run = world.program().args(args).run().await;
        run.fails(64, "Try `tower-auth-token --help`.");
    }
    let run = world
        .program()
        .args(["--client-secret", "planted"])
        .run()
        .await;
    run.fails(64, "--client-secret-file");
    world.server.assert_requests::<[&str; 0]>([]);
}

#[tokio::test]
async fn a_secret_is_read_once_so_it_may_come_from_a_pipe() {
    let world = World::new().await;
    // The first attempt fails, and the second needs the secret again.
    world.server.respond_next(ScriptedResponse::new(503));
    let script = "printf %s \"$PIPED\" | \"$0\" --client-secret-file /dev/stdin";
    let program = world.program().without("CLIENT_SECRET");
    let printed = program
        .env("PIPED", SECRET)
        .in_a_shell(script)
        .prints()
        .await;
    assert_eq!(printed, "token-1\n");
}
