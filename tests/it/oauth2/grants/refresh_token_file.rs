//! A login in a file. The file stays whole after a crash at any moment, and one process at a time
//! replaces it.
#![cfg(feature = "file")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use tower_auth::BoxError;
use tower_auth::oauth2::{
    Client, DeviceAuthorization, LoginLock, RefreshTokenFile, RefreshTokenStore,
};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::child_process::{self, ChildProcess};
use crate::support::token_server::{ID, SECRET, URL};

/// Returns a folder that is removed at the end of the test.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    names.sort();
    names
}

/// Returns the path of a file beside the login.
fn beside(file: &RefreshTokenFile, suffix: &str) -> PathBuf {
    let mut name = file.path().as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

async fn load(file: &RefreshTokenFile) -> Option<String> {
    let login = file.load().await.unwrap();
    login.map(|login| login.text().expose_secret().to_owned())
}

async fn lock(file: &RefreshTokenFile) -> Option<LoginLock> {
    file.lock(Duration::from_secs(10)).await.unwrap()
}

async fn save(file: &RefreshTokenFile, login: &str) -> Result<(), BoxError> {
    file.save(SecretString::from(login), &LoginLock::none())
        .await
}

#[tokio::test]
async fn what_was_saved_last_is_loaded_and_nothing_else_is_left() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    assert_eq!(load(&file).await, None);
    for token in ["first", "second"] {
        let lock = lock(&file).await.unwrap();
        file.save(SecretString::from(token), &lock).await.unwrap();
        assert_eq!(load(&file).await.as_deref(), Some(token));
        let expected = [file.path().to_owned(), beside(&file, ".lock")];
        assert_eq!(names(folder.path()), expected);
    }
    assert!(!format!("{file:?}").contains("second"));
}

#[tokio::test]
async fn an_empty_file_holds_none() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    save(&file, "").await.unwrap();
    assert_eq!(load(&file).await, None);
}

#[cfg(all(unix, not(tower_auth_portable)))]
#[tokio::test]
async fn only_its_owner_may_use_the_file_and_one_that_others_may_use_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    save(&file, "planted").await.unwrap();
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
    save(&file, "next").await.unwrap();
    assert_eq!(load(&file).await.as_deref(), Some("next"));
}

#[tokio::test]
async fn a_folder_that_is_missing_is_named() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("no-such/token"));
    assert_eq!(load(&file).await, None);
    assert!(lock(&file).await.is_some());
    let error = save(&file, "planted").await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("no-such/token") && !error.contains("planted"),
        "{error}"
    );
}

/// The code of a login can be used once.
#[tokio::test(start_paused = true)]
async fn a_login_that_could_not_be_saved_sends_no_code() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("no-such/token"));
    let server = ScriptedServer::new(|_| panic!("the server got the code"));
    let prompt = r#"{"device_code":"code","user_code":"user","verification_uri":"https://id.example.com/","expires_in":600}"#;
    server.respond_next(ScriptedResponse::json(200, prompt));
    let client = Client::new(URL, ID, SECRET).unwrap().transport(server);
    let login = DeviceAuthorization::new(client, "https://id.example.com/device").unwrap();
    let login = login.store(file);
    let prompt = login.begin().await.unwrap();
    let error = login.finish(prompt).await.unwrap_err();
    assert!(format!("{error:?}").contains("no-such"), "{error:?}");
}

#[tokio::test]
async fn what_is_too_long_or_no_text_is_refused() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    save(&file, &"x".repeat(64 * 1024)).await.unwrap();
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
        save(&file, &token).await.unwrap();
        println!("saved {number}");
    }
}

/// Kills the process 100 times, each time a little later. Some kills interrupt the writing, the
/// syncing or the renaming of the new token. Others come between these steps. After each kill, the
/// next process finds the last reported token or the next, and nothing is left beside the file.
#[tokio::test]
async fn kill_9_at_any_moment_leaves_the_last_token_that_was_saved_or_the_next() {
    let (mut caught_in_between, mut picked_up) = (0, 0);
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

        let before = load(&file).await;
        caught_in_between += usize::from(beside(&file, ".next").exists());
        let lock = lock(&file).await.unwrap();
        let token = load(&file).await.unwrap();
        picked_up += usize::from(before.as_ref() != Some(&token));
        let (number, rest) = token.split_once(':').unwrap();
        let number: u64 = number.parse().unwrap();
        assert_eq!(rest, "x".repeat(20_000), "torn in round {round}");
        assert!(number == said || number == said + 1, "{number}, not {said}");
        let expected = [file.path().to_owned(), beside(&file, ".lock")];
        assert_eq!(names(folder.path()), expected);
        file.unlock(lock).await.unwrap();
    }
    // The test proves nothing if no kill came between two steps.
    assert!(caught_in_between > 0 && picked_up > 0, "{picked_up}");
}

