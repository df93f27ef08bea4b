//! A refresh token in a file. The file stays whole after a crash at any moment.
#![cfg(feature = "file")]

use std::fs;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use tower_auth::oauth2::{RefreshTokenFile, RefreshTokenStore};

use crate::support::child_process::{self, ChildProcess};

/// Returns a folder that is removed at the end of the test.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

async fn load(file: &RefreshTokenFile) -> Option<String> {
    let token = file.load().await.unwrap();
    token.map(|token| token.expose_secret().to_owned())
}

#[tokio::test]
async fn what_was_saved_last_is_loaded_and_nothing_else_is_left() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    assert_eq!(load(&file).await, None);
    for token in ["first", "second"] {
        file.save(SecretString::from(token)).await.unwrap();
        assert_eq!(load(&file).await.as_deref(), Some(token));
        assert_eq!(names(folder.path()), [file.path()]);
    }
    assert!(!format!("{file:?}").contains("second"));
}

#[tokio::test]
async fn an_empty_file_holds_none() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    file.save(SecretString::from("")).await.unwrap();
    assert_eq!(load(&file).await, None);
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_may_use_the_file_and_one_that_others_may_use_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    file.save(SecretString::from("planted")).await.unwrap();
    let mode = fs::metadata(file.path()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    for mode in [0o640, 0o604, 0o620, 0o666] {
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        let error = file.load().await.unwrap_err().to_string();
        assert!(
            error.contains("chmod 600") && error.contains("log in"),
            "{error}"
        );
        assert!(!error.contains("planted"), "{error}");
    }
    // The next login saves a token, which repairs the file.
    file.save(SecretString::from("next")).await.unwrap();
    assert_eq!(load(&file).await.as_deref(), Some("next"));
}

#[tokio::test]
async fn a_folder_that_is_missing_is_named() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("no-such/token"));
    assert_eq!(load(&file).await, None);
    let error = file.save(SecretString::from("planted")).await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("no-such/token") && !error.contains("planted"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_too_long_or_no_text_is_refused() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    file.save(SecretString::from("x".repeat(64 * 1024)))
        .await
        .unwrap();
    assert!(
        file.load()
            .await
            .unwrap_err()
            .to_string()
            .contains("64 KiB")
    );
    fs::write(file.path(), b"planted\xff").unwrap();
    let error = file.load().await.unwrap_err().to_string();
    assert!(!error.contains("planted"), "{error}");
}

/// This isn't a test of its own: it is the process that the test below kills. It saves one token
/// after another and reports each saved token.
#[tokio::test]
#[allow(clippy::print_stdout)]
async fn saves_until_it_is_killed() {
    let Some(path) = child_process::place() else {
        return;
    };
    let file = RefreshTokenFile::new(path);
    for number in 0_u64.. {
        // The token is long, so that writing it takes some time.
        let token = format!("{number}:{}", "x".repeat(20_000));
        file.save(SecretString::from(token)).await.unwrap();
        println!("saved {number}");
    }
}

/// Kills the process 100 times, each time a little later. Some kills interrupt the writing, the
/// syncing or the renaming of the new token. Others come between these steps. After each kill, the
/// file contains the last reported token or the next.
#[tokio::test]
async fn kill_9_at_any_moment_leaves_the_last_token_that_was_saved_or_the_next() {
    let mut caught_in_between = 0;
    for round in 0..100_u32 {
        let folder = folder();
        let file = RefreshTokenFile::new(folder.path().join("token"));
        let mut saving =
            ChildProcess::start(module_path!(), "saves_until_it_is_killed", file.path());
        let numbers = |line: String| line.strip_prefix("saved ")?.parse::<u64>().ok();
        let first = saving.lines().find_map(numbers);
        // Each round waits a bit longer before the kill.
        for _ in 0..round * 2_000 {
            std::hint::spin_loop();
        }
        saving.kill();
        let said = saving.lines().filter_map(numbers).last().or(first);
        let said = said.unwrap();

        let token = load(&file).await.unwrap();
        let (number, rest) = token.split_once(':').unwrap();
        let number: u64 = number.parse().unwrap();
        assert_eq!(rest, "x".repeat(20_000), "torn in round {round}");
        assert!(number == said || number == said + 1, "{number}, not {said}");
        caught_in_between += usize::from(names(folder.path()).len() > 1 || number > said);
    }
    // The test proves nothing if no kill came between two steps.
    assert!(caught_in_between > 0);
}
