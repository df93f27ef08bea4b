//! Programs that print credentials. The tests run shell scripts, but the source itself starts no
//! shell.

use std::fs::{self, Permissions};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use tower_auth::platform::{Command, CommandFormat};
use tower_auth::{Error, Reason, SecretSource, Token, TokenCache, TokenSource};

fn script(text: &str) -> Command {
    Command::new("/bin/sh").args(["-c", text])
}

/// A program that prints this text.
fn prints(text: &str) -> Command {
    Command::new("printf").args(["%s", text])
}

async fn fetch(command: &Command) -> Result<Token, Error> {
    command.fetch(Reason::First).await
}

async fn error(command: &Command) -> String {
    let error = fetch(command).await.unwrap_err();
    assert!(!format!("{error:?}").contains("s3cret"));
    error.to_string()
}

/// Asserts that the token expires this many seconds after 1970.
fn assert_expires_at(token: &Token, seconds: u64) {
    let shown = format!("{token:?}");
    assert!(shown.contains(&format!("tv_sec: {seconds}")), "{shown}");
}

fn assert_never_expires(token: &Token) {
    let shown = format!("{token:?}");
    assert!(shown.contains("expiry: Never"), "{shown}");
}

#[tokio::test]
async fn the_output_without_white_space_is_the_token() {
    let token = fetch(&script("echo '  tok-1 '; echo")).await.unwrap();
    assert_eq!(token.secret(), "tok-1");
    assert_never_expires(&token);
    let token = fetch(&script(r"printf '\357\273\277tok-2'")).await.unwrap();
    assert_eq!(token.secret(), "tok-2");
}

#[tokio::test]
async fn a_printed_jwt_expires_at_its_exp() {
    // {"exp":32503680000}
    let token = fetch(&prints("e30.eyJleHAiOjMyNTAzNjgwMDAwfQ.c2ln")).await;
    assert_expires_at(&token.unwrap(), 32_503_680_000);
}

#[tokio::test]
async fn an_argument_means_nothing_to_a_shell() {
    let odd = "$(id);*'\"`uname` --x";
    let token = fetch(&prints(odd).format(CommandFormat::text())).await;
    assert_eq!(token.unwrap().secret(), odd);
}

#[tokio::test]
async fn a_program_gets_only_the_variables_that_were_named() {
    let all = script(
        "printf '%s|%s|%s|%s' \"$SET\" \"$SEALED\" \"${CARGO_PKG_NAME-unset}\" \"${PATH:+path}\"",
    );
    let all = all.env("SET", "a").secret_env("SEALED", "b");
    assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
    assert_eq!(fetch(&all).await.unwrap().secret(), "a|b|unset|path");
    let passed = all.pass_env(["CARGO_PKG_NAME", "TOWER_AUTH_NOT_SET"]);
    let token = fetch(&passed).await.unwrap();
    assert_eq!(token.secret(), "a|b|tower-auth-tests|path");
}

fn exec_credential(status: &str) -> String {
    format!(
        r#"{{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{{"interactive":false}},"status":{status}}}"#
    )
}