#[tokio::test]
async fn a_complete_successor_is_picked_up_and_an_incomplete_one_is_removed() {
    let record = r#"{"refresh_token":"next"}"#;
    // JSON may contain these two control characters.
    let odd = "{\"refresh_token\":\"next\",\"scope\":\"\u{7f}\u{85}\"}";
    for (successor, expected) in [
        (format!("{record}\n"), record),
        (format!("{odd}\n"), odd),
        ("next\n".to_owned(), "next"),
        // Cut off, or not yet on the disk.
        (String::new(), "first"),
        (record.to_owned(), "first"),
        ("next".to_owned(), "first"),
        (r#"{"refresh_token":"ne"#.to_owned() + "\n", "first"),
        ("{\"refresh_token\":\"\0\0\0\0\"}\n".to_owned(), "first"),
        ("\0\0\0\n".to_owned(), "first"),
        (format!("{}\n", "x".repeat(64 * 1024)), "first"),
    ] {
        let folder = folder();
        let file = RefreshTokenFile::new(folder.path().join("token"));
        save(&file, "first").await.unwrap();
        plant(&beside(&file, ".next"), &successor);
        // Without the lock, another process may be writing the successor.
        assert_eq!(load(&file).await.as_deref(), Some("first"));
        assert!(beside(&file, ".next").exists());
        let _lock = lock(&file).await.unwrap();
        assert_eq!(load(&file).await.as_deref(), Some(expected), "{successor}");
        assert!(!beside(&file, ".next").exists(), "{successor}");
    }
}

/// After the crash, a person pasted a token.
#[tokio::test]
async fn a_successor_that_is_older_than_the_file_is_removed() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    let next = beside(&file, ".next");
    plant(&next, "next\n");
    let old = File::options().write(true).open(&next).unwrap();
    old.set_modified(SystemTime::now() - Duration::from_secs(60))
        .unwrap();
    plant(file.path(), "pasted\n");
    let _lock = lock(&file).await.unwrap();
    assert_eq!(load(&file).await.as_deref(), Some("pasted"));
    assert!(!next.exists());
}

/// The first login of a user was interrupted.
#[tokio::test]
async fn a_complete_successor_of_no_file_is_picked_up() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    plant(&beside(&file, ".next"), "{\"refresh_token\":\"next\"}\n");
    assert_eq!(load(&file).await, None);
    let _lock = lock(&file).await.unwrap();
    assert!(load(&file).await.is_some());
}

/// Writes a file as this crate does: only its owner may use the file.
fn plant(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    #[cfg(unix)]
    set_mode(path, 0o600);
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn one_process_at_a_time_has_the_lock() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    let other = file.clone();
    let held = lock(&file).await.unwrap();
    assert!(lock(&other).await.is_none());
    let error = save(&other, "planted").await.unwrap_err().to_string();
    assert!(
        error.contains("locked") && !error.contains("planted"),
        "{error}"
    );
    file.save(SecretString::from("first"), &held).await.unwrap();
    file.unlock(held).await.unwrap();
    let held = lock(&other).await.unwrap();
    assert!(other.confirm(&held).await.unwrap());
    drop(held);
    save(&other, "second").await.unwrap();
    assert_eq!(load(&file).await.as_deref(), Some("second"));
}

/// Another process can lock a new lock file, so this process has no lock any more.
#[tokio::test]
async fn a_lock_whose_file_was_removed_is_lost() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    let held = lock(&file).await.unwrap();
    fs::remove_file(beside(&file, ".lock")).unwrap();
    assert!(!file.confirm(&held).await.unwrap());
    let other = lock(&file).await.unwrap();
    assert!(!file.confirm(&held).await.unwrap());
    assert!(file.confirm(&other).await.unwrap());
}

