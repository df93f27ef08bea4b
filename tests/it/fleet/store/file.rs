//! A store in a folder. The tests cover the folder's owner, crashes, and locks.
#![cfg(feature = "file")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tower_auth::fleet::{FileStore, Lease, TokenStore};

use crate::support::child_process::{self, ChildProcess};

const KEY: &str = "a-key_of-43-letters";
const LONG: Duration = Duration::from_secs(3600);

/// Returns a store in a folder that doesn't exist yet, inside a temporary folder.
fn store() -> (TempDir, FileStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path().join("app/tokens"));
    (folder, store)
}

fn token(store: &FileStore) -> PathBuf {
    store.folder().join(format!("{KEY}.token"))
}

fn lock(store: &FileStore) -> PathBuf {
    store.folder().join(format!("{KEY}.lock"))
}

async fn save(store: &FileStore, sealed: &[u8]) {
    let lease = store.lease(KEY, LONG).await.unwrap().unwrap();
    assert!(store.save(KEY, sealed, LONG, &lease).await.unwrap());
    assert!(store.release(KEY, lease).await.unwrap());
}

async fn load(store: &FileStore) -> Option<Vec<u8>> {
    let value = store.load(KEY).await.unwrap()?;
    Some(value.sealed().unwrap().0.to_vec())
}

/// Returns what the store says of a file that it didn't write.
async fn foreign(store: &FileStore) -> String {
    let value = store.load(KEY).await.unwrap().unwrap();
    value.sealed().unwrap_err().to_owned()
}

/// Makes each call on a store that refuses its folder, and returns the errors.
#[cfg(all(unix, not(tower_auth_portable)))]
async fn refusals(store: &FileStore) -> [String; 3] {
    let lease = Lease::new(0);
    [
        store.load(KEY).await.unwrap_err().to_string(),
        store
            .save(KEY, b"planted", LONG, &lease)
            .await
            .unwrap_err()
            .to_string(),
        store.lease(KEY, LONG).await.unwrap_err().to_string(),
    ]
}

#[tokio::test]
async fn looking_for_a_token_makes_nothing() {
    let (folder, store) = store();
    assert_eq!(load(&store).await, None);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn nothing_is_left_but_the_token_and_its_lock() {
    let (_folder, store) = store();
    save(&store, b"first").await;
    save(&store, b"second").await;
    let files = fs::read_dir(store.folder()).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert_eq!(files, [lock(&store), token(&store)]);
}

#[cfg(all(unix, not(tower_auth_portable)))]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(all(unix, not(tower_auth_portable)))]
#[tokio::test]
async fn what_is_made_is_its_owners_only() {
    let (_folder, store) = store();
    save(&store, b"sealed").await;
    assert_eq!(mode(store.folder()), 0o700);
    assert_eq!(mode(store.folder().parent().unwrap()), 0o700);
    assert_eq!(mode(&token(&store)), 0o600);
    assert_eq!(mode(&lock(&store)), 0o600);
}

#[cfg(all(unix, not(tower_auth_portable)))]
#[tokio::test]
async fn a_folder_that_others_may_use_is_refused() {
    let (_folder, store) = store();
    save(&store, b"planted").await;
    for mode in [0o750, 0o705, 0o720, 0o777, 0o710] {
        set_mode(store.folder(), mode);
        let advice = format!("`chmod 700 {}`", store.folder().display());
        for error in refusals(&store).await {
            assert!(error.contains(&advice), "{error}");
            assert!(error.contains(&format!("mode {mode:04o}")), "{error}");
            assert!(!error.contains("planted"), "{error}");
        }
    }
    set_mode(store.folder(), 0o700);
    assert_eq!(load(&store).await.as_deref(), Some(&b"planted"[..]));
}

#[cfg(all(unix, not(tower_auth_portable)))]
#[tokio::test]
async fn a_file_that_others_may_use_is_refused_and_the_next_token_mends_it() {
    let (_folder, store) = store();
    save(&store, b"planted").await;
    for mode in [0o640, 0o604, 0o620, 0o666] {
        set_mode(&token(&store), mode);
        let error = store.load(KEY).await.unwrap_err().to_string();
        let advice = format!("`chmod 600 {}`", token(&store).display());
        assert!(
            error.contains(&advice) && error.contains("remove it"),
            "{error}"
        );
        assert!(!error.contains("planted"), "{error}");
    }
    save(&store, b"next").await;
    assert_eq!(load(&store).await.as_deref(), Some(&b"next"[..]));

    set_mode(&lock(&store), 0o666);
    let error = store.lease(KEY, LONG).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("`chmod 600 {}`", lock(&store).display())),
        "{error}"
    );
}