#[tokio::test]
async fn an_exec_credential_has_a_token_and_an_expiry() {
    let printed =
        exec_credential(r#"{"token":"tok","expirationTimestamp":"2030-01-02T03:04:05+01:00"}"#);
    let v1 = prints(&printed).format(CommandFormat::exec_credential_v1());
    let token = fetch(&v1).await.unwrap();
    assert_eq!(token.secret(), "tok");
    assert_expires_at(&token, 1_893_549_845);
    let older = printed.replace("/v1\"", "/v1beta1\"");
    let older = prints(&older).format(CommandFormat::exec_credential_v1beta1());
    assert_eq!(fetch(&older).await.unwrap().secret(), "tok");
    let endless = prints(&exec_credential(r#"{"token":"tok"}"#));
    let endless = endless.format(CommandFormat::exec_credential_v1());
    assert_never_expires(&fetch(&endless).await.unwrap());
}

#[tokio::test]
async fn a_credential_plugin_gets_its_version_in_the_environment() {
    let echo = r#"printf '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"%s"}}' \
        "$(printf %s "$KUBERNETES_EXEC_INFO" | tr -d '"{}')""#;
    let plugin = script(echo).format(CommandFormat::exec_credential_v1());
    let token = fetch(&plugin).await.unwrap();
    assert_eq!(
        token.secret(),
        "apiVersion:client.authentication.k8s.io/v1,kind:ExecCredential,spec:interactive:false"
    );
}

#[tokio::test]
async fn an_unusable_exec_credential_says_what_is_wrong() {
    for (status, says) in [
        (
            r#"{"clientCertificateData":"PEM","clientKeyData":"PEM"}"#,
            "a client certificate instead of a token",
        ),
        (r#"{}"#, "has no `/status/token`"),
        (r#"{"token":""}"#, "has an empty `/status/token`"),
        (r#"{"token":7}"#, "isn't a string"),
        (
            r#"{"token":"s3cret","token":"s3cret2"}"#,
            "has `/status/token` twice",
        ),
        (
            r#"{"token":"s3cret","expirationTimestamp":"tomorrow"}"#,
            "neither a time in RFC 3339",
        ),
    ] {
        let plugin = prints(&exec_credential(status)).format(CommandFormat::exec_credential_v1());
        let error = error(&plugin).await;
        assert!(error.contains(says), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    let other = prints(&exec_credential(r#"{"token":"tok"}"#));
    let other = other.format(CommandFormat::exec_credential_v1beta1());
    let message = error(&other).await;
    assert!(
        message.contains("use `CommandFormat::exec_credential_v1`"),
        "{message}"
    );
    let list = prints("[]").format(CommandFormat::exec_credential_v1());
    assert!(error(&list).await.contains("not an object"));
    let none = script("true").format(CommandFormat::exec_credential_v1());
    assert_eq!(error(&none).await, "the output of /bin/sh is empty");
}

fn google(text: &str) -> Command {
    prints(text).format(CommandFormat::google_executable(
        "//iam/pool",
        "urn:ietf:params:oauth:token-type:id_token",
    ))
}

#[tokio::test]
async fn googles_executable_format_has_a_token_of_each_type() {
    let id_token = r#"{"version":1,"success":true,"token_type":"urn:ietf:params:oauth:token-type:id_token","id_token":"tok","expiration_time":1893549845}"#;
    let token = fetch(&google(id_token)).await.unwrap();
    assert_eq!(token.secret(), "tok");
    assert_expires_at(&token, 1_893_549_845);
    let saml = r#"{"version":1,"success":true,"token_type":"urn:ietf:params:oauth:token-type:saml2","saml_response":"PHNhbWw+"}"#;
    assert_eq!(fetch(&google(saml)).await.unwrap().secret(), "PHNhbWw+");
    let audience = script(
        r#"printf '{"version":1,"success":true,"token_type":"urn:ietf:params:oauth:token-type:jwt","id_token":"%s,%s"}' "$GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE" "$GOOGLE_EXTERNAL_ACCOUNT_INTERACTIVE""#,
    );
    let audience = audience.format(CommandFormat::google_executable("//iam/pool", "jwt"));
    assert_eq!(fetch(&audience).await.unwrap().secret(), "//iam/pool,0");
}

#[tokio::test]
async fn a_failure_that_an_executable_prints_is_the_error() {
    let failure = r#"{"version":1,"success":false,"code":"401","message":"log in first: s3cret"}"#;
    let shown = google(failure).secret_env("KEY", "s3cret");
    let message = error(&shown).await;
    assert!(
        message.ends_with("code: 401; message: log in first: [redacted]"),
        "{message}"
    );
    let failing = script(&format!("printf '%s' '{failure}'; exit 3")).secret_env("KEY", "s3cret");
    let format = CommandFormat::google_executable("a", "b");
    let message = error(&failing.format(format)).await;
    assert!(
        message.contains("exit status: 3") && message.contains("log in first"),
        "{message}"
    );
    let later = google(r#"{"version":2,"success":true}"#);
    assert!(error(&later).await.contains("a `version` other than 1"));
}

#[tokio::test]
async fn json_has_its_token_where_the_pointer_says() {
    let gcloud = r#"{"credential":{"access_token":"tok","token_expiry":"2030-01-02T02:04:05Z"}}"#;
    let format = CommandFormat::json("/credential/access_token").unwrap();
    let format = format.expires_at("/credential/token_expiry").unwrap();
    let token = fetch(&prints(gcloud).format(format)).await.unwrap();
    assert_eq!(token.secret(), "tok");
    assert_expires_at(&token, 1_893_549_845);
    for expiry in ["1893549845", r#""1893549845""#, "1893549845.0"] {
        let az = format!(r#"{{"accessToken":"tok","expires_on":{expiry}}}"#);
        let format = CommandFormat::json("/accessToken")
            .unwrap()
            .expires_at("/expires_on");
        let token = fetch(&prints(&az).format(format.unwrap())).await.unwrap();
        assert_expires_at(&token, 1_893_549_845);
    }
    for odd in ["1e300", "-5", r#""nan""#, "{}", "true"] {
        let az = format!(r#"{{"accessToken":"s3cret","expires_on":{odd}}}"#);
        let format = CommandFormat::json("/accessToken")
            .unwrap()
            .expires_at("/expires_on");
        let message = error(&prints(&az).format(format.unwrap())).await;
        assert!(
            message.contains("`/expires_on` that is neither"),
            "{odd}: {message}"
        );
    }
    assert!(CommandFormat::json("accessToken").unwrap_err().is_config());
    assert!(
        CommandFormat::text()
            .expires_at("/at")
            .unwrap_err()
            .is_config()
    );
}

#[tokio::test]
async fn a_failing_program_shows_the_end_of_its_error_output() {
    let failing = script(
        r#"i=0; while [ $i -lt 3000 ]; do echo "line $i" >&2; i=$((i+1)); done
           printf 'red \033[31m\342\200\256 key=%s out=tok-s3cret' "$KEY" >&2; printf 'tok-s3cret'; exit 2"#,
    );
    let message = error(&failing.secret_env("KEY", "s3cret-key")).await;
    assert!(
        message.starts_with("/bin/sh failed (exit status: 2): "),
        "{message}"
    );
    assert!(
        message.ends_with("key=[redacted] out=[redacted]"),
        "{message}"
    );
    assert!(
        message.len() < 400 && !message.contains(['\u{1b}', '\u{202e}', '\n']),
        "{message:?}"
    );
    assert_eq!(
        error(&script("exit 7")).await,
        "/bin/sh failed (exit status: 7) and printed no error"
    );
    let killed = error(&script("kill -9 $$")).await;
    assert!(killed.contains("signal: 9"), "{killed}");
}

#[tokio::test]
async fn an_empty_output_isnt_a_token() {
    for empty in ["true", "echo", r"printf '\357\273\277 '"] {
        let message = error(&script(empty)).await;
        assert_eq!(message, "the output of /bin/sh is empty");
    }
    let latin = error(&script(r"printf '\344bc'")).await;
    assert_eq!(latin, "the output of /bin/sh isn't UTF-8");
}

#[tokio::test]
async fn a_program_that_is_missing_or_not_executable_is_a_setting_to_correct() {
    let folder = tempfile::tempdir().unwrap();
    let no_format = folder.path().join("no-format");
    fs::write(&no_format, "tok").unwrap();
    fs::set_permissions(&no_format, Permissions::from_mode(0o700)).unwrap();
    let no_format = no_format.to_str().unwrap();
    for wrong in [
        "no-such-program-anywhere",
        "/etc/passwd",
        "/",
        no_format,
        "/etc/passwd/no",
    ] {
        let error = fetch(&Command::new(wrong)).await.unwrap_err();
        assert!(error.is_config(), "{error:?}");
        assert!(error.to_string().contains(wrong), "{error}");
    }
}

#[tokio::test]
async fn an_argument_that_no_program_can_get_is_a_setting_to_correct() {
    let error = fetch(&prints("a\0b")).await.unwrap_err();
    assert!(error.is_config(), "{error:?}");
}

/// Returns the error of a script that prints on its error output. The variable `KEY` is a secret.
async fn error_of(secret: &str, text: &str) -> String {
    let failing = script(text).secret_env("KEY", secret);
    let error = fetch(&failing).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    // Line breaks are shown as spaces.
    let shown = shown.replace(' ', "");
    for part in secret.as_bytes().windows(8) {
        let part = str::from_utf8(part).unwrap();
        assert!(!shown.contains(part), "{part}: {shown}");
    }
    error.to_string()
}

/// A secret of this length, in which no part occurs twice.
fn secret_of(length: usize) -> String {
    let numbers = (100_000_u64..).map(|number| format!("{:x}", number * 2_654_435_761));
    let text: String = numbers.take(length / 8).collect();
    text[..length].to_owned()
}

#[tokio::test]
async fn no_part_of_a_secret_is_shown_if_the_error_output_is_cut_within_the_secret() {
    for length in [40, 300, 1023, 2000, 5000, 20_000] {
        let secret = secret_of(length);
        let printed = "printf 'could not use %s' \"$KEY\" >&2; exit 1";
        assert!(error_of(&secret, printed).await.contains("[redacted]"));
        let twice = "printf '%s\n%s end' \"$KEY\" \"$KEY\" >&2; exit 1";
        assert!(error_of(&secret, twice).await.ends_with("[redacted] end"));
        let beginning = "printf 'cut: %s' \"$(printf %s \"$KEY\" | cut -c-30)\" >&2; exit 1";
        let shown = error_of(&secret, beginning).await;
        assert!(shown.ends_with("cut: [redacted]"), "{shown}");
    }
}

#[tokio::test]
async fn no_part_of_a_secret_is_shown_if_its_lines_are_broken() {
    for width in [16, 64, 76] {
        let broken = format!("printf %s \"$KEY\" | fold -w {width} >&2; exit 1");
        error_of(&secret_of(700), &broken).await;
    }
}

#[tokio::test]
async fn no_part_of_a_secret_is_shown_in_base64() {
    let secret = secret_of(45);
    for (before, start) in [("", 0), ("u:", 3), ("me:", 4)] {
        let header = format!(
            "printf 'Basic %s' \"$(printf '{before}%s' \"$KEY\" | base64 -w0)\" >&2; exit 1"
        );
        let shown = error_of(&secret, &header).await;
        let encoded = STANDARD.encode(format!("{before}{secret}"));
        let inner = &encoded[start + 1..start + 40];
        for part in inner.as_bytes().windows(8) {
            let part = str::from_utf8(part).unwrap();
            assert!(!shown.contains(part), "{part}: {shown}");
        }
    }
}

#[tokio::test]
async fn a_token_of_a_failed_program_isnt_shown() {
    let token = secret_of(60);
    let printed = format!(
        r#"printf '{{"token": "{token}"}}'; printf 'the token {token} is of no use' >&2; exit 1"#
    );
    let format = CommandFormat::json("/token").unwrap();
    let error = fetch(&script(&printed).format(format)).await.unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.ends_with("the token [redacted] is of no use"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_long_error_output_delays_nothing() {
    let long = script("head -c 1000000 /dev/zero | tr '\\0' e >&2; printf tok");
    assert_eq!(fetch(&long).await.unwrap().secret(), "tok");
}

#[tokio::test]
async fn a_variable_of_the_format_can_be_replaced() {
    let echo = r#"printf '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"%s"}}' "$KUBERNETES_EXEC_INFO""#;
    let plugin = script(echo).format(CommandFormat::exec_credential_v1());
    let plugin = plugin.env("KUBERNETES_EXEC_INFO", "with the cluster");
    assert_eq!(fetch(&plugin).await.unwrap().secret(), "with the cluster");
}

#[tokio::test]
async fn a_secret_that_has_expired_is_an_error() {
    let expired =
        exec_credential(r#"{"token":"tok","expirationTimestamp":"2020-01-02T03:04:05Z"}"#);
    let plugin = prints(&expired).format(CommandFormat::exec_credential_v1());
    let error = SecretSource::from(plugin).read().await.unwrap_err();
    assert!(error.is_expired(), "{error:?}");
}

/// Returns whether the process whose id is in this file has ended.
fn has_ended(file: &Path) -> bool {
    let id = fs::read_to_string(file).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", id.trim()));
    // A process that nobody has waited for yet is a zombie.
    stat.map_or(true, |stat| stat.contains(") Z ") || stat.contains(") X "))
}

async fn until(is_true: impl Fn() -> bool) {
    while !is_true() {
        tokio::task::yield_now().await;
    }
}

/// A script that starts a process in the background, and writes the ids of both to these files.
fn with_child(folder: &Path, then: &str) -> Command {
    let (parent, child) = (folder.join("parent"), folder.join("child"));
    let (parent, child) = (parent.display(), child.display());
    script(&format!(
        "sleep 1000 & echo $! >{child}.new; mv {child}.new {child}; echo $$ >{parent}.new; mv {parent}.new {parent}; {then}"
    ))
}

fn is_written(folder: &Path) -> bool {
    folder.join("parent").exists()
}

#[tokio::test]
async fn a_program_is_killed_when_the_fetch_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let parent = folder.path().join("parent");
    let id = parent.display();
    let command = script(&format!(
        "echo $$ >{id}.new; mv {id}.new {id}; exec sleep 1000"
    ));
    let fetching = tokio::spawn(async move { fetch(&command).await.map(drop) });
    until(|| is_written(folder.path())).await;
    fetching.abort();
    assert!(fetching.await.unwrap_err().is_cancelled());
    until(|| has_ended(&parent)).await;
}

#[cfg(not(tower_auth_portable))]
#[tokio::test]
async fn a_program_is_killed_with_its_group_when_the_fetch_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let command = with_child(folder.path(), "wait");
    let fetching = tokio::spawn(async move { fetch(&command).await.map(drop) });
    until(|| is_written(folder.path())).await;
    assert!(!has_ended(&folder.path().join("child")));
    fetching.abort();
    assert!(fetching.await.unwrap_err().is_cancelled());
    until(|| has_ended(&folder.path().join("parent")) && has_ended(&folder.path().join("child")))
        .await;
}

#[cfg(not(tower_auth_portable))]
#[tokio::test]
async fn a_program_that_takes_too_long_is_killed_with_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let command = with_child(folder.path(), "wait").timeout(Duration::from_secs(600));
    let fetching = tokio::spawn(async move { fetch(&command).await.map(drop) });
    until(|| is_written(folder.path())).await;
    // With paused time, the timeout passes as soon as nothing else happens.
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let error = fetching.await.unwrap().unwrap_err();
    assert!(start.elapsed() <= Duration::from_secs(600));
    tokio::time::resume();
    assert!(error.is_timeout(), "{error:?}");
    assert!(
        error.to_string().contains("did not end within 600s"),
        "{error}"
    );
    until(|| has_ended(&folder.path().join("parent")) && has_ended(&folder.path().join("child")))
        .await;
}

#[cfg(not(tower_auth_portable))]
#[test]
fn a_program_is_killed_with_its_group_when_the_runtime_ends() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let command = with_child(folder.path(), "wait");
    runtime.spawn(async move { fetch(&command).await.map(drop) });
    while !is_written(folder.path()) {
        std::thread::yield_now();
    }
    drop(runtime);
    for process in ["parent", "child"] {
        while !has_ended(&folder.path().join(process)) {
            std::thread::yield_now();
        }
    }
}

#[cfg(not(tower_auth_portable))]
#[tokio::test]
async fn an_endless_output_ends_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let command = with_child(folder.path(), "exec yes");
    let error = fetch(&command).await.unwrap_err();
    assert!(error.is_reply(), "{error:?}");
    assert!(
        error.to_string().contains("printed more than 64 KiB"),
        "{error}"
    );
    until(|| has_ended(&folder.path().join("child"))).await;
}

#[tokio::test]
async fn the_longest_output_is_read_whole() {
    let fits = script("head -c 65536 /dev/zero | tr '\\0' t");
    assert_eq!(fetch(&fits).await.unwrap().secret().len(), 65_536);
    let exceeds = script("head -c 65537 /dev/zero | tr '\\0' t");
    assert!(fetch(&exceeds).await.unwrap_err().is_reply());
}

#[tokio::test]
async fn an_agent_that_a_program_leaves_running_delays_nothing_and_lives_on() {
    let folder = tempfile::tempdir().unwrap();
    let command = with_child(folder.path(), "printf tok");
    assert_eq!(fetch(&command).await.unwrap().secret(), "tok");
    let child = folder.path().join("child");
    assert!(!has_ended(&child));
    let id = fs::read_to_string(&child).unwrap();
    let killed = std::process::Command::new("kill").arg(id.trim()).status();
    assert!(killed.unwrap().success());
}

#[tokio::test]
async fn a_program_runs_once_for_all_callers() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let command = script(&format!("echo run >>{}; printf tok", runs.display()));
    let cache = TokenCache::new(command);
    let callers = (0..50).map(|_| cache.token());
    let tokens = futures_util::future::join_all(callers).await;
    assert!(
        tokens
            .iter()
            .all(|token| token.as_ref().is_ok_and(|token| token.secret() == "tok"))
    );
    assert_eq!(fs::read_to_string(runs).unwrap(), "run\n");
}

#[tokio::test]
async fn a_program_can_print_any_secret() {
    let secret = SecretSource::from(prints("subject"));
    assert_eq!(secret.read().await.unwrap().expose_secret(), "subject");
    let failing = SecretSource::from(script("exit 4"))
        .read()
        .await
        .unwrap_err();
    assert!(failing.to_string().contains("exit status: 4"), "{failing}");
}

#[test]
fn without_a_runtime_the_error_says_so() {
    let command = prints("tok");
    let mut fetching = pin!(command.fetch(Reason::First));
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Err(error)) = fetching.as_mut().poll(&mut context) else {
        panic!("the fetch waits");
    };
    assert!(error.is_runtime(), "{error:?}");
}

#[test]
fn debug_shows_no_arguments_and_no_variables() {
    let command = prints("s3cret")
        .env("A", "s3cret")
        .secret_env("B", "s3cret");
    let shown = format!("{command:?}");
    assert!(
        shown.contains("printf") && !shown.contains("s3cret"),
        "{shown}"
    );
}

#[tokio::test]
async fn an_executable_that_fails_without_a_report_shows_its_error_output() {
    for output in ["", "{}", "not JSON"] {
        let failing = script(&format!("printf '{output}'; echo no network >&2; exit 3"));
        let format = CommandFormat::google_executable("a", "b");
        let message = error(&failing.format(format)).await;
        assert!(message.contains("its output"), "{message}");
        assert!(message.ends_with("; no network"), "{message}");
    }
}