/// This isn't a test of its own: it is the process that the test below kills.
#[tokio::test]
#[allow(clippy::print_stdout)]
async fn holds_the_lock_until_it_is_killed() {
    let Some(path) = child_process::place() else {
        return;
    };
    let held = lock(&RefreshTokenFile::new(path)).await;
    println!("locked {}", held.is_some());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_process_that_is_killed_releases_the_lock() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    let child = "holds_the_lock_until_it_is_killed";
    let mut holding = ChildProcess::start(module_path!(), child, file.path());
    let locked = holding.lines().find(|line| line.ends_with("locked true"));
    let is_free = lock(&file).await.is_some();
    holding.kill();
    assert!(locked.is_some() && !is_free);
    assert!(lock(&file).await.is_some());
}

#[tokio::test]
async fn deleting_removes_the_login_and_its_successor() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    save(&file, "first").await.unwrap();
    let held = lock(&file).await.unwrap();
    plant(&beside(&file, ".next"), "next\n");
    file.delete(&held).await.unwrap();
    assert_eq!(names(folder.path()), [beside(&file, ".lock")]);
    file.delete(&held).await.unwrap();
    // Without the lock, another process may be saving a new login.
    save(&RefreshTokenFile::new(folder.path().join("other")), "kept")
        .await
        .unwrap();
    let other = RefreshTokenFile::new(folder.path().join("other"));
    other.delete(&LoginLock::none()).await.unwrap();
    assert_eq!(load(&other).await.as_deref(), Some("kept"));
}

/// The file system measures the age, so the clock of this process doesn't matter.
#[tokio::test]
async fn the_age_counts_from_the_save() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    save(&file, "first").await.unwrap();
    let saved_at = |time: SystemTime| {
        let options = File::options().write(true).open(file.path());
        options.unwrap().set_modified(time).unwrap();
    };
    let age = async || file.load().await.unwrap().unwrap().age();
    assert!(age().await.unwrap() < Duration::from_secs(60));
    saved_at(SystemTime::now() - Duration::from_secs(1000));
    let found = age().await.unwrap();
    assert!((1000..1060).contains(&found.as_secs()), "{found:?}");
    assert!(age().await.unwrap() >= found);
    // The clock was set back since the save.
    saved_at(SystemTime::now() + Duration::from_secs(1000));
    assert_eq!(age().await, None);
}

/// With a link, another user could choose the file. The sticky bit doesn't prevent this.
#[cfg(all(unix, not(tower_auth_portable)))]
#[tokio::test]
async fn a_link_that_others_could_have_made_is_refused() {
    use std::os::unix::fs::symlink;

    let (shared, own) = (folder(), folder());
    let target = RefreshTokenFile::new(own.path().join("token"));
    save(&target, "planted").await.unwrap();
    symlink(target.path(), shared.path().join("token")).unwrap();
    symlink(own.path(), shared.path().join("folder")).unwrap();
    for mode in [0o1777, 0o777, 0o770, 0o702] {
        set_mode(shared.path(), mode);
        for path in ["token", "folder/token", "folder/no-such"] {
            let file = RefreshTokenFile::new(shared.path().join(path));
            for error in [
                file.load().await.map(drop),
                file.lock(Duration::ZERO).await.map(drop),
                save(&file, "next").await,
            ] {
                let error = error.unwrap_err().to_string();
                let advice = format!("`chmod go-w {}`", shared.path().display());
                assert!(error.contains(&advice), "{error}");
                assert!(!error.contains("planted"), "{error}");
            }
        }
    }
    assert_eq!(load(&target).await.as_deref(), Some("planted"));
    set_mode(shared.path(), 0o755);
    let linked = RefreshTokenFile::new(shared.path().join("token"));
    assert_eq!(load(&linked).await.as_deref(), Some("planted"));
}