/// Only root can give files to other users. If the user isn't root, the test links to a file of
/// root instead.
#[cfg(all(unix, not(tower_auth_portable)))]
#[tokio::test]
async fn what_belongs_to_somebody_else_is_refused() {
    use std::os::unix::fs::{MetadataExt, chown, symlink};

    let (folder, mut store) = store();
    save(&store, b"planted").await;
    let user = fs::metadata(folder.path()).unwrap().uid();
    let give_away = |path: &Path| {
        if user == 0 {
            chown(path, Some(65_534), None).unwrap();
        } else {
            fs::remove_file(path).unwrap();
            symlink("/etc/passwd", path).unwrap();
        }
    };

    let says = |error: &str, path: &Path| {
        let advice = format!("`chown {user} {}`", path.display());
        assert!(
            error.contains(&advice) && error.contains("belongs to user"),
            "{error}"
        );
        assert!(!error.contains("planted"), "{error}");
    };
    give_away(&token(&store));
    says(
        &store.load(KEY).await.unwrap_err().to_string(),
        &token(&store),
    );
    if user == 0 {
        give_away(&lock(&store));
        says(
            &store.lease(KEY, LONG).await.unwrap_err().to_string(),
            &lock(&store),
        );
        chown(store.folder(), Some(65_534), None).unwrap();
    } else {
        store = FileStore::new("/");
    }
    for error in refusals(&store).await {
        says(&error, store.folder());
    }
}

/// The file is cut off, is too long, or was written by another program.
#[tokio::test]
async fn a_torn_file_is_no_error_and_the_next_token_mends_it() {
    let (_folder, store) = store();
    save(&store, b"sealed").await;
    let whole = fs::read(token(&store)).unwrap();
    for length in 0..whole.len() {
        let torn = whole.get(..length).unwrap();
        fs::write(token(&store), torn).unwrap();
        let told = foreign(&store).await;
        assert!(
            told.ends_with("not a complete token file"),
            "cut to {length}: {told}"
        );
    }
    let grown = [whole.as_slice(), b"!"].concat();
    let other = [b"T", whole.get(1..).unwrap()].concat();
    for torn in [grown, other] {
        fs::write(token(&store), &torn).unwrap();
        let told = foreign(&store).await;
        assert!(
            told.contains(&token(&store).display().to_string()),
            "{told}"
        );
    }
    save(&store, b"next").await;
    assert_eq!(load(&store).await.as_deref(), Some(&b"next"[..]));
}

#[tokio::test]
async fn a_file_that_is_too_long_is_not_read_and_the_next_token_replaces_it() {
    let (_folder, store) = store();
    save(&store, b"sealed").await;
    fs::write(token(&store), vec![0; 256 * 1024 + 25]).unwrap();
    let told = foreign(&store).await;
    let path = token(&store).display().to_string();
    assert!(told.contains(&path), "{told}");
    save(&store, b"next").await;
    assert_eq!(load(&store).await.as_deref(), Some(&b"next"[..]));
}

#[tokio::test]
async fn the_remaining_time_comes_from_the_file_system_and_not_from_a_clock_of_the_reader() {
    let (_folder, store) = store();
    save(&store, b"sealed").await;
    let file = fs::File::options().write(true).open(token(&store)).unwrap();
    let remaining = async || {
        let value = store.load(KEY).await.unwrap();
        value.map(|value| value.sealed().unwrap().1)
    };
    let now = file.metadata().unwrap().modified().unwrap();
    file.set_modified(now - LONG / 2).unwrap();
    let left = remaining().await.unwrap();
    assert!(
        left <= LONG / 2 && left > LONG / 2 - Duration::from_secs(60),
        "{left:?}"
    );
    file.set_modified(now - LONG).unwrap();
    assert_eq!(remaining().await, None);
    // The clock was set back after the save, so nothing is known of the value's age.
    file.set_modified(now + LONG).unwrap();
    assert_eq!(remaining().await, Some(Duration::ZERO));
}

