//! The store that all shells of a user share.

use std::fs;

use tower_auth_test::ScriptedResponse;

use crate::support::{World, files};

#[tokio::test]
async fn the_second_run_takes_the_token_from_the_store_without_a_fetch() {
    let world = World::new().await;
    for _ in 0..3 {
        assert_eq!(world.program().prints().await, "token-1\n");
    }
    // A server that fails makes no difference, because the program sends no request.
    world.server.respond_always(ScriptedResponse::new(500));
    assert_eq!(world.program().prints().await, "token-1\n");
    world
        .server
        .assert_requests(["POST /oauth/token - client_credentials -> 200"]);
}

#[tokio::test]
async fn many_shells_that_start_at_once_share_one_fetch() {
    let world = World::new().await;
    let runs = (0..8).map(|_| tokio::spawn(world.program().prints()));
    for run in runs.collect::<Vec<_>>() {
        assert_eq!(run.await.unwrap(), "token-1\n");
    }
    world.server.assert_tokens_issued(1);
}

#[tokio::test]
async fn other_settings_get_another_token() {
    let world = World::new().await;
    world.program().prints().await;
    let other = [
        ("SCOPE", "read"),
        ("AUDIENCE", "a"),
        ("RESOURCE", "https://a.example.com"),
    ];
    for (expected, (name, value)) in (2..).zip(other) {
        let printed = world.program().env(name, value).prints().await;
        assert_eq!(printed, format!("token-{expected}\n"));
    }
}

#[tokio::test]
async fn refresh_replaces_the_stored_token() {
    let world = World::new().await;
    world.program().prints().await;
    let program = world.program().args(["--refresh"]);
    assert_eq!(program.prints().await, "token-2\n");
    assert_eq!(world.program().prints().await, "token-2\n");
}

#[tokio::test]
async fn without_a_store_nothing_is_written() {
    let world = World::new().await;
    for expected in ["token-1\n", "token-2\n"] {
        let printed = world.program().args(["--no-store"]).prints().await;
        assert_eq!(printed, expected);
    }
    assert_eq!(files(world.home.path()), Vec::<std::path::PathBuf>::new());
    let both = ["--no-store", "--store", "x"];
    world
        .program()
        .args(both)
        .run()
        .await
        .fails(64, "cannot be used with");
}

#[tokio::test]
async fn no_file_shows_a_token_or_the_secret() {
    let world = World::new().await;
    world.program().prints().await;
    let files = files(world.home.path());
    assert_eq!(files.len(), 3, "the key, the token and its lock: {files:?}");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            !text.contains("token-1") && !text.contains("planted"),
            "{file:?}"
        );
    }
}

#[tokio::test]
async fn the_place_of_the_store_and_of_the_key_can_be_chosen() {
    let world = World::new().await;
    let home = world.home.path();
    let key = world.file("my.key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n");
    let store = home.join("chosen");
    let program = world.program().args(["--store"]).args([&store]);
    program.args(["--key-file"]).args([&key]).prints().await;
    assert!(store.join("tokens").is_dir() && !store.join("sealing.key").exists());
    let program = world.program().env("TOWER_AUTH_TOKEN_STORE", &store);
    program
        .env("TOWER_AUTH_TOKEN_KEY_FILE", &key)
        .prints()
        .await;
    world.server.assert_tokens_issued(1);

    let cache = home.join("cache");
    world.program().env("XDG_CACHE_HOME", &cache).prints().await;
    assert!(cache.join("tower-auth-token/sealing.key").is_file());
    assert!(!world.store().exists());
}

#[tokio::test]
async fn a_key_file_of_the_user_has_to_be_there_and_right() {
    let world = World::new().await;
    let run = world.program().args(["--key-file", "absent"]).run().await;
    run.fails(66, "the key file absent can't be read");
    let file = world.file("short", "planted");
    let run = world
        .program()
        .args(["--key-file"])
        .args([&file])
        .run()
        .await;
    run.fails(64, "32 random bytes");
    run.fails(64, "\nTry `tower-auth-token --help`.\n");
    world.server.assert_tokens_issued(0);
}

#[tokio::test]
async fn a_stored_token_of_another_key_is_replaced_after_a_warning() {
    let world = World::new().await;
    world.program().prints().await;
    fs::remove_file(world.store().join("sealing.key")).unwrap();
    let run = world.program().run().await;
    run.warns("ignored a value in the shared store", "token-2");
    assert_eq!(world.program().prints().await, "token-2\n");
}

#[tokio::test]
async fn a_damaged_key_costs_a_warning_and_no_token() {
    let world = World::new().await;
    world.program().prints().await;
    fs::write(world.store().join("sealing.key"), "planted").unwrap();
    let run = world.program().run().await;
    run.warns("sealing.key: not a key; remove the file", "token-2");
}

#[tokio::test]
async fn without_a_home_folder_the_program_warns_and_prints_a_token() {
    let world = World::new().await;
    let run = world.program().without("HOME").run().await;
    run.warns("HOME isn't set", "token-1");
}

#[cfg(all(unix, not(tower_auth_portable)))]
mod unix {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::{World, files};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn only_the_user_may_use_the_files() {
        let world = World::new().await;
        // With this umask, other users could access each new file.
        let script = "umask 000; exec \"$0\"";
        world.program().in_a_shell(script).prints().await;
        let store = world.store();
        for folder in [store.clone(), store.join("tokens")] {
            assert_eq!(mode(&folder), 0o700, "{folder:?}");
        }
        for file in files(&store) {
            assert_eq!(mode(&file), 0o600, "{file:?}");
        }
    }

    #[tokio::test]
    async fn a_store_that_other_users_may_use_is_not_used() {
        let world = World::new().await;
        let tokens = world.store().join("tokens");
        fs::create_dir_all(&tokens).unwrap();
        set_mode(&tokens, 0o755);
        let run = world.program().run().await;
        run.warns("chmod 700", "token-1");
        assert_eq!(files(&tokens).len(), 0);
    }

    #[tokio::test]
    async fn a_key_that_other_users_may_read_is_not_used() {
        let world = World::new().await;
        world.program().prints().await;
        set_mode(&world.store().join("sealing.key"), 0o644);
        let run = world.program().run().await;
        run.warns("other users may access the key (mode 0644)", "token-2");
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_made_costs_a_warning_and_no_token() {
        let world = World::new().await;
        world.file(".cache", "not a folder");
        let run = world.program().run().await;
        run.warns("no token is stored", "token-1");
    }
}