/// The user's own link leads to a folder in which others may make links.
#[cfg(all(unix, not(tower_auth_portable)))]
#[tokio::test]
async fn a_link_behind_a_link_is_checked_too() {
    use std::os::unix::fs::symlink;

    let (links, shared, own) = (folder(), folder(), folder());
    let target = RefreshTokenFile::new(own.path().join("token"));
    save(&target, "planted").await.unwrap();
    symlink(target.path(), shared.path().join("token")).unwrap();
    symlink(own.path(), shared.path().join("folder")).unwrap();
    symlink(shared.path().join("token"), links.path().join("token")).unwrap();
    symlink(shared.path().join("folder"), links.path().join("folder")).unwrap();
    symlink("token", links.path().join("near")).unwrap();
    symlink("loop", links.path().join("loop")).unwrap();
    let paths = ["token", "folder/token", "folder/no-such", "near"];
    let files = paths.map(|path| RefreshTokenFile::new(links.path().join(path)));
    assert_eq!(load(&files[3]).await.as_deref(), Some("planted"));
    set_mode(shared.path(), 0o1777);
    for file in &files {
        let error = file.load().await.unwrap_err().to_string();
        let advice = format!("`chmod go-w {}`", shared.path().display());
        assert!(error.contains(&advice), "{error}");
    }
    let looping = RefreshTokenFile::new(links.path().join("loop"));
    looping.load().await.unwrap_err();
    set_mode(shared.path(), 0o700);
}

/// The folder's owner may make links in it, whatever its mode. Only root can give links to others.
#[cfg(all(unix, not(tower_auth_portable)))]
#[tokio::test]
async fn a_link_of_another_user_is_refused() {
    use std::os::unix::fs::{MetadataExt, lchown, symlink};

    let (links, own) = (folder(), folder());
    if fs::metadata(links.path()).unwrap().uid() != 0 {
        return;
    }
    let target = RefreshTokenFile::new(own.path().join("token"));
    save(&target, "planted").await.unwrap();
    let link = links.path().join("token");
    symlink(target.path(), &link).unwrap();
    lchown(&link, Some(65_533), None).unwrap();
    let error = RefreshTokenFile::new(&link).load().await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("user 65533") && !error.contains("planted"),
        "{error}"
    );
}

/// A user may keep the login elsewhere, and link to it.
#[cfg(unix)]
#[tokio::test]
async fn a_link_of_the_owner_is_followed_and_stays() {
    use std::os::unix::fs::symlink;

    let (links, own) = (folder(), folder());
    let target = RefreshTokenFile::new(own.path().join("token"));
    symlink(target.path(), links.path().join("token")).unwrap();
    let linked = RefreshTokenFile::new(links.path().join("token"));
    // The target may be missing at first.
    assert_eq!(load(&linked).await, None);
    for token in ["first", "second"] {
        save(&linked, token).await.unwrap();
        assert_eq!(load(&target).await.as_deref(), Some(token));
    }
    // Both paths have the same lock.
    let held = lock(&linked).await.unwrap();
    assert!(lock(&target).await.is_none());
    assert!(linked.confirm(&held).await.unwrap());
    assert_eq!(names(links.path()), [linked.path()]);
    assert!(fs::symlink_metadata(linked.path()).unwrap().is_symlink());
}

/// A link in the successor's place is removed, and its target isn't used.
#[cfg(unix)]
#[tokio::test]
async fn a_link_in_place_of_the_successor_is_not_followed() {
    use std::os::unix::fs::symlink;

    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    save(&file, "first").await.unwrap();
    let target = folder.path().join("target");
    plant(&target, "target\n");
    symlink(&target, beside(&file, ".next")).unwrap();
    drop(lock(&file).await.unwrap());
    assert_eq!(load(&file).await.as_deref(), Some("first"));
    symlink(&target, beside(&file, ".next")).unwrap();
    save(&file, "second").await.unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "target\n");
}

#[cfg(all(unix, not(tower_auth_portable)))]
#[tokio::test]
async fn what_is_no_file_is_refused_and_does_not_hang() {
    let folder = folder();
    let pipe = folder.path().join("token");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    set_mode(&pipe, 0o600);
    let error = RefreshTokenFile::new(&pipe).load().await.unwrap_err();
    assert!(error.to_string().contains("isn't a file"), "{error}");
    let error = RefreshTokenFile::new(folder.path()).load().await;
    assert!(error.unwrap_err().to_string().contains("isn't a file"));
}