#[tokio::test]
async fn a_lock_file_that_was_removed_is_a_lost_lease() {
    let (_folder, store) = store();
    let held = store.lease(KEY, LONG).await.unwrap().unwrap();
    assert!(store.renew(KEY, &held, LONG).await.unwrap());
    fs::remove_file(lock(&store)).unwrap();
    assert!(!store.renew(KEY, &held, LONG).await.unwrap());
    let next = store.lease(KEY, LONG).await.unwrap().unwrap();
    assert!(!store.renew(KEY, &held, LONG).await.unwrap());
    assert!(store.renew(KEY, &next, LONG).await.unwrap());
}

#[tokio::test]
async fn what_keeps_a_folder_from_being_used_is_told_with_its_place() {
    let (_folder, store) = store();
    let parent = store.folder().parent().unwrap();
    fs::write(parent, b"a file in its place").unwrap();
    let error = store.lease(KEY, LONG).await.unwrap_err().to_string();
    assert!(
        error.contains(&store.folder().display().to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn a_key_leads_to_no_other_folder() {
    let (_folder, store) = store();
    for key in ["", "..", "../key", "a/b", "a.b", "a\\b", "a\0b"] {
        assert!(store.load(key).await.is_err(), "{key}");
        assert!(store.lease(key, LONG).await.is_err(), "{key}");
        let lease = Lease::new(0);
        let saved = store.save(key, b"sealed", LONG, &lease).await;
        assert!(saved.is_err(), "{key}");
        assert!(store.renew(key, &lease, LONG).await.is_err(), "{key}");
        assert!(store.delete(key, &lease).await.is_err(), "{key}");
    }
}

#[tokio::test]
async fn a_lease_that_is_dropped_is_free() {
    let (_folder, store) = store();
    let held = store.lease(KEY, LONG).await.unwrap().unwrap();
    let other = FileStore::new(store.folder());
    assert!(other.lease(KEY, LONG).await.unwrap().is_none());
    drop(held);
    assert!(other.lease(KEY, LONG).await.unwrap().is_some());
}

#[tokio::test]
async fn a_lease_of_another_store_was_never_had() {
    let (_folder, store) = store();
    assert!(!store.release(KEY, Lease::new(0)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_ask_at_once_one_has_the_lease() {
    let (_folder, store) = store();
    let asked: Vec<_> = (0..16)
        .map(|_| {
            let store = FileStore::new(store.folder());
            tokio::spawn(async move { store.lease(KEY, LONG).await.unwrap() })
        })
        .collect();
    let mut held = Vec::new();
    for lease in asked {
        held.extend(lease.await.unwrap());
    }
    assert_eq!(held.len(), 1);
}

/// This isn't a test of its own: it is the process that the test below kills.
#[tokio::test]
#[allow(clippy::print_stdout)]
async fn holds_the_lease_until_it_is_killed() {
    let Some(folder) = child_process::place() else {
        return;
    };
    let lease = FileStore::new(folder).lease(KEY, LONG).await.unwrap();
    println!("leased {}", lease.is_some());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_process_that_is_killed_frees_its_lease() {
    let (_folder, store) = store();
    let child = "holds_the_lease_until_it_is_killed";
    let mut holding = ChildProcess::start(module_path!(), child, store.folder());
    let leased = holding.lines().find(|line| line.ends_with("leased true"));
    let is_free = store.lease(KEY, LONG).await.unwrap().is_some();
    holding.kill();
    assert!(leased.is_some() && !is_free);
    assert!(store.lease(KEY, LONG).await.unwrap().is_some());
}

/// A new child process shares all open files of this process until the child executes its program.
#[cfg(unix)]
#[test]
fn a_lease_is_free_though_a_child_is_being_started_as_it_is_dropped() {
    let (_folder, store) = store();
    let (stop, starting) = (
        std::sync::atomic::AtomicBool::new(false),
        std::sync::Barrier::new(2),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            starting.wait();
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                drop(std::process::Command::new("true").status());
            }
        });
        starting.wait();
        let runtime = crate::support::runtime();
        // Each round drops its lease, so the next round must find the key free.
        let is_free = |_| runtime.block_on(store.lease(KEY, LONG)).unwrap().is_some();
        let all_free = (0..600).all(is_free);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(all_free);
    });
}

/// After `kill -9` during a save, the next process with the lease finds the new file.
#[tokio::test]
async fn a_complete_successor_is_picked_up_and_an_incomplete_one_is_removed() {
    let (_folder, store) = store();
    save(&store, b"next").await;
    let whole = fs::read(token(&store)).unwrap();
    let next = store.folder().join(format!("{KEY}.token.next"));
    for length in 0..=whole.len() {
        save(&store, b"first").await;
        fs::write(&next, whole.get(..length).unwrap()).unwrap();
        #[cfg(unix)]
        set_mode(&next, 0o600);
        assert_eq!(load(&store).await.as_deref(), Some(&b"first"[..]));
        drop(store.lease(KEY, LONG).await.unwrap().unwrap());
        let expected = match length == whole.len() {
            true => b"next".as_slice(),
            false => b"first",
        };
        assert_eq!(
            load(&store).await.as_deref(),
            Some(expected),
            "cut to {length}"
        );
        assert!(!next.exists(), "cut to {length}");
    }
}

/// This isn't a test of its own: it is the process that the test below kills.
#[tokio::test]
#[allow(clippy::print_stdout)]
async fn saves_until_it_is_killed() {
    let Some(folder) = child_process::place() else {
        return;
    };
    let store = FileStore::new(folder);
    for number in 0_u64.. {
        save(
            &store,
            &[number.to_string().as_bytes(), &[b'x'; 20_000]].concat(),
        )
        .await;
        println!("saved {number}");
    }
}

#[tokio::test]
async fn kill_9_during_a_save_leaves_nothing() {
    for round in 0..30_u32 {
        let (_folder, store) = store();
        let mut saving =
            ChildProcess::start(module_path!(), "saves_until_it_is_killed", store.folder());
        drop(saving.lines().find(|line| line.starts_with("saved")));
        for _ in 0..round * 5_000 {
            std::hint::spin_loop();
        }
        saving.kill();
        drop(store.lease(KEY, LONG).await.unwrap().unwrap());
        let files = fs::read_dir(store.folder()).unwrap();
        let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        assert_eq!(files, [lock(&store), token(&store)]);
        assert!(load(&store).await.unwrap().ends_with(&[b'x'; 20_000]));
    }
}

/// With a link, another user could choose the folder. The sticky bit doesn't prevent this.
#[cfg(all(unix, not(tower_auth_portable)))]
#[tokio::test]
async fn a_folder_behind_a_link_that_others_could_have_made_is_refused() {
    let (folder, own) = store();
    save(&own, b"planted").await;
    let shared = tempfile::tempdir().unwrap();
    let link = shared.path().join("link");
    std::os::unix::fs::symlink(own.folder(), &link).unwrap();
    set_mode(shared.path(), 0o1777);
    for path in [link.clone(), link.join(""), link.join("../tokens")] {
        for error in refusals(&FileStore::new(path)).await {
            let advice = format!("`chmod go-w {}`", shared.path().display());
            assert!(
                error.contains(&advice) && !error.contains("planted"),
                "{error}"
            );
        }
    }
    set_mode(shared.path(), 0o755);
    assert!(load(&FileStore::new(link)).await.is_some());
    drop(folder);
}

/// A save without its lease must not disturb the save of another process.
#[tokio::test]
async fn a_save_without_the_lease_waits_for_no_one_and_saves_nothing() {
    let (_folder, store) = store();
    let held = store.lease(KEY, LONG).await.unwrap().unwrap();
    let lost = Lease::new(0);
    assert!(!store.save(KEY, b"older", LONG, &lost).await.unwrap());
    assert!(store.save(KEY, b"newer", LONG, &held).await.unwrap());
    assert_eq!(load(&store).await.as_deref(), Some(&b"newer"[..]));
}