/// Only root can give files to other users. If the user isn't root, the test uses a file of root.
#[cfg(all(unix, not(tower_auth_portable)))]
#[tokio::test]
async fn a_file_of_another_user_is_refused() {
    use std::os::unix::fs::{MetadataExt, chown};

    let folder = folder();
    let mut file = RefreshTokenFile::new(folder.path().join("token"));
    save(&file, "planted").await.unwrap();
    let user = fs::metadata(folder.path()).unwrap().uid();
    let says = |error: &str, path: &Path| {
        let advice = format!("`chown {user} {}`", path.display());
        assert!(
            error.contains(&advice) && error.contains("log in again"),
            "{error}"
        );
        assert!(!error.contains("planted"), "{error}");
    };
    if user != 0 {
        file = RefreshTokenFile::new("/etc/passwd");
        says(&file.load().await.unwrap_err().to_string(), file.path());
        return;
    }
    plant(&beside(&file, ".next"), "planted\n");
    for path in [
        file.path().to_owned(),
        beside(&file, ".next"),
        beside(&file, ".lock"),
    ] {
        chown(&path, Some(65_534), None).unwrap();
        let refused = match path == file.path() {
            true => file.load().await.map(drop),
            false => file.lock(Duration::ZERO).await.map(drop),
        };
        says(&refused.unwrap_err().to_string(), &path);
        chown(&path, Some(0), None).unwrap();
    }
}

/// This isn't a test of its own: it is the process of the test below, which may not write to the
/// folder.
#[tokio::test]
#[allow(clippy::print_stdout)]
async fn reads_a_login_in_a_folder_of_somebody_else() {
    let Some(path) = child_process::place() else {
        return;
    };
    let file = RefreshTokenFile::new(path);
    println!("loaded {:?}", load(&file).await);
    println!("refused {}", file.lock(Duration::ZERO).await.unwrap_err());
}

#[cfg(unix)]
#[tokio::test]
async fn a_process_that_may_only_read_is_told_what_it_lacks() {
    use std::os::unix::fs::{MetadataExt, chown};

    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    plant(file.path(), "first\n");
    set_mode(folder.path(), 0o555);
    let is_root = fs::metadata(folder.path()).unwrap().uid() == 0;
    let user = is_root.then_some(65_534);
    if let Some(user) = user {
        chown(file.path(), Some(user), None).unwrap();
    }
    let child = "reads_a_login_in_a_folder_of_somebody_else";
    let mut reading = ChildProcess::start_as(user, module_path!(), child, file.path());
    let lines: Vec<_> = reading.lines().collect();
    let told = |beginning: &str| {
        let line = lines.iter().find_map(|line| line.split_once(beginning));
        line.unwrap_or_else(|| panic!("{lines:?}")).1
    };
    assert_eq!(told("loaded "), r#"Some("first")"#);
    let advice = format!("create files in {}", folder.path().display());
    assert!(told("refused ").contains(&advice), "{lines:?}");
    set_mode(folder.path(), 0o700);
}

#[cfg(all(unix, not(tower_auth_portable)))]
#[tokio::test]
async fn a_link_in_place_of_the_lock_is_not_followed() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    let target = folder.path().join("target");
    std::os::unix::fs::symlink(&target, beside(&file, ".lock")).unwrap();
    let error = file.lock(Duration::ZERO).await.unwrap_err().to_string();
    assert!(error.contains("token.lock"), "{error}");
    assert!(!target.exists());
}

/// The disk was full during the last save of this process.
#[tokio::test]
async fn the_rest_of_an_earlier_save_does_not_hinder_the_next_one() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    let held = lock(&file).await.unwrap();
    plant(&beside(&file, ".next"), "cut o");
    file.save(SecretString::from("next"), &held).await.unwrap();
    assert_eq!(load(&file).await.as_deref(), Some("next"));
}

/// A save continues after its future is dropped. A later save must not mix with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saves_that_are_cancelled_leave_a_whole_file() {
    let folder = folder();
    let file = RefreshTokenFile::new(folder.path().join("token"));
    let held = lock(&file).await.unwrap();
    for number in 0..200 {
        let login = format!("{number}:{}", "x".repeat(20_000));
        let save = file.save(SecretString::from(login), &held);
        drop(tokio::time::timeout(Duration::from_micros(50), save).await);
    }
    file.save(SecretString::from("last"), &held).await.unwrap();
    drop(held);
    let held = loop {
        // The writes that were cancelled keep the lock until they have ended.
        if let Some(held) = lock(&file).await {
            break held;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(load(&file).await.as_deref(), Some("last"));
    assert!(!beside(&file, ".next").exists());
    drop(held);
}
